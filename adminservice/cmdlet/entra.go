package cmdlet

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// Classes of objects.
const (
	classApplication  = "SMS_AAD_Application_Ex"
	classTenant       = "SMS_AAD_Tenant_Ex"
	classAzureService = "SMS_Azure_CloudService"
	classInterval     = "SMS_ST_RecurInterval"
)

func importServerApp(r *run) error {
	in := adminservice.ImportApplication{
		Kind: adminservice.ServerApplication, Name: r.Text("AppName"), TenantID: r.Text("TenantId"), TenantName: r.Text("TenantName"),
		Environment: opencmg.Environment(r.Text("AzureEnvironmentOption")), ClientID: r.Text("ClientId"), IdentifierURI: r.Text("AppIdUri"),
		Secret: string(r.Values["SecretKey"].(adminservice.Secret)), SecretExpires: r.Values["SecretKeyExpiry"].(time.Time), SkipVerify: r.Flag("SkipVerify"),
	}
	return r.importApp(in)
}

func importClientApp(r *run) error {
	in := adminservice.ImportApplication{Kind: adminservice.ClientApplication, Name: r.Text("AppName"), TenantID: r.Text("TenantId"), ClientID: r.Text("ClientId"), SkipVerify: r.Flag("SkipVerify")}
	if r.Given("ServerApp") {
		app, err := r.application("ServerApp", adminservice.ServerApplication)
		if err != nil {
			return err
		}
		in.ServerAppID, in.TenantID = app.ID, app.TenantID
	}
	return r.importApp(in)
}

func (r *run) importApp(in adminservice.ImportApplication) error {
	if ok, err := r.should(in.Name, false); !ok {
		return err
	}
	app, err := post[adminservice.Application](r, "Applications/import", in)
	if err != nil {
		return err
	}
	return r.emitClass(classApplication, "ID", app.ID)
}

// application finds the app that an object parameter means: by ID, by client ID,
// or by name.
func (r *run) application(parameter, kind string) (*adminservice.Application, error) {
	o := r.Values[parameter].(Object)
	if err := wrongClass(r.Cmdlet.Name+" -"+parameter, o, classApplication); err != nil {
		return nil, err
	}
	apps, err := list[adminservice.Application](r, "Applications")
	if err != nil {
		return nil, err
	}
	var has []string
	for _, a := range apps {
		if a.Kind != kind {
			if o[nameProperty] == nil && (a.ID == o.Text("ID") || strings.EqualFold(a.ClientID, o.Text("ClientID"))) {
				return nil, opencmg.Errorf(opencmg.Invalid, "%s -%s: %s is a %s, and must be a %s", r.Cmdlet.Name, parameter, a.Name, a.Kind, kind)
			}
			continue
		}
		has = append(has, a.Name)
		name := o.Text(nameProperty)
		if name != "" && (strings.EqualFold(a.Name, name) || strings.EqualFold(a.ClientID, name)) ||
			name == "" && (a.ID == o.Text("ID") || strings.EqualFold(a.ClientID, o.Text("ClientID"))) {
			return &a, nil
		}
	}
	key := o.Text(nameProperty)
	if key == "" {
		key = o.Text("ClientID")
	}
	return nil, r.none(kind, key, has)
}

func getApplications(r *run) error {
	apps, err := r.wmi(classApplication)
	return r.emitAll(slices.DeleteFunc(apps, func(o Object) bool {
		client := o.value("IsClientApp") == true
		return !r.matcher("AppName")(o.Text("Name")) || !r.matcher("ClientId")(o.Text("ClientID")) || !r.matcher("TenantId")(o.Text("TenantID")) ||
			!r.matcher("TenantName")(o.Text("TenantName")) || r.Given("AppType") && client != (r.Text("AppType") == adminservice.ClientApplication)
	}), err)
}

func getTenants(r *run) error {
	tenants, err := r.wmi(classTenant)
	return r.emitAll(slices.DeleteFunc(tenants, func(o Object) bool {
		return !r.matcher("Id")(o.Text("TenantID")) || !r.matcher("Name")(o.Text("Name"))
	}), err)
}

// secretYears are the lifetimes of a new secret that Entra gives.
var secretYears = map[string]int{"": 1, "OneYear": 1, "TwoYears": 2}

