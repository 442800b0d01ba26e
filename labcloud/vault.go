package labcloud

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The data plane of Key Vault, secrets only: <vault>.<suffix>. A request
// without a token gets the challenge that the SDK asks for. Rights come from
// the vault's access policies, by the object ID of the caller's principal.

var vaultDataVersions = []string{"7.2", "7.3", "7.4", "7.5", "7.6", "2025-07-01", "2026-04-01"}

// vaultData is what is in a vault.
type vaultData struct {
	Secrets map[string]*secret // by lower-case name
	Deleted map[string]*deletedSecret
}

type secret struct {
	Name     string
	Versions []*secretVersion // oldest first
}

type secretVersion struct {
	ID, Value, ContentType string
	Enabled                bool
	NotBefore, Expires     int64 // seconds; 0: none
	Created, Updated       time.Time
	Tags                   map[string]any
}

type deletedSecret struct {
	Secret *secret
	At     time.Time
}

func newVault() *vaultData {
	return &vaultData{Secrets: map[string]*secret{}, Deleted: map[string]*deletedSecret{}}
}

func (v *vaultData) current(name string) string {
	if x := v.Secrets[strings.ToLower(name)]; x != nil {
		return x.Versions[len(x.Versions)-1].Value
	}
	return ""
}

func (v *vaultData) set(name, value, contentType string, attributes, tags map[string]any, now time.Time) *secretVersion {
	key := strings.ToLower(name)
	if v.Secrets[key] == nil {
		v.Secrets[key] = &secret{Name: name}
	}
	enabled, given := attributes["enabled"].(bool)
	n := &secretVersion{ID: strings.ReplaceAll(newGUID(), "-", ""), Value: value, ContentType: contentType, Enabled: enabled || !given, NotBefore: int64(integer(attributes, "nbf")), Expires: int64(integer(attributes, "exp")), Created: now.UTC(), Updated: now.UTC(), Tags: tags}
	v.Secrets[key].Versions = append(v.Secrets[key].Versions, n)
	return n
}

type vaultSecretBody struct {
	Value       string           `json:"value" need:"1"`
	ContentType string           `json:"contentType" match:"^.{0,255}$"`
	Attributes  secretAttributes `json:"attributes"`
	Tags        tags             `json:"tags"`
}

type secretAttributes struct {
	Enabled bool `json:"enabled"`
	NBF     int  `json:"nbf"`
	Exp     int  `json:"exp"`
}

type vaultError struct {
	status            int
	code, inner, text string
}

func (s *Server) serveVault(w http.ResponseWriter, r *http.Request, vault string) {
	h := w.Header()
	h.Set("x-ms-request-id", newGUID())
	h.Set("x-ms-keyvault-service-version", "1.9.0.0")
	fail := func(e *vaultError) {
		h.Set("Content-Type", "application/json; charset=utf-8")
		w.WriteHeader(e.status)
		body := map[string]any{"code": e.code, "message": e.text}
		if e.inner != "" {
			body["innererror"] = map[string]any{"code": e.inner}
		}
		json.NewEncoder(w).Encode(map[string]any{"error": body})
	}
	s.world.Lock()
	exists := s.st.Vaults[vault] != nil && s.st.Deleted[vault] == nil
	var tenant string
	for _, res := range s.ofType("Microsoft.KeyVault/vaults") {
		if strings.EqualFold(res.Name, vault) {
			tenant = strings.ToLower(text(res.Body, "properties", "tenantId"))
		}
	}
	s.world.Unlock()
	if !exists {
		// There is no name for it in DNS.
		fail(&vaultError{http.StatusNotFound, "VaultNotFound", "", "The host " + r.Host + " does not exist."})
		return
	}
	challenge := `Bearer authorization="` + s.BaseURL() + "/" + tenant + `", resource="` + strings.TrimRight(s.hosts.VaultAudience, "/") + `"`
	token, found := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !found {
		h.Set("WWW-Authenticate", challenge)
		fail(&vaultError{http.StatusUnauthorized, "Unauthorized", "", "AKV10000: Request is missing a Bearer or PoP token."})
		return
	}
	who, err := s.validate(token, s.hosts.VaultAudience, vaultAppID)
	if err != nil || who.Tenant != tenant {
		h.Set("WWW-Authenticate", challenge+`, error="invalid_token"`)
		fail(&vaultError{http.StatusUnauthorized, "Unauthorized", "", "AKV10022: Invalid audience, issuer or token."})
		return
	}
	if f := s.statusFault(r); f != nil {
		f.write(w, func(w http.ResponseWriter) {
			json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{"code": f.Code, "message": f.Message}})
		})
		return
	}
	v := r.URL.Query().Get("api-version")
	if !slices.Contains(vaultDataVersions, v) {
		fail(&vaultError{http.StatusBadRequest, "BadParameter", "", "The request URI has an api-version '" + v + "' that is missing or unsupported."})
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<10))
	if err != nil {
		fail(&vaultError{http.StatusRequestEntityTooLarge, "BadParameter", "", "The request is too large."})
		return
	}
	var status int
	var answer any
	var refused *vaultError
	s.change(func() {
		status, answer, refused = s.vaultCall(r, vault, who, body)
		if answer != nil {
			answer = clone(answer) // encoded after the lock is gone
		}
	})
	if refused != nil {
		fail(refused)
		return
	}
	if answer == nil {
		w.WriteHeader(status)
		return
	}
	h.Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(answer)
}

