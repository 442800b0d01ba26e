package ccm_test

import (
	"bytes"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/ccm"
)

func TestAssignments(t *testing.T) {
	request := ccm.AssignmentRequest{OnUpdate: true, ClientID: testID, FQDN: "pc01.example.com", NetBIOSName: "PC01", PolicySource: "SMS:LAB", ResourceType: "Machine", ServerCookie: stamp.Add(123 * time.Millisecond)}
	gotRequest, err := ccm.ParseAssignmentRequest(request.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(request, gotRequest); d != "" {
		t.Error(d)
	}
	// As tools send it: no cookie, wrong source, mixed case.
	loose, err := ccm.ParseAssignmentRequest(`<RequestAssignments SchemaVersion="1.00" Ack="False" RequestType="Always" ValidationRequested="CRC"><Identification><Machine><ClientID>` + strings.ToLower(string(testID)) + `</ClientID><SID/></Machine><User/></Identification><PolicySource>SMS:PRI</PolicySource><Resource ResourceType="Machine"/><ServerCookie/></RequestAssignments>`)
	if err != nil {
		t.Fatal(err)
	}
	if loose.ClientID != testID || loose.OnUpdate || !loose.ServerCookie.IsZero() {
		t.Errorf("read as %+v", loose)
	}

	p := ccm.Policy{ID: "{B}", Version: "1.00", Type: "Machine", Source: "SMS:LAB", SchemaVersion: "1.00", Rules: []ccm.PolicyRule{{ID: "{C}", Actions: []ccm.PolicyAction{{Type: "WMI-XML", Instances: []ccm.PolicyInstance{{
		Class: "CCM_ClientAgentConfig", Properties: []ccm.PolicyProperty{{Name: "EnableCMG", Type: "11", Value: "TRUE"}},
	}}}}}}}
	text := p.Encode()
	if !bytes.HasPrefix(text, []byte("\xff\xfe<\x00")) {
		t.Errorf("body starts with %q", text[:8])
	}
	gotPolicy, err := ccm.ParsePolicy(append(bytes.Clone(text), 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	if v, ok := gotPolicy.Setting("ccm_clientagentconfig", "enablecmg"); !ok || v != "TRUE" {
		t.Errorf("setting is %q, %v", v, ok)
	}
	if _, ok := gotPolicy.Setting("ccm_clientagentconfig", "other"); ok {
		t.Error("found a setting that is not there")
	}

	hash := ccm.PolicyHash(text)
	reply := ccm.AssignmentReply{ClientID: testID, PolicySource: "SMS:LAB", ResourceType: "Machine", ServerCookie: stamp, Assignments: []ccm.Assignment{
		{ID: "{A}", Policy: ccm.PolicyReference{ID: "{B}", Version: "1.00", Type: "Machine", Category: "ClientSettings", Flags: ccm.PolicyPersistWhole, Hash: hash, Location: ccm.PolicyLocation("{B}", hash)}},
		{ID: "{D}", Action: ccm.ActionDelete, Policy: ccm.PolicyReference{ID: "{E}"}},
	}}
	encoded := reply.Encode()
	if !strings.Contains(encoded, "<![CDATA[http://<mp>/SMS_MP/.sms_pol?{B}."+hash+"]]>") {
		t.Errorf("location is no CDATA: %s", encoded)
	}
	gotReply, err := ccm.ParseAssignmentReply(encoded)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(reply, gotReply); d != "" {
		t.Error(d)
	}
	u, err := gotReply.Assignments[0].Policy.URL("https://gw.example.com/CCM_Proxy_ServerAuth/8/")
	if err != nil {
		t.Fatal(err)
	}
	// Nothing but the braces is escaped, as in what working clients send.
	if want := ".sms_pol?%7BB%7D." + hash; !strings.HasSuffix(u, want) {
		t.Errorf("URL is %s, want it to end in %s", u, want)
	}
	escaped := gotReply.Assignments[0].Policy
	escaped.Location = strings.NewReplacer("{", "%7B", "}", "%7D").Replace(escaped.Location)
	if same, err := escaped.URL("https://gw.example.com/CCM_Proxy_ServerAuth/8/"); same != u || err != nil {
		t.Errorf("escaped location gives %s, %v", same, err)
	}
	base, query, _ := strings.Cut(u, "?")
	if base != "https://gw.example.com/CCM_Proxy_ServerAuth/8/SMS_MP/.sms_pol" {
		t.Errorf("URL is %s", u)
	}
	if id, suffix, err := ccm.ParsePolicyQuery(query); id != "{B}" || suffix != hash || err != nil {
		t.Errorf("query %s read as %q, %q, %v", query, id, suffix, err)
	}
	if id, suffix, err := ccm.ParsePolicyQuery("%7BB%7D.2_00"); id != "{B}" || suffix != "2_00" || err != nil {
		t.Errorf("read as %q, %q, %v", id, suffix, err)
	}
	for _, bad := range []string{"", "x", ".x", "x.", "%zz.1", strings.Repeat("x", 600) + ".1"} {
		if _, _, err := ccm.ParsePolicyQuery(bad); err == nil {
			t.Errorf("accepted the query %q", bad)
		}
	}
	if _, err := (ccm.PolicyReference{Location: "http://evil.example.com/x"}).URL("https://mp"); err == nil {
		t.Error("accepted a location elsewhere")
	}
}

func TestReport(t *testing.T) {
	want := &ccm.Report{ClientID: testID, ClientVersion: "5.00.9128.1000", NetBIOSName: "PC01", Content: ccm.ContentInventory, Full: true, Date: stamp, ActionID: ccm.ActionDiscovery, ActionName: "Discovery",
		Instances: []ccm.Instance{{Namespace: `\\PC01\root\ccm`, Class: "CCM_DiscoveryData", Properties: []ccm.Property{{Name: "PlatformID", Value: "Linux <6> & more"}}}}}
	got, err := ccm.ParseReport(want.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}

	state := &ccm.Report{ClientID: testID, Content: ccm.ContentState, Date: stamp, States: []ccm.StateMessage{{Time: stamp, SerialNumber: 7, StateID: 1, TopicID: "x", TopicType: 701, Parameters: []string{"a", "b"}}}}
	if got, err = ccm.ParseReport(state.Encode()); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(state, got); d != "" {
		t.Error(d)
	}

	// Body with an empty report, then the attachment with a mark of its own.
	empty := strings.Replace(want.Encode(), want.Encode()[strings.Index(want.Encode(), "<ReportBody>"):], "<ReportBody/></Report>", 1)
	last, err := ccm.LastReport(empty + "\x00\ufeff" + want.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if last != want.Encode() {
		t.Errorf("last report is %s", last)
	}
	if last, err = ccm.LastReport(want.Encode() + "<Report><ReportHeader>"); err != nil || last != want.Encode() {
		t.Errorf("last complete report is %s, %v", last, err)
	}
	for _, bad := range []string{"", "</Report>", "<Report>"} {
		_, err := ccm.LastReport(bad)
		wantKind(t, err, opencmg.Invalid)
	}
	for _, bad := range []string{"", "<Report/>", "<Report><ReportHeader></Report>", "<Report><ReportHeader><Identification><Machine><ClientID>x</ClientID></Machine></Identification></ReportHeader></Report>"} {
		_, err := ccm.ParseReport(bad)
		wantKind(t, err, opencmg.Invalid)
	}
}

func TestCIM(t *testing.T) {
	if s := ccm.FormatCIM(stamp); s != "20260131093000.000000+000" {
		t.Errorf("got %s", s)
	}
	got, err := ccm.ParseCIM("20260131103000.000000+060")
	if err != nil || !got.Equal(stamp) {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []string{"", "20260131103000.000000*060", "20260131103000.000000+x60", "20269931103000.000000+060"} {
		if _, err := ccm.ParseCIM(bad); err == nil {
			t.Errorf("accepted %q", bad)
		}
	}
}

func TestLocations(t *testing.T) {
	for _, want := range []ccm.LocationRequest{
		{Kind: ccm.SiteInformation, SiteCode: "LAB"},
		{Kind: ccm.AssignedSite, OnInternet: true},
		{Kind: ccm.EnumerateMP, SiteCode: "LAB", RequestType: "Assigned", OnInternet: true},
		{Kind: ccm.LocalMP, SiteCode: "LAB"},
		{Kind: ccm.ContentLocation, SiteCode: "LAB", ClientPackage: true, OnInternet: true},
		{Kind: ccm.ContentLocation, SiteCode: "LAB", PackageID: "LAB00001", PackageVersion: "2"},
		{Kind: ccm.WSUSLocation, SiteCode: "LAB", ContentID: "{X}", ContentVersion: "3"},
	} {
		got, err := ccm.ParseLocationRequest(want.Encode())
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	}
	_, err := ccm.ParseLocationRequest(`<SiteInformationRequest><SiteCode Name="LAB' --"/></SiteInformationRequest>`)
	wantKind(t, err, opencmg.Invalid)

	mp := ccm.ManagementPoint{SiteCode: "LAB", Version: "9128", IntranetName: "mp.example.com", InternetName: "gw.example.com/CCM_Proxy_MutualAuth/8"}
	locations, err := ccm.ParseMPLocations(ccm.MPLocations{SiteCode: "LAB", Records: []ccm.ManagementPoint{mp}}.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]ccm.ManagementPoint{mp}, locations.Records); d != "" {
		t.Error(d)
	}
	list, err := ccm.ParseMPList(ccm.MPList{{Name: "MP", SiteCode: "LAB", Version: "9128", InternetName: mp.InternetName}, {Name: "MP", SiteCode: "LAB", IntranetName: mp.IntranetName}}.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(ccm.MPList{{Name: "MP", SiteCode: "LAB", Version: "9128", InternetName: mp.InternetName}, {Name: "MP", SiteCode: "LAB", IntranetName: mp.IntranetName}}, list); d != "" {
		t.Error(d)
	}
	if got := ccm.ServerAuthName("gw.example.com/ccm_proxy_mutualauth/8"); got != "gw.example.com/CCM_Proxy_ServerAuth/8" {
		t.Errorf("token twin is %s", got)
	}
	site := ccm.Site{Code: "LAB", Version: "5.00.9128.1000", Build: "9128", DefaultMP: "mp.example.com", HTTPSPort: 443, SigningCertificate: "3082"}
	// Readers of the vendor's library take these as numbers and fail on nothing.
	for _, want := range []string{"<HTTPPort>80</HTTPPort>", "<HTTPSPort>" + strconv.Itoa(site.HTTPSPort) + "</HTTPSPort>", "<CertificateSelectionCriteria>"} {
		if text := ccm.SiteInfoReply(site); !strings.Contains(text, want) {
			t.Errorf("site information lacks %s: %s", want, text)
		}
	}
	gotSite, err := ccm.ParseSiteInfoReply(ccm.SiteInfoReply(site))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(site, gotSite); d != "" {
		t.Error(d)
	}
	_, err = ccm.ParseSiteInfoReply("<SiteInfoReply/>")
	wantKind(t, err, opencmg.NotFound)
	for _, reply := range []string{ccm.WSUSLocationReply("LAB", "3", []string{"https://gw/x"}), ccm.ContentLocationReply("LAB", []string{"https://gw/x"})} {
		if urls, err := ccm.ParseLocationURLs(reply); err != nil || len(urls) != 1 || urls[0] != "https://gw/x" {
			t.Errorf("read %v, %v from %s", urls, err, reply)
		}
	}
}

func TestTokens(t *testing.T) {
	request, err := ccm.ParseTokenManagerRequest(ccm.TokenManagerRequest{ClientID: testID}.Encode())
	if err != nil || request.ClientID != testID {
		t.Errorf("read as %+v, %v", request, err)
	}
	for _, bad := range []string{"", "<TokenRequest/>", `<TokenRequest RequestType="Everything"><ClientID>` + string(testID) + `</ClientID></TokenRequest>`} {
		_, err := ccm.ParseTokenManagerRequest(bad)
		wantKind(t, err, opencmg.Invalid)
	}
	want := ccm.TokenManagerReply{ClientID: testID, ID: "1", Token: "a.b.c", Expires: stamp, Renew: stamp.Add(-time.Hour)}
	got, err := ccm.ParseTokenManagerReply(want.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if r, err := ccm.ParseTokenReply([]byte(`{"access_token":"a.b.c","token_type":"Bearer","expires_in":28800}`)); err != nil || r.AccessToken != "a.b.c" || r.ExpiresIn != 28800 {
		t.Errorf("read as %+v, %v", r, err)
	}
	for _, bad := range []string{"", "{}", `{"access_token":"a","client_id":"x"}`} {
		_, err := ccm.ParseTokenReply([]byte(bad))
		wantKind(t, err, opencmg.Invalid)
	}
}

func TestStatus(t *testing.T) {
	want := ccm.Status{Type: "SMS_GenericStatusMessage_Info", Properties: []ccm.Property{{Name: "a", Value: "b"}}}
	got, err := ccm.ParseStatus(want.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestFrameLayout(t *testing.T) {
	f := ccm.Frame{Type: ccm.FrameRequest, Header: []byte("<h/>"), Payload: []byte("<p/>")}
	const want = "\x08\x00\x00\x00\x01\x00\x01\x00\x04\x00\x00\x00\x03\x00<h/><p/>"
	b := f.Append(nil)
	if string(b) != want {
		t.Fatalf("frame is %q, want %q", b, want)
	}
	got, rest, err := ccm.ParseFrame(append(b, "next"...))
	if err != nil || string(rest) != "next" {
		t.Fatalf("rest %q, %v", rest, err)
	}
	if d := cmp.Diff(f, got); d != "" {
		t.Error(d)
	}
	r := strings.NewReader(want)
	if got, err = ccm.ReadFrame(r); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(f, got); d != "" {
		t.Error(d)
	}
	if _, err := ccm.ReadFrame(r); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	if _, err := ccm.ReadFrame(strings.NewReader(want[:16])); err != io.ErrUnexpectedEOF {
		t.Errorf("cut short: %v", err)
	}
	if _, err := ccm.ReadFrame(strings.NewReader(want[:14])); err != io.ErrUnexpectedEOF {
		t.Errorf("cut behind the head: %v", err)
	}
	_, err = ccm.ReadFrame(strings.NewReader("\xff\xff\xff\x7f" + want[4:]))
	wantKind(t, err, opencmg.TooLarge)
	_, err = ccm.ReadFrame(strings.NewReader("\x02" + want[1:]))
	wantKind(t, err, opencmg.TooLarge) // header longer than the payload
	_, err = ccm.ReadFrame(strings.NewReader("\x08\x00\x00\x00\x02" + want[5:]))
	wantKind(t, err, opencmg.Invalid)
}

func TestNotification(t *testing.T) {
	in := ccm.SignIn{Time: stamp, ClientID: testID, ClientVersion: "5.00.9128.1000"}
	got, err := ccm.ParseSignIn(in.Frame())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(in, got); d != "" {
		t.Error(d)
	}
	if s := string(in.KeepAlive().Payload); !strings.HasPrefix(s, "<BgbKeepAliveMessage TimeStamp=") || strings.Contains(s, "Version") {
		t.Errorf("keep-alive is %s", s)
	}
	task := ccm.Task{Time: stamp, PushID: 3, TaskID: 4, TaskGUID: "{X}", Type: ccm.TaskMachinePolicy, Param: "QQ=="}
	gotTask, err := ccm.ParseTask(task.Frame())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(task, gotTask); d != "" {
		t.Error(d)
	}
	response := ccm.TaskResponse{Time: stamp, PushID: 3, TaskID: 4}
	gotResponse, err := ccm.ParseTaskResponse(response.Frame())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(response, gotResponse); d != "" {
		t.Error(d)
	}

	c := ccm.ContinueRequest{KeepAlive: 15 * time.Minute, Session: []byte("session"), Frame: in.KeepAlive(), SourceID: testID}
	b, err := c.Encode(testKey())
	if err != nil {
		t.Fatal(err)
	}
	gotContinue, err := ccm.ParseContinue(b)
	if err != nil {
		t.Fatal(err)
	}
	if gotContinue.KeepAlive != c.KeepAlive || string(gotContinue.Session) != "session" || gotContinue.SourceID != testID {
		t.Errorf("read as %+v", gotContinue)
	}
	if err := ccm.VerifyNotification(&testKey().PublicKey, gotContinue.Frame.Payload, gotContinue.Signature); err != nil {
		t.Error(err)
	}
	wantKind(t, ccm.VerifyNotification(&otherKey().PublicKey, gotContinue.Frame.Payload, gotContinue.Signature), opencmg.Unauthorized)
	wantKind(t, ccm.VerifyNotification(&testKey().PublicKey, nil, "?"), opencmg.Unauthorized)
	for n := range b {
		if _, err := ccm.ParseContinue(b[:n]); err == nil {
			t.Fatalf("accepted %d of %d bytes", n, len(b))
		}
	}
	for _, session := range []string{"", "abc"} {
		got, err := ccm.ParseLogIn(ccm.EncodeLogIn([]byte(session)))
		if err != nil || string(got) != session {
			t.Errorf("session %q, %v", got, err)
		}
	}
	if got, err := ccm.ParseLogIn(nil); got != nil || err != nil {
		t.Errorf("empty answer: %q, %v", got, err)
	}
	_, err = ccm.ParseLogIn([]byte{9, 0, 0, 0})
	wantKind(t, err, opencmg.Invalid)
}

func FuzzFrame(f *testing.F) {
	f.Add(ccm.SignIn{Time: stamp, ClientID: testID}.Frame().Append(nil))
	f.Add([]byte("\x08\x00\x00\x00\x01\x00\x01\x00\x04\x00\x00\x00\x03\x00<h/><p/>"))
	f.Fuzz(func(t *testing.T, b []byte) {
		fr, rest, err := ccm.ParseFrame(b)
		got, streamErr := ccm.ReadFrame(bytes.NewReader(b))
		if (err == nil) != (streamErr == nil) {
			t.Fatalf("slice %v, stream %v", err, streamErr)
		}
		ccm.ParseContinue(b)
		if err != nil {
			return
		}
		if d := cmp.Diff(string(fr.Append(nil)), string(got.Append(nil))); d != "" {
			t.Error(d)
		}
		if string(append(fr.Append(nil), rest...)) != string(b) {
			t.Error("frame changed on its way")
		}
		ccm.ParseSignIn(fr)
		ccm.ParseTask(fr)
		ccm.ParseTaskResponse(fr)
	})
}
