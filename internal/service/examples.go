package service

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
	"github.com/vpcep-approver/vpcep-approver/internal/strictyaml"
	"github.com/vpcep-approver/vpcep-approver/policies"
)

// exampleIDs returns the cloud ids in the example policies, in lower case and
// without dashes.
func exampleIDs() (map[string]bool, error) {
	id := regexp.MustCompile(`\b(?:[0-9a-fA-F]{32}|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})\b`)
	files, err := policies.Files.ReadDir(".")
	if err != nil {
		return nil, fmt.Errorf("read the example policies: %w", err)
	}
	out := map[string]bool{}
	for _, f := range files {
		text, err := policies.Files.ReadFile(f.Name())
		if err != nil {
			return nil, fmt.Errorf("read the example policies: %w", err)
		}
		if strings.HasSuffix(f.Name(), "_test.yaml") {
			continue
		}
		for _, v := range id.FindAllString(string(text), -1) {
			out[strings.ToLower(strings.ReplaceAll(v, "-", ""))] = true
		}
	}
	return out, nil
}

// ExampleFindings returns a finding for each entry of set that names an id of the
// example policies; none if set is the example policies, as they are.
func ExampleFindings(set *policy.Set, targets approval.Targets) ([]strictyaml.Finding, error) {
	ids, err := exampleIDs()
	if err != nil {
		return nil, err
	}
	found := set.ExampleIDs(ids)
	if len(found) == 0 {
		return nil, nil
	}
	if examples, err := policy.Load(policies.Files, targets); err == nil && examples.Digest() == set.Digest() {
		return nil, nil
	}
	return found, nil
}

// RefuseExamples returns an error if set names ids of the example policies: they
// are in force in a simulated cloud only.
func RefuseExamples(cfg config.Config, set *policy.Set) error {
	if simulated(cfg) {
		return nil
	}
	ids, err := exampleIDs()
	if err != nil {
		return err
	}
	found := set.ExampleIDs(ids)
	if len(found) == 0 {
		return nil
	}
	more := ""
	if len(found) > 1 {
		more = fmt.Sprintf(" (and %s)", cli.Plural(len(found)-1, "entry more", "entries more"))
	}
	return fmt.Errorf("%s%s; the example policies are for the demo and a simulated cloud: make a folder of your own with worker init", found[0].String(), more)
}

// simulated reports whether every API that is called is overridden by a plain HTTP
// endpoint, which no real cloud has.
func simulated(cfg config.Config) bool {
	for api, used := range APIsOf(cfg) {
		if used && !strings.HasPrefix(cfg.Cloud.Endpoints[api], "http://") {
			return false
		}
	}
	return len(cfg.Targets) > 0
}

// APIsOf returns the APIs that the targets and the credentials need.
func APIsOf(cfg config.Config) map[string]bool {
	used := map[string]bool{cloud.APIIAM: cfg.Cloud.AuthMode == cloud.ModePassword}
	for _, t := range cfg.Targets {
		switch t.Kind {
		case approval.Service:
			used[cloud.APIVPCEP] = true
		case approval.Gateway:
			used[cloud.APIAPIG] = true
			used[cloud.APIVPCEP] = used[cloud.APIVPCEP] || t.ServiceID != ""
		case approval.FunctionGraph:
			used[cloud.APIFunctionGraph], used[cloud.APIVPCEP] = true, true
		case approval.HSS:
			used[cloud.APIHSS] = true
		case approval.DataArtsInsight:
			used[cloud.APIDataArtsInsight] = true
		}
	}
	return used
}
