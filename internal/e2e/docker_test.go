package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
)

const (
	dockerVariable = "APPROVER_TEST_DOCKER"
	natsVariable   = "APPROVER_TEST_NATS_IMAGE"
	workerVariable = "APPROVER_TEST_WORKER_IMAGE"

	builderImage = "golang:1.26" // the default of the Dockerfile

	pullTime  = 5 * time.Minute
	buildTime = 8 * time.Minute
)

// images are what the containers run.
type images struct{ nats, worker string }

// unavailable skips the test because something outside the project is missing,
// or fails it where that must not be.
func unavailable(t *testing.T, format string, args ...any) {
	t.Helper()
	text := fmt.Sprintf(format, args...)
	if os.Getenv(dockerVariable) == "require" {
		t.Fatalf("%s=require, but %s", dockerVariable, text)
	}
	t.Skipf("%s (%s=require makes this a failure)", text, dockerVariable)
}

// prepare returns the images, or skips the test.
func prepare(t *testing.T) images {
	t.Helper()
	switch mode := os.Getenv(dockerVariable); {
	case mode == "skip":
		t.Skipf("%s=skip", dockerVariable)
	case mode != "" && mode != "require":
		t.Fatalf("%s is %q; it is require, skip or empty", dockerVariable, mode)
	case testing.Short():
		t.Skip("containers are not for -short")
	}
	provider, err := engine(t.Context())
	if err != nil {
		unavailable(t, "there is no Docker engine: %v", err)
	}
	defer func() { _ = provider.Close() }() // it only read

	img := images{nats: os.Getenv(natsVariable), worker: os.Getenv(workerVariable)}
	if img.nats == "" {
		img.nats = "nats:2"
	}
	have(t, provider.Client(), img.nats)
	if img.worker != "" {
		have(t, provider.Client(), img.worker)
		return img
	}
	have(t, provider.Client(), builderImage)
	img.worker = build(t, provider)
	return img
}

// engine returns the Docker engine if there is one that answers.
func engine(ctx context.Context) (p *testcontainers.DockerProvider, err error) {
	defer func() {
		if r := recover(); r != nil { // the library panics where it finds no socket at all
			err = fmt.Errorf("%v", r)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	p, err = testcontainers.NewDockerProvider()
	if err != nil {
		return nil, err
	}
	if err := p.Health(ctx); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// have makes sure that the engine has the image ref.
func have(t *testing.T, docker client.APIClient, ref string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), pullTime)
	defer cancel()
	if _, err := docker.ImageInspect(ctx, ref); err == nil {
		return
	}
	pull, err := docker.ImagePull(ctx, ref, client.ImagePullOptions{})
	if err == nil {
		err = pull.Wait(ctx)
	}
	if err != nil {
		unavailable(t, "the image %s can neither be found nor pulled: %v", ref, err)
	}
}

// build builds the worker from the Dockerfile and returns the image's name. The
// image stays, so that the next build takes a moment only.
func build(t *testing.T, provider *testcontainers.DockerProvider) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), buildTime)
	defer cancel()
	log, err := os.Create(filepath.Join(t.TempDir(), "build.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	name, err := provider.BuildImage(ctx, &testcontainers.ContainerRequest{FromDockerfile: testcontainers.FromDockerfile{
		Context: filepath.Join("..", ".."), Repo: "vpcep-approver", Tag: "e2e", KeepImage: true, BuildLogWriter: log,
	}})
	if err != nil {
		text, _ := os.ReadFile(log.Name()) // the error of the build counts
		t.Fatalf("build the Dockerfile: %v\n%s", err, text)
	}
	return name
}

// logsOf prints what c wrote if the test has failed by then. To be called right
// after c was made and before its end is arranged for.
func logsOf(t *testing.T, name string, c testcontainers.Container) {
	t.Helper()
	if !t.Failed() || c == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	r, err := c.Logs(ctx)
	if err != nil {
		t.Logf("log of %s: %v", name, err)
		return
	}
	defer func() { _ = r.Close() }()
	const most = 24 << 10
	text, err := io.ReadAll(r)
	t.Logf("log of %s (%v):\n%s", name, err, text[max(0, len(text)-most):])
}
