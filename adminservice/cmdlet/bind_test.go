package cmdlet_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/adminservice/cmdlet"
)

// exampleSets are the parameter sets that the documented examples call, by
// cmdlet; a cmdlet with one set is not listed.
var exampleSets = map[string][]string{
	"Import-CMAADClientApplication":                  {"ById", "ByServerApp"},
	"Set-CMCloudManagementAzureService":              {"SearchByValueMandatory"},
	"Get-CMAzureService":                             {"SearchByName", "SearchByIdMandatory"},
	"Remove-CMAzureService":                          {"SearchByNameMandatory", "SearchByIdMandatory", "SearchByValueMandatory"},
	"Get-CMCloudManagementGateway":                   {"SearchByName"},
	"New-CMCloudManagementGateway":                   {"Interactive", "Interactive"},
	"Remove-CMCloudManagementGateway":                {"SearchByValueMandatory"},
	"Set-CMCloudManagementGateway":                   {"SetByName", "SetByName", "SetByName", "SetByName", "SetByName", "SetByName"},
	"Start-CMCloudManagementGateway":                 {"SearchByValueMandatory"},
	"Stop-CMCloudManagementGateway":                  {"SearchByValueMandatory"},
	"Sync-CMCloudManagementGateway":                  {"SearchByNameMandatory", "SearchByValueMandatory"},
	"Add-CMCloudManagementGatewayConnectionPoint":    {"ByName"},
	"Get-CMCloudManagementGatewayConnectionPoint":    {"SearchByValue"},
	"Remove-CMCloudManagementGatewayConnectionPoint": {"SearchByValueMandatory"},
	"Set-CMCloudManagementGatewayConnectionPoint":    {"SetByName"},
	"Get-CMAADTenant":                                {"SetByName", "SetByName", "SetById"},
	"Set-CMManagementPoint":                          {"SetByName"},
	"Set-CMBoundaryGroup":                            {"SetByName"},
	"Set-CMDefaultBoundaryGroup":                     {"Default"},
}

// TestExamples binds every example line, as PowerShell would hand it over.
func TestExamples(t *testing.T) {
	for _, d := range readDocumented(t) {
		c := cmdlet.Find(d.Name)
		if c == nil {
			continue
		}
		for i, e := range d.Examples {
			want := cmdlet.AllSets
			if len(c.AllSets()) > 1 {
				want = exampleSets[c.Name][i]
			}
			bound := ""
			// Some examples go on from the one above them.
			variables := map[string]any{"$cas": map[string]any{"a.cer": "RootCA"}, "$pfxPassword": "a password"}
			for _, line := range e.Lines {
				bound = bindLine(t, line, variables, c.Name, bound)
			}
			if bound != want {
				t.Errorf("%s, %s: bound to set %q, not %q", c.Name, e.Title, bound, want)
			}
		}
	}
}

