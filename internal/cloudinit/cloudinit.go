// Package cloudinit makes the custom data of a gateway's machines: a cloud-init
// document that lays down the bootstrap document, a script that fetches the
// program, and the systemd unit that runs it.
//
// Custom data can be read by whoever is root on the machine and by whoever may
// read the scale set, so it holds no secret: the program's address, the server
// certificate and the machine's identity come from the key vault, by the
// machine's managed identity.
//
// [Render] writes the document and [Parse] reads it again, for those who start
// machines that are none.
package cloudinit

import (
	"bytes"
	_ "embed"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/internal/bootstrap"
	"github.com/opencmg/opencmg/internal/keyvault"
	"github.com/opencmg/opencmg/internal/outbound"
)

// MaxSize bounds custom data, in bytes before base64 (azure.md 4).
const MaxSize = 64 << 10

// The files on a machine.
const (
	BootstrapFile = "/etc/opencmg/bootstrap.yaml"
	CurlFile      = "/etc/opencmg/curl.conf"
	CAFile        = "/etc/opencmg/ca.pem" // only with outbound.caPEM
	FetchFile     = "/usr/local/lib/opencmg/fetch.sh"
	ProgramFile   = "/usr/local/lib/opencmg/opencmg" // made by FetchFile
	UnitFile      = "/etc/systemd/system/opencmg-gateway.service"
	StateDir      = "/var/lib/opencmg"
	LogDir        = "/var/log/opencmg"
)

// SecretServiceURL is the vault's secret with the https URL, shared access
// signature included, from which the program can be fetched.
const SecretServiceURL = "service-sas"

// A Machine says what the machines of a deployment do.
type Machine struct {
	// Bootstrap is the document of every instance, with its cloud section.
	// Empty StateDir and Log.Dir are filled in.
	Bootstrap bootstrap.Gateway
	// ProgramSHA256 is the hexadecimal SHA-256 of the program.
	ProgramSHA256 string
}

// A File is one file of a machine.
type File struct {
	Path    string
	Mode    fs.FileMode
	Content string
}

// document is the part of a cloud-init document that we use.
type document struct {
	WriteFiles []writeFile `yaml:"write_files"`
	RunCmd     [][]string  `yaml:"runcmd"`
}

type writeFile struct {
	Path        string `yaml:"path"`
	Owner       string `yaml:"owner"`
	Permissions string `yaml:"permissions"`
	Content     string `yaml:"content"`
}

const header = "#cloud-config\n"

// Render writes the custom data. The same machine gives the same bytes, so that
// a scale set whose machines do not change has no new model.
func Render(m Machine) ([]byte, error) {
	files, err := m.files()
	if err != nil {
		return nil, err
	}
	doc := document{RunCmd: [][]string{
		{"systemctl", "daemon-reload"},
		// Without --no-block cloud-init would wait for the vault.
		{"systemctl", "enable", "--now", "--no-block", UnitFile[strings.LastIndexByte(UnitFile, '/')+1:]},
	}}
	for _, f := range files {
		doc.WriteFiles = append(doc.WriteFiles, writeFile{f.Path, "root:root", fmt.Sprintf("%04o", f.Mode), f.Content})
	}
	var b bytes.Buffer
	b.WriteString(header)
	if err := yaml.NewEncoder(&b, yaml.UseLiteralStyleIfMultiline(true)).Encode(doc); err != nil {
		return nil, fmt.Errorf("custom data: %w", err)
	}
	if b.Len() > MaxSize {
		return nil, opencmg.Errorf(opencmg.TooLarge, "custom data: %d bytes are more than a cloud takes (%d): shorten outbound.caPEM or outbound.connectTo", b.Len(), MaxSize)
	}
	// What was written must be what a machine will read.
	again, err := Parse(b.Bytes())
	if err != nil {
		return nil, err
	}
	for i, f := range files {
		if again[i] != f {
			return nil, fmt.Errorf("custom data: %s does not come through YAML as it is", f.Path)
		}
	}
	return b.Bytes(), nil
}

var sha256Pattern = regexp.MustCompile(`^[0-9a-f]{64}$`)

// files returns the files of the machine in a fixed order.
func (m Machine) files() ([]File, error) {
	doc := m.Bootstrap
	if doc.StateDir == "" {
		doc.StateDir = StateDir
	}
	if doc.Log.Dir == "" {
		doc.Log.Dir = LogDir
	}
	filled := doc // the document itself stays short
	switch cloud := doc.Cloud; {
	case cloud == nil:
		return nil, opencmg.Errorf(opencmg.Invalid, "custom data: the bootstrap document needs a cloud section")
	case !sha256Pattern.MatchString(m.ProgramSHA256):
		return nil, opencmg.Errorf(opencmg.Invalid, "custom data: the program's SHA-256 must be 64 lower-case hexadecimal digits")
	case doc.Outbound.CAFile != "" || doc.Outbound.ProxyCredentialsFile != "":
		return nil, opencmg.Errorf(opencmg.Invalid, "custom data: outbound.caFile and outbound.proxyCredentialsFile name files that a new machine does not have: use caPEM, and a proxy that lets the machines through without credentials")
	default:
		c := *cloud
		filled.Cloud = &c
	}
	if err := filled.Fill(); err != nil {
		return nil, fmt.Errorf("custom data: %w", err)
	}
	yml, err := yaml.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("custom data: %w", err)
	}
	files := []File{
		{BootstrapFile, 0o644, string(yml)},
		{CurlFile, 0o644, curlConfig(doc.Outbound)},
		{FetchFile, 0o755, fetchScript(filled.Cloud, m.ProgramSHA256)},
		{UnitFile, 0o644, unit},
	}
	if pem := doc.Outbound.CAPEM; pem != "" {
		files = append(files, File{CAFile, 0o644, strings.TrimRight(pem, "\n") + "\n"})
	}
	for _, f := range files {
		if !utf8.ValidString(f.Content) || strings.ContainsAny(f.Content, "\x00\r") {
			return nil, opencmg.Errorf(opencmg.Invalid, "custom data: %s holds characters that a text file must not have", f.Path)
		}
	}
	return files, nil
}

