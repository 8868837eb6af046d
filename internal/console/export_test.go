package console

import (
	"crypto/tls"
	"time"

	"github.com/rs/zerolog"
)

// SetBeat sets the time between signs of life of streams. Call it before the first.
func (c *Console) SetBeat(d time.Duration) { c.beat = d }

// CertificateEvery is the time between looks at the files of a certificate.
const CertificateEvery = certificateEvery

// OpenCertificate reads a certificate for the first time.
func OpenCertificate(cert, key string, log zerolog.Logger) (*certificate, error) {
	return openCertificate(cert, key, log)
}

// Served is the certificate for one who connects now.
func (c *certificate) Served() (*tls.Certificate, error) { return c.get(nil) }
