package pki

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/opencmg/opencmg"
)

// ServerCertificateOptions say what a server certificate is for.
type ServerCertificateOptions struct {
	// ServiceName is the name that the administrator chose for clients; empty
	// takes it from the certificate. A wildcard certificate needs it.
	ServiceName string
	// DeploymentName is the prefix that the administrator chose; empty takes
	// the first label of the service name. It counts in a cloud only.
	DeploymentName string
	// CloudDomain is where the cloud keeps the deployment's own name, e.g.
	// westeurope.cloudapp.azure.com; empty when no cloud is used.
	CloudDomain string
	// Replaces is the certificate in force, on renewal.
	Replaces *x509.Certificate
	Now      time.Time // default is the present
}

// ServerCertificateInfo is what a server certificate says.
type ServerCertificateInfo struct {
	Subject    string
	CommonName string
	DNSNames   []string
	Thumbprint string // SHA-256
	NotBefore  time.Time
	NotAfter   time.Time
	Key        string // e.g. RSA 2048
	Wildcard   bool   // the common name, or the first DNS name without one
	Chain      []string
	// ServiceName is the name that clients use, with the case of the
	// certificate; empty when it can not be told.
	ServiceName string
	// DeploymentName is the prefix of the deployment's own name, Deployment
	// that name as a whole; empty when they can not be told, or without a
	// cloud.
	DeploymentName, Deployment string
	// NeedsCNAME reports that DNS must lead from ServiceName to Deployment.
	NeedsCNAME  bool
	Certificate *x509.Certificate
}

// InspectServerCertificate looks at a PFX as an administrator gives it and
// makes every check of cmg-behaviour 3.5 before anything is deployed; it does
// not stop at the first fault. The password is the first line of password. An
// error means that the file can not be opened, and is the only check then. The
// checks that fail must be cured; those that warn or leave something to do
// need not stop a deployment.
func InspectServerCertificate(pfx, password []byte, o ServerCertificateOptions) (*ServerCertificateInfo, []opencmg.Check, error) {
	in := inspection{o: o, now: o.Now}
	if in.now.IsZero() {
		in.now = time.Now()
	}
	const file, fileName = "file", "PFX file with an exportable private key"
	key, certs, err := parsePFX(pfx, password)
	if err != nil {
		return nil, []opencmg.Check{{ID: file, Name: fileName, State: opencmg.CheckFail, Evidence: err.Error(), NextStep: "export the certificate again, with its private key and all certificates in the path"}}, err
	}
	leaf, f := leafOf(key, certs)
	if f != nil {
		in.fault(file, fileName, f, "")
		return nil, in.checks, f.err()
	}
	in.add(file, fileName, opencmg.CheckPass, fmt.Sprintf("%d certificates and the private key of %s", len(certs), describe(leaf)), "")
	in.leaf, in.chain = leaf, chainOf(leaf, certs)
	in.info = &ServerCertificateInfo{
		Subject: leaf.Subject.String(), CommonName: leaf.Subject.CommonName, DNSNames: leaf.DNSNames, Thumbprint: Thumbprint(leaf),
		NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, Key: keyText(leaf), Certificate: leaf,
	}
	for _, c := range in.chain {
		in.info.Chain = append(in.info.Chain, c.Subject.String())
	}
	in.fault("key", "Kind of key", checkKey(leaf), in.info.Key)
	in.fault("usage", "Server authentication", checkUsage(leaf), "the extended key usage names server authentication")
	in.signature()
	in.validity()
	in.chainComplete(certs)
	in.serviceName()
	in.deploymentName()
	in.dns()
	in.renewal()
	return in.info, in.checks, nil
}

// An inspection collects checks.
type inspection struct {
	o      ServerCertificateOptions
	now    time.Time
	leaf   *x509.Certificate
	chain  []*x509.Certificate
	info   *ServerCertificateInfo
	checks []opencmg.Check
}

func (in *inspection) add(id, name string, state opencmg.CheckState, evidence, next string) {
	in.checks = append(in.checks, opencmg.Check{ID: id, Name: name, State: state, Evidence: evidence, NextStep: next})
}

// fault adds a check that failed, or passed with the evidence when f is nil.
func (in *inspection) fault(id, name string, f *fault, good string) {
	if f != nil {
		in.add(id, name, opencmg.CheckFail, f.evidence, f.next)
		return
	}
	in.add(id, name, opencmg.CheckPass, good, "")
}

func keyText(c *x509.Certificate) string {
	switch k := c.PublicKey.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", k.N.BitLen())
	case *ecdsa.PublicKey:
		return "ECDSA " + k.Curve.Params().Name
	}
	return c.PublicKeyAlgorithm.String()
}

func (in *inspection) signature() {
	for _, c := range in.chain {
		if selfIssued(c) && c != in.leaf {
			continue // nobody looks at a root's own signature
		}
		switch c.SignatureAlgorithm {
		case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1:
			in.add("signature", "Signature", opencmg.CheckFail, fmt.Sprintf("%s is signed with %v, which clients refuse", describe(c), c.SignatureAlgorithm), "request one that is signed with SHA-256")
			return
		}
	}
	in.add("signature", "Signature", opencmg.CheckPass, in.leaf.SignatureAlgorithm.String(), "")
}

