package pki

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/opencmg/opencmg"
)

// ServerFiles say where the gateway's server certificate is: either PFX and
// PasswordFile, or Certificate and Key as PEM.
type ServerFiles struct {
	PFX          string // certificate, chain and key
	PasswordFile string // its password on the first line; empty means no password
	Certificate  string // PEM: the certificate and its chain
	Key          string // PEM; empty or the same means that Certificate holds the key, too
	// ServiceName must be covered by the certificate; empty checks no name.
	ServiceName string
}

// LoadServerCertificate reads and checks a server certificate
// (cmg-behaviour G42): a key of a kind that clients take, valid now, for server
// authentication, with the certificates of the CAs above it and the service
// name. The result presents the chain in order and without the root. Errors are
// [opencmg.Error] of kind Invalid and say what to do.
func LoadServerCertificate(files ServerFiles, now time.Time) (tls.Certificate, error) {
	content, err := files.read()
	if err != nil {
		return tls.Certificate{}, err
	}
	return content.load(files, now)
}

// ParseServerPFX reads and checks a server certificate like
// [LoadServerCertificate], from the bytes of a PFX.
func ParseServerPFX(pfx, password []byte, serviceName string, now time.Time) (tls.Certificate, error) {
	key, certs, err := parsePFX(pfx, password)
	if err == nil {
		var cert tls.Certificate
		if cert, err = checkServerCertificate(key, certs, serviceName, now); err == nil {
			return cert, nil
		}
	}
	return tls.Certificate{}, fmt.Errorf("server certificate: %w", err)
}

// serverContent is what is in the files.
type serverContent struct{ pfx, password, certificate, key []byte }

func (f ServerFiles) read() (c serverContent, err error) {
	if (f.PFX == "") == (f.Certificate == "") {
		return c, opencmg.Errorf(opencmg.Invalid, "server certificate: name either a PFX file, or a PEM certificate and its key")
	}
	for _, e := range []struct {
		what, path string
		to         *[]byte
	}{
		{"PFX file", f.PFX, &c.pfx},
		{"PFX password file", f.PasswordFile, &c.password},
		{"certificate", f.Certificate, &c.certificate},
		{"private key", f.Key, &c.key},
	} {
		if e.path == "" {
			continue
		}
		if *e.to, err = readSmall(e.path); err != nil {
			return c, opencmg.Errorf(opencmg.Invalid, "server certificate: %s: %w", e.what, err)
		}
	}
	if f.Key == "" {
		c.key = c.certificate
	}
	return c, nil
}

func (c serverContent) sum() [sha256.Size]byte {
	h := sha256.New()
	for _, b := range [][]byte{c.pfx, c.password, c.certificate, c.key} {
		fmt.Fprintf(h, "%d ", len(b))
		h.Write(b)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

func (c serverContent) load(files ServerFiles, now time.Time) (tls.Certificate, error) {
	var key crypto.Signer
	var certs []*x509.Certificate
	var err error
	name := files.PFX
	if name != "" {
		key, certs, err = parsePFX(c.pfx, c.password)
	} else {
		name = files.Certificate
		key, certs, err = parsePEMPair(c.certificate, c.key, files)
	}
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("server certificate %s: %w", name, err)
	}
	cert, err := checkServerCertificate(key, certs, files.ServiceName, now)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("server certificate %s: %w", name, err)
	}
	return cert, nil
}

func parsePFX(data, passwordLine []byte) (crypto.Signer, []*x509.Certificate, error) {
	password, _, _ := strings.Cut(string(passwordLine), "\n")
	password = strings.TrimSuffix(password, "\r")
	var outer asn1.RawValue
	rest, err := asn1.Unmarshal(data, &outer)
	switch {
	case len(data) == 0:
		return nil, nil, opencmg.Errorf(opencmg.Invalid, "the file is empty: export or copy it again")
	case strings.HasPrefix(string(data), "-----BEGIN"):
		return nil, nil, opencmg.Errorf(opencmg.Invalid, "this is PEM text and not a PFX file: name it as certificate and key instead")
	case data[0] != 0x30: // every PFX is a SEQUENCE (RFC 7292 4)
		return nil, nil, opencmg.Errorf(opencmg.Invalid, "this is not a PFX file: export the certificate with its private key as PKCS #12")
	case err != nil:
		return nil, nil, opencmg.Errorf(opencmg.Invalid, "the file is cut off after %d bytes: copy or export it again: %w", len(data), err)
	case len(rest) > 0:
		return nil, nil, opencmg.Errorf(opencmg.Invalid, "%d bytes follow the end of the PFX: copy or export it again", len(rest))
	}
	k, leaf, above, err := pkcs12.DecodeChain(data, password)
	var unsupported pkcs12.NotImplementedError
	switch {
	case errors.Is(err, pkcs12.ErrIncorrectPassword) || errors.Is(err, pkcs12.ErrDecryption):
		if password == "" {
			return nil, nil, opencmg.Errorf(opencmg.Invalid, "the file needs a password: name a password file: %w", err).About("password")
		}
		return nil, nil, opencmg.Errorf(opencmg.Invalid, "the password does not open the file: check the first line of the password file: %w", err).About("password")
	case errors.As(err, &unsupported):
		return nil, nil, opencmg.Errorf(opencmg.Invalid, "the file is protected in a way that is not supported (%w): export it again with AES-256 and SHA-256", err)
	case err != nil:
		return nil, nil, opencmg.Errorf(opencmg.Invalid, "the file is damaged, or holds no certificate with its private key (%w): export it again, with the private key", err)
	}
	key, ok := k.(crypto.Signer)
	if !ok {
		return nil, nil, opencmg.Errorf(opencmg.Invalid, "the private key is of a kind (%T) that TLS does not use", k)
	}
	return key, append([]*x509.Certificate{leaf}, above...), nil
}

