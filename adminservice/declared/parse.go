package declared

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// MaxFile bounds a declared file, in bytes.
const MaxFile = 4 << 20

// Parse reads a declared file. name is for error texts, which name the line of
// what is wrong: unknown keys, values that can not be, and objects that are there
// twice. Texts of which there are several spellings come back in the one that
// sites use.
func Parse(b []byte, name string) (*Document, error) {
	if len(b) > MaxFile {
		return nil, opencmg.Errorf(opencmg.TooLarge, "%s is larger than %d bytes: is it the right file?", name, MaxFile)
	}
	file, err := parser.ParseBytes(b, 0)
	if err != nil {
		return nil, opencmg.Errorf(opencmg.Invalid, "%s: %s", name, strings.TrimSpace(yaml.FormatError(err, false, true)))
	}
	if len(file.Docs) > 1 {
		return nil, opencmg.Errorf(opencmg.Invalid, "%s holds %d documents: put everything into one", name, len(file.Docs))
	}
	plain := plainYAML{}
	for _, doc := range file.Docs {
		ast.Walk(&plain, doc)
	}
	if plain.line > 0 {
		return nil, opencmg.Errorf(opencmg.Invalid, "%s:%d: tags, anchors and aliases are not taken here: write the value in full", name, plain.line)
	}
	d := &Document{}
	if err := yaml.NewDecoder(bytes.NewReader(b), yaml.Strict()).Decode(d); err != nil && !errors.Is(err, io.EOF) {
		return nil, opencmg.Errorf(opencmg.Invalid, "%s: %s", name, strings.TrimSpace(yaml.FormatError(err, false, true)))
	}
	c := checker{name: name, file: file, seen: map[string]string{}}
	c.document(d)
	return d, c.err
}

// plainYAML notes the first line with a tag, an anchor or an alias. A document
// needs none; the decoder fails on some tags, and aliases of aliases fill any
// memory.
type plainYAML struct{ line int }

// Visit is ast.Visitor.
func (p *plainYAML) Visit(n ast.Node) ast.Visitor {
	switch n.(type) {
	case *ast.TagNode, *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode:
		if p.line == 0 {
			p.line = n.GetToken().Position.Line
		}
		return nil
	}
	return p
}

// A checker looks at the values of a document and keeps the first error.
type checker struct {
	name string
	file *ast.File
	seen map[string]string // path by kind and key
	err  error
}

// fail notes an error at a path such as gateways[0].size.
func (c *checker) fail(path, format string, args ...any) {
	if c.err == nil {
		c.err = opencmg.Errorf(opencmg.Invalid, "%s:%s: %s: %s", c.name, c.line(path), path, fmt.Sprintf(format, args...))
	}
}

// line is that of a path, or of the nearest thing around it.
func (c *checker) line(path string) string {
	for path != "" {
		if p, err := yaml.PathString("$." + path); err == nil {
			if n, err := p.FilterFile(c.file); err == nil && n != nil && n.GetToken() != nil {
				return strconv.Itoa(n.GetToken().Position.Line)
			}
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return "1"
}

// once refuses a second object of a kind with the same key.
func (c *checker) once(kind, path, key string) {
	if key == "" {
		c.fail(path, "must not be empty")
	}
	key = kind + "/" + strings.ToLower(key)
	if first, ok := c.seen[key]; ok {
		c.fail(path, "is there already, at %s in line %s", first, c.line(first))
	}
	c.seen[key] = path
}

func (c *checker) guid(path string, v *string) {
	if v == nil {
		return
	}
	if *v = strings.ToLower(strings.TrimSpace(*v)); !opencmg.IsGUID(*v) {
		c.fail(path, "%q is no GUID", *v)
	}
}

// choice takes one of the texts without regard to case.
func (c *checker) choice(path string, v *string, texts ...string) {
	if v == nil {
		return
	}
	for _, t := range texts {
		if strings.EqualFold(*v, t) {
			*v = t
			return
		}
	}
	c.fail(path, "must be %s, is %q", strings.Join(texts, " or "), *v)
}

func (c *checker) between(path string, v *int, least, most int) {
	if v != nil && (*v < least || *v > most) {
		c.fail(path, "must be %d to %d, is %d", least, most, *v)
	}
}

// certificate checks that a text is one PEM certificate, writes it in one way,
// and returns its thumbprint.
func (c *checker) certificate(path string, v *string) string {
	block, rest := pem.Decode([]byte(*v))
	if block == nil || block.Type != "CERTIFICATE" || len(bytes.TrimSpace(rest)) > 0 {
		c.fail(path, "must be one certificate in PEM")
		return ""
	}
	*v = string(pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes}))
	return thumbprint(*v)
}

// thumbprint is the SHA-256 of a PEM certificate, as sites write it.
func thumbprint(certificate string) string {
	block, _ := pem.Decode([]byte(certificate))
	if block == nil {
		return ""
	}
	sum := sha256.Sum256(block.Bytes)
	return hex.EncodeToString(sum[:])
}

