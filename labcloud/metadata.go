package labcloud

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// Instance metadata: what a machine finds at 169.254.169.254, here at a
// loopback address of its own. Only a request with the header Metadata: true
// and not forwarded by a proxy is answered.

func (s *Server) metadata(vmID string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metadata/identity/oauth2/token", func(w http.ResponseWriter, r *http.Request) { s.identityToken(w, r, vmID) })
	mux.HandleFunc("GET /metadata/instance/compute", func(w http.ResponseWriter, r *http.Request) { s.instanceMetadata(w, r, vmID, true) })
	mux.HandleFunc("GET /metadata/instance", func(w http.ResponseWriter, r *http.Request) { s.instanceMetadata(w, r, vmID, false) })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := &recorder{ResponseWriter: w, status: http.StatusOK}
		switch {
		case !strings.EqualFold(r.Header.Get("Metadata"), "true"):
			metadataFail(rec, http.StatusBadRequest, "invalid_request", "Required metadata header not specified")
		case r.Header.Get("X-Forwarded-For") != "":
			metadataFail(rec, http.StatusBadRequest, "invalid_request", "Requests through a proxy are not answered")
		case r.URL.Query().Get("api-version") == "":
			metadataFail(rec, http.StatusBadRequest, "invalid_request", "Bad request. api-version is invalid or was not specified in the request.")
		default:
			mux.ServeHTTP(rec, r)
		}
		s.cfg.Log.Info("request", "method", r.Method, "host", "metadata", "path", r.URL.Path, "status", rec.status)
	})
}

func metadataFail(w http.ResponseWriter, status int, code, text string) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]string{"error": code, "error_description": text})
}

// identityToken issues a token of the machine's managed identity.
func (s *Server) identityToken(w http.ResponseWriter, r *http.Request, vmID string) {
	q := r.URL.Query()
	if v := q.Get("api-version"); !slices.Contains([]string{"2018-02-01", "2019-08-01", "2020-06-01"}, v) {
		metadataFail(w, http.StatusBadRequest, "invalid_request", "Bad request. api-version is invalid or was not specified in the request.")
		return
	}
	s.world.Lock()
	var ids []*resource
	if m := s.st.Machines[vmID]; m != nil {
		if set := s.st.Resources[m.ScaleSet]; set != nil {
			for id := range object(set.Body, "identity", "userAssignedIdentities") {
				if i := s.st.Resources[strings.ToLower(id)]; i != nil {
					ids = append(ids, i)
				}
			}
		}
	}
	named := q.Get("client_id") + q.Get("object_id") + q.Get("principal_id") + q.Get("msi_res_id") + q.Get("mi_res_id")
	var found *resource
	for _, i := range ids {
		is := func(v string, names ...string) bool {
			return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(q.Get(n), v) })
		}
		if named == "" && len(ids) == 1 || is(text(i.Extra, "clientId"), "client_id") || is(text(i.Extra, "principalId"), "object_id", "principal_id") || is(i.ID, "msi_res_id", "mi_res_id") {
			found = i
		}
	}
	var t target
	known := false
	if found != nil {
		t, known = s.target(text(found.Extra, "tenantId"), q.Get("resource"))
	}
	s.world.Unlock()
	switch {
	case found == nil:
		metadataFail(w, http.StatusBadRequest, "invalid_request", "Identity not found")
		return
	case !known:
		metadataFail(w, http.StatusBadRequest, "invalid_resource", "AADSTS500011: The resource principal named "+q.Get("resource")+" was not found in the tenant.")
		return
	}
	id := text(found.Extra, "clientId")
	token, err := s.IssueToken(TokenOptions{Tenant: text(found.Extra, "tenantId"), Audience: t.aud, Version: t.version, AppID: id, ObjectID: text(found.Extra, "principalId"),
		Claims: map[string]any{"appidacr": "2", "xms_mirid": found.ID}})
	if err != nil {
		metadataFail(w, http.StatusInternalServerError, "unknown_error", err.Error())
		return
	}
	now, seconds := s.cfg.Now().Unix(), int64(s.cfg.Lifetime.Seconds())
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	json.NewEncoder(w).Encode(map[string]string{"access_token": token, "client_id": id, "expires_in": strconv.FormatInt(seconds, 10), "expires_on": strconv.FormatInt(now+seconds, 10),
		"ext_expires_in": strconv.FormatInt(seconds, 10), "not_before": strconv.FormatInt(now, 10), "resource": q.Get("resource"), "token_type": "Bearer"})
}

func (s *Server) instanceMetadata(w http.ResponseWriter, r *http.Request, vmID string, compute bool) {
	if v := r.URL.Query().Get("api-version"); !slices.Contains([]string{"2019-11-01", "2020-09-01", "2021-01-01", "2021-02-01", "2023-07-01"}, v) {
		metadataFail(w, http.StatusBadRequest, "invalid_request", "Bad request. api-version is invalid or was not specified in the request.")
		return
	}
	s.world.Lock()
	defer s.world.Unlock()
	m := s.st.Machines[vmID]
	if m == nil || s.st.Resources[m.ScaleSet] == nil {
		metadataFail(w, http.StatusNotFound, "not_found", "The machine is gone")
		return
	}
	set := s.st.Resources[m.ScaleSet]
	var tagList []string
	tagObjects := []any{}
	for _, k := range sortedKeys(object(set.Body, "tags")) {
		v := text(set.Body, "tags", k)
		tagList = append(tagList, k+":"+v)
		tagObjects = append(tagObjects, map[string]any{"name": k, "value": v})
	}
	doc := map[string]any{
		"vmId": m.VMID, "name": set.Name + "_" + m.InstanceID, "vmScaleSetName": set.Name, "location": set.Location, "subscriptionId": set.Subscription, "resourceGroupName": set.Group,
		"resourceId": set.ID + "/virtualMachines/" + m.InstanceID, "vmSize": m.Size, "osType": "Linux", "provider": "Microsoft.Compute", "azEnvironment": "AzureLab", "platformFaultDomain": "0", "platformUpdateDomain": "0",
		"osProfile": map[string]any{"computerName": m.Name, "adminUsername": text(profile(set.Body, "osProfile"), "adminUsername"), "disablePasswordAuthentication": "true"},
		"tags":      strings.Join(tagList, ";"), "tagsList": tagObjects, "zone": "", "sku": text(profile(set.Body, "storageProfile", "imageReference"), "sku"),
		"publisher": text(profile(set.Body, "storageProfile", "imageReference"), "publisher"), "offer": text(profile(set.Body, "storageProfile", "imageReference"), "offer"), "customData": "", "userData": "",
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	if compute {
		json.NewEncoder(w).Encode(doc)
		return
	}
	iface := map[string]any{"ipv4": map[string]any{"ipAddress": []any{map[string]any{"privateIpAddress": m.PrivateIP, "publicIpAddress": ""}}, "subnet": []any{}}, "ipv6": map[string]any{"ipAddress": []any{}}, "macAddress": "000D3A000000"}
	json.NewEncoder(w).Encode(map[string]any{"compute": doc, "network": map[string]any{"interface": []any{iface}}})
}
