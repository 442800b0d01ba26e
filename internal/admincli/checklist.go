package admincli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/internal/outbound"
	"github.com/opencmg/opencmg/internal/probe"
	"github.com/opencmg/opencmg/pki"
)

// serverCert is the flags for a server certificate file.
type serverCert struct{ file, passwordFile, serviceName string }

func (c *serverCert) register(fs *flag.FlagSet) {
	fs.StringVar(&c.file, "service-cert", "", "look at this PFX `file` as server authentication certificate")
	fs.StringVar(&c.passwordFile, "password-file", "", "`file` with its password in the first line")
	fs.StringVar(&c.serviceName, "service-name", "", "`name` that clients use; needed for a wildcard certificate")
}

// read returns the file and its password.
func (c *serverCert) read() (pfx, password []byte, err error) {
	if pfx, err = os.ReadFile(c.file); err != nil {
		return nil, nil, fmt.Errorf("--service-cert: %w", err)
	}
	if c.passwordFile != "" {
		if password, err = os.ReadFile(c.passwordFile); err != nil {
			return nil, nil, fmt.Errorf("--password-file: %w", err)
		}
		line, _, _ := strings.Cut(string(password), "\n")
		password = []byte(strings.TrimSuffix(line, "\r"))
	}
	return pfx, password, nil
}

// Checklist checks every item of the set-up and says what to do next. It ends
// with [ErrReported] when an item failed or is to be done.
func Checklist(ctx context.Context, e *Env, args []string) error {
	var c asking
	var cert serverCert
	var in adminservice.ChecklistRequest
	var out outbound.Config
	var size string
	var fromHere bool
	fs := e.newFlags("checklist [flags]", "Check every item of the set-up checklist, and say who has to do what next.")
	fs.StringVar(&in.Gateway, "gateway", "", "`name` of the gateway; default is the first one")
	fs.IntVar(&in.Instances, "instances", 0, "wished `number` of instances, for the quota")
	fs.StringVar(&size, "size", "", "wished VM `size`: Lab, Standard or Large")
	fs.StringVar(&in.SubscriptionID, "subscription", "", "`ID` of the subscription for a gateway that is not there yet")
	fs.StringVar(&in.Region, "region", "", "its `region`")
	cert.register(fs)
	fs.BoolVar(&fromHere, "from-here", false, "look at the network from this host too, which is to be a connection point")
	fs.StringVar(&out.Proxy, "proxy", "", "with --from-here: forward proxy, as a `URL`")
	fs.StringVar(&out.ProxyCredentialsFile, "proxy-credentials-file", "", "with --from-here: `file` with user:password")
	fs.StringVar(&out.CAFile, "outbound-ca-file", "", "with --from-here: PEM `file` to trust besides the system's certificates")
	fs.Func("connect-to", "with --from-here: `HOST:PORT:HOST:PORT`, connect to another address; repeatable", func(s string) error {
		out.ConnectTo = append(out.ConnectTo, s)
		_, err := opencmg.ParseConnectTo(s)
		return err
	})
	c.register(fs, outputTable, outputJSON, outputMarkdown)
	if _, err := c.parse(e, fs, args, 0, 0); err != nil {
		return err
	}
	in.Size, in.ServiceName = opencmg.VMSize(size), cert.serviceName
	if err := out.Validate(); err != nil {
		return usagef("checklist: %v", err)
	}
	p, err := c.find(e)
	if err != nil && cert.file != "" && !fromHere && errors.Is(err, opencmg.NotFound) {
		return certificateOnly(e, c.way, &cert)
	}
	if err != nil {
		return err
	}
	client, err := p.Client()
	if err != nil {
		return err
	}
	if fromHere {
		if in.Probes, err = lookFromHere(ctx, client, in.Gateway, out); err != nil {
			return err
		}
	}
	items, err := askChecklist(ctx, client, &in)
	if err != nil {
		return err
	}
	if cert.file != "" {
		if items, err = withCertificate(ctx, client, items, &in, &cert); err != nil {
			return err
		}
	}
	return report(e, c.way, items)
}

func askChecklist(ctx context.Context, client *adminservice.Client, in *adminservice.ChecklistRequest) ([]adminservice.ChecklistItem, error) {
	var page adminservice.Page[adminservice.ChecklistItem]
	err := client.Do(ctx, "POST", "Checklist", in, &page)
	return page.Value, err
}

// certificateOnly looks at a certificate where no site is known.
func certificateOnly(e *Env, way string, cert *serverCert) error {
	checks, err := cert.inspect(pki.ServerCertificateOptions{ServiceName: cert.serviceName})
	if err != nil {
		return err
	}
	for i := range checks {
		if checks[i].ID == "dns" && checks[i].State == opencmg.CheckTodo {
			checks[i].State = opencmg.CheckWarn // it can not be seen from here
		}
	}
	err = report(e, way, adminservice.CertificateItems(checks))
	fmt.Fprintln(e.Stderr, "Only the certificate was looked at: no site is known here. Name one with --site, --ca-file and --token-file to check the rights, the subscription, Entra, the gateway, DNS, ports and clients too.")
	return err
}

// inspect checks the file; one that can not be opened is a check too.
func (c *serverCert) inspect(o pki.ServerCertificateOptions) ([]opencmg.Check, error) {
	pfx, password, err := c.read()
	if err != nil {
		return nil, err
	}
	_, checks, err := pki.InspectServerCertificate(pfx, password, o)
	if len(checks) == 0 {
		return nil, err
	}
	return checks, nil
}