func parsePEMPair(certPEM, keyPEM []byte, files ServerFiles) (crypto.Signer, []*x509.Certificate, error) {
	certs, err := ParseCertificates(certPEM)
	if err != nil {
		return nil, nil, err
	}
	key, err := parseKey(keyPEM)
	if err != nil {
		if files.Key == "" {
			return nil, nil, fmt.Errorf("no key file is named, and in the certificate's: %w", err)
		}
		return nil, nil, fmt.Errorf("private key %s: %w", files.Key, err)
	}
	return key, certs, nil
}

// checkServerCertificate checks what clients will check, and what they can not
// tell us. The checks themselves are in servercheck.go.
func checkServerCertificate(key crypto.Signer, certs []*x509.Certificate, serviceName string, now time.Time) (tls.Certificate, error) {
	leaf, f := leafOf(key, certs)
	if f != nil {
		return tls.Certificate{}, f.err()
	}
	chain := chainOf(leaf, certs)
	for _, check := range []func() *fault{
		func() *fault { return checkKey(leaf) },
		func() *fault { return checkUsage(leaf) },
		func() *fault { return checkValidity(chain, now) },
		func() *fault { return checkIssuer(chain) },
		func() *fault { return checkName(leaf, serviceName) },
	} {
		if f := check(); f != nil {
			return tls.Certificate{}, f.err()
		}
	}
	out := tls.Certificate{PrivateKey: key, Leaf: leaf}
	for i, c := range chain {
		if i == 0 || !selfIssued(c) {
			out.Certificate = append(out.Certificate, c.Raw)
		}
	}
	return out, nil
}

// A ServerCertificate follows the files of a server certificate. It is safe for
// concurrent use.
type ServerCertificate struct {
	files   ServerFiles
	log     *slog.Logger
	current atomic.Pointer[tls.Certificate]

	mu   sync.Mutex // one reload at a time; protects seen
	seen [sha256.Size]byte
}

// serverPoll is how often the files are looked at.
const serverPoll = 5 * time.Second

// NewServerCertificate loads the certificate; an error means that there is
// none to start with.
func NewServerCertificate(files ServerFiles, log *slog.Logger) (*ServerCertificate, error) {
	s := &ServerCertificate{files: files, log: logger(log)}
	if err := s.Reload(); err != nil {
		return nil, err
	}
	return s, nil
}

// GetCertificate is for [tls.Config].
func (s *ServerCertificate) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return s.current.Load(), nil
}

// Current returns the certificate in use.
func (s *ServerCertificate) Current() *tls.Certificate { return s.current.Load() }

// Reload reads the files again. A broken file keeps the old certificate.
func (s *ServerCertificate) Reload() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	content, err := s.files.read()
	if err != nil {
		return err
	}
	return s.use(content)
}

// use takes new content. The caller holds mu.
func (s *ServerCertificate) use(content serverContent) error {
	cert, err := content.load(s.files, time.Now())
	if err != nil {
		return err
	}
	s.seen = content.sum()
	if old := s.current.Swap(&cert); old != nil && !old.Leaf.Equal(cert.Leaf) {
		s.log.Info("server certificate replaced", "subject", cert.Leaf.Subject.String(), "thumbprint", Thumbprint(cert.Leaf), "not_after", cert.Leaf.NotAfter)
	}
	return nil
}

// Run looks for changed files every few seconds until ctx ends. Connections
// keep what they have; new ones get the new certificate. What is wrong with a
// new file is logged once, and the file is tried again: it may be half copied,
// or not valid yet.
func (s *ServerCertificate) Run(ctx context.Context) error {
	tick := time.NewTicker(serverPoll)
	defer tick.Stop()
	said := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		s.mu.Lock()
		content, err := s.files.read()
		if err == nil && content.sum() != s.seen {
			err = s.use(content)
		}
		s.mu.Unlock()
		if err == nil {
			said = ""
		} else if said != err.Error() {
			said = err.Error()
			s.log.Error("new server certificate is not usable, the old one stays", "err", err)
		}
	}
}

// readSmall reads a file that must not be large.
func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	const limit = 1 << 20
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && len(data) > limit {
		err = fmt.Errorf("%s is longer than %d bytes and can not be a certificate or key", path, limit)
	}
	return data, err
}
