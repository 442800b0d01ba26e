package cmdlet

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// A Host is who runs a cmdlet: the site it works on, and how people are asked
// and told.
type Host struct {
	Client *adminservice.Client
	// ReadFile gives the content of a file that a parameter names.
	ReadFile func(path string) ([]byte, error)
	// WriteSecret writes a new file, 0600; nil refuses.
	WriteSecret func(path string, b []byte) error
	// WhatIf is told what -WhatIf keeps from being done, Warn what is worth
	// knowing.
	WhatIf, Warn func(line string)
	// Confirm asks a question; nil means that nobody can be asked.
	Confirm func(question string) (bool, error)
	// Progress follows operations, when Wait says to wait for their end.
	Progress func(adminservice.Operation, adminservice.OperationLog)
	Wait     bool
}

// run is one call at work.
type run struct {
	*Bound
	ctx  context.Context
	host *Host
	emit func(Object) error
}

// Run does what a call says, once for each object that is piped in, and once
// when the parameter set takes none. emit gets what the cmdlet returns. Errors
// are those of the administration service, and of kind Invalid.
func Run(ctx context.Context, h *Host, b *Bound, piped []Object, emit func(Object) error) error {
	r := &run{Bound: b, ctx: ctx, host: h, emit: emit}
	p := b.pipeline()
	if p == nil || b.Given(p.Name) {
		return b.Cmdlet.run(r)
	}
	if place := p.sets[b.Set]; len(piped) == 0 && !place.Required {
		return b.Cmdlet.run(r)
	}
	for _, o := range piped {
		b.Values[p.Name] = o
		if err := b.Cmdlet.run(r); err != nil {
			return err
		}
	}
	return nil
}

// pipeline is the parameter of the bound set that takes pipeline input.
func (b *Bound) pipeline() *Parameter {
	for i := range b.Cmdlet.Parameters {
		p := &b.Cmdlet.Parameters[i]
		if _, in := p.sets[b.Set]; in && p.Pipeline {
			return p
		}
	}
	return nil
}

// WantsPipeline reports whether the call lacks an object that only a pipe can
// bring.
func (b *Bound) WantsPipeline() bool {
	p := b.pipeline()
	return p != nil && !b.Given(p.Name)
}

// should decides whether to go on: not with -WhatIf, and not when somebody who
// was asked said no. removes says that the cmdlet asks unless it is forced.
func (r *run) should(target string, removes bool) (bool, error) {
	if r.Flag("WhatIf") {
		r.host.WhatIf(fmt.Sprintf("What if: Performing the operation %q on target %q.", r.Cmdlet.Name, target))
		return false, nil
	}
	ask := r.Flag("Confirm") || removes && !r.Flag("Force") && !r.Given("Confirm")
	if !ask {
		return true, nil
	}
	if r.host.Confirm == nil {
		return false, opencmg.Errorf(opencmg.Invalid, "%s asks before it goes on, and nobody can be asked here: add -Confirm:$false%s to go on with %s", r.Cmdlet.Name, map[bool]string{true: " or -Force"}[r.Cmdlet.Has("Force")], target)
	}
	yes, err := r.host.Confirm(fmt.Sprintf("Performing the operation %q on target %q. Go on?", r.Cmdlet.Name, target))
	if err == nil && !yes {
		r.host.Warn(target + " was left as it is")
	}
	return yes, err
}

// get reads one resource, list a collection.
func get[T any](r *run, path string) (T, error) {
	return adminservice.Get[T](r.ctx, r.host.Client, path)
}

func list[T any](r *run, collection string) ([]T, error) {
	return adminservice.List[T](r.ctx, r.host.Client, collection, nil)
}

// post makes something.
func post[T any](r *run, path string, in any) (T, error) {
	var out T
	err := r.host.Client.Do(r.ctx, http.MethodPost, path, in, &out)
	return out, err
}

// operate sends a request that may begin an operation, and waits for its end
// when the host does, or when must says so. It returns what the operation is
// about; empty when there was none.
func (r *run) operate(method, path string, in any, must bool) (subject string, err error) {
	var raw json.RawMessage
	if err := r.host.Client.Do(r.ctx, method, path, in, &raw); err != nil {
		return "", err
	}
	var op struct {
		adminservice.Operation
		Percent *int `json:"percent"`
	}
	if len(raw) == 0 || json.Unmarshal(raw, &op) != nil || op.Percent == nil {
		return "", nil // it is done
	}
	if !r.host.Wait && !must {
		return op.Subject, nil
	}
	_, err = r.host.Client.Wait(r.ctx, op.Operation.ID, r.host.Progress)
	return op.Subject, err
}

