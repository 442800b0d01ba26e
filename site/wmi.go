package site

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/sitedb"
)

// The read-only view for scripts that know Configuration Manager's classes:
// names and types of the properties are those of cmdlets.md, "Objects and their
// properties". Class names are compared with their case, as there.

// A wmiClass is one class of the view.
type wmiClass struct {
	name string
	key  string // property; empty: none that is documented
	list func(context.Context) ([]map[string]any, error)
}

func (s *Server) wmiTable() []wmiClass {
	return []wmiClass{
		{"SMS_AzureService", "AzureServiceID", s.wmiAzureService},
		{"SMS_AzureServicesTask", "TaskID", s.wmiTasks},
		{"SMS_AAD_Application_Ex", "ID", s.wmiApplications},
		{"SMS_AAD_Tenant_Ex", "TenantID", s.wmiTenants},
		{"SMS_Azure_CloudService", "ID", s.wmiCloudServices},
		{"SMS_SCI_SysResUse", "", s.wmiSystems},
	}
}

// wmiClasses answers the list of classes.
func (s *Server) wmiClasses(w http.ResponseWriter, r *http.Request) error {
	var list []adminservice.Class
	for _, c := range s.wmiTable() {
		list = append(list, adminservice.Class{Name: c.name, Kind: "EntitySet", URL: c.name})
	}
	return answerList(w, r, list)
}

// wmi answers the objects of one class, or the one with the key.
func (s *Server) wmi(w http.ResponseWriter, r *http.Request) error {
	name, key, keyed := strings.Cut(r.PathValue("class"), "(")
	if keyed && !strings.HasSuffix(key, ")") {
		return opencmg.Errorf(opencmg.NotFound, "%s: a key stands in parentheses, such as SMS_AzureService(16777217)", r.PathValue("class"))
	}
	classes := s.wmiTable()
	i := slices.IndexFunc(classes, func(c wmiClass) bool { return c.name == name })
	if i < 0 {
		var names []string
		for _, c := range classes {
			names = append(names, c.name)
		}
		return opencmg.Errorf(opencmg.NotFound, "there is no class %s in this view: it has %s, and upper and lower case count", name, strings.Join(names, ", "))
	}
	q, err := adminservice.ParseQuery(r.URL.Query())
	if err != nil {
		return err
	}
	list, err := classes[i].list(r.Context())
	if err != nil {
		return err
	}
	objects, err := toMaps(list) // times and numbers as callers see them
	if err != nil {
		return err
	}
	if keyed {
		key = strings.Trim(strings.TrimSuffix(key, ")"), "'")
		objects = slices.DeleteFunc(objects, func(o map[string]any) bool { return !hasKey(o[classes[i].key], key) })
		if len(objects) == 0 {
			return opencmg.Errorf(opencmg.NotFound, "there is no %s with the key %s", name, key)
		}
	}
	page, total := q.Apply(objects)
	return answerPage(w, r, q, page, total)
}

func hasKey(v any, key string) bool {
	switch v := v.(type) {
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64) == key
	case string:
		return strings.EqualFold(v, key)
	}
	return false
}

// Values of SMS_AzureService.State, as scripts were seen to read them. 2 for a
// failure is our choice.
var wmiStates = map[string]float64{
	adminservice.StateReady: 0, adminservice.StateProvisioning: 1, adminservice.StateUpgrading: 1, adminservice.StateConverting: 1,
	adminservice.StateError: 2, adminservice.StateStarting: 4, adminservice.StateStopping: 5, adminservice.StateStopped: 6, adminservice.StateDeleting: 99,
}

func whole(gb float64) float64 { return math.Round(gb) }

