package labcloud

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Who may use blob storage: the account's keys, or a shared access signature
// made with one of them. The strings that are signed are the documented ones;
// a client that puts a comma wrong is refused.

// An accountKey is one of an account's two keys.
type accountKey struct {
	Value   string // base64
	Created time.Time
}

func newAccountKey(now time.Time) accountKey {
	b := make([]byte, 64)
	rand.Read(b)
	return accountKey{base64.StdEncoding.EncodeToString(b), now.UTC()}
}

func (a *accountData) regenerate(name string, now time.Time) {
	i := 0
	if strings.EqualFold(name, "key2") {
		i = 1
	}
	a.Keys[i] = newAccountKey(now)
}

func (s *Server) showKeys(r *resource) map[string]any {
	a := s.st.Accounts[strings.ToLower(r.Name)]
	out := []any{}
	for i, k := range a.Keys {
		out = append(out, map[string]any{"keyName": []string{"key1", "key2"}[i], "value": k.Value, "permissions": "FULL", "creationTime": k.Created.Format(time.RFC3339Nano)})
	}
	r.Extra["keyCreationTime"] = map[string]any{"key1": a.Keys[0].Created.Format(time.RFC3339Nano), "key2": a.Keys[1].Created.Format(time.RFC3339Nano)}
	return map[string]any{"keys": out}
}

// signs reports whether either key makes this signature of the text.
func (a *accountData) signs(toSign, signature string) bool {
	want, err := base64.StdEncoding.DecodeString(signature)
	if err != nil {
		return false
	}
	for _, k := range a.Keys {
		key, _ := base64.StdEncoding.DecodeString(k.Value)
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(toSign))
		if hmac.Equal(mac.Sum(nil), want) {
			return true
		}
	}
	return false
}

type blobError struct {
	status     int
	code, text string
}

func authFailed(text string) *blobError {
	return &blobError{http.StatusForbidden, "AuthenticationFailed", "Server failed to authenticate the request. Make sure the value of Authorization header is formed correctly including the signature. " + text}
}

// authorize checks a request on a container or blob (either may be empty) for
// a right: r read, l list, c create, w write, d delete; p is properties of the
// account and needs a key.
func (s *Server) authorize(r *http.Request, account, container, blob string, right string) *blobError {
	a := s.st.Accounts[account]
	q := r.URL.Query()
	switch {
	case strings.HasPrefix(r.Header.Get("Authorization"), "SharedKey "):
		return a.checkSharedKey(r, account, s.cfg.Now())
	case q.Get("sig") != "" && q.Get("ss") != "":
		return a.checkAccountSAS(q, account, container, blob, right, s.cfg.Now())
	case q.Get("sig") != "":
		return a.checkServiceSAS(q, account, container, blob, right, s.cfg.Now())
	case r.Header.Get("Authorization") != "":
		return authFailed("Only SharedKey and shared access signatures are understood.")
	}
	return &blobError{http.StatusConflict, "PublicAccessNotPermitted", "Public access is not permitted on this storage account."}
}

func (a *accountData) checkSharedKey(r *http.Request, account string, now time.Time) *blobError {
	given, signature, found := strings.Cut(strings.TrimPrefix(r.Header.Get("Authorization"), "SharedKey "), ":")
	if !found || given != account {
		return authFailed("The account in the header is not the one in the host.")
	}
	date := r.Header.Get("x-ms-date")
	if date == "" {
		date = r.Header.Get("Date")
	}
	at, err := http.ParseTime(date)
	if err != nil || now.Sub(at).Abs() > 15*time.Minute {
		return authFailed("Request date header too old or missing: '" + date + "'.")
	}
	if !a.signs(sharedKeyString(r, account), signature) {
		return authFailed("The MAC signature found in the HTTP request is not the same as any computed signature.")
	}
	return nil
}

// sharedKeyString is the string that SharedKey signs, of version 2015-02-21
// and later.
func sharedKeyString(r *http.Request, account string) string {
	h := r.Header
	length := h.Get("Content-Length")
	if length == "" && r.ContentLength > 0 {
		length = itoa(r.ContentLength)
	}
	if length == "0" {
		length = ""
	}
	date := h.Get("Date")
	if h.Get("x-ms-date") != "" {
		date = ""
	}
	lines := []string{r.Method, h.Get("Content-Encoding"), h.Get("Content-Language"), length, h.Get("Content-MD5"), h.Get("Content-Type"), date,
		h.Get("If-Modified-Since"), h.Get("If-Match"), h.Get("If-None-Match"), h.Get("If-Unmodified-Since"), h.Get("Range")}
	var names []string
	for k := range h {
		if k = strings.ToLower(k); strings.HasPrefix(k, "x-ms-") {
			names = append(names, k)
		}
	}
	slices.Sort(names)
	for _, k := range names {
		lines = append(lines, k+":"+strings.Join(strings.Fields(strings.Join(h.Values(k), ",")), " "))
	}
	path := r.URL.EscapedPath()
	if path == "" {
		path = "/"
	}
	resource := "/" + account + path
	params := map[string][]string{}
	for k, v := range r.URL.Query() {
		params[strings.ToLower(k)] = append(params[strings.ToLower(k)], v...)
	}
	for _, k := range sortedKeys(params) {
		slices.Sort(params[k])
		resource += "\n" + k + ":" + strings.Join(params[k], ",")
	}
	return strings.Join(append(lines, resource), "\n")
}