// wmi returns the objects of a class.
func (r *run) wmi(class string) ([]Object, error) {
	found, err := adminservice.WMI(r.ctx, r.host.Client, class, nil)
	var list []Object
	for _, o := range found {
		o[ClassProperty] = class
		list = append(list, o)
	}
	return list, err
}

// emitClass emits the object of a class whose key is the value.
func (r *run) emitClass(class, key, value string) error {
	objects, err := r.wmi(class)
	if err != nil {
		return err
	}
	for _, o := range objects {
		if strings.EqualFold(o.Text(key), value) {
			return r.emit(o)
		}
	}
	return opencmg.Errorf(opencmg.NotFound, "there is no %s with %s %s any more: somebody removed it meanwhile", class, key, value)
}

func (r *run) emitAll(objects []Object, err error) error {
	if err != nil {
		return err
	}
	for _, o := range objects {
		if err := r.emit(o); err != nil {
			return err
		}
	}
	return nil
}

// matcher compares names without regard to case, with wildcards where the
// parameter has them. An empty pattern matches everything.
func (r *run) matcher(parameter string) func(...string) bool {
	pattern := r.Text(parameter)
	if pattern == "" {
		return func(...string) bool { return true }
	}
	wild := r.Flag("ForceWildcardHandling")
	for i := range r.Cmdlet.Parameters {
		if p := &r.Cmdlet.Parameters[i]; p.Name == parameter {
			wild = wild || p.Wildcards && !r.Flag("DisableWildcardHandling")
		}
	}
	return matchName(pattern, wild)
}