func newServerApp(r *run) error {
	years, ok := secretYears[r.Text("SecretKeyExpiry")]
	if !ok {
		return opencmg.Errorf(opencmg.Invalid, "%s -SecretKeyExpiry: Microsoft Entra ID gives secrets for two years at most: choose OneYear or TwoYears", r.Cmdlet.Name)
	}
	in := adminservice.CreateApplications{
		Environment: opencmg.Environment(r.Text("AzureEnvironmentOption")), TenantID: r.Text("TenantId"), ServerName: r.Text("AppName"),
		IdentifierURI: r.Text("AppIdUri"), SecretYears: years, DirectoryRead: r.Flag("ReadDirectory"),
	}
	if in.TenantID == "" {
		tenants, err := list[adminservice.Tenant](r, "Tenants")
		if err != nil {
			return err
		}
		if len(tenants) != 1 {
			return opencmg.Errorf(opencmg.Invalid, "%s: the site has %d tenants: say with -TenantId which one the app is for", r.Cmdlet.Name, len(tenants))
		}
		in.TenantID = tenants[0].ID
	}
	return r.createApp(in, func(made adminservice.CreatedApplications) string { return made.ServerAppID })
}

func newClientApp(r *run) error {
	server, err := r.application("InputObject", adminservice.ServerApplication)
	if err != nil {
		return err
	}
	in := adminservice.CreateApplications{TenantID: server.TenantID, ServerAppID: server.ID, ClientName: r.Text("AppName")}
	return r.createApp(in, func(made adminservice.CreatedApplications) string { return made.ClientAppID })
}

// createApp registers an app in Entra. The sign-in is the administrator's, by
// device code unless an app with the right signs in.
func (r *run) createApp(in adminservice.CreateApplications, id func(adminservice.CreatedApplications) string) error {
	in.SignIn = *r.signIn()
	if ok, err := r.should(in.ServerName+in.ClientName, false); !ok {
		return err
	}
	op, err := post[adminservice.Operation](r, "Applications/create", in)
	if err != nil {
		return err
	}
	// The app is what the cmdlet returns, so it waits.
	if op, err = r.host.Client.Wait(r.ctx, op.ID, r.host.Progress); err != nil {
		return err
	}
	var made adminservice.CreatedApplications
	if err := json.Unmarshal(op.Result, &made); err != nil {
		return err
	}
	return r.emitClass(classApplication, "ID", id(made))
}

// signIn is who changes registrations in Entra: an app that is named, or a person
// by device code.
func (r *run) signIn() *adminservice.SignIn {
	in := &adminservice.SignIn{ClientID: r.Text("SignInClientId"), DeviceCode: true}
	if secret, ok := r.Values["SignInSecret"].(adminservice.Secret); ok {
		in.Secret, in.DeviceCode = string(secret), false
	}
	return in
}

func updateServerApp(r *run) error {
	apps, err := list[adminservice.Application](r, "Applications")
	if err != nil {
		return err
	}
	tenant := r.Text("TenantId")
	apps = slices.DeleteFunc(apps, func(a adminservice.Application) bool {
		return a.Kind != adminservice.ServerApplication || !strings.EqualFold(a.TenantID, tenant)
	})
	if len(apps) == 0 {
		return r.none("server app of tenant", tenant, nil)
	}
	for _, a := range apps {
		ok, err := r.should(a.Name, false)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if _, err := r.operate(http.MethodPost, pathID("Applications", a.ID)+"/updateSettings", adminservice.UpdateSettings{SignIn: r.signIn()}, false); err != nil {
			return err
		}
	}
	return nil
}

func newAzureService(r *run) error {
	server, err := r.application("ServerApp", adminservice.ServerApplication)
	if err != nil {
		return err
	}
	client, err := r.application("ClientApp", adminservice.ClientApplication)
	if err != nil {
		return err
	}
	in := adminservice.AzureService{
		Name: r.Text("Name"), Description: r.Text("Description"), Environment: opencmg.Environment(r.Text("AzureEnvironmentOption")),
		ServerAppID: server.ID, ClientAppID: client.ID,
		UserDiscovery: r.Flag("EnableUserDiscovery"), GroupDiscovery: r.Flag("EnableGroupDiscovery"),
	}
	in.DiscoveredGroups, _ = r.Values["AddGroupName"].([]string)
	d, err := r.discovery()
	if err != nil {
		return err
	}
	for _, v := range []struct{ to, from *int }{
		{&in.UserDeltaMinutes, d.userDelta}, {&in.GroupDeltaMinutes, d.groupDelta}, {&in.UserFullHours, d.userFull}, {&in.GroupFullHours, d.groupFull},
	} {
		if v.from != nil {
			*v.to = *v.from
		}
	}
	if ok, err := r.should(in.Name, false); !ok {
		return err
	}
	made, err := post[adminservice.AzureService](r, "AzureServices", in)
	if err != nil {
		return err
	}
	return r.emitClass(classAzureService, "ID", made.ID)
}

