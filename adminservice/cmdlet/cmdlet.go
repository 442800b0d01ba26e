// Package cmdlet holds the cmdlets: what each is called, which parameters it
// takes in which sets, and what it does to a site through the administration
// service.
//
// The table (table_*.go) is the single source: the command line binds its words
// to it (bind.go), the administration service runs it for the PowerShell module
// (POST Cmdlets/{name}), and the module and the reference pages are generated
// from it. Names, aliases, parameter sets and types are those of Configuration
// Manager's cmdlets (cmdlets.md); what is marked Ours is an addition.
//
// To follow one call, read bind.go (which parameter set, which values), run.go
// (how it is done, with -WhatIf and -Confirm) and the file of its noun.
package cmdlet

//go:generate go run ../../powershell/gen -root ../..

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// AllSets is the name of the only set of a cmdlet that has one.
const AllSets = "__AllParameterSets"

// A Cmdlet is one command.
type Cmdlet struct {
	Name    string // as documented, e.g. New-CMCloudManagementGateway
	Words   string // the same as noun and verb, e.g. gateway create; empty: none
	Purpose string // one sentence
	Core    bool   // one of the 18 that are there for the gateway alone
	// Sets are the documented parameter sets; empty means the only one.
	Sets []string
	// OurSets are additions of ours.
	OurSets    []string
	DefaultSet string
	// ShouldProcess says that it changes something: it has WhatIf and Confirm.
	ShouldProcess bool
	// Local says that it asks no site.
	Local bool
	// OmitsCommon says that its page knows no common parameter: those it has are
	// ours. ListsWhatIf says that its page has WhatIf and Confirm outside the
	// SYNTAX, although it changes nothing.
	OmitsCommon, ListsWhatIf bool
	// Class is the class of the objects that it emits.
	Class      string
	Parameters []Parameter
	Examples   []Example

	run func(*run) error
}

// A Parameter is one parameter of a cmdlet.
type Parameter struct {
	Name string
	// Type is the .NET type as documented, with [] for an array; empty when
	// that is not documented.
	Type    string
	Aliases []string
	// In says in which sets it is: items separated by semicolons, each the name
	// of a set followed by R (required) or o (optional) and, for a positional
	// one, @ and the position; an item without a name stands for every
	// documented set, and nothing at all for "o".
	In        string
	Pipeline  bool // takes pipeline input by value
	Wildcards bool
	Default   string
	Unlisted  bool // the documented SYNTAX leaves it out
	Ours      bool // our addition
	// Path marks the name of a file whose content the cmdlet needs.
	Path    bool
	Values  []string // of our own parameters: what it may be
	Summary string

	common bool
	sets   map[string]Place
}

// A Place is what a parameter is in one set.
type Place struct {
	Required bool
	Position int // -1: by name only
}

// An Example is one use of a cmdlet, as PowerShell.
type Example struct {
	Title string
	Lines []string
}

// Switch reports whether the parameter is a switch.
func (p *Parameter) Switch() bool { return p.Type == "SwitchParameter" }

// Array reports whether it takes several values.
func (p *Parameter) Array() bool { return strings.HasSuffix(p.Type, "[]") }

// Object reports whether it takes an object, or several.
func (p *Parameter) Object() bool { return strings.HasPrefix(p.Type, "IResultObject") }

// Secret reports whether its value is never shown.
func (p *Parameter) Secret() bool { return p.Type == "SecureString" }

// Common reports whether every cmdlet has it.
func (p *Parameter) Common() bool { return p.common }

// Place is what the parameter is in the set.
func (p *Parameter) Place(set string) (Place, bool) {
	pl, ok := p.sets[set]
	return pl, ok
}

// AllSets lists the sets, the documented ones first.
func (c *Cmdlet) AllSets() []string {
	sets := c.Sets
	if len(sets) == 0 {
		sets = []string{AllSets}
	}
	return slices.Concat(sets, c.OurSets)
}

// Verb and Noun are the parts of the name.
func (c *Cmdlet) Verb() string { verb, _, _ := strings.Cut(c.Name, "-"); return verb }

// Noun is what follows the verb.
func (c *Cmdlet) Noun() string { _, noun, _ := strings.Cut(c.Name, "-"); return noun }

// Has reports whether it has a parameter of the name.
func (c *Cmdlet) Has(name string) bool {
	return slices.ContainsFunc(c.Parameters, func(p Parameter) bool { return p.Name == name })
}