func matchName(pattern string, wild bool) func(...string) bool {
	if !wild || !strings.ContainsAny(pattern, "*?[") {
		return func(names ...string) bool {
			return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, pattern) })
		}
	}
	var b strings.Builder
	b.WriteString(`(?is)^`)
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; c {
		case '*':
			b.WriteString(`.*`)
		case '?':
			b.WriteByte('.')
		case '[':
			if end := strings.IndexByte(pattern[i:], ']'); end > 1 {
				b.WriteString("[" + strings.ReplaceAll(strings.TrimPrefix(pattern[i+1:i+end], "^"), `\`, `\\`) + "]")
				i += end
				break
			}
			fallthrough
		default:
			b.WriteString(regexp.QuoteMeta(string(c)))
		}
	}
	b.WriteByte('$')
	re, err := regexp.Compile(b.String())
	if err != nil {
		return matchName(pattern, false)
	}
	return func(names ...string) bool { return slices.ContainsFunc(names, re.MatchString) }
}

// none is the error for a name or ID that nothing has. has are the names that
// there are.
func (r *run) none(what, key string, has []string) error {
	text := "the site has none yet"
	if len(has) > 0 {
		text = "the site has " + strings.Join(has, ", ")
	}
	return opencmg.Errorf(opencmg.NotFound, "%s: there is no %s %q: %s", r.Cmdlet.Name, what, key, text)
}

// target finds the one object that Name, Id or InputObject means.
func (r *run) target(what, class, key string, nameProperties ...string) (Object, error) {
	if o, ok := r.Values["InputObject"].(Object); ok {
		if _, byName := o[nameProperty]; !byName {
			if err := wrongClass(r.Cmdlet.Name, o, class); err != nil {
				return nil, err
			}
			if o.Text(key) == "" {
				return nil, opencmg.Errorf(opencmg.Invalid, "%s: the object has no %s: pipe in what the Get cmdlet returned", r.Cmdlet.Name, key)
			}
		}
	}
	objects, err := r.wmi(class)
	if err != nil {
		return nil, err
	}
	var has []string
	for _, o := range objects {
		var names []string
		for _, p := range nameProperties {
			names = append(names, o.Text(p))
		}
		has = append(has, names[0])
		if r.means(o, key, names) {
			return o, nil
		}
	}
	return nil, r.none(what, r.wanted(key), has)
}

// wanted is what target looks for, for people.
func (r *run) wanted(key string) string {
	switch o, _ := r.Values["InputObject"].(Object); {
	case o != nil && o[nameProperty] != nil:
		return o.Text(nameProperty)
	case o != nil:
		return o.Text(key)
	case r.Given("Id"):
		return fmt.Sprint(r.Values["Id"])
	}
	return r.Text("Name")
}

func (r *run) means(o Object, key string, names []string) bool {
	if in, ok := r.Values["InputObject"].(Object); ok {
		if in[nameProperty] != nil {
			return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, in.Text(nameProperty)) })
		}
		return strings.EqualFold(o.Text(key), in.Text(key))
	}
	if r.Given("Id") {
		return o.Text(key) == fmt.Sprint(r.Values["Id"])
	}
	return slices.ContainsFunc(names, func(n string) bool { return n != "" && strings.EqualFold(n, r.Text("Name")) })
}

// read gives the content of the file that a parameter names.
func (r *run) read(parameter, path string) ([]byte, error) {
	b, err := r.host.ReadFile(path)
	if err != nil {
		return nil, opencmg.Errorf(opencmg.Invalid, "%s -%s: %w", r.Cmdlet.Name, parameter, err)
	}
	return b, nil
}

// onSite refuses a site code that is not the site's.
func (r *run) onSite() error {
	want := r.Text("SiteCode")
	if want == "" {
		return nil
	}
	s, err := get[adminservice.Site](r, "Site")
	if err == nil && !strings.EqualFold(want, string(s.Code)) {
		return opencmg.Errorf(opencmg.Invalid, "%s -SiteCode: this is site %s, and it has no other sites: leave it out", r.Cmdlet.Name, s.Code)
	}
	return err
}

func pathID(collection, id string) string { return collection + "/" + url.PathEscape(id) }

func thumbprintSHA1(der []byte) string {
	sum := sha1.Sum(der)
	return hex.EncodeToString(sum[:])
}

// pick returns a pointer to a Boolean, a number or a text that was given, and
// nil otherwise.
func pick[T any](b *Bound, name string) *T {
	v, ok := b.Values[name].(T)
	if !ok {
		return nil
	}
	return &v
}

// runs are the cmdlets' doings by name.
var runs = map[string]func(*run) error{
	"Import-CMAADServerApplication":     importServerApp,
	"Import-CMAADClientApplication":     importClientApp,
	"Get-CMAADApplication":              getApplications,
	"New-CMAADServerApplication":        newServerApp,
	"New-CMAADClientApplication":        newClientApp,
	"Set-UpdateServerApplication":       updateServerApp,
	"Get-CMAADTenant":                   getTenants,
	"New-CMCloudManagementAzureService": newAzureService,
	"Set-CMCloudManagementAzureService": setAzureService,
	"Get-CMAzureService":                getAzureServices,
	"Remove-CMAzureService":             removeAzureService,
	"New-CMSchedule":                    newSchedule,

	"Get-CMCloudManagementGateway":    getGateways,
	"New-CMCloudManagementGateway":    newGateway,
	"Set-CMCloudManagementGateway":    setGateway,
	"Remove-CMCloudManagementGateway": removeGateway,
	"Start-CMCloudManagementGateway":  gatewayAction("start"),
	"Stop-CMCloudManagementGateway":   gatewayAction("stop"),
	"Sync-CMCloudManagementGateway":   gatewayAction("synchronize"),

	"Add-CMCloudManagementGatewayConnectionPoint":    addPoint,
	"Get-CMCloudManagementGatewayConnectionPoint":    getPoints,
	"Set-CMCloudManagementGatewayConnectionPoint":    setPoint,
	"Remove-CMCloudManagementGatewayConnectionPoint": removePoint,

	"Set-CMManagementPoint":           setRole(opencmg.KindManagementPoint),
	"Add-CMManagementPoint":           addRole(opencmg.KindManagementPoint),
	"Set-CMSoftwareUpdatePoint":       setRole(opencmg.KindSoftwareUpdatePoint),
	"Add-CMSoftwareUpdatePoint":       addRole(opencmg.KindSoftwareUpdatePoint),
	"Get-CMServiceConnectionPoint":    getServiceConnectionPoints,
	"Get-CMSiteSystemServer":          getSiteSystems,
	"Get-CMSiteRole":                  getSiteRoles,
	"Set-CMClientSettingCloudService": setClientSetting,
	"Set-CMClientSetting":             setClientSetting,
	"Get-CMClientSetting":             getClientSettings,
	"New-CMBoundaryGroup":             newBoundaryGroup,
	"Set-CMBoundaryGroup":             setBoundaryGroup,
	"Get-CMBoundaryGroupSiteSystem":   getBoundaryGroupSystems,
	"Set-CMDefaultBoundaryGroup":      setDefaultBoundaryGroup,
	"Get-CMCertificate":               getCertificates,
	"Block-CMCertificate":             blockCertificate(true),
	"Unblock-CMCertificate":           blockCertificate(false),
	"Get-CMTrustedRootCertificate":    getTrustedRoots,
}
