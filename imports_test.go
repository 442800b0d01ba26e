package opencmg_test

import (
	"encoding/json"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/opencmg/opencmg"

// ours says which packages of this module each package may import. A role
// never imports another role: they meet on the wire. The gateway links no
// database and no cloud SDK.
var ours = map[string][]string{
	".":                     {},
	"tunnel":                {},
	"internal/http1":        {},
	"internal/cmtrace":      {},
	"labcloud":              {}, // it must not share mistakes with what it stands in for
	"azure":                 {"."},
	"pki":                   {"."},
	"ccm":                   {"."},
	"sitedb":                {"."},
	"internal/web":          {"."},
	"adminservice":          {"."},
	"adminservice/cmdlet":   {".", "adminservice"},
	"adminservice/declared": {".", "adminservice"}, // hides the file format and the order of changes
	// ccm: the connection analyzer asks what a client asks
	"site":                           {".", "pki", "ccm", "sitedb", "azure", "adminservice", "adminservice/cmdlet", "internal/web", "internal/bootstrap", "internal/cloudinit", "internal/cmtrace", "internal/outbound", "site/console"},
	"site/console":                   {".", "adminservice", "internal/web"}, // a client of the administration service, with pages
	"internal/redact":                {},                                    // it must be able to redact anything
	"internal/outbound":              {"."},
	"internal/probe":                 {".", "tunnel", "internal/outbound"},
	"internal/keyvault":              {"."},
	"internal/keyvault/keyvaulttest": {"pki"}, // for tests only
	"internal/cloudinit":             {".", "internal/bootstrap", "internal/keyvault", "internal/outbound"},
	"internal/pebbletest":            {"pki"}, // for tests only
	"internal/browsertest":           {},      // for tests only
	"internal/bootstrap":             {".", "pki", "internal/keyvault", "internal/outbound"},
	"gateway":                        {".", "pki", "tunnel", "internal/web", "internal/http1"},
	"connpoint":                      {".", "pki", "tunnel", "adminservice", "internal/web", "internal/http1"},
	"mp":                             {".", "pki", "ccm", "sitedb", "internal/web"},
	"client":                         {".", "pki", "ccm"},
	"cmd/opencmg":                    {"*"},
	"bench":                          {"*"},
	"internal/systemtest":            {".", "pki", "adminservice", "internal/web"},
	"internal/sitelink":              {".", "pki", "adminservice", "internal/web"},
	"internal/admincli":              {".", "pki", "adminservice", "adminservice/cmdlet", "adminservice/declared", "internal/outbound", "internal/probe", "internal/redact", "internal/web"},
	"powershell/gen":                 {"adminservice/cmdlet"},
}

// theirs lists the third-party modules and why each is here.
var theirs = map[string]string{
	"github.com/chromedp/cdproto":                      "the developer protocol of Chromium, in tests",
	"github.com/chromedp/chromedp":                     "tests in a real browser (MIT licence)",
	"github.com/go-jose/go-jose/v4":                    "signatures and keys of tokens (JOSE)",
	"github.com/goccy/go-yaml":                         "configuration files, strict about unknown keys",
	"github.com/google/go-cmp":                         "diffs in tests",
	"github.com/hashicorp/yamux":                       "the peer that benchmarks compare with",
	"github.com/jackc/pgx/v5":                          "the site database on PostgreSQL (MIT licence)",
	"github.com/prometheus/client_golang":              "metrics",
	"github.com/rogpeppe/go-internal":                  "script tests of the command line",
	"github.com/zitadel/oidc/v3":                       "the OpenID provider inside the Entra stand-in",
	"golang.org/x/net":                                 "HTML tokens, for forms that come again; HTTP/2 frames, for tests that break the rules",
	"golang.org/x/sync":                                "errgroup and singleflight",
	"golang.org/x/sys":                                 "socket options and polling",
	"golang.org/x/term":                                "is this a terminal?",
	"modernc.org/sqlite":                               "the site database, without cgo",
	"software.sslmate.com/src/go-pkcs12":               "PFX files",
	"github.com/Azure/azure-sdk-for-go/sdk/azcore":     "requests to Azure: retries, sign-in, long-running operations",
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity": "sign-in to Microsoft Entra ID",
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8":         "scale sets",
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/keyvault/armkeyvault":          "key vaults",
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armdeployments":      "template deployments",
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armresources/v3":     "resource groups and providers",
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armsubscriptions/v2": "subscriptions and regions",
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/storage/armstorage/v2":         "storage accounts and their keys",
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets":                   "secrets in key vaults",
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob":                                "blobs and signed addresses",
	"github.com/santhosh-tekuri/jsonschema/v6":                                            "the published schemas of Azure and Graph, in tests",
	"golang.org/x/crypto": "ACME (RFC 8555)",
}

type goPackage struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
	Standard     bool
	Module       *struct{ Path string }
}

func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports,Module,Standard", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	used := map[string]bool{}
	for d := json.NewDecoder(strings.NewReader(string(out))); d.More(); {
		var p goPackage
		if err := d.Decode(&p); err != nil {
			t.Fatal(err)
		}
		name := relative(p.ImportPath)
		allowed, known := ours[name]
		if !known {
			t.Errorf("package %s is not in the table: say what it may import", name)
			continue
		}
		for _, imp := range p.Imports {
			if strings.HasPrefix(imp, module) {
				if i := relative(imp); !slices.Contains(allowed, i) && !slices.Contains(allowed, "*") {
					t.Errorf("%s imports %s: the table does not allow it", name, i)
				}
			}
		}
		for _, imp := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
			if m := thirdParty(imp); m != "" {
				if theirs[m] == "" {
					t.Errorf("%s imports %s: its module is not on the list", name, imp)
				}
				used[m] = true
			}
		}
	}
	for m := range theirs {
		if !used[m] {
			t.Errorf("module %s is on the list and nothing imports it", m)
		}
	}
}

func relative(importPath string) string {
	return path.Clean("./" + strings.TrimPrefix(strings.TrimPrefix(importPath, module), "/"))
}

// thirdParty returns the module on the list that an import belongs to, the
// import itself when there is none, or nothing for the standard library and
// this module.
func thirdParty(imp string) string {
	first, _, _ := strings.Cut(imp, "/")
	if !strings.Contains(first, ".") || imp == module || strings.HasPrefix(imp, module+"/") {
		return ""
	}
	for m := range theirs {
		if imp == m || strings.HasPrefix(imp, m+"/") {
			return m
		}
	}
	return imp
}