// expiresSoon is how long before its end a certificate is worth a warning: sixty
// days, or a third of its life when that is shorter.
func expiresSoon(c *x509.Certificate) time.Duration {
	return min(60*24*time.Hour, c.NotAfter.Sub(c.NotBefore)/3)
}

func (in *inspection) validity() {
	const id, name = "validity", "Validity"
	if f := checkValidity(in.chain, in.now); f != nil {
		in.fault(id, name, f, "")
		return
	}
	for _, c := range in.chain {
		if left := c.NotAfter.Sub(in.now); left < expiresSoon(c) {
			in.add(id, name, opencmg.CheckWarn, fmt.Sprintf("%s expires in %d days, at %s", describe(c), int(left.Hours()/24), c.NotAfter.UTC().Format(time.RFC3339)), "renew it soon, or use one that lives longer")
			return
		}
	}
	in.add(id, name, opencmg.CheckPass, "until "+in.leaf.NotAfter.UTC().Format(time.RFC3339), "")
}

func (in *inspection) chainComplete(certs []*x509.Certificate) {
	const id, name = "chain", "Chain of issuers"
	if f := checkIssuer(in.chain); f != nil {
		in.fault(id, name, f, "")
		return
	}
	top := in.chain[len(in.chain)-1]
	switch {
	case len(in.chain) == 1:
		in.add(id, name, opencmg.CheckWarn, describe(in.leaf)+" is self-signed", "make every client trust it, or use a certificate of an authority that they trust")
		return
	case !selfIssued(top):
		in.add(id, name, opencmg.CheckWarn, fmt.Sprintf("the chain ends at %s; its issuer %q is not in the file", describe(top), top.Issuer),
			"nothing if that is a root which all clients have; otherwise export again with all certificates in the path")
		return
	}
	good := fmt.Sprintf("%d certificates up to the root %s", len(in.chain), describe(top))
	if !slices.EqualFunc(in.chain, certs, func(a, b *x509.Certificate) bool { return a.Equal(b) }) {
		good += "; they are put in order, and certificates that do not belong to it are left out"
	}
	in.add(id, name, opencmg.CheckPass, good, "")
}

var dnsNamePattern = regexp.MustCompile(`^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)+$`)

// isDNSName reports whether s is a full host name.
func isDNSName(s string) bool { return len(s) <= 253 && dnsNamePattern.MatchString(strings.ToLower(s)) }

// certificateName is the name that a certificate is for: the common name, or
// the first DNS name when the common name is none.
func certificateName(c *x509.Certificate) string {
	if cn := c.Subject.CommonName; isDNSName(strings.TrimPrefix(cn, "*.")) {
		return cn
	}
	if len(c.DNSNames) > 0 {
		return c.DNSNames[0]
	}
	return ""
}

func (in *inspection) serviceName() {
	const id, name = "service-name", "Service name"
	certName := certificateName(in.leaf)
	in.info.Wildcard = strings.HasPrefix(certName, "*.")
	chosen := in.o.ServiceName
	switch {
	case chosen != "" && !isDNSName(chosen):
		in.add(id, name, opencmg.CheckFail, fmt.Sprintf("the service name %q is not a host name", chosen), "give a full name such as gw.example.com")
		return
	case chosen == "" && certName == "":
		in.add(id, name, opencmg.CheckFail, describe(in.leaf)+" names no host", "request one with the service name as common name and as subject alternative name")
		return
	case chosen == "" && in.info.Wildcard:
		in.add(id, name, opencmg.CheckFail, fmt.Sprintf("the certificate is for %s, and clients need a name without an asterisk", certName), fmt.Sprintf("give a service name that it covers, such as gw%s", certName[1:]))
		return
	}
	used := cmp.Or(chosen, certName)
	if f := checkName(in.leaf, used); f != nil {
		if chosen == "" {
			f.next = "request one that has its common name among the subject alternative names too: clients look only there"
		}
		in.fault(id, name, f, "")
		return
	}
	in.info.ServiceName = used
	if chosen == "" && len(in.leaf.DNSNames) > 1 {
		in.add(id, name, opencmg.CheckWarn, fmt.Sprintf("the certificate covers %d names, and clients will use %s", len(in.leaf.DNSNames), used), "give the service name if it should be another one")
		return
	}
	in.add(id, name, opencmg.CheckPass, used, "")
}

