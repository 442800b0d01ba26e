package labcloud_test

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// devicePage opens or posts the page of device codes.
func (w *webApp) devicePage(form url.Values) (status int, body string) {
	w.t.Helper()
	u := "https://" + w.hosts.Login + "/device"
	resp, err := w.http.Get(u)
	if form != nil {
		resp, err = w.http.PostForm(u, form)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	if csp := resp.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || resp.Header.Get("Cache-Control") != "no-store, no-cache" {
		w.t.Errorf("headers %v", resp.Header)
	}
	return resp.StatusCode, string(b)
}

func TestDevicePage(t *testing.T) {
	w := newWebApp(t)
	begin := func() (device, user string) {
		a := w.form("/"+tenant+"/oauth2/v2.0/devicecode", url.Values{"client_id": {publicApp}, "scope": {w.hosts.ARMAudiences[0] + "//.default"}}).want(t, 200, "")
		if page := a.body["verification_uri"]; page != "https://"+w.hosts.Login+"/device" || !strings.Contains(a.body["message"].(string), page.(string)) {
			t.Fatalf("%s", a.raw)
		}
		return a.body["device_code"].(string), a.body["user_code"].(string)
	}
	redeem := func(code string) answer {
		return w.form("/"+tenant+"/oauth2/v2.0/token", url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "client_id": {publicApp}, "device_code": {code}})
	}
	status, body := w.devicePage(nil)
	if status != 200 || strings.Contains(body, "bob@") || !strings.Contains(body, "<option>alice@contoso.example</option>") {
		t.Errorf("%d %s", status, body)
	}
	alice := func(code string) url.Values {
		return url.Values{"user_code": {code}, "login": {"alice@contoso.example"}, "passwd": {alicePassword}}
	}
	refused := func(form url.Values, want int, says string) {
		t.Helper()
		if status, body := w.devicePage(form); status != want || !strings.Contains(body, says) || !strings.Contains(body, `role="alert"`) || strings.Contains(body, alicePassword) {
			t.Errorf("%v: %d %s, want %d %s", form, status, body, want, says)
		}
	}
	device, code := begin()
	refused(url.Values{}, 400, "Type the code")
	refused(alice("AAAAAAAAA"), 400, "not known")
	refused(alice(device), 400, "not known")
	refused(alice(`"><script>`), 400, "&#34;&gt;&lt;script&gt;")
	for _, tt := range [][3]string{{"alice@contoso.example", "wrong", "AADSTS50126"}, {"bob@contoso.example", "", "AADSTS50126"}, {"", "", "AADSTS50126"}, {"carol@contoso.example", alicePassword, "AADSTS50057"}} {
		refused(url.Values{"user_code": {code}, "login": {tt[0]}, "passwd": {tt[1]}}, 401, tt[2])
	}
	redeem(device).aadsts(t, 400, 70016) // it still waits
	// People type it in small letters and in groups.
	if status, body := w.devicePage(alice(" " + strings.ToLower(code[:4]) + "-" + code[4:] + " ")); status != 200 || !strings.Contains(body, "alice@contoso.example") || !strings.Contains(body, "You are signed in") {
		t.Errorf("%d %s", status, body)
	}
	refused(alice(code), 400, "answered already") // and waits to be redeemed
	a := redeem(device).want(t, 200, "")
	if got := claims(t, a.body["access_token"].(string)); got["upn"] != "alice@contoso.example" {
		t.Errorf("claims %v", got)
	}
	refused(alice(code), 400, "answered already")

	device, code = begin()
	if status, body := w.devicePage(url.Values{"user_code": {code}, "decline": {"1"}}); status != 200 || !strings.Contains(body, "Declined") {
		t.Errorf("%d %s", status, body)
	}
	redeem(device).aadsts(t, 400, 70018)
	refused(alice(code), 400, "answered already")

	device, code = begin()
	w.later.Add(int64(16 * time.Minute))
	refused(alice(code), 400, "expired")
	redeem(device).aadsts(t, 400, 70020)

	// No more than so many wait at a time, and forms are bounded.
	for range 1024 {
		w.form("/"+tenant+"/oauth2/v2.0/devicecode", url.Values{"client_id": {publicApp}, "scope": {w.hosts.ARMAudiences[0] + "//.default"}})
	}
	w.form("/"+tenant+"/oauth2/v2.0/devicecode", url.Values{"client_id": {publicApp}, "scope": {w.hosts.ARMAudiences[0] + "//.default"}}).aadsts(t, 503, 90033)
	if status, _ := w.devicePage(url.Values{"user_code": {strings.Repeat("x", 1<<17)}}); status != http.StatusBadRequest {
		t.Errorf("a long form: %d", status)
	}
	if strings.Contains(w.log.String(), alicePassword) || strings.Contains(w.log.String(), code) {
		t.Error("the log has the password, or a code")
	}
}
