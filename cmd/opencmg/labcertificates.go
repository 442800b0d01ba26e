package main

import (
	"net"
	"os"
	"time"

	"github.com/opencmg/opencmg/labcloud"
	"github.com/opencmg/opencmg/pki"
)

func (l *lab) makeCertificates(now time.Time) (err error) {
	if l.publicCA, err = l.authority("public", pki.AuthorityOptions{Name: "OpenCMG lab public CA"}, now); err != nil {
		return err
	}
	rootURL := "http://" + l.addr.crl + "/root.crl"
	if l.pkiRoot, err = l.authority("client-root", pki.AuthorityOptions{Name: "OpenCMG lab client root CA", CRLURL: rootURL}, now); err != nil {
		return err
	}
	if l.pkiIssuing, err = l.authority("client-issuing", pki.AuthorityOptions{
		Name: "OpenCMG lab client issuing CA", Parent: l.pkiRoot, CRLURL: l.issuingCRL(),
	}, now); err != nil {
		return err
	}
	files := map[string][]byte{
		l.path("ca.pem"):                    l.publicCA.CertificatePEM(),
		l.path("pki", "client-root.pem"):    l.pkiRoot.CertificatePEM(),
		l.path("pki", "client-issuing.pem"): l.pkiIssuing.CertificatePEM(),
	}
	for file, b := range files {
		if err := pki.WriteFile(file, b, 0o644); err != nil {
			return err
		}
	}
	if err := l.writeCRLs(now); err != nil {
		return err
	}
	if err := l.makeServerCertificate(now); err != nil {
		return err
	}
	h := labcloud.LabHosts()
	cloud, err := certificateFor(l.publicCA, now, h.Login, h.ARM, h.Graph, "*."+h.Vault, "*."+h.Blob, "localhost", "127.0.0.1", "::1")
	if err != nil {
		return err
	}
	return pki.SaveKeyPair(l.path("pki", "cloud.pem"), l.path("pki", "cloud.key"), cloud)
}

// makeServerCertificate makes the gateway's server certificate unless it is kept.
func (l *lab) makeServerCertificate(now time.Time) error {
	file := l.path("pki", "server.pfx")
	if _, err := os.Stat(file); l.resumed && err == nil {
		return nil
	}
	// People and tools reach an instance by its address too, so the server
	// certificate covers both.
	server, err := l.publicCA.IssueKeyPair(pki.Template{
		CommonName: labServiceName, Server: true, Key: pki.RSA2048, DNSNames: []string{labServiceName, "localhost"}, IPs: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}, now)
	if err != nil {
		return err
	}
	pfx, err := pki.EncodePFX(server)
	if err != nil {
		return err
	}
	return pki.WriteFile(file, pfx, 0o600)
}

// issuingCRL is where the list is found that covers the clients' certificates.
func (l *lab) issuingCRL() string { return "http://" + l.addr.crl + "/issuing.crl" }

func (l *lab) writeCRLs(now time.Time) error {
	for file, ca := range map[string]*pki.Authority{"root.crl": l.pkiRoot, "issuing.crl": l.pkiIssuing} {
		crl, err := ca.CRL(now, crlValidity)
		if err != nil {
			return err
		}
		if err := pki.WriteFile(l.path("crl", file), crl, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// clientCertificate issues a certificate of the lab's PKI for a device.
func (l *lab) clientCertificate(name string, now time.Time) (labKeyPair, error) {
	pair, err := l.pkiIssuing.IssueKeyPair(pki.Template{CommonName: name, DNSNames: []string{name}, Client: true, Key: pki.RSA2048}, now)
	if err != nil {
		return labKeyPair{}, err
	}
	files := labKeyPair{CertFile: l.path("pki", name+".pem"), KeyFile: l.path("pki", name+".key")}
	return files, pki.SaveKeyPair(files.CertFile, files.KeyFile, pair)
}

// keptClientCertificate is the certificate that a device has already, or a new
// one.
func (l *lab) keptClientCertificate(name string, now time.Time) (labKeyPair, error) {
	files := labKeyPair{CertFile: l.path("pki", name+".pem"), KeyFile: l.path("pki", name+".key")}
	if pair, err := pki.LoadKeyPair(files.CertFile, files.KeyFile); l.resumed && err == nil && now.Before(pair.Leaf.NotAfter) {
		return files, nil
	}
	return l.clientCertificate(name, now)
}

// revoke puts a certificate onto the revocation list and publishes the list.
func (l *lab) revoke(files labKeyPair, now time.Time) error {
	certs, err := pki.LoadCertificates(files.CertFile)
	if err != nil {
		return err
	}
	l.crlMu.Lock()
	defer l.crlMu.Unlock()
	l.pkiIssuing.Revoke(certs[0].SerialNumber, now)
	if err := l.pkiIssuing.Save(l.path("ca"), "client-issuing"); err != nil {
		return err
	}
	return l.writeCRLs(now)
}