// vaultCall is the route table of a vault.
func (s *Server) vaultCall(r *http.Request, vault string, who *caller, body []byte) (int, any, *vaultError) {
	seg := strings.Split(strings.Trim(strings.ToLower(r.URL.Path), "/"), "/")
	raw := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	v := s.st.Vaults[vault]
	base := "https://" + vault + "." + s.hosts.Vault
	may := func(right string) *vaultError { return s.mayVault(vault, who, right) }
	gone := func() *vaultError {
		return &vaultError{http.StatusNotFound, "SecretNotFound", "", "A secret with (name/id) " + strings.Join(raw[1:], "/") + " was not found in this key vault. If you recently deleted this secret you may be able to recover it using the correct recovery command."}
	}
	if len(seg) >= 2 && !secretNames.MatchString(raw[1]) {
		return 0, nil, &vaultError{http.StatusBadRequest, "BadParameter", "", "The request URI contains an invalid name: " + raw[1]}
	}
	switch route := r.Method + " " + seg[0] + " " + strconv.Itoa(len(seg)); route {
	case "GET secrets 1", "GET deletedsecrets 1":
		if e := may("list"); e != nil {
			return 0, nil, e
		}
		out := []any{}
		if seg[0] == "secrets" {
			for _, k := range sortedKeys(v.Secrets) {
				x := v.Secrets[k]
				e := showVersion(base, x, x.Versions[len(x.Versions)-1], false)
				e["id"] = base + "/secrets/" + x.Name
				out = append(out, e)
			}
		} else {
			for _, k := range sortedKeys(v.Deleted) {
				out = append(out, showDeletedSecret(base, v.Deleted[k]))
			}
		}
		return vaultPage(r.URL, base, out)
	case "GET secrets 2", "GET secrets 3":
		if len(seg) == 3 && seg[2] == "versions" {
			if e := may("list"); e != nil {
				return 0, nil, e
			}
			out := []any{}
			if x := v.Secrets[seg[1]]; x != nil {
				for _, n := range x.Versions {
					out = append(out, showVersion(base, x, n, false))
				}
			}
			return vaultPage(r.URL, base, out)
		}
		if e := may("get"); e != nil {
			return 0, nil, e
		}
		x := v.Secrets[seg[1]]
		if x == nil {
			return 0, nil, gone()
		}
		n := x.Versions[len(x.Versions)-1]
		if len(seg) == 3 {
			i := slices.IndexFunc(x.Versions, func(n *secretVersion) bool { return n.ID == seg[2] })
			if i < 0 {
				return 0, nil, gone()
			}
			n = x.Versions[i]
		}
		now := s.cfg.Now().Unix()
		if !n.Enabled || n.Expires != 0 && now >= n.Expires || now < n.NotBefore {
			return 0, nil, &vaultError{http.StatusForbidden, "Forbidden", "SecretDisabled", "Operation get is not allowed on a disabled or expired secret."}
		}
		return http.StatusOK, showVersion(base, x, n, true), nil
	case "PUT secrets 2":
		if e := may("set"); e != nil {
			return 0, nil, e
		}
		if s.cfg.Observe != nil {
			s.cfg.Observe("vault.setSecret", body)
		}
		m, err := parse(body)
		if p := shape(m, vaultSecretBody{}, ""); err != nil || len(p) > 0 || text(m, "value") == "" || len(text(m, "value")) > 25600 {
			return 0, nil, &vaultError{http.StatusBadRequest, "BadParameter", "", "The request body is not a valid secret of at most 25,600 bytes."}
		}
		if v.Deleted[seg[1]] != nil {
			return 0, nil, &vaultError{http.StatusConflict, "Conflict", "ObjectIsDeletedButRecoverable", "Secret " + raw[1] + " is currently in a deleted but recoverable state, and its name cannot be reused; in this state, the secret can only be recovered or purged."}
		}
		n := v.set(raw[1], text(m, "value"), text(m, "contentType"), object(m, "attributes"), object(m, "tags"), s.cfg.Now())
		s.dirty = true
		return http.StatusOK, showVersion(base, v.Secrets[seg[1]], n, true), nil
	case "DELETE secrets 2":
		if e := may("delete"); e != nil {
			return 0, nil, e
		}
		x := v.Secrets[seg[1]]
		if x == nil {
			return 0, nil, gone()
		}
		v.Deleted[seg[1]] = &deletedSecret{Secret: x, At: s.cfg.Now().UTC()}
		delete(v.Secrets, seg[1])
		s.dirty = true
		return http.StatusOK, showDeletedSecret(base, v.Deleted[seg[1]]), nil
	case "GET deletedsecrets 2":
		if e := may("get"); e != nil {
			return 0, nil, e
		}
		if v.Deleted[seg[1]] == nil {
			return 0, nil, gone()
		}
		return http.StatusOK, showDeletedSecret(base, v.Deleted[seg[1]]), nil
	case "DELETE deletedsecrets 2":
		if e := may("purge"); e != nil {
			return 0, nil, e
		}
		if v.Deleted[seg[1]] == nil {
			return 0, nil, gone()
		}
		delete(v.Deleted, seg[1])
		s.dirty = true
		return http.StatusNoContent, nil, nil
	case "POST deletedsecrets 3":
		if e := may("recover"); e != nil {
			return 0, nil, e
		}
		d := v.Deleted[seg[1]]
		if d == nil || seg[2] != "recover" {
			return 0, nil, gone()
		}
		delete(v.Deleted, seg[1])
		v.Secrets[seg[1]] = d.Secret
		s.dirty = true
		return http.StatusOK, showVersion(base, d.Secret, d.Secret.Versions[len(d.Secret.Versions)-1], false), nil
	}
	return 0, nil, &vaultError{http.StatusBadRequest, "BadParameter", "", "Method " + r.Method + " is not allowed on " + r.URL.Path + "."}
}

