package pki

import (
	"context"
	"crypto/tls"
	"log/slog"
	"time"
)

// ServerFiles say where the gateway's server certificate is: either PFX and
// PasswordFile, or Certificate and Key as PEM.
type ServerFiles struct {
	PFX          string // certificate, chain and key
	PasswordFile string // its password on the first line; empty means no password
	Certificate  string // PEM: the certificate first, then the chain
	Key          string // PEM; may be the same file
	// ServiceName must be covered by the certificate; empty checks no name.
	ServiceName string
}

// LoadServerCertificate reads and checks a server certificate
// (cmg-behaviour G42). Its errors are [opencmg.Error] and say what to do.
func LoadServerCertificate(files ServerFiles, now time.Time) (tls.Certificate, error) {
	return tls.Certificate{}, errTodo
}

// A ServerCertificate follows the files of a server certificate.
type ServerCertificate struct{}

// NewServerCertificate loads the certificate; an error means that there is
// none to start with.
func NewServerCertificate(files ServerFiles, log *slog.Logger) (*ServerCertificate, error) {
	return nil, errTodo
}

// GetCertificate is for [tls.Config].
func (s *ServerCertificate) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return nil, errTodo
}

// Current returns the certificate in use.
func (s *ServerCertificate) Current() *tls.Certificate { return nil }

// Reload reads the files again. A broken file keeps the old certificate.
func (s *ServerCertificate) Reload() error { return errTodo }

// Run looks for changed files every few seconds until ctx ends.
func (s *ServerCertificate) Run(ctx context.Context) error { <-ctx.Done(); return nil }