// discovery are the intervals that the discovery parameters ask for; nil leaves
// one as it is.
type discovery struct{ userDelta, groupDelta, userFull, groupFull *int }

// maxDelta is the longest time between delta cycles, in minutes; it stands for
// "no delta cycles", since a full one comes each day anyway.
const maxDelta = 1440

func (r *run) discovery() (d discovery, err error) {
	for _, v := range []struct {
		to           **int
		enable, mins string
	}{{&d.userDelta, "EnableUserDeltaDiscovery", "UserDeltaDiscoveryMins"}, {&d.groupDelta, "EnableGroupDeltaDiscovery", "GroupDeltaDiscoveryMins"}} {
		*v.to = pick[int](r.Bound, v.mins)
		if r.Given(v.enable) && !r.Flag(v.enable) {
			if *v.to != nil {
				return d, opencmg.Errorf(opencmg.Invalid, "%s: -%s needs -%s to be on", r.Cmdlet.Name, v.mins, v.enable)
			}
			n := maxDelta
			*v.to = &n
		}
	}
	for _, v := range []struct {
		to   **int
		name string
	}{{&d.userFull, "UserDiscoverySchedule"}, {&d.groupFull, "GroupDiscoverySchedule"}} {
		o, ok := r.Values[v.name].(Object)
		if !ok {
			continue
		}
		if err := wrongClass(r.Cmdlet.Name+" -"+v.name, o, classInterval); err != nil {
			return d, err
		}
		var span struct{ DaySpan, HourSpan, MinuteSpan int }
		b, _ := json.Marshal(o)
		if json.Unmarshal(b, &span) != nil || span.MinuteSpan != 0 || span.DaySpan*24+span.HourSpan < 1 {
			return d, opencmg.Errorf(opencmg.Invalid, "%s -%s: must be a schedule of whole hours or days: New-CMSchedule -RecurInterval Days -RecurCount 1", r.Cmdlet.Name, v.name)
		}
		hours := span.DaySpan*24 + span.HourSpan
		*v.to = &hours
	}
	return d, nil
}

func getAzureServices(r *run) error {
	services, err := r.wmi(classAzureService)
	return r.emitAll(slices.DeleteFunc(services, func(o Object) bool {
		return !r.matcher("Name")(o.Text("Name")) || r.Given("Id") && o.Text("ID") != fmt.Sprint(r.Values["Id"])
	}), err)
}

func setAzureService(r *run) error {
	o, err := r.target("Azure service", classAzureService, "ID", "Name")
	if err != nil {
		return err
	}
	if r.Flag("EnableAADGroupSync") {
		return opencmg.Errorf(opencmg.Invalid, "%s -EnableAADGroupSync: this site has no collections, so there is nothing to synchronise to groups", r.Cmdlet.Name)
	}
	d, err := r.discovery()
	if err != nil {
		return err
	}
	change := adminservice.AzureServiceChange{
		Name: pick[string](r.Bound, "NewName"), Description: pick[string](r.Bound, "Description"),
		UserDiscovery: pick[bool](r.Bound, "EnableUserDiscovery"), GroupDiscovery: pick[bool](r.Bound, "EnableGroupDiscovery"),
		UserDeltaMinutes: d.userDelta, GroupDeltaMinutes: d.groupDelta, UserFullHours: d.userFull, GroupFullHours: d.groupFull,
	}
	add, _ := r.Values["AddGroupName"].([]string)
	drop, _ := r.Values["DeleteGroupName"].([]string)
	path := pathID("AzureServices", o.Text("ID"))
	if len(add)+len(drop) > 0 {
		now, err := r.azureService(o.Text("ID"))
		if err != nil {
			return err
		}
		groups := merge(now.DiscoveredGroups, add, drop)
		change.DiscoveredGroups = &groups
	}
	if ok, err := r.should(o.Text("Name"), false); !ok {
		return err
	}
	if err := r.host.Client.Do(r.ctx, http.MethodPatch, path, change, nil); err != nil || !r.Flag("PassThru") {
		return err
	}
	return r.emitClass(classAzureService, "ID", o.Text("ID"))
}