// mayVault looks for a right in the access policies.
func (s *Server) mayVault(vault string, who *caller, right string) *vaultError {
	for _, res := range s.ofType("Microsoft.KeyVault/vaults") {
		if !strings.EqualFold(res.Name, vault) {
			continue
		}
		if truth(res.Body, "properties", "enableRbacAuthorization") {
			break
		}
		for _, p := range list(res.Body, "properties", "accessPolicies") {
			if !strings.EqualFold(text(p, "objectId"), who.ObjectID) {
				continue
			}
			for _, have := range list(p, "permissions", "secrets") {
				if h, _ := have.(string); strings.EqualFold(h, right) || strings.EqualFold(h, "all") {
					return nil
				}
			}
		}
	}
	return &vaultError{http.StatusForbidden, "Forbidden", "AccessDenied", "The user, group or application 'appid=" + who.AppID + ";oid=" + who.ObjectID + "' does not have secrets " + right + " permission on key vault '" + vault + "'."}
}

func showVersion(base string, x *secret, n *secretVersion, value bool) map[string]any {
	a := map[string]any{"enabled": n.Enabled, "created": n.Created.Unix(), "updated": n.Updated.Unix(), "recoveryLevel": "CustomizedRecoverable+Purgeable", "recoverableDays": 7}
	if n.Expires != 0 {
		a["exp"] = n.Expires
	}
	if n.NotBefore != 0 {
		a["nbf"] = n.NotBefore
	}
	out := map[string]any{"id": base + "/secrets/" + x.Name + "/" + n.ID, "attributes": a}
	if n.ContentType != "" {
		out["contentType"] = n.ContentType
	}
	if n.Tags != nil {
		out["tags"] = n.Tags
	}
	if value {
		out["value"] = n.Value
	}
	return out
}

func showDeletedSecret(base string, d *deletedSecret) map[string]any {
	out := showVersion(base, d.Secret, d.Secret.Versions[len(d.Secret.Versions)-1], false)
	out["recoveryId"], out["deletedDate"], out["scheduledPurgeDate"] = base+"/deletedsecrets/"+d.Secret.Name, d.At.Unix(), d.At.AddDate(0, 0, 7).Unix()
	return out
}

func vaultPage(u *url.URL, base string, all []any) (int, any, *vaultError) {
	const most = 25
	q := u.Query()
	n, _ := strconv.Atoi(q.Get("maxresults"))
	if n <= 0 || n > most {
		n = most
	}
	skip, _ := strconv.Atoi(q.Get("$skiptoken"))
	skip = min(max(skip, 0), len(all))
	end := min(skip+n, len(all))
	out := map[string]any{"value": append([]any{}, all[skip:end]...), "nextLink": nil}
	if end < len(all) {
		q.Set("$skiptoken", strconv.Itoa(end))
		out["nextLink"] = base + u.Path + "?" + q.Encode()
	}
	return http.StatusOK, out, nil
}