// common are the parameters that every cmdlet has; the last two only those that
// change something.
func (c *Cmdlet) common() []Parameter {
	list := []Parameter{
		{Name: "DisableWildcardHandling", Type: "SwitchParameter", Summary: "Take wildcard characters literally. Not together with ForceWildcardHandling."},
		{Name: "ForceWildcardHandling", Type: "SwitchParameter", Summary: "Expand wildcard characters (documented as not recommended). Not together with DisableWildcardHandling."},
	}
	if c.OmitsCommon {
		list = nil
	}
	if c.ShouldProcess || c.ListsWhatIf {
		list = append(list,
			Parameter{Name: "WhatIf", Type: "SwitchParameter", Aliases: []string{"wi"}, Summary: "Say what would be done, and do nothing."},
			Parameter{Name: "Confirm", Type: "SwitchParameter", Aliases: []string{"cf"}, Summary: "Ask before doing it."})
	}
	// A cmdlet without a reference page has no SYNTAX for any parameter.
	unlisted := len(c.Parameters) > 0
	for _, p := range c.Parameters {
		unlisted = unlisted && (p.Unlisted || p.Ours)
	}
	for i := range list {
		list[i].common = true
		list[i].Unlisted = unlisted || c.ListsWhatIf && i >= 2
		list[i].Ours = c.OmitsCommon
		list[i].In = "o; " + strings.Join(c.OurSets, " o; ") + " o"
		if len(c.OurSets) == 0 {
			list[i].In = "o"
		}
	}
	return list
}

// prepare reads the sets of the parameters.
func (c *Cmdlet) prepare() error {
	c.Parameters = append(c.Parameters, c.common()...)
	documented := c.Sets
	if len(documented) == 0 {
		documented = []string{AllSets}
	}
	for i := range c.Parameters {
		p := &c.Parameters[i]
		p.sets = map[string]Place{}
		in := p.In
		if in == "" {
			in = "o"
		}
		for item := range strings.SplitSeq(in, ";") {
			words := strings.Fields(item)
			names := documented
			if len(words) == 2 {
				if !slices.Contains(c.AllSets(), words[0]) {
					return fmt.Errorf("%s -%s: there is no set %s", c.Name, p.Name, words[0])
				}
				names, words = words[:1], words[1:]
			}
			if len(words) != 1 {
				return fmt.Errorf("%s -%s: %q", c.Name, p.Name, item)
			}
			kind, at, placed := strings.Cut(words[0], "@")
			place := Place{Required: kind == "R", Position: -1}
			if placed {
				n, err := strconv.Atoi(at)
				if err != nil {
					return fmt.Errorf("%s -%s: %q", c.Name, p.Name, item)
				}
				place.Position = n
			}
			if kind != "R" && kind != "o" {
				return fmt.Errorf("%s -%s: %q", c.Name, p.Name, item)
			}
			for _, n := range names {
				p.sets[n] = place
			}
		}
	}
	return nil
}

// Table lists all cmdlets in the order of the reference.
var Table = sync.OnceValue(func() []*Cmdlet {
	list := slices.Concat(entraCmdlets, gatewayCmdlets, siteCmdlets)
	for _, c := range list {
		if err := c.prepare(); err != nil {
			panic(err) // the table is part of the program
		}
		c.run = runs[c.Name]
	}
	return list
})

// Find returns the cmdlet of the name, which matches without regard to case;
// nil when there is none.
func Find(name string) *Cmdlet {
	for _, c := range Table() {
		if strings.EqualFold(c.Name, name) {
			return c
		}
	}
	return nil
}

// FindWords returns the cmdlet that the first words of a command line name, as
// noun and verb, and how many words that are; nil when there is none.
func FindWords(args []string) (*Cmdlet, int) {
	for _, c := range Table() {
		words := strings.Fields(c.Words)
		if len(words) > 0 && len(args) >= len(words) && strings.EqualFold(strings.Join(args[:len(words)], " "), c.Words) {
			return c, len(words)
		}
	}
	return nil, 0
}