func (c *checker) document(d *Document) {
	if d.APIVersion != APIVersion {
		c.fail("apiVersion", "must be %s, is %q", APIVersion, d.APIVersion)
	}
	for i := range d.Tenants {
		v, at := &d.Tenants[i], fmt.Sprintf("tenants[%d]", i)
		c.guid(at+".id", &v.ID)
		c.once("tenant", at+".id", v.ID)
		c.choice(at+".environment", v.Environment, string(opencmg.AzurePublicCloud), string(opencmg.AzureUSGovernmentCloud), string(opencmg.AzureLab))
	}
	for i := range d.Applications {
		c.application(&d.Applications[i], fmt.Sprintf("applications[%d]", i))
	}
	for i := range d.AzureServices {
		v, at := &d.AzureServices[i], fmt.Sprintf("azureServices[%d]", i)
		c.once("Azure service", at+".name", v.Name)
		c.guid(at+".serverApp", v.ServerApp)
		c.guid(at+".clientApp", v.ClientApp)
		c.between(at+".userDeltaMinutes", v.UserDeltaMinutes, 5, 1440)
		c.between(at+".groupDeltaMinutes", v.GroupDeltaMinutes, 5, 1440)
		c.between(at+".userFullHours", v.UserFullHours, 1, 720)
		c.between(at+".groupFullHours", v.GroupFullHours, 1, 720)
	}
	for i := range d.TrustedCertificates {
		v, at := &d.TrustedCertificates[i], fmt.Sprintf("trustedCertificates[%d]", i)
		c.choice(at+".store", v.Store, adminservice.RootCA, adminservice.IntermediateCA)
		if t := c.certificate(at+".certificate", &v.Certificate); t != "" {
			c.once("trusted certificate", at+".certificate", t)
		}
	}
	for i := range d.TokenIssuers {
		v, at := &d.TokenIssuers[i], fmt.Sprintf("tokenIssuers[%d]", i)
		if t := c.certificate(at+".certificate", &v.Certificate); t != "" {
			c.once("token issuer", at+".certificate", t)
		}
	}
	for i := range d.SiteRoles {
		c.siteRole(&d.SiteRoles[i], fmt.Sprintf("siteRoles[%d]", i))
	}
	for i := range d.Gateways {
		c.gateway(&d.Gateways[i], fmt.Sprintf("gateways[%d]", i))
	}
	for i := range d.ConnectionPoints {
		c.once("connection point", fmt.Sprintf("connectionPoints[%d].name", i), d.ConnectionPoints[i].Name)
	}
	for i := range d.BoundaryGroups {
		v, at := &d.BoundaryGroups[i], fmt.Sprintf("boundaryGroups[%d]", i)
		c.once("boundary group", at+".name", v.Name)
		if strings.HasPrefix(strings.ToLower(v.Name), "default-site-boundary-group<") {
			c.fail(at+".name", "the default group is declared under defaultBoundaryGroup, without a name")
		}
		if v.Boundaries != nil {
			c.boundaries(at+".boundaries", *v.Boundaries)
		}
	}
	if s := d.ClientSettings; s != nil {
		for name, v := range map[string]*int{
			"policyMinutes": s.PolicyMinutes, "locationMinutes": s.LocationMinutes, "inventoryMinutes": s.InventoryMinutes,
			"discoveryMinutes": s.DiscoveryMinutes, "stateMinutes": s.StateMinutes, "keepAliveMinutes": s.KeepAliveMinutes,
		} {
			c.between("clientSettings."+name, v, 1, 31*24*60)
		}
	}
}

func (c *checker) application(v *Application, at string) {
	c.guid(at+".clientId", &v.ClientID)
	c.once("application", at+".clientId", v.ClientID)
	c.choice(at+".kind", v.Kind, adminservice.ServerApplication, adminservice.ClientApplication)
	c.guid(at+".tenantId", v.TenantID)
	c.guid(at+".serverApp", v.ServerApp)
	k := v.Credential
	if k == nil {
		return
	}
	given := 0
	for _, f := range []*string{k.SecretFile, k.CertificateFile, k.FederatedTokenFile} {
		if f != nil {
			given++
		}
	}
	switch {
	case given != 1:
		c.fail(at+".credential", "give one of secretFile (with secretExpires), certificateFile and federatedTokenFile")
	case k.SecretFile != nil && k.SecretExpires == nil:
		c.fail(at+".credential", "secretExpires: give the date on which the secret ends, as Entra shows it")
	case k.SecretExpires != nil:
		if _, err := parseTime(*k.SecretExpires); err != nil {
			c.fail(at+".credential.secretExpires", "must be a date such as 2027-01-31, is %q", *k.SecretExpires)
		}
	}
}

func parseTime(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t, err = time.Parse(time.DateOnly, s)
	}
	return t, err
}