// bindLine binds every cmdlet of ours in a line of PowerShell and returns the set
// of the one that is asked for.
func bindLine(t *testing.T, line string, variables map[string]any, name, bound string) string {
	t.Helper()
	if v, rest, ok := strings.Cut(line, " = "); ok && strings.HasPrefix(v, "$") && !strings.Contains(v, " ") {
		words := powerShellWords(rest, variables)
		variables[v] = cmdlet.Object{"ID": 1.0}
		if len(words) > 0 {
			// What an expression gives is what the parameter takes.
			switch first := fmt.Sprint(words[0]); {
			case strings.HasPrefix(rest, `"`):
				variables[v] = first
			case strings.HasPrefix(rest, "@{"):
				variables[v] = map[string]any{"a.cer": "RootCA"}
			case strings.HasPrefix(first, "[datetime]"):
				variables[v] = "2027-03-31"
			case strings.HasPrefix(first, "[Microsoft"):
				variables[v] = "RootCA"
			case strings.Contains(rest, "ConvertTo-SecureString"):
				variables[v] = "a password"
			}
		}
		line = rest
	}
	piped := false
	for command := range strings.SplitSeq(line, " | ") {
		words := powerShellWords(command, variables)
		if len(words) == 0 {
			piped = true
			continue
		}
		c := cmdlet.Find(fmt.Sprint(words[0]))
		if c == nil {
			piped = true // an object or another cmdlet's
			continue
		}
		var args []cmdlet.Argument
		for i := 1; i < len(words); i++ {
			s, text := words[i].(string)
			if !text || !strings.HasPrefix(s, "-") {
				args = append(args, cmdlet.Argument{Value: words[i]})
				continue
			}
			a := cmdlet.Argument{Name: strings.TrimPrefix(s, "-")}
			if i+1 < len(words) && !strings.HasPrefix(fmt.Sprint(words[i+1]), "-") {
				i++
				a.Value = words[i]
			}
			args = append(args, a)
		}
		b, err := c.Bind(args, cmdlet.BindOptions{Pipeline: piped})
		if err != nil {
			t.Errorf("%s\n%v", line, err)
			return ""
		}
		if c.Name == name {
			bound = b.Set
		}
		piped = true
	}
	return bound
}

// powerShellWords splits a command of the examples into words and objects.
func powerShellWords(command string, variables map[string]any) []any {
	var words []any
	for command = strings.TrimSpace(command); command != ""; command = strings.TrimSpace(command) {
		end := 0
		switch command[0] {
		case '"', '\'':
			end = strings.IndexByte(command[1:], command[0]) + 2
			words = append(words, command[1:end-1])
		case '(':
			end = strings.LastIndexByte(command, ')') + 1
			words = append(words, "an expression")
		case '@':
			end = len(command)
			words = append(words, "@")
		default:
			if end = strings.IndexByte(command, ' '); end < 0 {
				end = len(command)
			}
			word := command[:end]
			if v, ok := variables[word]; ok {
				words = append(words, v)
			} else {
				words = append(words, word)
			}
		}
		command = command[end:]
	}
	return words
}

// sample is a value that a parameter takes.
func sample(p *cmdlet.Parameter) any {
	switch {
	case p.Switch():
		return nil
	case p.Object():
		return map[string]any{"ID": "1"}
	case p.Type == "Hashtable":
		return "a.cer=RootCA"
	case p.Type == "Boolean":
		return "$true"
	case p.Type == "Int32", p.Type == "UInt32":
		return "1"
	case p.Type == "DateTime":
		return "03/31/2027"
	case p.Type == "Uri":
		return "https://x"
	case len(p.AcceptedValues()) > 0:
		return p.AcceptedValues()[0]
	}
	return "x"
}

// TestWrongCombinations gives every pair of parameters that no set has both of.
func TestWrongCombinations(t *testing.T) {
	tried := 0
	for _, c := range cmdlet.Table() {
		for i := range c.Parameters {
			for j := range i {
				a, b := &c.Parameters[j], &c.Parameters[i]
				if slices.ContainsFunc(c.AllSets(), func(s string) bool { return in(a, s) && in(b, s) }) {
					continue
				}
				tried++
				_, err := c.Bind([]cmdlet.Argument{{Name: a.Name, Value: sample(a)}, {Name: b.Name, Value: sample(b)}}, cmdlet.BindOptions{})
				if err == nil {
					t.Errorf("%s -%s -%s was taken", c.Name, a.Name, b.Name)
					continue
				}
				for _, s := range c.AllSets() {
					if (in(a, s) || in(b, s)) && !strings.Contains(err.Error(), s) {
						t.Errorf("%s -%s -%s: the error does not name set %s: %v", c.Name, a.Name, b.Name, s, err)
					}
				}
			}
		}
	}
	if tried < 50 {
		t.Errorf("only %d pairs were tried", tried)
	}
}

func in(p *cmdlet.Parameter, set string) bool { _, ok := p.Place(set); return ok }

