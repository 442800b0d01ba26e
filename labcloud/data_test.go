package labcloud_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencmg/opencmg/labcloud"
)

func (c *cloud) vault(method, path, token string, body any) answer {
	c.t.Helper()
	sep := "?"
	if strings.Contains(path, "?") {
		sep = "&"
	}
	return c.do(method, "https://"+prefix+"."+c.hosts.Vault+path+sep+"api-version=7.5", token, body)
}

func TestVault(t *testing.T) {
	c := newCloud(t, nil)
	c.deploy(templateOptions{principal: labcloud.PrincipalID(tenant, adminApp)})
	first := c.vault("GET", "/secrets/x", "", nil).want(t, 401, "Unauthorized")
	want := `Bearer authorization="https://` + c.hosts.Login + "/" + tenant + `", resource="` + c.hosts.VaultAudience + `"`
	if diff := cmp.Diff(want, first.header.Get("WWW-Authenticate")); diff != "" {
		t.Errorf("challenge (-want +got):\n%s", diff)
	}
	token := c.token(c.hosts.VaultAudience + "/.default")
	c.vault("GET", "/secrets/x", c.token(c.hosts.ARMAudiences[0]+"//.default"), nil).want(t, 401, "Unauthorized")
	c.vault("GET", "/secrets/x", token, nil).want(t, 404, "SecretNotFound")
	one := c.vault("PUT", "/secrets/server-certificate", token, j{"value": "planted one", "contentType": "application/x-pkcs12"}).want(t, 200, "")
	c.vault("PUT", "/secrets/server-certificate", token, j{"value": "planted two", "tags": j{"a": "b"}}).want(t, 200, "")
	if got := c.vault("GET", "/secrets/server-certificate", token, nil).want(t, 200, ""); got.body["value"] != "planted two" || field(got.body, "tags", "a") != "b" {
		t.Errorf("newest: %s", got.raw)
	}
	version := one.body["id"].(string)
	version = version[strings.LastIndex(version, "/")+1:]
	if got := c.vault("GET", "/secrets/server-certificate/"+version, token, nil).want(t, 200, ""); got.body["value"] != "planted one" || got.body["contentType"] != "application/x-pkcs12" {
		t.Errorf("old version: %s", got.raw)
	}
	if got := c.vault("GET", "/secrets/server-certificate/versions", token, nil).want(t, 200, ""); len(field(got.body, "value").([]any)) != 2 || contains(got.body, "planted") {
		t.Errorf("versions: %s", got.raw)
	}
	if got := c.vault("GET", "/secrets?maxresults=1", token, nil).want(t, 200, ""); field(got.body, "value", 0, "id") != "https://"+prefix+"."+c.hosts.Vault+"/secrets/server-certificate" {
		t.Errorf("list: %s", got.raw)
	}
	for name, a := range map[string]answer{
		"name":     c.vault("PUT", "/secrets/a_b", token, j{"value": "x"}),
		"property": c.vault("PUT", "/secrets/a", token, j{"value": "x", "kind": "y"}),
		"no value": c.vault("PUT", "/secrets/a", token, j{}),
		"version":  c.do("GET", "https://"+prefix+"."+c.hosts.Vault+"/secrets/a?api-version=1.0", token, nil),
		"method":   c.vault("PATCH", "/secrets/a", token, j{}),
	} {
		if a.status != 400 || a.code() != "BadParameter" {
			t.Errorf("bad %s: %d %s", name, a.status, a.raw)
		}
	}
	c.vault("DELETE", "/secrets/server-certificate", token, nil).want(t, 200, "")
	c.vault("GET", "/secrets/server-certificate", token, nil).want(t, 404, "SecretNotFound")
	c.vault("GET", "/deletedsecrets/server-certificate", token, nil).want(t, 200, "")
	conflict := c.vault("PUT", "/secrets/server-certificate", token, j{"value": "x"}).want(t, 409, "Conflict")
	if field(conflict.body, "error", "innererror", "code") != "ObjectIsDeletedButRecoverable" {
		t.Errorf("conflict: %s", conflict.raw)
	}
	// The policy has no purge and no recover.
	c.vault("DELETE", "/deletedsecrets/server-certificate", token, nil).want(t, 403, "Forbidden")
	c.vault("POST", "/deletedsecrets/server-certificate/recover", token, nil).want(t, 403, "Forbidden")
	policies := j{"properties": j{"accessPolicies": l{j{"tenantId": tenant, "objectId": labcloud.PrincipalID(tenant, adminApp), "permissions": j{"secrets": l{"all"}}}}}}
	c.arm("PUT", resourcePath(vaultType, prefix)+"/accessPolicies/add", "2023-07-01", policies)
	c.vault("POST", "/deletedsecrets/server-certificate/recover", token, nil).want(t, 200, "")
	c.vault("DELETE", "/secrets/server-certificate", token, nil).want(t, 200, "")
	c.vault("DELETE", "/deletedsecrets/server-certificate", token, nil).want(t, 204, "")
	c.vault("PUT", "/secrets/server-certificate", token, j{"value": "planted three"}).want(t, 200, "")

	// A machine's identity may read and not write.
	id := c.arm("GET", resourcePath(identityType, prefix+"-id"), "2023-01-31", nil).want(t, 200, "")
	machine, err := c.IssueToken(labcloud.TokenOptions{Tenant: tenant, Audience: c.hosts.VaultAudience, AppID: field(id.body, "properties", "clientId").(string), ObjectID: field(id.body, "properties", "principalId").(string)})
	if err != nil {
		t.Fatal(err)
	}
	c.vault("GET", "/secrets/server-certificate", machine, nil).want(t, 200, "")
	c.vault("PUT", "/secrets/server-certificate", machine, j{"value": "x"}).want(t, 403, "Forbidden")
	// The appId is no object ID.
	stranger, _ := c.IssueToken(labcloud.TokenOptions{Tenant: tenant, Audience: c.hosts.VaultAudience, AppID: adminApp, ObjectID: adminApp})
	c.vault("GET", "/secrets/server-certificate", stranger, nil).want(t, 403, "Forbidden")
	c.do("GET", "https://nothing."+c.hosts.Vault+"/secrets?api-version=7.5", token, nil).want(t, 404, "VaultNotFound")
	c.fault(labcloud.Fault{Kind: "status", Path: `^granitefalls\.vault`, Status: 429, Code: "Throttled", Times: 1})
	c.vault("GET", "/secrets", token, nil).want(t, 429, "Throttled")
	for _, planted := range []string{"planted", token, adminAppKey} {
		if strings.Contains(c.log.String(), planted) {
			t.Errorf("the log has %q", planted[:7])
		}
	}
}