//go:embed fetch.sh
var fetch string

//go:embed opencmg-gateway.service
var unit string

// fetchScript puts the deployment's values into the script.
func fetchScript(c *bootstrap.Cloud, sha256 string) string {
	return strings.NewReplacer(
		"@METADATA@", quote(strings.TrimRight(c.Metadata, "/")),
		"@AUDIENCE@", quote(c.VaultAudience),
		"@CLIENT_ID@", quote(c.IdentityClientID),
		"@SECRET_URL@", quote(strings.TrimRight(c.Vault, "/")+"/secrets/"+SecretServiceURL+"?api-version="+keyvault.APIVersion),
		"@SHA256@", quote(sha256),
	).Replace(fetch)
}

// quote makes one word of the shell of it.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// curlConfig says the same to curl as package outbound does to the gateway.
func curlConfig(c outbound.Config) string {
	var b strings.Builder
	line := func(key, value string) { fmt.Fprintf(&b, "%s = %s\n", key, strconv.Quote(value)) }
	b.WriteString("# How fetch.sh goes to the outside; from outbound in bootstrap.yaml.\n")
	var direct []string
	for _, rule := range c.ConnectTo {
		line("connect-to", rule)
		if r, err := opencmg.ParseConnectTo(rule); err == nil {
			direct = append(direct, r.FromHost)
		}
	}
	if c.ConnectOnly {
		// The first rule that matches counts, so this one gets what no other
		// maps, and nobody listens there.
		line("connect-to", "::127.0.0.1:1")
		direct = []string{"*"}
	}
	if c.Proxy != "" && !c.ConnectOnly {
		line("proxy", c.Proxy)
	}
	if slices.Contains(direct, "") { // a rule for every host
		direct = []string{"*"}
	}
	if len(direct) > 0 {
		line("noproxy", strings.Join(direct, ","))
	}
	return b.String()
}

// Parse returns the files that a machine with this custom data has. It takes
// what [Render] writes and nothing else.
func Parse(customData []byte) ([]File, error) {
	if len(customData) > MaxSize {
		return nil, opencmg.Errorf(opencmg.TooLarge, "custom data: %d bytes are more than %d", len(customData), MaxSize)
	}
	if !bytes.HasPrefix(customData, []byte(header)) {
		return nil, opencmg.Errorf(opencmg.Invalid, "custom data: must begin with the line %s", strings.TrimSpace(header))
	}
	var doc document
	if err := yaml.NewDecoder(bytes.NewReader(customData), yaml.Strict()).Decode(&doc); err != nil {
		return nil, opencmg.Errorf(opencmg.Invalid, "custom data: %s", strings.TrimSpace(yaml.FormatError(err, false, true)))
	}
	var files []File
	seen := map[string]bool{}
	for _, f := range doc.WriteFiles {
		mode, err := strconv.ParseUint(f.Permissions, 8, 9)
		if err != nil {
			return nil, opencmg.Errorf(opencmg.Invalid, "custom data: %s: permissions %q: must be octal digits", f.Path, f.Permissions)
		}
		if !strings.HasPrefix(f.Path, "/") || seen[f.Path] || strings.Contains(f.Path+"/", "/../") {
			return nil, opencmg.Errorf(opencmg.Invalid, "custom data: path %q: must be absolute, plain, and only once in the document", f.Path)
		}
		seen[f.Path] = true
		files = append(files, File{f.Path, fs.FileMode(mode), f.Content})
	}
	return files, nil
}

// Document returns the bootstrap document among the files.
func Document(files []File) (*bootstrap.Gateway, error) {
	for _, f := range files {
		if f.Path != BootstrapFile {
			continue
		}
		var g bootstrap.Gateway
		if err := yaml.NewDecoder(strings.NewReader(f.Content), yaml.Strict()).Decode(&g); err != nil {
			return nil, opencmg.Errorf(opencmg.Invalid, "custom data: %s: %s", f.Path, strings.TrimSpace(yaml.FormatError(err, false, true)))
		}
		return &g, nil
	}
	return nil, opencmg.Errorf(opencmg.NotFound, "custom data: there is no %s in it", BootstrapFile)
}

var scriptSum = regexp.MustCompile(`(?m)^sha256='([0-9a-f]{64})'$`)

// ProgramSHA256 returns the checksum of the program that the files of a machine
// fetch.
func ProgramSHA256(files []File) (string, error) {
	for _, f := range files {
		if f.Path == FetchFile {
			if m := scriptSum.FindStringSubmatch(f.Content); m != nil {
				return m[1], nil
			}
		}
	}
	return "", opencmg.Errorf(opencmg.Invalid, "custom data: names no program with its SHA-256")
}
