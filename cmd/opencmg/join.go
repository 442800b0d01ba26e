package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/internal/sitelink"
	"github.com/opencmg/opencmg/pki"
)

// joinTokenVariable names the environment variable that may hold a join token.
const joinTokenVariable = "OPENCMG_JOIN_TOKEN"

// identityDirName is the identity directory beside the configuration file that
// joining writes.
const identityDirName = "identity"

// joinFlags are the flags of every join command.
type joinFlags struct {
	tokenFile, name, dir string
	connectTo            stringList
}

// runConnectionPointJoin makes this host a connection point: key, certificate
// and a configuration file to start from.
func runConnectionPointJoin(ctx context.Context, e *env, args []string) error {
	var f joinFlags
	fs := newFlags(e, "connection-point join")
	f.register("connection point", fs)
	if err := parseFlags(fs, args, 0); err != nil {
		return err
	}
	o := sitelink.JoinOptions{Kind: adminservice.SystemConnectionPoint}
	return f.join(ctx, e, fs.Name(), o, "connection-point.yaml", connectionPointTemplate, "connection-point serve", nil)
}

// runManagementPointJoin does the same for a management point.
func runManagementPointJoin(ctx context.Context, e *env, args []string) error {
	var f joinFlags
	var addresses stringList
	fs := newFlags(e, "mp join")
	f.register("management point", fs)
	fs.Var(&addresses, "address", "`name` or IP address by which others reach this host (repeatable); default is the host's name")
	internal := fs.String("internal", "", "`URL` by which connection points reach this management point; default https:// and the first address")
	if err := parseFlags(fs, args, 0); err != nil {
		return err
	}
	if len(addresses) == 0 {
		name, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("this host's name: %w", err)
		}
		addresses = stringList{name}
	}
	if *internal == "" {
		*internal = "https://" + addresses[0]
	}
	o := sitelink.JoinOptions{Kind: adminservice.SystemManagementPoint, Addresses: addresses, Internal: *internal}
	return f.join(ctx, e, fs.Name(), o, "mp.yaml", managementPointTemplate, "mp serve", addresses)
}

func (f *joinFlags) register(what string, fs *flag.FlagSet) {
	fs.StringVar(&f.tokenFile, "site-token-file", "", "`file` that holds the join token the site gave, - for standard input; default is the environment variable "+joinTokenVariable)
	fs.StringVar(&f.name, "name", "", "`name` of the "+what+" at the site; default is the host's name")
	fs.StringVar(&f.dir, "dir", ".", "`directory` that the configuration file and the identity are written to")
	fs.Var(&f.connectTo, "connect-to", "`HOST:PORT:HOST:PORT`: connect to the second pair for the first (repeatable)")
}

// join joins and writes the configuration file, which must not be there yet.
func (f *joinFlags) join(ctx context.Context, e *env, words string, o sitelink.JoinOptions, file, text, serve string, addresses []string) error {
	var err error
	if o.Token, err = readJoinToken(e, words, f.tokenFile); err != nil {
		return err
	}
	if o.Name = f.name; o.Name == "" {
		if o.Name, err = os.Hostname(); err != nil {
			return fmt.Errorf("this host's name: %w; give one by --name", err)
		}
	}
	if o.DialContext, err = (OutboundConfig{ConnectTo: f.connectTo}).Dialer(nil); err != nil {
		return err
	}
	o.Dir = filepath.Join(f.dir, identityDirName)
	config := filepath.Join(f.dir, file)
	if _, err := os.Lstat(config); !errors.Is(err, os.ErrNotExist) {
		if err == nil {
			err = opencmg.Errorf(opencmg.Conflict, "%s is there already: remove it, or choose another directory by --dir", config)
		}
		return err
	}
	reply, err := sitelink.Join(ctx, o)
	if err != nil {
		return err
	}
	var b strings.Builder
	err = template.Must(template.New(file).Funcs(template.FuncMap{"quote": strconv.Quote}).Parse(text)).Execute(&b, map[string]any{
		"Reply": reply, "URL": o.Token.URL, "IdentityDir": identityDirName, "ConnectTo": f.connectTo, "Addresses": addresses, "Command": "opencmg " + words,
	})
	if err == nil {
		err = pki.WriteFile(config, []byte(b.String()), 0o644)
	}
	if err != nil {
		return fmt.Errorf("this host has joined, but its configuration file was not written: %w", err)
	}
	fmt.Fprintf(e.stdout, "joined site %s as %s\n  %s\n  %s\n", reply.Site, reply.Name, config, o.Dir)
	fmt.Fprintf(e.stderr, "Look through %s, then start: opencmg %s --config %s\n", config, serve, config)
	return nil
}