func sasTime(v string) (time.Time, bool) {
	for _, layout := range []string{"2006-01-02T15:04:05Z", "2006-01-02T15:04:05.0000000Z", "2006-01-02T15:04Z", "2006-01-02"} {
		if t, err := time.Parse(layout, v); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// checkSAS does what both kinds have in common.
func checkSAS(q url.Values, right string, now time.Time) *blobError {
	if st := q.Get("st"); st != "" {
		if t, valid := sasTime(st); !valid || now.Before(t) {
			return authFailed("Signature not valid in the specified time frame: Start " + st + ".")
		}
	}
	end, valid := sasTime(q.Get("se"))
	if !valid || !now.Before(end) {
		return authFailed("Signature not valid in the specified time frame: Expiry " + q.Get("se") + ".")
	}
	if q.Get("spr") != "" && !slices.Contains(strings.Split(q.Get("spr"), ","), "https") {
		return authFailed("The protocol is not allowed.")
	}
	allowed := q.Get("sp")
	if !strings.Contains(allowed, right) && !(right == "c" && strings.Contains(allowed, "w")) {
		return &blobError{http.StatusForbidden, "AuthorizationPermissionMismatch", "This request is not authorized to perform this operation using this permission."}
	}
	return nil
}

func (a *accountData) checkServiceSAS(q url.Values, account, container, blob, right string, now time.Time) *blobError {
	if container == "" || right == "p" {
		return &blobError{http.StatusForbidden, "AuthorizationResourceTypeMismatch", "This request is not authorized to perform this operation using this resource type."}
	}
	resource := "/blob/" + account + "/" + container
	switch q.Get("sr") {
	case "b":
		if blob == "" {
			return &blobError{http.StatusForbidden, "AuthorizationResourceTypeMismatch", "This request is not authorized to perform this operation using this resource type."}
		}
		resource += "/" + blob
	case "c":
	default:
		return authFailed("sr is mandatory. Cannot be empty, and only b and c are understood.")
	}
	version := q.Get("sv")
	lines := []string{q.Get("sp"), q.Get("st"), q.Get("se"), resource, q.Get("si"), q.Get("sip"), q.Get("spr"), version, q.Get("sr"), q.Get("snapshot")}
	if version >= "2020-12-06" {
		lines = append(lines, q.Get("ses"))
	}
	lines = append(lines, q.Get("rscc"), q.Get("rscd"), q.Get("rsce"), q.Get("rscl"), q.Get("rsct"))
	if version < "2018-11-09" || q.Get("si") != "" {
		return authFailed("Signed version " + version + " or a stored policy is not understood.")
	}
	if !a.signs(strings.Join(lines, "\n"), q.Get("sig")) {
		return authFailed("Signature did not match.")
	}
	return checkSAS(q, right, now)
}

func (a *accountData) checkAccountSAS(q url.Values, account, container, blob, right string, now time.Time) *blobError {
	lines := []string{account, q.Get("sp"), q.Get("ss"), q.Get("srt"), q.Get("st"), q.Get("se"), q.Get("sip"), q.Get("spr"), q.Get("sv")}
	if q.Get("sv") >= "2020-12-06" {
		lines = append(lines, q.Get("ses"))
	}
	if !a.signs(strings.Join(lines, "\n")+"\n", q.Get("sig")) {
		return authFailed("Signature did not match.")
	}
	kind := "s"
	if container != "" {
		kind = "c"
	}
	if blob != "" {
		kind = "o"
	}
	if !strings.Contains(q.Get("srt"), kind) || !strings.Contains(q.Get("ss"), "b") {
		return &blobError{http.StatusForbidden, "AuthorizationResourceTypeMismatch", "This request is not authorized to perform this operation using this resource type."}
	}
	if right == "p" {
		right = "l"
	}
	return checkSAS(q, right, now)
}