func (s *Server) wmiAzureService(ctx context.Context) ([]map[string]any, error) {
	records, err := readAll[gatewayRecord](ctx, s.db, kindGateway)
	if err != nil {
		return nil, err
	}
	roots, intermediates, err := s.wmiTrusted(ctx)
	if err != nil {
		return nil, err
	}
	var list []map[string]any
	for _, rec := range records {
		g, v := s.gateway(rec), rec.Value
		if err := s.usage(ctx, &g); err != nil {
			return nil, err
		}
		id, _ := strconv.ParseFloat(rec.ID, 64)
		ready := 0.0
		if v.State == adminservice.StateReady {
			ready = 1
		}
		clientID := ""
		if app, err := read[applicationRecord](ctx, s.db, kindApplication, v.ServerAppID); err == nil {
			clientID = app.Value.ClientID
		}
		// A self-hosted gateway has neither storage account nor content.
		storage, model, content := "", 100.0, ""
		if v.Model == adminservice.ModelScaleSet {
			storage, model = v.Prefix, 1
			if *v.Settings.EnableContent {
				content = fmt.Sprintf(`["Display=\\%[1]s\"]MSWNET:["SMS_SITE=%[2]s"]\\%[1]s\`, v.DeploymentName, s.Code())
			}
		}
		list = append(list, map[string]any{
			"AzureServiceID": id, "Name": v.Prefix, "Fqdn": v.DeploymentName, "ServiceCName": v.ServiceName, "ServiceType": "CloudProxyService",
			"SiteCode": string(s.Code()), "Description": v.Settings.Description, "Region": v.Region, "NumberOfInstances": float64(v.Settings.Instances),
			"SubscriptionID": v.SubscriptionID, "State": wmiStates[v.State], "StatusDetails": ready, "DeploymentSlot": "Production", "Flags": 0.0,
			"ServiceThumbprint": strings.ToUpper(v.ThumbprintSHA1), "ServiceThumbprintAlgorithm": "SHA1", "ServiceCertificate": v.CertificateLeaf,
			"StorageServiceName": storage, "StorageQuotaInGB": float64(v.Settings.Storage.GB), "StorageWarningThreshold": float64(v.Settings.Storage.WarningPct),
			"StorageCriticalThreshold": float64(v.Settings.Storage.CriticalPct), "StorageUsage": whole(g.StorageGB), "StorageQuotaGrow": false,
			"TrafficOutInGB": float64(v.Settings.Traffic.GB), "TrafficWarningThreshold": float64(v.Settings.Traffic.WarningPct),
			"TrafficCriticalThreshold": float64(v.Settings.Traffic.CriticalPct), "TrafficOutUsage": whole(g.EgressGB14Days), "TrafficOutStopService": v.Settings.Traffic.StopService,
			"AffinityGroup": v.ResourceGroup, "DeploymentModel": model, "AzureEnvironmentId": environmentNumber(v.Environment), "AADApplicationId": clientID,
			"CreationTime": rec.Created, "NALPath": content,
			// Of classic deployments only.
			"ManagementCertificate": "", "ManagementCertificateType": 0.0, "ManagementThumbprint": "",
			"RootCertificate": roots.pem(v.Settings.Certificates), "SubCACertificate": intermediates.pem(v.Settings.Certificates), "SubCACertThumbprint": intermediates.thumbprints(v.Settings.Certificates),
			// Known to exist; what they hold is not, and may be a key.
			"ProxyCertificateConfig": nil, "SerializedServiceCertificate": nil,
		})
	}
	return list, nil
}

// wmiCerts are trusted certificates of one store.
type wmiCerts []*record[trustedRecord]

func (s *Server) wmiTrusted(ctx context.Context) (roots, intermediates wmiCerts, err error) {
	all, err := readAll[trustedRecord](ctx, s.db, kindTrusted)
	for _, t := range all {
		if t.Value.Store == adminservice.RootCA {
			roots = append(roots, t)
		} else {
			intermediates = append(intermediates, t)
		}
	}
	return roots, intermediates, err
}

// pem joins the certificates that a gateway trusts; chosen empty means all.
func (c wmiCerts) pem(chosen []string) string {
	var b strings.Builder
	for _, t := range c {
		if len(chosen) == 0 || slices.Contains(chosen, t.ID) {
			b.WriteString(t.Value.Certificate)
		}
	}
	return b.String()
}

// thumbprints joins their SHA-1 thumbprints by semicolons.
func (c wmiCerts) thumbprints(chosen []string) string {
	var list []string
	for _, t := range c {
		if len(chosen) == 0 || slices.Contains(chosen, t.ID) {
			if certs, err := pki.ParseCertificates([]byte(t.Value.Certificate)); err == nil {
				list = append(list, strings.ToUpper(pki.ThumbprintSHA1(certs[0])))
			}
		}
	}
	return strings.Join(list, ";")
}

// environmentNumber is how stored objects name a cloud; 1 is the public one,
// the others are our choice.
func environmentNumber(e opencmg.Environment) float64 {
	switch e {
	case opencmg.AzurePublicCloud:
		return 1
	case opencmg.AzureUSGovernmentCloud:
		return 2
	case opencmg.AzureLab:
		return 100
	}
	return 0
}

func (s *Server) wmiTasks(ctx context.Context) ([]map[string]any, error) {
	ops, err := s.db.Operations(ctx, sitedb.OperationFilter{SubjectKind: kindGateway}, adminservice.MaxPage)
	types := map[string]float64{opCreate: 1, opUpgrade: 2, opResize: 2, opScale: 2, opConvert: 2, opCertificate: 2, opSynchronize: 2, opDelete: 3, opStop: 4, opStart: 5}
	states := map[sitedb.OperationState]float64{sitedb.OperationCreated: 1, sitedb.OperationInProgress: 2, sitedb.OperationCompleted: 3, sitedb.OperationFailed: 4}
	var list []map[string]any
	for _, op := range ops {
		id, _ := strconv.ParseFloat(op.SubjectID, 64)
		t := map[string]any{"TaskID": op.ID, "AzureServiceId": id, "SiteCode": string(s.Code()), "TaskTypeId": types[op.Kind], "TaskStateId": states[op.State], "Type": 0.0, "TaskCreationTime": op.Created, "TaskKeyValue": ""}
		if op.State.Ended() {
			t["TaskEndTime"] = op.Changed
		}
		list = append(list, t)
	}
	return list, err
}

func (s *Server) wmiApplications(ctx context.Context) ([]map[string]any, error) {
	apps, err := s.applications(ctx)
	var list []map[string]any
	for _, a := range apps {
		var expiry any // nothing of what has no secret
		if !a.SecretExpires.IsZero() {
			expiry = a.SecretExpires
		}
		list = append(list, map[string]any{
			"ID": a.ID, "Name": a.Name, "ClientID": a.ClientID, "TenantID": a.TenantID, "TenantName": a.TenantName, "IdentifierUri": a.IdentifierURI,
			"IsClientApp": a.Kind == adminservice.ClientApplication, "SecretKeyExpiry": expiry,
			"SecretKey": nil, // known to be asked for, never given
		})
	}
	return list, err
}

func (s *Server) wmiTenants(ctx context.Context) ([]map[string]any, error) {
	records, err := readAll[tenantRecord](ctx, s.db, kindTenant)
	var list []map[string]any
	for _, t := range records {
		list = append(list, map[string]any{"TenantID": t.ID, "Name": t.Name, "AzureEnvironmentId": environmentNumber(t.Value.Environment)})
	}
	return list, err
}

func (s *Server) wmiCloudServices(ctx context.Context) ([]map[string]any, error) {
	records, err := readAll[azureServiceRecord](ctx, s.db, kindAzureService)
	var list []map[string]any
	for _, v := range records {
		id, _ := strconv.ParseFloat(v.ID, 64)
		list = append(list, map[string]any{"ID": id, "Name": v.Name, "Description": v.Value.Description, "SiteCode": string(s.Code()), "TenantID": v.Value.TenantID})
	}
	return list, err
}

func (s *Server) wmiSystems(ctx context.Context) ([]map[string]any, error) {
	points, err := readAll[pointRecord](ctx, s.db, kindPoint)
	if err != nil {
		return nil, err
	}
	var list []map[string]any
	for _, p := range points {
		list = append(list, map[string]any{"RoleName": "SMS Cloud Proxy Connector", "NetworkOSPath": `\\` + p.Name, "SiteCode": string(s.Code()), "Props": []any{
			map[string]any{"PropertyName": "ProxyName", "Value": 0.0, "Value1": p.Value.GatewayID, "Value2": ""},
		}})
	}
	roles, err := readAll[roleRecord](ctx, s.db, kindRole)
	names := map[string]string{opencmg.KindManagementPoint: "SMS Management Point", opencmg.KindSoftwareUpdatePoint: "SMS Software Update Point", adminservice.KindAdminService: "SMS Provider"}
	for _, r := range roles {
		if names[r.Value.Kind] == "" {
			continue
		}
		allow := 0.0
		if r.Value.AllowGatewayTraffic {
			allow = 1
		}
		list = append(list, map[string]any{"RoleName": names[r.Value.Kind], "NetworkOSPath": `\\` + r.Name, "SiteCode": string(s.Code()), "Props": []any{
			map[string]any{"PropertyName": "AllowProxyTraffic", "Value": allow, "Value1": "", "Value2": ""},
		}})
	}
	list = append(list, map[string]any{"RoleName": "SMS Dmp Connector", "NetworkOSPath": `\\` + string(s.Code()), "SiteCode": string(s.Code()), "Props": []any{}})
	return list, err
}