// A storage is an account with a key, and what a client signs with it.
type storage struct {
	c       *cloud
	account string
	key     string
}

func (c *cloud) storage(i int) storage {
	c.t.Helper()
	keys := c.arm("POST", resourcePath(storageType, prefix)+"/listKeys", "2024-01-01", nil).want(c.t, 200, "")
	return storage{c, prefix, field(keys.body, "keys", i, "value").(string)}
}

func (s storage) sign(text string) string {
	key, _ := base64.StdEncoding.DecodeString(s.key)
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

const blobVersion = "2023-11-03"

// do sends a request with SharedKey, as the documentation of it says.
func (s storage) do(method, path string, header map[string]string, body []byte) answer {
	s.c.t.Helper()
	req, err := http.NewRequestWithContext(context.WithoutCancel(s.c.t.Context()), method, "https://"+s.account+"."+s.c.hosts.Blob+path, bytes.NewReader(body))
	if err != nil {
		s.c.t.Fatal(err)
	}
	req.Header.Set("x-ms-version", blobVersion)
	req.Header.Set("x-ms-date", time.Now().UTC().Format(http.TimeFormat))
	for k, v := range header {
		req.Header.Set(k, v)
	}
	length := ""
	if len(body) > 0 {
		length = fmt.Sprint(len(body))
	}
	h := req.Header.Get
	text := method + "\n" + h("Content-Encoding") + "\n" + h("Content-Language") + "\n" + length + "\n" + h("Content-MD5") + "\n" + h("Content-Type") + "\n\n" +
		h("If-Modified-Since") + "\n" + h("If-Match") + "\n" + h("If-None-Match") + "\n" + h("If-Unmodified-Since") + "\n" + h("Range") + "\n"
	var ms []string
	for k := range req.Header {
		if k := strings.ToLower(k); strings.HasPrefix(k, "x-ms-") {
			ms = append(ms, k+":"+h(k)+"\n")
		}
	}
	slices.Sort(ms)
	text += strings.Join(ms, "") + "/" + s.account + req.URL.EscapedPath()
	var q []string
	for k, v := range req.URL.Query() {
		q = append(q, "\n"+k+":"+v[0])
	}
	slices.Sort(q)
	text += strings.Join(q, "")
	req.Header.Set("Authorization", "SharedKey "+s.account+":"+s.sign(text))
	return s.c.send(req)
}

func (c *cloud) send(req *http.Request) answer {
	c.t.Helper()
	resp, err := c.http.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	a := answer{status: resp.StatusCode, header: resp.Header}
	a.raw, _ = io.ReadAll(resp.Body)
	return a
}

// sas makes a service SAS for a container or, with a name, a blob.
func (s storage) sas(container, name, permissions string, start, end time.Time) url.Values {
	sr, resource := "c", "/blob/"+s.account+"/"+container
	if name != "" {
		sr, resource = "b", resource+"/"+name
	}
	st, se := start.UTC().Format("2006-01-02T15:04:05Z"), end.UTC().Format("2006-01-02T15:04:05Z")
	text := strings.Join([]string{permissions, st, se, resource, "", "", "https", blobVersion, sr, "", "", "", "", "", "", ""}, "\n")
	return url.Values{"sp": {permissions}, "st": {st}, "se": {se}, "spr": {"https"}, "sv": {blobVersion}, "sr": {sr}, "sig": {s.sign(text)}}
}

// get is a plain request with a SAS, as a client sends it.
func (s storage) get(method, path string, q url.Values, header map[string]string) answer {
	s.c.t.Helper()
	req, err := http.NewRequestWithContext(context.WithoutCancel(s.c.t.Context()), method, "https://"+s.account+"."+s.c.hosts.Blob+path+"?"+q.Encode(), nil)
	if err != nil {
		s.c.t.Fatal(err)
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	return s.c.send(req)
}

func (a answer) wantBlob(t *testing.T, status int, code string) answer {
	t.Helper()
	if a.status != status || a.header.Get("x-ms-error-code") != code {
		t.Errorf("got %d %q, want %d %q: %.300s", a.status, a.header.Get("x-ms-error-code"), status, code, a.raw)
	}
	return a
}

func TestBlobs(t *testing.T) {
	c := newCloud(t, nil)
	c.deploy(templateOptions{})
	s := c.storage(1)
	content := bytes.Repeat([]byte("0123456789"), 1000)
	sum := md5.Sum(content)
	md := base64.StdEncoding.EncodeToString(sum[:])
	block := map[string]string{"x-ms-blob-type": "BlockBlob", "x-ms-blob-content-type": "application/x-binary", "x-ms-meta-sha256": "abc"}
	s.do("PUT", "/service/gateway%20%231", block, content).wantBlob(t, 201, "")
	head := s.do("HEAD", "/service/gateway%20%231", nil, nil).wantBlob(t, 200, "")
	if head.header.Get("Content-Length") != "10000" || head.header.Get("Accept-Ranges") != "bytes" || head.header.Get("Content-MD5") != md || head.header.Get("x-ms-meta-sha256") != "abc" || head.header.Get("ETag") == "" || head.header.Get("Last-Modified") == "" || head.header.Get("Content-Type") != "application/x-binary" {
		t.Errorf("HEAD: %v", head.header)
	}
	part := s.do("GET", "/service/gateway%20%231", map[string]string{"Range": "bytes=5-14"}, nil).wantBlob(t, 206, "")
	if string(part.raw) != "5678901234" || part.header.Get("Content-Range") != "bytes 5-14/10000" {
		t.Errorf("range: %q %q", part.raw, part.header.Get("Content-Range"))
	}
	// In blocks: no MD5 unless it is set.
	var list strings.Builder
	for i := range 4 {
		id := base64.StdEncoding.EncodeToString([]byte(fmt.Sprintf("%03d", i)))
		fmt.Fprintf(&list, "<Latest>%s</Latest>", id)
		s.do("PUT", "/service/big?comp=block&blockid="+url.QueryEscape(id), nil, content[i*2500:(i+1)*2500]).wantBlob(t, 201, "")
	}
	s.do("GET", "/service/big", nil, nil).wantBlob(t, 404, "BlobNotFound")
	s.do("PUT", "/service/big?comp=blocklist", nil, []byte("<BlockList><Latest>eHh4</Latest></BlockList>")).wantBlob(t, 400, "InvalidBlockList")
	s.do("PUT", "/service/big?comp=blocklist", nil, []byte(`<?xml version="1.0"?><BlockList>`+list.String()+"</BlockList>")).wantBlob(t, 201, "")
	if got := s.do("GET", "/service/big", nil, nil).wantBlob(t, 200, ""); !bytes.Equal(got.raw, content) || got.header.Get("Content-MD5") != "" {
		t.Errorf("big: %d bytes, MD5 %q", len(got.raw), got.header.Get("Content-MD5"))
	}
	if got := s.do("GET", "/service?restype=container&comp=list&include=metadata", nil, nil).wantBlob(t, 200, ""); !strings.Contains(string(got.raw), "<Name>gateway #1</Name>") || !strings.Contains(string(got.raw), "<sha256>abc</sha256>") || !strings.Contains(string(got.raw), "<Name>big</Name>") {
		t.Errorf("list: %s", got.raw)
	}
	if got := s.do("GET", "/?comp=list", nil, nil).wantBlob(t, 200, ""); !strings.Contains(string(got.raw), "<Name>service</Name>") {
		t.Errorf("containers: %s", got.raw)
	}
	s.do("PUT", "/content-1?restype=container", nil, nil).wantBlob(t, 201, "")
	s.do("PUT", "/content-1?restype=container", nil, nil).wantBlob(t, 409, "ContainerAlreadyExists")
	s.do("PUT", "/Bad--Name?restype=container", nil, nil).wantBlob(t, 400, "InvalidResourceName")
	s.do("PUT", "/none/x", block, content).wantBlob(t, 404, "ContainerNotFound")
	s.do("PUT", "/service/x", map[string]string{"x-ms-blob-type": "PageBlob"}, nil).wantBlob(t, 400, "InvalidHeaderValue")
	s.do("PUT", "/service/x", map[string]string{"x-ms-blob-type": "BlockBlob", "Content-MD5": md}, []byte("other")).wantBlob(t, 400, "Md5Mismatch")
	s.do("PUT", "/service/big", map[string]string{"x-ms-blob-type": "BlockBlob", "If-None-Match": "*"}, content).wantBlob(t, 409, "BlobAlreadyExists")
	s.do("DELETE", "/service/big", nil, nil).wantBlob(t, 202, "")
	s.do("DELETE", "/service/big", nil, nil).wantBlob(t, 404, "BlobNotFound")
	s.do("DELETE", "/content-1?restype=container", nil, nil).wantBlob(t, 202, "")
	wrong := s
	wrong.key = base64.StdEncoding.EncodeToString([]byte("wrong"))
	wrong.do("GET", "/service/big", nil, nil).wantBlob(t, 403, "AuthenticationFailed")
	s.get("GET", "/service/big", url.Values{}, map[string]string{"x-ms-version": blobVersion}).wantBlob(t, 409, "PublicAccessNotPermitted")
	m := c.arm("GET", resourcePath(storageType, prefix)+"/providers/Microsoft.Insights/metrics?metricnames=Egress,UsedCapacity&aggregation=Total,Average&timespan="+span(), "2023-10-01", nil).want(t, 200, "")
	if got := field(m.body, "value", 1, "timeseries", 0, "data", 0, "average"); got != 10000.0 || !contains(field(m.body, "value", 0), `"total":`) {
		t.Errorf("metrics: %s", m.raw)
	}
}

func TestSharedAccessSignatures(t *testing.T) {
	c := newCloud(t, nil)
	c.deploy(templateOptions{})
	s := c.storage(0)
	now := time.Now()
	s.do("PUT", "/service/a%20b", map[string]string{"x-ms-blob-type": "BlockBlob"}, []byte("content")).wantBlob(t, 201, "")
	good := func() url.Values { return s.sas("service", "a b", "r", now.Add(-15*time.Minute), now.Add(time.Hour)) }
	if got := s.get("GET", "/service/a%20b", good(), nil).wantBlob(t, 200, ""); string(got.raw) != "content" {
		t.Errorf("content %q", got.raw)
	}
	s.get("GET", "/service/a%20b", s.sas("service", "", "r", now.Add(-time.Minute), now.Add(time.Hour)), map[string]string{"Range": "bytes=1-2"}).wantBlob(t, 206, "")
	s.get("GET", "/service/other", good(), nil).wantBlob(t, 403, "AuthenticationFailed")
	s.get("DELETE", "/service/a%20b", good(), nil).wantBlob(t, 403, "AuthorizationPermissionMismatch")
	s.get("GET", "/service/a%20b", s.sas("service", "a b", "r", now.Add(-time.Hour), now.Add(-time.Minute)), nil).wantBlob(t, 403, "AuthenticationFailed")
	s.get("GET", "/service/a%20b", s.sas("service", "a b", "r", now.Add(time.Minute), now.Add(time.Hour)), nil).wantBlob(t, 403, "AuthenticationFailed")
	longer := good()
	longer.Set("se", now.AddDate(1, 0, 0).UTC().Format("2006-01-02T15:04:05Z"))
	s.get("GET", "/service/a%20b", longer, nil).wantBlob(t, 403, "AuthenticationFailed")
	more := good()
	more.Set("sp", "rd")
	s.get("DELETE", "/service/a%20b", more, nil).wantBlob(t, 403, "AuthenticationFailed")
	listing := s.sas("service", "", "l", now.Add(-time.Minute), now.Add(time.Hour))
	listing.Set("restype", "container")
	listing.Set("comp", "list")
	s.get("GET", "/service", listing, nil).wantBlob(t, 200, "")

	text := strings.Join([]string{prefix, "rl", "b", "co", "", now.Add(time.Hour).UTC().Format("2006-01-02T15:04:05Z"), "", "https", blobVersion, "", ""}, "\n")
	account := url.Values{"sp": {"rl"}, "ss": {"b"}, "srt": {"co"}, "se": {now.Add(time.Hour).UTC().Format("2006-01-02T15:04:05Z")}, "spr": {"https"}, "sv": {blobVersion}, "sig": {s.sign(text)}}
	s.get("GET", "/service/a%20b", account, nil).wantBlob(t, 200, "")
	s.get("DELETE", "/service/a%20b", account, nil).wantBlob(t, 403, "AuthorizationPermissionMismatch")
	// Rotation: what was signed with the key that is renewed ends, the rest
	// goes on.
	other := c.storage(1).sas("service", "a b", "r", now.Add(-time.Minute), now.Add(time.Hour))
	c.arm("POST", resourcePath(storageType, prefix)+"/regenerateKey", "2024-01-01", j{"keyName": "key1"}).want(t, 200, "")
	s.get("GET", "/service/a%20b", good(), nil).wantBlob(t, 403, "AuthenticationFailed")
	s.get("GET", "/service/a%20b", other, nil).wantBlob(t, 200, "")
	if strings.Contains(c.log.String(), "sig=") || strings.Contains(c.log.String(), s.key) {
		t.Error("the log has a signature or a key")
	}
}

// TestPublicCloudNames: the stand-in answers to the real cloud's names too.
func TestPublicCloudNames(t *testing.T) {
	c := newCloud(t, func(cfg *labcloud.Config) {
		cfg.Hosts = labcloud.Hosts{Login: "login.microsoftonline.com", STS: "sts.windows.net", ARM: "management.azure.com", Graph: "graph.microsoft.com", Vault: "vault.azure.net", Blob: "blob.core.windows.net", CloudApp: "cloudapp.azure.com",
			ARMAudiences: []string{"https://management.core.windows.net/"}, VaultAudience: "https://vault.azure.net"}
	})
	c.deploy(templateOptions{principal: labcloud.PrincipalID(tenant, adminApp)})
	if iss := claims(t, c.token("https://vault.azure.net/.default"))["iss"]; iss != "https://sts.windows.net/"+tenant+"/" {
		t.Errorf("issuer %v", iss)
	}
	c.vault("PUT", "/secrets/x", c.token("https://vault.azure.net/.default"), j{"value": "x"}).want(t, 200, "")
	if f := c.State().Frontends[0].FQDN; f != prefix+"."+region+".cloudapp.azure.com" {
		t.Errorf("name %s", f)
	}
}

func TestFixedFrontends(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	want := ln.Addr().String()
	ln.Close()
	c := newCloud(t, func(cfg *labcloud.Config) { cfg.Frontends = map[int]string{443: want} })
	c.deploy(templateOptions{})
	if got := c.frontend(443); got != want {
		t.Errorf("443 is at %s, want %s", got, want)
	}
	if got := c.frontend(10125); got == "" || got == want {
		t.Errorf("10125 is at %q", got)
	}
}