// deploymentName derives the prefix of the deployment's own name
// (cmg-behaviour G40, azure.md 2).
func (in *inspection) deploymentName() {
	const id, name = "deployment-name", "Deployment name"
	if in.o.CloudDomain == "" {
		return
	}
	prefix, next := in.o.DeploymentName, "choose another one"
	if prefix == "" {
		if in.info.ServiceName == "" {
			in.add(id, name, opencmg.CheckTodo, "there is no service name to derive it from", "cure the service name first, or give a deployment name")
			return
		}
		prefix, _, _ = strings.Cut(strings.ToLower(in.info.ServiceName), ".")
		next = "give a deployment name; the service name may stay as it is"
	}
	if err := opencmg.ValidateDeploymentName(prefix); err != nil {
		in.add(id, name, opencmg.CheckFail, err.Error(), next)
		return
	}
	in.info.DeploymentName, in.info.Deployment = prefix, prefix+"."+in.o.CloudDomain
	in.add(id, name, opencmg.CheckPass, in.info.Deployment, "")
}

// dns says what DNS must hold (cmg-behaviour G43).
func (in *inspection) dns() {
	const id, name = "dns", "DNS"
	service, deployment := in.info.ServiceName, in.info.Deployment
	if service == "" || deployment == "" && in.o.CloudDomain != "" {
		return
	}
	if in.o.CloudDomain == "" {
		in.add(id, name, opencmg.CheckTodo, service+" must lead to the gateway's addresses", "make A and AAAA records, inside the network too where its DNS differs")
		return
	}
	_, shared, _ := strings.Cut(in.o.CloudDomain, ".")
	switch {
	case strings.EqualFold(service, deployment):
		in.add(id, name, opencmg.CheckPass, "the cloud's own name is used, so nothing is to do", "")
	case strings.HasSuffix(strings.ToLower(service), "."+strings.ToLower(shared)):
		in.add(id, name, opencmg.CheckFail, fmt.Sprintf("%s belongs to the cloud, but this deployment will be called %s", service, deployment), "choose the region and the deployment name that the certificate was made for, or request one for this name")
	default:
		in.info.NeedsCNAME = true
		in.add(id, name, opencmg.CheckTodo, fmt.Sprintf("%s is a name of your own", service), fmt.Sprintf("make a CNAME record %s → %s, outside and, where its DNS differs, inside the network", service, deployment))
	}
}

// renewal checks that a replacement is for the same name (cmg-behaviour G44).
func (in *inspection) renewal() {
	const id, name = "renewal", "Renewal"
	old := in.o.Replaces
	switch {
	case old == nil:
	case !SameName(old, in.leaf):
		in.add(id, name, opencmg.CheckFail, fmt.Sprintf("the certificate in force is for %s, this one for %s", certificateName(old), certificateName(in.leaf)), "request it for the same name; another name needs another gateway")
	case old.Equal(in.leaf):
		in.add(id, name, opencmg.CheckWarn, "this is the certificate that is in force already", "give the new one")
	case !in.leaf.NotAfter.After(old.NotAfter):
		in.add(id, name, opencmg.CheckWarn, fmt.Sprintf("it does not live longer than the one in force (%s)", old.NotAfter.UTC().Format(time.RFC3339)), "check that this is the new one")
	default:
		in.add(id, name, opencmg.CheckPass, "for the same name as the certificate in force", "")
	}
}

// SameName reports whether a certificate may replace another on renewal: both
// are for the same name, compared without case (the original system compares
// with case, cmg-behaviour G44). A new one without a common name must have the
// old name among its DNS names.
func SameName(old, renewed *x509.Certificate) bool {
	name := certificateName(old)
	if name == "" {
		return false
	}
	if isDNSName(strings.TrimPrefix(renewed.Subject.CommonName, "*.")) {
		return strings.EqualFold(name, renewed.Subject.CommonName)
	}
	return slices.ContainsFunc(renewed.DNSNames, func(n string) bool { return strings.EqualFold(name, n) })
}

// ReencodePFX turns an administrator's PFX into the form that the key vault
// holds: without a password, with the chain in order up to the root as far as
// the file has it. It makes no other check than that the key belongs to one of
// the certificates. The password is the first line of password.
func ReencodePFX(pfx, password []byte) ([]byte, error) {
	key, certs, err := parsePFX(pfx, password)
	if err != nil {
		return nil, err
	}
	leaf, f := leafOf(key, certs)
	if f != nil {
		return nil, f.err()
	}
	chain := chainOf(leaf, certs)
	return encodePFX(key, leaf, chain[1:])
}

// EncodePFX writes a certificate with its chain and key in the same form.
func EncodePFX(cert tls.Certificate) ([]byte, error) {
	var chain []*x509.Certificate
	for _, der := range cert.Certificate {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("encode PFX: %w", err)
		}
		chain = append(chain, c)
	}
	if len(chain) == 0 {
		return nil, opencmg.Errorf(opencmg.Invalid, "encode PFX: there is no certificate")
	}
	return encodePFX(cert.PrivateKey, chain[0], chain[1:])
}

func encodePFX(key any, leaf *x509.Certificate, above []*x509.Certificate) ([]byte, error) {
	out, err := pkcs12.Modern.Encode(key, leaf, above, "")
	if err != nil {
		return nil, fmt.Errorf("encode PFX: %w", err)
	}
	return out, nil
}