// TestMissing leaves out each required parameter of each set in turn.
func TestMissing(t *testing.T) {
	for _, c := range cmdlet.Table() {
		for _, set := range c.AllSets() {
			for i := range c.Parameters {
				left := &c.Parameters[i]
				if place, ok := left.Place(set); !ok || !place.Required {
					continue
				}
				var args []cmdlet.Argument
				for j := range c.Parameters {
					p := &c.Parameters[j]
					// What only this set has decides for it.
					if _, ok := p.Place(set); ok && p != left && !p.Common() && p.Name != "Force" {
						args = append(args, cmdlet.Argument{Name: p.Name, Value: sample(p)})
					}
				}
				b, err := c.Bind(args, cmdlet.BindOptions{})
				if err == nil && b.Set == set {
					t.Errorf("%s (%s) without -%s was taken", c.Name, set, left.Name)
				}
				if err != nil && !strings.Contains(err.Error(), "-"+left.Name) {
					t.Errorf("%s (%s) without -%s: %v", c.Name, set, left.Name, err)
				}
			}
		}
	}
}

// TestCommandLine reads command lines the ways that are documented.
func TestCommandLine(t *testing.T) {
	set := cmdlet.Find("set-cmcloudmanagementgateway")
	for _, line := range []string{
		"-Name G -VMInstanceCount 3 -EnforceProtocol $true -PassThru",
		"-name:G -VMInstancesCount:3 -enforceprotocol:$true -PassThru:$true",
		"-Na G -VMInstance 3 -Enf 1 -Pass",
		"--name G --vm-instance-count 3 --enforce-protocol true --pass-thru",
		"--name=G --vm-instance-count=3 --enforce-protocol=true --pass-thru=true",
	} {
		args, err := set.ParseArguments(strings.Fields(line))
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		b, err := set.Bind(args, cmdlet.BindOptions{})
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		if b.Set != "SetByName" || b.Text("Name") != "G" || b.Values["VMInstanceCount"] != 3 || !b.Flag("EnforceProtocol") || !b.Flag("PassThru") {
			t.Errorf("%s: %s %v", line, b.Set, b.Values)
		}
	}
	for line, want := range map[string]string{
		"-Name G -Storage 3":                                      "-StorageCriticalPct, -StorageQuotaGB, -StorageWarningPct",
		"-Name G -Nonsense 3":                                     "has no parameter -Nonsense",
		"-Name G -Name H":                                         "there twice",
		"-Name G -VMInstanceCount":                                "needs a value",
		"-Name G -VMInstanceCount -PassThru":                      "needs a value",
		"-Name G -VMInstanceCount many":                           "not a whole number",
		"-Name G -EnforceProtocol maybe":                          "must be $true or $false",
		"-Name G -EnforceProtocol=":                               "'$true' in quotes",
		"-Name G -PassThru:$maybe":                                "must be $true or $false",
		"-Name G -CARootCert root.cer":                            "KEY=VALUE",
		"-Name G -CARootCert a=RootCA,a=Other":                    "there twice",
		"-Name G extra":                                           "no place for the value",
		"-Name G -DisableWildcardHandling -ForceWildcardHandling": "can not be used together",
		"": "SetByValue",
	} {
		args, err := set.ParseArguments(strings.Fields(line))
		if err == nil {
			_, err = set.Bind(args, cmdlet.BindOptions{})
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
}

// TestPositions: the one core cmdlet with a full order.
func TestPositions(t *testing.T) {
	c := cmdlet.Find("Import-CMAADServerApplication")
	args, err := c.ParseArguments([]string{"Fourth Coffee", "3f2b6c1e-8d47-4a90-9c55-1e0a7b64d210", "-ClientId", "b85d0f3a-62c1-4e97-a7d4-90f1c2e3b548", "FcCmgServer", "the secret", "03/31/2027"})
	if err != nil {
		t.Fatal(err)
	}
	b, err := c.Bind(args, cmdlet.BindOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if b.Text("TenantName") != "Fourth Coffee" || b.Text("AppName") != "FcCmgServer" || b.Values["SecretKey"] != adminservice.Secret("the secret") ||
		!b.Values["SecretKeyExpiry"].(time.Time).Equal(time.Date(2027, 3, 31, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("%v", b.Values)
	}
	if text := fmt.Sprintf("%v %+v %#v", b.Values, b, b.Values); strings.Contains(text, "the secret") {
		t.Errorf("the secret is shown: %s", text)
	}
}

// TestAsk: what is missing is asked for where somebody can answer.
func TestAsk(t *testing.T) {
	c := cmdlet.Find("New-CMCloudManagementGateway")
	asked := ""
	b, err := c.Bind([]cmdlet.Argument{{Name: "ServiceCertPath", Value: "gw.pfx"}, {Name: "GroupName", Value: "g"}, {Name: "IsUsingExistingGroup", Value: "1"}}, cmdlet.BindOptions{Ask: func(p *cmdlet.Parameter) (any, error) {
		asked = p.Name
		return "typed", nil
	}})
	if err != nil || asked != "ServiceCertPassword" || b.Values["ServiceCertPassword"] != adminservice.Secret("typed") || b.Set != "Interactive" {
		t.Errorf("asked for %q, bound %v, %v", asked, b, err)
	}
}

// TestObjects: objects come as JSON, as what was decoded, or as a name.
func TestObjects(t *testing.T) {
	c := cmdlet.Find("New-CMCloudManagementAzureService")
	bind := func(server, client any) (*cmdlet.Bound, error) {
		return c.Bind([]cmdlet.Argument{{Name: "Name", Value: "A"}, {Name: "WebApp", Value: server}, {Name: "ClientApp", Value: client}}, cmdlet.BindOptions{})
	}
	b, err := bind(`{"ID":"7"}`, map[string]any{"ClientID": "8"})
	if err != nil || b.Values["ServerApp"].(cmdlet.Object).Text("id") != "7" || b.Values["ClientApp"].(cmdlet.Object).Text("CLIENTID") != "8" {
		t.Errorf("%v %v", b, err)
	}
	for _, wrong := range []any{"", `{"ID":"7"}{"ID":"8"}`, "[]", 3.0, []any{}} {
		if _, err := bind(wrong, "x"); err == nil {
			t.Errorf("%v was taken for an object", wrong)
		}
	}
}

// FuzzArguments: any words are bound or refused, and never anything else.
func FuzzArguments(f *testing.F) {
	f.Add("New-CMCloudManagementGateway", "-ServiceCertPath\x00a\x00-CARootCert\x00a=RootCA,b=IntermediateCA")
	f.Add("Set-CMBoundaryGroup", `-AddSiteSystemServer`+"\x00"+`[{"a":1},{"b":2}]`+"\x00-Name\x00x")
	f.Add("New-CMSchedule", "--recur-interval=Days\x00--recur-count:3")
	f.Fuzz(func(t *testing.T, name, line string) {
		c := cmdlet.Find(name)
		if c == nil {
			c = cmdlet.Table()[len(name)%len(cmdlet.Table())]
		}
		args, err := c.ParseArguments(strings.Split(line, "\x00"))
		if err != nil {
			return
		}
		b, err := c.Bind(args, cmdlet.BindOptions{Pipeline: len(line)%2 == 0})
		if err != nil {
			return
		}
		if !slices.Contains(c.AllSets(), b.Set) {
			t.Errorf("bound to set %q", b.Set)
		}
		for i := range c.Parameters {
			p := &c.Parameters[i]
			if _, ok := p.Place(b.Set); !ok && b.Given(p.Name) {
				t.Errorf("-%s is not in set %s", p.Name, b.Set)
			}
		}
	})
}