func (r *run) azureService(id string) (adminservice.AzureService, error) {
	services, err := list[adminservice.AzureService](r, "AzureServices")
	if i := slices.IndexFunc(services, func(s adminservice.AzureService) bool { return s.ID == id }); i >= 0 {
		return services[i], err
	}
	return adminservice.AzureService{}, err
}

// merge adds and removes names, which compare without regard to case.
func merge(now, add, drop []string) []string {
	same := func(a string) func(string) bool { return func(b string) bool { return strings.EqualFold(a, b) } }
	list := slices.Clone(now)
	for _, a := range add {
		if !slices.ContainsFunc(list, same(a)) {
			list = append(list, a)
		}
	}
	for _, d := range drop {
		list = slices.DeleteFunc(list, same(d))
	}
	return list
}

func removeAzureService(r *run) error {
	o, err := r.target("Azure service", classAzureService, "ID", "Name")
	if err != nil {
		return err
	}
	if ok, err := r.should(o.Text("Name"), true); !ok {
		return err
	}
	return r.host.Client.Do(r.ctx, http.MethodDelete, pathID("AzureServices", o.Text("ID")), nil, nil)
}

// newSchedule makes a schedule object; it asks no site.
func newSchedule(r *run) error {
	if r.Flag("ScheduleString") {
		return opencmg.Errorf(opencmg.Invalid, "%s -ScheduleString: schedules are objects here: leave it out", r.Cmdlet.Name)
	}
	start, ok := r.Values["Start"].(time.Time)
	if !ok {
		start = time.Now().Truncate(time.Minute)
	}
	o := Object{"StartTime": start.Format(time.RFC3339), "IsGMT": r.Flag("IsUtc")}
	if end, ok := r.Values["End"].(time.Time); ok {
		if !end.After(start) {
			return opencmg.Errorf(opencmg.Invalid, "%s -End: must be after the start", r.Cmdlet.Name)
		}
		o["EndTime"] = end.Format(time.RFC3339)
	}
	if n, ok := r.Values["DurationCount"].(int); ok {
		o[strings.TrimSuffix(r.Text("DurationInterval"), "s")+"Duration"] = n
	}
	count, given := r.Values["RecurCount"].(int)
	if !given {
		count = 1
	}
	if count < 1 {
		return opencmg.Errorf(opencmg.Invalid, "%s -RecurCount: must be at least 1", r.Cmdlet.Name)
	}
	switch {
	case r.Given("RecurInterval"):
		o[ClassProperty] = classInterval
		o["DaySpan"], o["HourSpan"], o["MinuteSpan"] = 0, 0, 0
		o[strings.TrimSuffix(r.Text("RecurInterval"), "s")+"Span"] = count
	case r.Given("WeekOrder"):
		o[ClassProperty], o["WeekOrder"], o["Day"], o["ForNumberOfMonths"] = "SMS_ST_RecurMonthlyByWeekday", r.Text("WeekOrder"), r.Text("DayOfWeek"), count
	case r.Given("DayOfWeek"):
		o[ClassProperty], o["Day"], o["ForNumberOfWeeks"] = "SMS_ST_RecurWeekly", r.Text("DayOfWeek"), count
	case r.Given("DayOfMonth"), r.Flag("LastDayOfMonth"):
		day, _ := r.Values["DayOfMonth"].(int)
		if day < 0 || day > 31 || day == 0 && !r.Flag("LastDayOfMonth") {
			return opencmg.Errorf(opencmg.Invalid, "%s -DayOfMonth: must be 1 to 31", r.Cmdlet.Name)
		}
		o[ClassProperty], o["MonthDay"], o["ForNumberOfMonths"] = "SMS_ST_RecurMonthlyByDate", day, count
	default:
		o[ClassProperty] = "SMS_ST_NonRecurring"
	}
	return r.emit(o)
}