// readJoinToken reads a join token from a file, standard input or the
// environment. It is never an argument, which other users could see.
func readJoinToken(e *env, words, file string) (adminservice.JoinToken, error) {
	text, err := readSecret(e, file)
	if err != nil {
		return adminservice.JoinToken{}, fmt.Errorf("--site-token-file: %w", err)
	}
	if text == "" {
		return adminservice.JoinToken{}, usagef("%s: give the join token of the site by --site-token-file FILE, by --site-token-file - on standard input, or in %s", words, joinTokenVariable)
	}
	return adminservice.ParseJoinToken(text)
}

func readSecret(e *env, file string) (string, error) {
	var r io.Reader = e.stdin
	switch file {
	case "":
		return os.Getenv(joinTokenVariable), nil
	case "-":
	default:
		f, err := os.Open(file)
		if err != nil {
			return "", err
		}
		defer f.Close()
		r = f
	}
	b, err := io.ReadAll(io.LimitReader(r, adminservice.MaxJoinToken+1))
	if err == nil && len(b) == 0 {
		err = opencmg.Errorf(opencmg.Invalid, "it is empty")
	}
	return string(b), err
}

const connectionPointTemplate = `# A connection point of site {{.Reply.Site}}, made by "{{.Command}}". It
# listens on nothing but loopback. Paths are relative to this file.

name: {{quote .Reply.Name}}
connectionId: {{quote .Reply.ConnectionID}}
site: {{quote (print .Reply.Site)}}

identityDir: {{.IdentityDir}}            # this host's key and certificate: keep it private
siteServer: {{quote .URL}}  # brings gateways, URL mappings and renewals

# outbound:                      # a forward proxy on the way to gateways; tunnels then use HTTPS
#   proxy: http://proxy.internal:8080
#   proxyCredentialsFile: proxy.credentials   # user:password
{{- if .ConnectTo}}
outbound:
  connectTo:                     # addresses that replace what DNS says
{{- range .ConnectTo}}
    - {{quote .}}
{{- end}}
{{- end}}

private: "127.0.0.1:9441"        # /metrics /livez /readyz /explain

log:
  dir: logs                      # SMS_Cloud_ProxyConnector.log
  level: info
`

const managementPointTemplate = `# A management point of site {{.Reply.Site}}, made by "{{.Command}}". Paths are
# relative to this file.

site: {{quote (print .Reply.Site)}}
roleId: {{quote (print .Reply.RoleID)}}

identityDir: {{.IdentityDir}}            # this host's keys and certificate: keep it private
siteServer: {{quote .URL}}  # brings the token-signing key, settings and renewals
stateDir: state                  # database and uploads

# database:                      # where this role shares the site's database
#   path: /var/lib/opencmg/site.db

hostName: {{quote (index .Addresses 0)}}  # how clients inside reach it
{{- if .ConnectTo}}

outbound:
  connectTo:                     # addresses that replace what DNS says
{{- range .ConnectTo}}
    - {{quote .}}
{{- end}}
{{- end}}

listen:
  https: ":443"                  # connection points, and clients inside
  fastChannel: ":10123"          # notification inside; off opens none
  private: "127.0.0.1:9442"      # /metrics /livez /readyz /explain /notify /clients

approveAll: false                # clients inside that prove nothing wait for an administrator

log:
  dir: logs                      # MP_RegistrationManager.log, CCM_STS.log and others
  level: info
`