// withCertificate adds what there is to say about a certificate that was not
// uploaded yet.
func withCertificate(ctx context.Context, client *adminservice.Client, items []adminservice.ChecklistItem, in *adminservice.ChecklistRequest, cert *serverCert) ([]adminservice.ChecklistItem, error) {
	o := pki.ServerCertificateOptions{ServiceName: cert.serviceName}
	gateways, err := adminservice.List[adminservice.Gateway](ctx, client, "Gateways", nil)
	if err != nil {
		return nil, err
	}
	replace := "certificate"
	for _, g := range gateways {
		if in.Gateway == "" || strings.EqualFold(in.Gateway, g.Name) || strings.EqualFold(in.Gateway, g.ServiceName) || in.Gateway == g.ID {
			replace = "" // the one in force has a verdict of its own
			if o.ServiceName == "" {
				o.ServiceName = g.ServiceName
			}
			if domain, ok := strings.CutPrefix(g.DeploymentName, g.Name+"."); ok && g.Model != adminservice.ModelSelfHosted {
				o.DeploymentName, o.CloudDomain = g.Name, domain
			}
			break
		}
	}
	checks, err := cert.inspect(o)
	if err != nil {
		return nil, err
	}
	kept := checks[:0]
	for _, c := range checks {
		if c.ID != "dns" || c.State != opencmg.CheckTodo { // dns-inside and dns-outside say it
			kept = append(kept, c)
		}
	}
	return adminservice.WithItems(items, replace, adminservice.CertificateItems(kept)), nil
}

// lookFromHere looks at what a connection point on this host would need.
func lookFromHere(ctx context.Context, client *adminservice.Client, gateway string, out outbound.Config) (*opencmg.ProbeReport, error) {
	s, err := adminservice.Get[adminservice.Site](ctx, client, "Site")
	if err != nil {
		return nil, err
	}
	ca, err := pki.ParseCertificates([]byte(s.SiteCA))
	if err != nil {
		return nil, fmt.Errorf("the site CA: %w", err)
	}
	targets, err := adminservice.List[opencmg.ProbeTarget](ctx, client, "ProbeTargets", url.Values{"gateway": {gateway}})
	if err != nil {
		return nil, err
	}
	p, err := probe.New(probe.Config{Outbound: out, SiteCA: ca[0]})
	if err != nil {
		return nil, err
	}
	r := p.Look(ctx, targets)
	return &r, ctx.Err()
}

// report prints the items. It returns [ErrReported] when somebody has to act.
func report(e *Env, way string, items []adminservice.ChecklistItem) error {
	var err error
	switch way {
	case outputJSON:
		err = printJSON(e.Stdout, items...)
	case outputMarkdown:
		err = markdownItems(e.Stdout, items)
	default:
		err = tableItems(e.Stdout, items)
	}
	if err != nil {
		return err
	}
	counts := map[opencmg.CheckState]int{}
	for _, i := range items {
		counts[i.State]++
	}
	fmt.Fprintf(e.Stderr, "%d of %d items pass; %d failed, %d to do, %d to look at\n", counts[opencmg.CheckPass], len(items), counts[opencmg.CheckFail], counts[opencmg.CheckTodo], counts[opencmg.CheckWarn])
	if counts[opencmg.CheckFail]+counts[opencmg.CheckTodo] > 0 {
		return ErrReported
	}
	return nil
}

// marks are of one width, and can be told apart without colours.
var marks = map[opencmg.CheckState]string{
	opencmg.CheckPass: "ok  ", opencmg.CheckWarn: "warn", opencmg.CheckTodo: "todo", opencmg.CheckFail: "FAIL",
}

func heading(part int) string {
	if part == adminservice.PartPrerequisites {
		return adminservice.PartName(part)
	}
	return fmt.Sprintf("Part %d: %s", part, adminservice.PartName(part))
}

// tableItems prints a line for each item below its part, and below an item that
// does not pass who has to do what.
func tableItems(w io.Writer, items []adminservice.ChecklistItem) error {
	var b strings.Builder
	for n, i := range items {
		if n == 0 || items[n-1].Part != i.Part {
			if n > 0 {
				b.WriteString("\n")
			}
			fmt.Fprintf(&b, "%s\n", heading(i.Part))
		}
		fmt.Fprintf(&b, "  %s  %s: %s\n", marks[i.State], i.Name, i.Evidence)
		if i.State == opencmg.CheckPass {
			continue
		}
		if i.NextStep != "" {
			fmt.Fprintf(&b, "        %s: %s\n", i.Who, i.NextStep)
		}
		if i.Command != "" {
			fmt.Fprintf(&b, "        $ %s\n", i.Command)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func markdownItems(w io.Writer, items []adminservice.ChecklistItem) error {
	fmt.Fprintf(w, "# Checklist of %s\n", time.Now().Format(time.DateOnly))
	for n := 0; n < len(items); {
		part := items[n].Part
		fmt.Fprintf(w, "\n## %s\n\n", heading(part))
		var rows [][]string
		for ; n < len(items) && items[n].Part == part; n++ {
			i := items[n]
			who, next := "", ""
			if i.State != opencmg.CheckPass {
				who, next = i.Who, i.NextStep
				if i.Command != "" {
					next = strings.TrimSpace(next + " `" + i.Command + "`")
				}
			}
			rows = append(rows, []string{strings.TrimSpace(marks[i.State]), i.Name, i.Evidence, who, next})
		}
		if err := printMarkdown(w, []string{"State", "Item", "Evidence", "Who", "Next step"}, rows); err != nil {
			return err
		}
	}
	return nil
}