// acceptedValues are the values of the documented enumerations; regions are
// longer than the reference page has them, and newer ones are taken too.
var acceptedValues = map[string][]string{
	"AzureEnvironment":          {"AzurePublicCloud", "AzureUSGovernmentCloud"},
	"AzureRegion":               {"EastUS", "SouthCentralUS", "WestEurope", "SoutheastAsia", "WestUS2", "WestCentralUS"},
	"CertificateType":           {"BootMedia", "DistributionPoint", "IsvProxy"},
	"ClientConnectionTypes":     {"Internet", "Intranet", "InternetAndIntranet"},
	"CloudApplicationType":      {"ServerApplication", "ClientApplication"},
	"ComputerCommunicationType": {"Http", "Https"},
	"DayOfWeek":                 {"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"},
	"KeyType":                   {"SelfSigned", "Issued"},
	"ScheduleInterval":          {"Minutes", "Hours", "Days"},
	"ScheduleWeekOrder":         {"Last", "First", "Second", "Third", "Fourth"},
	"SecretKeyExpiryPeriod":     {"OneYear", "TwoYears", "FiftyYears"},
	"SettingType": {
		"BackgroundIntelligentTransfer", "Cloud", "ClientCache", "ClientPolicy", "ComplianceSettings", "ComputerAgent", "ComputerRestart",
		"DeliveryOptimization", "EndpointProtection", "HardwareInventory", "MeteredNetwork", "MobileDevice", "NetworkAccessProtection",
		"PowerManagement", "RemoteTools", "SoftwareCenter", "SoftwareDeployment", "SoftwareInventory", "SoftwareMetering", "SoftwareUpdates",
		"StateMessaging", "UserAndDeviceAffinity", "WindowsAnalytics",
	},
	"Types": {"Default", "Device", "User"},
}

// moreValues are those that the reference pages leave out and the module or this
// program has.
var moreValues = map[string][]string{
	"AzureEnvironment": {"AzureLab"},
	"AzureRegion": {
		"EastAsia", "NorthCentralUS", "NorthEurope", "WestUS", "USGovernmentIowa", "USGovernmentVirginia", "USGovernmentArizona", "USGovernmentTexas",
		"USDoDCentral", "USDoDEast", "AustraliaEast", "AustraliaSoutheast", "BrazilSouth", "CanadaCentral", "CanadaEast", "CentralIndia", "CentralUS", "EastUS2",
		"JapanEast", "JapanWest", "SouthIndia", "UKSouth", "UKWest", "WestIndia", "FranceSouth", "FranceCentral", "KoreaSouth", "KoreaCentral",
		"AustraliaCentral", "AustraliaCentral2", "SouthAfricaNorth", "SouthAfricaWest", "WestUS3", "GermanyWestCentral", "SwedenCentral", "SwitzerlandNorth", "NorwayEast", "PolandCentral", "ItalyNorth", "SpainCentral",
	},
}

// AcceptedValues are what a parameter may be, as its reference page has them;
// nil when there is no such list.
func (p *Parameter) AcceptedValues() []string {
	if p.Values != nil {
		return p.Values
	}
	return acceptedValues[strings.TrimSuffix(p.Type, "[]")]
}

// Suggested are the accepted values and those that the pages leave out, for
// completion.
func (p *Parameter) Suggested() []string {
	return slices.Concat(p.AcceptedValues(), moreValues[strings.TrimSuffix(p.Type, "[]")])
}

// Open reports whether values that nobody listed are taken too: Azure has new
// regions every year, and a site may have an environment of its own.
func (p *Parameter) Open() bool { return p.Type == "AzureRegion" || p.Type == "AzureEnvironment" }

// Runnable reports whether the cmdlet is there to be run.
func (c *Cmdlet) Runnable() bool { return c.run != nil }

// Syntax is how the cmdlet is called with a parameter set, as reference pages
// write it.
func (c *Cmdlet) Syntax(set string) string {
	var b strings.Builder
	b.WriteString(c.Name)
	for i := range c.Parameters {
		p := &c.Parameters[i]
		place, in := p.sets[set]
		if !in {
			continue
		}
		typ := strings.TrimPrefix(p.Type, "IResultObject#")
		if typ == "" {
			typ = "String"
		}
		name, value := "-"+p.Name, " <"+typ+">"
		if p.Switch() {
			value = ""
		}
		if place.Position >= 0 {
			name = "[" + name + "]"
		}
		text := name + value
		if !place.Required {
			text = "[" + text + "]"
		}
		b.WriteString(" " + text)
	}
	return b.String()
}
