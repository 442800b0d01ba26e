package site

import (
	"context"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/sitedb"
)

// The read-only view for scripts that know Configuration Manager's classes:
// names and types of the properties are those of cmdlets.md, "Objects and their
// properties". Class names are compared with their case, as there.

// wmi answers one class.
func (s *Server) wmi(w http.ResponseWriter, r *http.Request) error {
	classes := map[string]func(context.Context) ([]map[string]any, error){
		"SMS_AzureService":       s.wmiAzureService,
		"SMS_AzureServicesTask":  s.wmiTasks,
		"SMS_AAD_Application_Ex": s.wmiApplications,
		"SMS_AAD_Tenant_Ex":      s.wmiTenants,
		"SMS_Azure_CloudService": s.wmiCloudServices,
		"SMS_SCI_SysResUse":      s.wmiSystems,
	}
	class, key, _ := strings.Cut(strings.TrimSuffix(r.PathValue("class"), ")"), "(")
	list, ok := classes[class]
	if !ok {
		return opencmg.Errorf(opencmg.NotFound, "there is no class %s in this view: it has SMS_AzureService, SMS_AzureServicesTask, SMS_AAD_Application_Ex, SMS_AAD_Tenant_Ex, SMS_Azure_CloudService and SMS_SCI_SysResUse", class)
	}
	q, err := adminservice.ParseQuery(r.URL.Query())
	if err != nil {
		return err
	}
	objects, err := list(r.Context())
	if err != nil {
		return err
	}
	if key != "" && class == "SMS_AzureService" {
		objects = keep(objects, "AzureServiceID", strings.Trim(key, "'"))
	}
	page, total := q.Apply(objects)
	return answerPage(w, q, page, total)
}

func keep(objects []map[string]any, property, value string) []map[string]any {
	var found []map[string]any
	for _, o := range objects {
		if n, ok := o[property].(float64); ok && strconv.FormatFloat(n, 'f', -1, 64) == value {
			found = append(found, o)
		}
	}
	return found
}

// Values of SMS_AzureService.State, as scripts were seen to read them.
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
		list = append(list, map[string]any{
			"AzureServiceID": id, "Name": v.Prefix, "Fqdn": v.DeploymentName, "ServiceCName": v.ServiceName, "ServiceType": "CloudProxyService",
			"SiteCode": string(s.Code()), "Description": v.Settings.Description, "Region": v.Region, "NumberOfInstances": float64(v.Settings.Instances),
			"SubscriptionID": v.SubscriptionID, "State": wmiStates[v.State], "StatusDetails": ready, "DeploymentSlot": "Production", "Flags": 0.0,
			"ServiceThumbprint": strings.ToUpper(v.ThumbprintSHA1), "ServiceThumbprintAlgorithm": "SHA1", "ServiceCertificate": v.CertificateLeaf,
			"StorageServiceName": v.Prefix, "StorageQuotaInGB": float64(v.Settings.Storage.GB), "StorageWarningThreshold": float64(v.Settings.Storage.WarningPct),
			"StorageCriticalThreshold": float64(v.Settings.Storage.CriticalPct), "StorageUsage": whole(g.StorageGB), "StorageQuotaGrow": false,
			"TrafficOutInGB": float64(v.Settings.Traffic.GB), "TrafficWarningThreshold": float64(v.Settings.Traffic.WarningPct),
			"TrafficCriticalThreshold": float64(v.Settings.Traffic.CriticalPct), "TrafficOutUsage": whole(g.EgressGB14Days), "TrafficOutStopService": v.Settings.Traffic.StopService,
			"AffinityGroup": v.ResourceGroup, "DeploymentModel": 1.0, "AzureEnvironmentId": environmentNumber(v.Environment), "AADApplicationId": clientID,
			"CreationTime": rec.Created,
		})
	}
	return list, nil
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
		list = append(list, map[string]any{
			"ID": a.ID, "Name": a.Name, "ClientID": a.ClientID, "TenantID": a.TenantID, "TenantName": a.TenantName, "IdentifierUri": a.IdentifierURI,
			"IsClientApp": a.Kind == adminservice.ClientApplication, "SecretKeyExpiry": a.SecretExpires,
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
