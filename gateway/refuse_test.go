package gateway_test

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/internal/web"
	"github.com/opencmg/opencmg/pki"
)

const (
	mutual = "/CCM_Proxy_MutualAuth/" + mpID
	server = "/CCM_Proxy_ServerAuth/" + mpID
)

// explain returns the verdict of the instance on a request.
func (in *testInstance) explain(id string) web.Record {
	in.t.Helper()
	res, err := http.Get("http://" + in.private + "/explain/" + id)
	if err != nil {
		in.t.Fatal(err)
	}
	defer res.Body.Close()
	var records []web.Record
	if err := json.NewDecoder(res.Body).Decode(&records); err != nil || len(records) != 1 {
		in.t.Fatalf("explain %s: status %d, %d records, %v", id, res.StatusCode, len(records), err)
	}
	return records[0]
}

func TestRefusals(t *testing.T) {
	noLeaks(t)
	in := startInstance(t, instanceOptions{config: configuration(1)})
	k := keys()
	good := issue(t, k.clientCA, pki.Template{CommonName: "pc1", Client: true})
	stranger := issue(t, k.webCA, pki.Template{CommonName: "stranger", Client: true})
	bulk, err := k.signer.Bulk(0, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	expired, err := k.signer.Bulk(time.Minute, time.Now().Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	bound := clientToken(t, k.device)
	other := issue(t, k.clientCA, pki.Template{CommonName: "thief", Client: true})

	for _, tt := range []struct {
		name   string
		cert   tls.Certificate
		head   string // request line and fields without Host
		status int
		reason string
		also   string // a field that the answer must have
		cause  string // part of the verdict
	}{
		{"unknown path", good, "GET /nowhere HTTP/1.1", 404, "Not Found", "", "no endpoint publishes"},
		{"root", good, "GET / HTTP/1.1", 404, "Not Found", "", ""},
		{"unknown role", good, "GET /CCM_Proxy_MutualAuth/12345/SMS_MP/x HTTP/1.1", 404, "Not Found", "", ""},
		{"role alone", good, "GET " + mutual + " HTTP/1.1", 404, "Not Found", "", ""},
		{"service by role ID", good, "GET /CCM_Proxy_MutualAuth/9/small HTTP/1.1", 404, "Not Found", "", ""},
		{"not on a segment boundary", good, "GET " + mutual + "/SMS_MPx HTTP/1.1", 404, "Not Found", "", ""},
		{"token endpoint by certificate", good, "CCM_POST " + mutual + "/ccm_system_tokenauth/request HTTP/1.1", 404, "Not Found", "", ""},
		{"certificate endpoint by token", good, "CCM_POST " + server + "/ccm_system/request HTTP/1.1", 404, "Not Found", "", ""},
		{"windows authentication", good, "GET " + mutual + "/SMS_MP_WindowsAuth/x HTTP/1.1", 404, "Not Found", "", ""},
		{"windows authentication in a whole role", good, "GET /wiki/CCM_System_windowsauth/x HTTP/1.1", 404, "Not Found", "", ""},
		{"alternate authentication, escaped", good, "GET /wiki/CCM_System%5FAltAuth/x HTTP/1.1", 404, "Not Found", "", ""},
		{"method", good, "DELETE " + mutual + "/SMS_MP/x HTTP/1.1", 405, "Method Not Allowed", "Allow: GET, HEAD", "publishes other methods"},
		{"method in lower case", good, "get " + mutual + "/SMS_MP/x HTTP/1.1", 405, "Method Not Allowed", "", ""},
		{"body where none is taken", good, "GET " + mutual + "/SMS_MP/x HTTP/1.1\r\nContent-Length: 1", 413, "Request Entity Too Large", "", "maximum content length"},
		{"body too large", tls.Certificate{}, "POST /wiki/small HTTP/1.1\r\nContent-Length: 101", 413, "Request Entity Too Large", "", "maximum content length"},
		{"no certificate", tls.Certificate{}, "GET " + mutual + "/SMS_MP/x HTTP/1.1", 401, "Unauthorized", "", "no certificate"},
		{"untrusted certificate", stranger, "GET " + mutual + "/SMS_MP/x HTTP/1.1", 401, "Unauthorized", "", "client certificate refused"},
		{"self-signed certificate", k.device, "GET " + mutual + "/SMS_MP/x HTTP/1.1", 401, "Unauthorized", "", "client certificate refused"},
		{"no token", good, "GET " + server + "/SMS_MP/x HTTP/1.1", 401, "Unauthorized", "WWW-Authenticate: Bearer", "no bearer token"},
		{"another scheme", good, "GET " + server + "/SMS_MP/x HTTP/1.1\r\nAuthorization: Basic QTpC", 401, "Unauthorized", "WWW-Authenticate: Bearer", ""},
		{"two tokens", good, "GET " + server + "/SMS_MP/x HTTP/1.1\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b", 400, "Bad Request", "", "more than one"},
		{"garbage token", good, "GET " + server + "/SMS_MP/x HTTP/1.1\r\nAuthorization: Bearer garbage", 401, "CMGService_Invalid_Token", `WWW-Authenticate: Bearer error="invalid_token"`, "token refused"},
		{"expired token", good, "CCM_POST " + server + "/ccm_system_tokenauth/request HTTP/1.1\r\nAuthorization: Bearer " + expired.Raw, 401, "CMGService_Invalid_Token", "", "token refused"},
		{"bulk token on a policy URL", k.device, "GET " + server + "/SMS_MP/.sms_pol?x HTTP/1.1\r\nAuthorization: Bearer " + bulk.Raw, 401, "CMGService_Invalid_Token", "", "bulk-token"},
		{"bound token without its key", tls.Certificate{}, "GET " + server + "/SMS_MP/x HTTP/1.1\r\nAuthorization: Bearer " + bound.Raw, 401, "CMGService_Invalid_Token", "", "token refused"},
		{"bound token with another key", other, "GET " + server + "/SMS_MP/x HTTP/1.1\r\nAuthorization: Bearer " + bound.Raw, 401, "CMGService_Invalid_Token", "", "token refused"},
		{"service without credentials", tls.Certificate{}, "GET /team/shared/docs/a HTTP/1.1", 401, "Unauthorized", "WWW-Authenticate: Bearer", "none of the credentials"},
		{"service with a foreign certificate", stranger, "GET /team/shared/docs/a HTTP/1.1", 401, "Unauthorized", "", "client certificate refused"},
		{"no tunnel", tls.Certificate{}, "GET /wiki/page HTTP/1.1", 503, "Service Unavailable", "Retry-After: ", "holds a tunnel"},
		{"no tunnel, by certificate", good, "GET " + mutual + "/SMS_MP/x HTTP/1.1", 503, "Service Unavailable", "Retry-After: ", "holds a tunnel"},
		{"no tunnel, by token", k.device, "GET " + server + "/sms_mp/x HTTP/1.1\r\nauthorization: bearer " + bound.Raw, 503, "Service Unavailable", "Retry-After: ", "holds a tunnel"},
		{"metadata without token", good, "GET /CCM_Proxy_ServerAuth/ServiceMetadata HTTP/1.1", 401, "Unauthorized", "WWW-Authenticate: Bearer", ""},
		{"metadata with a bulk token", good, "GET /CCM_Proxy_ServerAuth/ServiceMetadata HTTP/1.1\r\nAuthorization: Bearer " + bulk.Raw, 401, "CMGService_Invalid_Token", "", ""},
		{"metadata by POST", good, "POST /CCM_Proxy_MutualAuth/ServiceMetadata HTTP/1.1\r\nContent-Length: 0", 405, "Method Not Allowed", "Allow: GET, HEAD", ""},
		{"tenant that is not onboarded", good, "GET /CCM_Proxy_ServerAuth/AADAuthInfo?TenantID=00000000-2222-3333-4444-555555555555 HTTP/1.1", 404, "Not Found", "", "no tenant"},
		{"disabled tenant", good, "GET /CCM_Proxy_ServerAuth/AADAuthInfo?TenantID=99999999-2222-3333-4444-555555555555 HTTP/1.1", 404, "Not Found", "", "no tenant"},
		{"no tenant", good, "GET /CCM_Proxy_ServerAuth/AADAuthInfo HTTP/1.1", 404, "Not Found", "", "no tenant"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := clientTLS()
			if tt.cert.Certificate != nil {
				cfg = clientTLS(tt.cert)
			}
			c := in.dial(cfg)
			c.send(tt.head + "\r\nHost: " + testName + "\r\nX-Correlation-ID: mine\r\n\r\n")
			method, _, _ := strings.Cut(tt.head, " ")
			res := c.answer(method)
			if res.StatusCode != tt.status || reason(res) != tt.reason {
				t.Errorf("got %q, want %d %s", res.Status, tt.status, tt.reason)
			}
			if body := text(res); body != "" {
				t.Errorf("the refusal says more than its status: %q", body)
			}
			if name, value, ok := strings.Cut(tt.also, ": "); ok && !strings.HasPrefix(res.Header.Get(name), value) {
				t.Errorf("field %s: got %q, want %q", name, res.Header.Get(name), value)
			}
			ids := res.Header.Values(opencmg.HeaderCorrelationID)
			if len(ids) != 1 || len(ids[0]) != 32 {
				t.Fatalf("correlation IDs: got %q, want one of ours", ids)
			}
			rec := in.explain(ids[0])
			if rec.Status != tt.status || rec.Verdict == "" || !strings.Contains(rec.Verdict, tt.cause) {
				t.Errorf("explanation: got %+v, want status %d and %q", rec, tt.status, tt.cause)
			}
		})
	}
}

// TestAmbiguousRequests: whatever two readers could read differently is
// refused, and the connection ends.
func TestAmbiguousRequests(t *testing.T) {
	noLeaks(t)
	in := startInstance(t, instanceOptions{config: configuration(1)})
	host := "Host: " + testName + "\r\n"
	for _, tt := range []struct {
		name, request string
		status        int
	}{
		{"content length and transfer encoding", "POST /wiki/x HTTP/1.1\r\n" + host + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		{"two content lengths", "POST /wiki/x HTTP/1.1\r\n" + host + "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400},
		{"content length list", "POST /wiki/x HTTP/1.1\r\n" + host + "Content-Length: 3, 3\r\n\r\nabc", 400},
		{"signed content length", "POST /wiki/x HTTP/1.1\r\n" + host + "Content-Length: +3\r\n\r\nabc", 400},
		{"bare line feeds", "GET /wiki/x HTTP/1.1\nHost: " + testName + "\n\n", 400},
		{"folded field", "GET /wiki/x HTTP/1.1\r\n" + host + "X-A: b\r\n c\r\n\r\n", 400},
		{"blank before colon", "GET /wiki/x HTTP/1.1\r\n" + host + "X-A : b\r\n\r\n", 400},
		{"unknown coding", "POST /wiki/x HTTP/1.1\r\n" + host + "Transfer-Encoding: gzip, chunked\r\n\r\n", 501},
		{"coding in disguise", "POST /wiki/x HTTP/1.1\r\n" + host + "Transfer-Encoding: xchunked\r\n\r\n", 501},
		{"two hosts", "GET /wiki/x HTTP/1.1\r\n" + host + "Host: other\r\n\r\n", 400},
		{"no host", "GET /wiki/x HTTP/1.1\r\n\r\n", 400},
		{"another host in the target", "GET https://evil.example/wiki/x HTTP/1.1\r\n" + host + "\r\n", 400},
		{"connect", "CONNECT " + testName + ":443 HTTP/1.1\r\n" + host + "\r\n", 400},
		{"asterisk", "OPTIONS * HTTP/1.1\r\n" + host + "\r\n", 400},
		{"encoded slash", "GET /wiki/a%2fb HTTP/1.1\r\n" + host + "\r\n", 400},
		{"encoded backslash", "GET /wiki/a%5Cb HTTP/1.1\r\n" + host + "\r\n", 400},
		{"dot segment", "GET /wiki/../CCM_Proxy_MutualAuth/9 HTTP/1.1\r\n" + host + "\r\n", 400},
		{"encoded dot segment", "GET /wiki/%2e%2e/x HTTP/1.1\r\n" + host + "\r\n", 400},
		{"empty segment", "GET //wiki/x HTTP/1.1\r\n" + host + "\r\n", 400},
		{"backslash", "GET /wiki\\x HTTP/1.1\r\n" + host + "\r\n", 400},
		{"version 2.0", "GET /wiki/x HTTP/2.0\r\n" + host + "\r\n", 505},
		{"version 1.2", "GET /wiki/x HTTP/1.2\r\n" + host + "\r\n", 505},
		{"unknown expectation", "POST /wiki/x HTTP/1.1\r\n" + host + "Expect: magic\r\nContent-Length: 1\r\n\r\n", 417},
		{"huge head", "GET /wiki/x HTTP/1.1\r\n" + host + "X-A: " + strings.Repeat("a", 33<<10) + "\r\n\r\n", 431},
		{"endless head", "GET /wiki/x HTTP/1.1\r\n" + host + strings.Repeat("X-A: "+strings.Repeat("a", 1000)+"\r\n", 40), 431},
		{"many fields", "GET /wiki/x HTTP/1.1\r\n" + host + strings.Repeat("X-A: b\r\n", 200) + "\r\n", 431},
		{"not HTTP", "\x16\x03\x01\x00\x05hello\r\n\r\n", 400},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := in.dial(clientTLS())
			c.send(tt.request)
			res := c.answer("GET")
			if res.StatusCode != tt.status || !res.Close {
				t.Errorf("got %q, close %v; want %d and the connection closed", res.Status, res.Close, tt.status)
			}
			if id := res.Header.Get(opencmg.HeaderCorrelationID); len(id) != 32 {
				t.Errorf("correlation ID: got %q", id)
			}
			if !c.closed() {
				t.Error("the connection carries on")
			}
		})
	}
}

// TestRefusalKeepsTheConnection: an unread small body is read away, and the
// next request is understood.
func TestRefusalKeepsTheConnection(t *testing.T) {
	in := startInstance(t, instanceOptions{config: configuration(1)})
	c := in.dial(clientTLS())
	for range 3 {
		c.send("POST /nowhere HTTP/1.1\r\nHost: " + testName + "\r\nContent-Length: 2000\r\n\r\n" + strings.Repeat("GET /x ", 300)[:2000])
		if res := c.answer("POST"); res.StatusCode != 404 || res.Close {
			t.Fatalf("got %q, close %v; want 404 and the connection kept", res.Status, res.Close)
		}
	}
	// A large one is not: the answer still arrives before the end.
	c.send("POST /nowhere HTTP/1.1\r\nHost: " + testName + "\r\nContent-Length: 200000\r\n\r\n" + strings.Repeat("x", 200000))
	if res := c.answer("POST"); res.StatusCode != 404 || !res.Close {
		t.Errorf("got %q, close %v; want 404 and the connection closed", res.Status, res.Close)
	}
}

func TestExpectationIsRefusedWithoutTheBody(t *testing.T) {
	in := startInstance(t, instanceOptions{config: configuration(1)})
	c := in.dial(clientTLS())
	c.send("CCM_POST " + mutual + "/ccm_system/request HTTP/1.1\r\nHost: " + testName + "\r\nExpect: 100-continue\r\nContent-Length: 100\r\n\r\n")
	if res := c.answer("POST"); res.StatusCode != 401 || !res.Close {
		t.Errorf("got %q, close %v; want 401 without 100 (Continue) and the connection closed", res.Status, res.Close)
	}
}

func TestOwnPaths(t *testing.T) {
	in := startInstance(t, instanceOptions{config: configuration(7)})
	tok := clientToken(t, keys().device)
	good := issue(t, keys().clientCA, pki.Template{CommonName: "pc1", Client: true})
	const everybody, proved = `{"ServiceName":"gw.example","ConfigurationVersion":7}`, `{"ServiceName":"gw.example","ConfigurationVersion":7,"InstanceNumber":0}`
	for _, tt := range []struct {
		name, head, want string
		cert             tls.Certificate
	}{
		{"tenant", "GET /ccm_proxy_serverauth/aadauthinfo?tenantid=" + strings.ToUpper(tenantID) + " HTTP/1.1", `{"TenantId":"` + tenantID + `","ClientAppId":"app","ResourceUri":"api://lab"}`, keys().device},
		{"metadata by certificate", "GET /CCM_PROXY_MUTUALAUTH/ServiceMetadata HTTP/1.1", proved, good},
		{"metadata by a certificate that proves nothing", "GET /CCM_PROXY_MUTUALAUTH/ServiceMetadata HTTP/1.1", everybody, keys().device},
		{"metadata by token", "GET /CCM_Proxy_ServerAuth/ServiceMetadata HTTP/1.1\r\nAuthorization: Bearer " + tok.Raw, proved, keys().device},
		{"head", "HEAD /CCM_Proxy_MutualAuth/ServiceMetadata HTTP/1.1", "", good},
	} {
		t.Run(tt.name, func(t *testing.T) {
			method, _, _ := strings.Cut(tt.head, " ")
			res := in.dial(clientTLS(tt.cert)).send(tt.head + "\r\nHost: x\r\n\r\n").answer(method)
			if got := text(res); res.StatusCode != 200 || got != tt.want {
				t.Errorf("got %s %s, want %s", res.Status, got, tt.want)
			}
		})
	}
}

func TestAnonymousRequestsAreRateLimited(t *testing.T) {
	in := startInstance(t, instanceOptions{config: configuration(1)})
	c := in.dial(clientTLS())
	var got []int
	for range 300 {
		c.send("GET /CCM_Proxy_ServerAuth/AADAuthInfo?TenantID=" + tenantID + " HTTP/1.1\r\nHost: x\r\n\r\n")
		got = append(got, c.answer("GET").StatusCode)
	}
	if got[0] != 200 || !slices.Contains(got, 429) {
		t.Errorf("got %d first, want 200, and 429 later", got[0])
	}
}

func TestWithoutConfiguration(t *testing.T) {
	for name, kept := range map[string][]byte{
		"none": nil, "garbage": []byte("garbage"), "empty": {},
		"foreign": func() []byte {
			c := configuration(1)
			c.Gateway = "other"
			return signed(t, c)
		}(),
	} {
		t.Run(name, func(t *testing.T) {
			in := startInstance(t, instanceOptions{kept: kept})
			res := in.dial(clientTLS()).send("GET /wiki/x HTTP/1.1\r\nHost: x\r\n\r\n").answer("GET")
			if res.StatusCode != 503 || res.Header.Get("Retry-After") == "" {
				t.Errorf("got %s, want 503 with Retry-After", res.Status)
			}
			ready, err := http.Get("http://" + in.private + "/readyz")
			if err != nil {
				t.Fatal(err)
			}
			defer ready.Body.Close()
			if b, _ := io.ReadAll(ready.Body); ready.StatusCode != 503 || !strings.Contains(string(b), "no published configuration") {
				t.Errorf("readyz: got %d %s", ready.StatusCode, b)
			}
			if kept != nil && !strings.Contains(in.logs.String(), "can not be used") {
				t.Error("the log does not say that the kept configuration is damaged")
			}
		})
	}
}

func TestWrongServerName(t *testing.T) {
	in := startInstance(t, instanceOptions{config: configuration(1)})
	cfg := clientTLS()
	cfg.ServerName = "other.example"
	_, err := tls.Dial("tcp", in.addr, cfg)
	if err == nil || !strings.Contains(err.Error(), "unrecognized name") {
		t.Errorf("got %v, want the alert unrecognized_name", err)
	}
}

func TestTLSFloor(t *testing.T) {
	for _, tt := range []struct {
		min      string
		max      uint16
		suite    uint16
		accepted bool
	}{
		{"", tls.VersionTLS12, 0, true},
		{"", tls.VersionTLS11, 0, false},
		{"", tls.VersionTLS12, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, false},
		{"1.3", tls.VersionTLS12, 0, false},
		{"1.3", tls.VersionTLS13, 0, true},
	} {
		t.Run(fmt.Sprintf("%s %s %x", tt.min, tls.VersionName(tt.max), tt.suite), func(t *testing.T) {
			conf := configuration(1)
			conf.TLS.MinVersion = tt.min
			in := startInstance(t, instanceOptions{config: conf})
			cfg := clientTLS()
			cfg.MinVersion, cfg.MaxVersion = tls.VersionTLS10, tt.max
			if tt.suite != 0 {
				cfg.CipherSuites = []uint16{tt.suite}
			}
			c, err := tls.Dial("tcp", in.addr, cfg)
			if err == nil {
				c.Close()
			}
			if (err == nil) != tt.accepted {
				t.Errorf("got %v, accepted must be %v", err, tt.accepted)
			}
		})
	}
}

// TestMetrics: what an administrator watches is there, and nothing a caller
// sends becomes a label.
func TestMetrics(t *testing.T) {
	noLeaks(t)
	in := startInstance(t, instanceOptions{config: configuration(3)})
	p := in.connect("id-1", echo)
	p.control(opencmg.ControlStatus, []byte(`{"name":"forged","maxConcurrentRequests":17,"endpoints":[{"name":"SMS_MP","targetHost":"mp1","totalRequests":5}]}`))
	c := in.dial(clientTLS())
	c.send("POST /wiki/x HTTP/1.1\r\n" + hostField + "Content-Length: 5\r\n\r\nhello").answer("POST")
	c.send("GET /forged-path HTTP/1.1\r\n" + hostField + "\r\n").answer("GET")
	res, err := http.Get("http://" + in.private + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	for _, want := range []string{
		`opencmg_gateway_requests_total{code="200",endpoint="wiki",role="9"} 1`,
		`opencmg_gateway_body_bytes_total{direction="in",endpoint="wiki",role="9"} 5`,
		`opencmg_gateway_refusals_total{cause="not-published"} 1`,
		`opencmg_gateway_client_connections 1`,
		`opencmg_gateway_tunnels{connection_point="cp1"} 1`,
		`opencmg_gateway_configuration_version 3`,
		`opencmg_gateway_connection_point_max_concurrent_requests{connection_point="cp1"} 17`,
		`opencmg_gateway_connection_point_endpoint{connection_point="cp1",endpoint="SMS_MP",field="total_requests",target="mp1"} 5`,
		`opencmg_gateway_certificate_not_after_seconds{certificate="server"}`,
	} {
		if !strings.Contains(string(b), want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	if strings.Contains(string(b), "forged") {
		t.Error("something a peer sent became a label")
	}
	in.stop()
	if log := in.logs.String(); !strings.Contains(log, "RequestUri=/wiki/ RequestCount=1 RequestSize=5 ResponseCount=1") {
		t.Error("the log lacks the traffic summary")
	}
}
