package console

import (
	"crypto/tls"
	"fmt"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// certificateEvery is the time between looks at the files of a certificate.
const certificateEvery = 10 * time.Second

// certificate is the TLS certificate of the console, read again from its files as people
// connect. While they cannot be read, the last good one stays in use. It is safe for
// concurrent use.
type certificate struct {
	cert, key string // PEM files
	log       zerolog.Logger

	mu     sync.Mutex
	good   *tls.Certificate
	looked time.Time
	told   string // the problem that was logged last; empty: none
}

// openCertificate reads the files for the first time.
func openCertificate(cert, key string, log zerolog.Logger) (*certificate, error) {
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("console.tls: %w", err)
	}
	return &certificate{cert: cert, key: key, log: log, good: &pair, looked: time.Now()}, nil
}

// get is tls.Config.GetCertificate.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.looked) < certificateEvery {
		return c.good, nil
	}
	c.looked = time.Now()
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		if text := err.Error(); text != c.told {
			c.told = text
			c.log.Error().Err(err).Msg("console.tls: the certificate cannot be read; the last good one stays in use")
		}
		return c.good, nil
	}
	c.good, c.told = &pair, ""
	return c.good, nil
}