func (c *checker) siteRole(v *SiteRole, at string) {
	c.once("site role", at+".name", v.Name)
	if v.Prefix != nil && *v.Prefix != "" {
		c.once("external path", at+".prefix", strings.TrimSuffix(*v.Prefix, "/"))
	}
	c.choice(at+".kind", v.Kind, opencmg.KindManagementPoint, opencmg.KindSoftwareUpdatePoint, adminservice.KindAdminService, opencmg.KindService)
	if v.Endpoints != nil {
		for i := range *v.Endpoints {
			role := opencmg.PublishedRole{ID: "1", Site: "AAA", Kind: opencmg.KindService, Name: "role", Prefix: "/x/", Endpoints: convert[[]opencmg.Endpoint]((*v.Endpoints)[i : i+1])}
			cfg := opencmg.PublishedConfiguration{Version: 1, Gateway: "x", Site: "AAA", ServiceName: "x", Instances: 1, Roles: []opencmg.PublishedRole{role}}
			if err := cfg.Validate(); err != nil {
				c.fail(fmt.Sprintf("%s.endpoints[%d]", at, i), "%v", err)
			}
		}
	}
	if v.Internal == nil {
		return
	}
	if len(*v.Internal) == 0 {
		c.fail(at+".internal", "name at least one URL, such as https://mp1.corp.example")
	}
	for i, u := range *v.Internal {
		if _, err := opencmg.ParseInternalURL(u); err != nil {
			c.fail(fmt.Sprintf("%s.internal[%d]", at, i), "%v", err)
		}
	}
}

func (c *checker) gateway(v *Gateway, at string) {
	c.once("gateway", at+".name", v.Name)
	if err := opencmg.ValidateDeploymentName(v.Name); err != nil {
		c.fail(at+".name", "%v", err)
	}
	c.choice(at+".model", v.Model, adminservice.ModelScaleSet, adminservice.ModelSelfHosted, adminservice.ModelClassic)
	c.guid(at+".serverApp", v.ServerApp)
	c.guid(at+".subscriptionId", v.SubscriptionID)
	if v.Region != nil {
		*v.Region = opencmg.RegionName(*v.Region)
	}
	if v.Size != nil {
		size, err := opencmg.ParseVMSize(*v.Size)
		if err != nil || *v.Size == "" {
			c.fail(at+".size", "must be Lab, Standard or Large, is %q", *v.Size)
		}
		*v.Size = string(size)
	}
	c.between(at+".instances", v.Instances, 1, opencmg.MaxInstances)
	c.choice(at+".minTls", v.MinTLS, "1.2", "1.3")
	if v.Certificates != nil {
		list := *v.Certificates
		for i, t := range list {
			if list[i] = strings.ToLower(strings.NewReplacer(":", "", " ", "").Replace(t)); len(list[i]) != 64 || strings.Trim(list[i], "0123456789abcdef") != "" {
				c.fail(fmt.Sprintf("%s.certificates[%d]", at, i), "%q is no SHA-256 thumbprint of a certificate", t)
			}
		}
		slices.Sort(list)
	}
	c.threshold(at+".traffic", v.Traffic)
	if c.threshold(at+".storage", v.Storage); v.Storage != nil && v.Storage.StopService != nil && *v.Storage.StopService {
		c.fail(at+".storage.stopService", "goes with the traffic threshold only")
	}
	switch k := v.Certificate; {
	case k == nil:
	case (k.PFXFile != nil) == (k.ACME != nil):
		c.fail(at+".certificate", "give either pfxFile or acme")
	case k.ACME != nil:
		if !strings.HasPrefix(k.ACME.Directory, "https://") {
			c.fail(at+".certificate.acme.directory", "must be an https address, is %q", k.ACME.Directory)
		}
		c.choice(at+".certificate.acme.challenge", k.ACME.Challenge, opencmg.ChallengeHTTP, opencmg.ChallengeTLSALPN)
		if k.ACME.Contact != nil {
			for i, s := range *k.ACME.Contact {
				(*k.ACME.Contact)[i] = "mailto:" + strings.TrimPrefix(s, "mailto:")
			}
		}
	}
}

func (c *checker) threshold(at string, t *Threshold) {
	if t == nil {
		return
	}
	c.between(at+".gb", t.GB, 1, 1<<30)
	c.between(at+".warningPct", t.WarningPct, 1, 100)
	c.between(at+".criticalPct", t.CriticalPct, 1, 100)
	if t.WarningPct != nil && t.CriticalPct != nil && *t.WarningPct > *t.CriticalPct {
		c.fail(at+".warningPct", "must not be above criticalPct")
	}
}

func (c *checker) boundaries(at string, list []string) {
	for i, text := range list {
		p, err := netip.ParsePrefix(strings.TrimSpace(text))
		switch {
		case err != nil || p.Addr().Is4In6():
			c.fail(fmt.Sprintf("%s[%d]", at, i), "%q is no CIDR prefix such as 10.1.0.0/16 or 2001:db8::/32", text)
		case p != p.Masked():
			c.fail(fmt.Sprintf("%s[%d]", at, i), "%s has bits set behind the prefix: did you mean %s?", p, p.Masked())
		}
		list[i] = p.String()
	}
}
