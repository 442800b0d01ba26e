package mp_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/ccm"
	"github.com/opencmg/opencmg/mp"
	"github.com/opencmg/opencmg/sitedb"
)

// continues posts one Continue request.
func (d *device) continues(keepAlive time.Duration, f ccm.Frame) (int, string) {
	d.g.t.Helper()
	body, err := ccm.ContinueRequest{KeepAlive: keepAlive, Frame: f, SourceID: d.id}.Encode(d.key())
	if err != nil {
		d.g.t.Fatal(err)
	}
	code, answer, _ := d.do(ccm.MethodCCMPost, "/bgb/handler.ashx?RequestType=Continue", "text/plain;charset=utf-8", bytes.NewReader(body))
	return code, answer
}

func (d *device) signIn() ccm.SignIn {
	return ccm.SignIn{Time: time.Now(), ClientID: d.id, ClientVersion: "5.1"}
}

func (g *rig) approved(n int) *device {
	g.t.Helper()
	d := g.inside(n)
	d.register()
	if err := g.server.ApproveClient(g.t.Context(), d.id, sitedb.Approved); err != nil {
		g.t.Fatal(err)
	}
	return d
}

// online waits until n clients hold a channel.
func (g *rig) online(n int) []mp.ClientStatus {
	g.t.Helper()
	for {
		var on []mp.ClientStatus
		for _, c := range getJSON[[]mp.ClientStatus](g, "/clients") {
			if c.Online != "" {
				on = append(on, c)
			}
		}
		if len(on) == n {
			return on
		}
		if err := g.t.Context().Err(); err != nil {
			g.t.Fatal(err)
		}
	}
}

func (g *rig) notify(q mp.NotifyRequest) mp.NotifyReply {
	g.t.Helper()
	code, body := g.post("/notify", q)
	if code != http.StatusOK {
		g.t.Fatalf("notify: %d %s", code, body)
	}
	var r mp.NotifyReply
	if err := json.Unmarshal(body, &r); err != nil {
		g.t.Fatal(err)
	}
	return r
}

func oneTask(t *testing.T, answer string) ccm.Task {
	t.Helper()
	f, rest, err := ccm.ParseFrame([]byte(answer))
	if err != nil {
		t.Fatalf("%v in %q", err, answer)
	}
	if f.Type != ccm.FrameRequest || len(rest) != 0 {
		t.Fatalf("frame type %d with %d bytes behind it", f.Type, len(rest))
	}
	task, err := ccm.ParseTask(f)
	if err != nil {
		t.Fatal(err)
	}
	return task
}

func TestHeldNotification(t *testing.T) {
	g := start(t, nil)
	d := g.approved(0)
	if code, body, _ := d.do(ccm.MethodCCMPost, "/BGB/handler.ashx?RequestType=LogIn", "application/x-www-form-urlencoded", nil); code != 200 || body != "\x00\x00\x00\x00" {
		t.Errorf("log in: %d %q", code, body)
	}
	answers := make(chan string, 1)
	listen := func(f ccm.Frame) {
		go func() {
			_, answer := d.continues(time.Minute, f)
			answers <- answer
		}()
	}
	listen(d.signIn().Frame())
	if on := g.online(1); on[0].ID != d.id || on[0].Online != "http" || on[0].Internet {
		t.Errorf("online: %+v", on)
	}
	// It registered without any proof but its key.
	if on := g.server.Online(); len(on) != 1 || on[0] != (opencmg.OnlineClients{Place: opencmg.PlaceIntranet, Auth: opencmg.AuthNone, Clients: 1}) {
		t.Errorf("online: %+v", on)
	}
	sent := g.notify(mp.NotifyRequest{Client: string(d.id), Task: "machine-policy", Param: "QQ=="})
	task := oneTask(t, <-answers)
	if task.Type != ccm.TaskMachinePolicy || task.Param != "QQ==" || task.PushID != int(sent.Notifications[0].PushID) || task.TaskGUID == "" {
		t.Errorf("task: %+v", task)
	}
	// The answer travels in the next request, which is held again.
	listen(ccm.TaskResponse{Time: time.Now(), PushID: task.PushID, TaskID: task.TaskID, ReturnCode: 5}.Frame())
	g.online(1)
	status := getJSON[mp.NotificationStatus](g, "/notifications/"+itoa(task.PushID))
	if status.Answered == nil || status.ReturnCode != 5 || status.Delivered == nil {
		t.Errorf("notification: %+v", status)
	}
	// A newer request takes the place of a held one.
	newer := make(chan string, 1)
	go func() {
		_, answer := d.continues(time.Minute, d.signIn().KeepAlive())
		newer <- answer
	}()
	if answer := <-answers; answer != "" {
		t.Errorf("replaced request was answered with %q", answer)
	}
	g.notify(mp.NotifyRequest{Client: "*", Task: "1003"})
	first := oneTask(t, <-newer)
	if first.Type != ccm.TaskTest {
		t.Errorf("task: %+v", first)
	}
	// An answer that was lost on its way, with a gateway instance for example,
	// is sent again as soon as the client shows that it did not get it.
	_, answer := d.continues(time.Minute, d.signIn().KeepAlive())
	second := oneTask(t, answer)
	if second.PushID != first.PushID {
		t.Errorf("sent again: %+v, want %+v", second, first)
	}
	response := ccm.TaskResponse{PushID: second.PushID, TaskID: second.TaskID}.Frame()
	g.notify(mp.NotifyRequest{Client: string(d.id), Task: "1003"})
	_, answer = d.continues(time.Minute, response)
	third := oneTask(t, answer)
	// So does one whose answer arrives for the second time.
	_, answer = d.continues(time.Minute, response)
	if again := oneTask(t, answer); again.PushID != third.PushID {
		t.Errorf("sent again: %+v, want %+v", again, third)
	}
	d.continues(0, ccm.TaskResponse{PushID: third.PushID, TaskID: third.TaskID}.Frame())

	// Nothing is lost while nobody listens.
	g.notify(mp.NotifyRequest{Client: string(d.id), Task: "discovery"})
	_, answer = d.continues(time.Minute, d.signIn().KeepAlive())
	last := oneTask(t, answer)
	if last.Type != ccm.TaskDiscovery {
		t.Errorf("answer: %q", answer)
	}
	// When the time is over the answer is empty.
	if code, answer := d.continues(0, ccm.TaskResponse{PushID: last.PushID, TaskID: last.TaskID}.Frame()); code != 200 || answer != "" {
		t.Errorf("after the keep-alive time: %d %q", code, answer)
	}
}

func itoa(n int) string { b, _ := json.Marshal(n); return string(b) }

func TestNotifyWaitsForAnswers(t *testing.T) {
	g := start(t, nil)
	d := g.approved(0)
	var wg sync.WaitGroup
	wg.Go(func() {
		_, answer := d.continues(time.Minute, d.signIn().Frame())
		task := oneTask(t, answer)
		d.continues(0, ccm.TaskResponse{PushID: task.PushID, TaskID: task.TaskID}.Frame())
	})
	r := g.notify(mp.NotifyRequest{Client: string(d.id), Task: "test", Wait: 60})
	wg.Wait()
	if r.Answered != 1 || len(r.Notifications) != 1 || r.Notifications[0].Answered == nil {
		t.Errorf("reply: %+v", r)
	}
	if r := g.notify(mp.NotifyRequest{Client: string(d.id), Task: "test", Wait: 0.01}); r.Answered != 0 {
		t.Errorf("nobody listens, but: %+v", r)
	}
}

func TestNotificationRefusals(t *testing.T) {
	g := start(t, nil)
	d := g.approved(0)
	other := g.approved(1)
	forger := *d
	forger.cert = other.cert
	stranger := *d
	stranger.id = "GUID:11111111-2222-3333-4444-555555555555"
	late := d.signIn()
	late.Time = late.Time.Add(-3 * time.Hour)
	about := d.signIn()
	about.ClientID = other.id
	for name, c := range map[string]struct {
		d    *device
		f    ccm.Frame
		code int
		why  string
	}{
		"wrong key":        {&forger, d.signIn().Frame(), 403, "signature does not fit"},
		"unknown client":   {&stranger, d.signIn().Frame(), 403, "not registered"},
		"old frame":        {d, late.Frame(), 403, "away from our clock"},
		"somebody else":    {d, about.Frame(), 403, "about somebody else"},
		"unknown frame":    {d, ccm.Frame{Type: 6, Payload: []byte("<a/>")}, 400, "frame type"},
		"answer to nobody": {d, ccm.TaskResponse{PushID: 99}.Frame(), 404, "no notification"},
	} {
		if code, _ := c.d.continues(0, c.f); code != c.code {
			t.Errorf("%s: %d, want %d", name, code, c.code)
		}
		d.lastID = c.d.lastID
		if !strings.Contains(d.why(), c.why) {
			t.Errorf("%s: verdict is %q", name, d.why())
		}
	}
	for _, path := range []string{"?RequestType=Continue", "?RequestType=Other", ""} {
		if code, _, _ := d.do("POST", ccm.PathNotification+path, "", strings.NewReader("abc")); code != 400 {
			t.Errorf("%q: %d", path, code)
		}
	}
	if err := g.server.ApproveClient(t.Context(), d.id, sitedb.ApprovalRefused); err != nil {
		t.Fatal(err)
	}
	if code, _ := d.continues(0, d.signIn().Frame()); code != 403 {
		t.Errorf("refused client: %d", code)
	}
	for name, q := range map[string]any{
		"no JSON":        "x",
		"no task":        mp.NotifyRequest{Client: string(d.id)},
		"unknown task":   mp.NotifyRequest{Client: string(d.id), Task: "dance"},
		"negative task":  mp.NotifyRequest{Client: string(d.id), Task: "-1"},
		"bad client":     mp.NotifyRequest{Client: "x", Task: "test"},
		"unknown field":  map[string]string{"client": "*", "task": "test", "tusk": "x"},
		"unknown client": mp.NotifyRequest{Client: string(stranger.id), Task: "test"},
	} {
		if code, body := g.post("/notify", q); code != 400 && code != 404 {
			t.Errorf("%s: %d %s", name, code, body)
		}
	}
}

// dial opens the fast channel and signs in.
func (d *device) dial(cert *tls.Certificate) (*tls.Conn, error) {
	tr := d.g.clientWith(cert).Transport.(*http.Transport)
	raw, err := net.Dial("tcp", d.g.fast)
	if err != nil {
		return nil, err
	}
	config := tr.TLSClientConfig.Clone()
	config.ServerName = "mp.example.com"
	conn := tls.Client(raw, config)
	d.g.t.Cleanup(func() { conn.Close() })
	if _, err := conn.Write(d.signIn().Frame().Append(nil)); err != nil {
		return nil, err
	}
	f, err := ccm.ReadFrame(conn)
	if err != nil {
		return nil, err
	}
	if f.Type != ccm.FrameSignInConfirm {
		return nil, errors.New("no confirmation")
	}
	return conn, nil
}

func TestFastChannel(t *testing.T) {
	g := start(t, nil)
	d := g.approved(0)
	conn, err := d.dial(&d.cert)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(d.signIn().KeepAlive().Append(nil)); err != nil {
		t.Fatal(err)
	}
	if on := g.online(1); on[0].Online != "tcp" {
		t.Errorf("online: %+v", on)
	}
	var wg sync.WaitGroup
	var r mp.NotifyReply
	wg.Go(func() { r = g.notify(mp.NotifyRequest{Client: string(d.id), Task: "hardware-inventory", Wait: 60}) })
	in := bufio.NewReader(conn)
	f, err := ccm.ReadFrame(in)
	if err != nil {
		t.Fatal(err)
	}
	task, err := ccm.ParseTask(f)
	if err != nil || task.Type != ccm.TaskHardwareInventory {
		t.Errorf("task: %+v, %v", task, err)
	}
	if _, err := conn.Write(ccm.TaskResponse{PushID: task.PushID, TaskID: task.TaskID}.Frame().Append(nil)); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if r.Answered != 1 {
		t.Errorf("reply: %+v", r)
	}
	// The newest channel counts, on whatever transport.
	second, err := d.dial(&d.cert)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ccm.ReadFrame(in); err == nil {
		t.Error("the older connection was not closed")
	}
	if _, err := second.Write([]byte(strings.Repeat("\xff", 64))); err != nil {
		t.Fatal(err)
	}
	if _, err := ccm.ReadFrame(second); err == nil {
		t.Error("nonsense was taken")
	}
	g.online(0)
}

func TestFastChannelRefusals(t *testing.T) {
	g := start(t, nil)
	d, other := g.approved(0), g.approved(1)
	waiting := g.inside(2)
	waiting.register()
	nobody := g.inside(3)
	nobody.id = "GUID:11111111-2222-3333-4444-555555555555"
	for name, c := range map[string]struct {
		d    *device
		cert *tls.Certificate
	}{
		"no certificate": {d, nil}, "another key": {d, &other.cert}, "not approved": {waiting, &waiting.cert}, "unknown": {nobody, &nobody.cert},
	} {
		if _, err := c.d.dial(c.cert); err == nil {
			t.Errorf("%s: signed in", name)
		}
	}
	g.online(0)

	lenient := start(t, func(c *mp.Config) { c.FastChannelWithoutCertificate = true })
	d = lenient.approved(0)
	if _, err := d.dial(nil); err != nil {
		t.Errorf("allowed by configuration: %v", err)
	}
	if _, err := d.dial(&other.cert); err == nil {
		t.Error("another key signed in")
	}
}

// crowd makes n registered clients with keys of their own. The keys share a
// modulus and differ in the exponent, since making real ones takes too long.
func (g *rig) crowd(n int) []*device {
	g.t.Helper()
	base := keys().devices[0].PrivateKey.(*rsa.PrivateKey)
	phi := big.NewInt(1)
	for _, p := range base.Primes {
		phi.Mul(phi, new(big.Int).Sub(p, big.NewInt(1)))
	}
	var devices []*device
	for e := int64(65539); len(devices) < n; e += 2 {
		d := new(big.Int).ModInverse(big.NewInt(e), phi)
		if d == nil {
			continue
		}
		key := &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: base.N, E: int(e)}, D: d, Primes: base.Primes}
		key.Precompute()
		template := &x509.Certificate{SerialNumber: big.NewInt(e), NotAfter: time.Now().AddDate(1, 0, 0)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
		if err != nil {
			g.t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(der)
		if err != nil {
			g.t.Fatal(err)
		}
		c, _, err := g.db.RegisterClient(g.t.Context(), sitedb.Registration{Client: sitedb.Client{Signing: leaf, Approval: sitedb.Approved}})
		if err != nil {
			g.t.Fatal(err)
		}
		x := &device{g: g, cert: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, id: c.ID, header: http.Header{}}
		x.header.Set(opencmg.HeaderIdentity, opencmg.Identity{Auth: opencmg.AuthClientToken, ClientID: c.ID}.Encode())
		devices = append(devices, x)
	}
	return devices
}

// Many clients hold requests at once and every one gets its task, once.
// OPENCMG_HELD sets how many; memory is logged for docs/benchmarks.md.
func TestManyHeldRequests(t *testing.T) {
	n := 200
	if testing.Short() {
		n = 20
	}
	if v, err := strconv.Atoi(os.Getenv("OPENCMG_HELD")); err == nil {
		n = v
	}
	g := start(t, nil)
	devices := g.crowd(n)
	var before, held runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	// Bare connections, so that what is measured is the server's.
	conns := make([]*tls.Conn, n)
	point := keys().point
	config := g.clientWith(&point).Transport.(*http.Transport).TLSClientConfig
	for i, d := range devices {
		conn, err := tls.Dial("tcp", strings.TrimPrefix(g.url, "https://"), config)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		body, err := ccm.ContinueRequest{KeepAlive: 10 * time.Minute, Frame: d.signIn().Frame(), SourceID: d.id}.Encode(d.key())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintf(conn, "CCM_POST /BGB/handler.ashx?RequestType=Continue HTTP/1.1\r\nHost: mp\r\nContent-Length: %d\r\n%s: %s\r\n\r\n%s",
			len(body), opencmg.HeaderIdentity, d.header.Get(opencmg.HeaderIdentity), body); err != nil {
			t.Fatal(err)
		}
		conns[i] = conn
	}
	for metric(g, "opencmg_mp_online_clients") != float64(n) {
	}
	runtime.GC()
	runtime.ReadMemStats(&held)
	t.Logf("%d held requests: %d bytes of heap and %d of stack each", n, (held.HeapInuse-before.HeapInuse)/uint64(n), (held.StackInuse-before.StackInuse)/uint64(n))
	began := time.Now()
	r := g.notify(mp.NotifyRequest{Client: "*", Task: "test"})
	for i, conn := range conns {
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		if task := oneTask(t, string(answer)); task.Type != ccm.TaskTest {
			t.Errorf("client %d was asked to %+v", i, task)
		}
	}
	t.Logf("notified in %s", time.Since(began))
	if len(r.Notifications) != n {
		t.Errorf("%d notifications", len(r.Notifications))
	}
}

// metric reads one number without labels from /metrics.
func metric(g *rig, name string) float64 {
	g.t.Helper()
	res, err := http.Get(g.private + "/metrics")
	if err != nil {
		g.t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		if v, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			f, err := strconv.ParseFloat(v, 64)
			if err != nil {
				g.t.Fatal(err)
			}
			return f
		}
	}
	g.t.Fatalf("there is no metric %s", name)
	return 0
}

// Stopping releases held requests at once.
func TestStopReleasesHeldRequests(t *testing.T) {
	g := start(t, nil)
	d := g.approved(0)
	var wg sync.WaitGroup
	wg.Go(func() {
		if code, answer := d.continues(time.Minute, d.signIn().Frame()); code != 200 || answer != "" {
			t.Errorf("released: %d %q", code, answer)
		}
	})
	other := g.approved(1)
	conn, err := other.dial(&other.cert)
	if err != nil {
		t.Fatal(err)
	}
	g.online(2)
	g.stop()
	wg.Wait()
	if _, err := io.ReadAll(conn); err != nil && errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("fast channel: %v", err)
	}
}

func TestCallerThatLeavesIsForgotten(t *testing.T) {
	g := start(t, nil)
	d := g.approved(0)
	ctx, cancel := context.WithCancel(t.Context())
	body, err := ccm.ContinueRequest{KeepAlive: time.Minute, Frame: d.signIn().Frame(), SourceID: d.id}.Encode(d.key())
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(ctx, ccm.MethodCCMPost, g.url+ccm.PathNotification+"?RequestType=Continue", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		// TLS says goodbye before the connection closes, and the server's empty
		// answer to that may still come in.
		res, err := d.http.Do(req)
		if err == nil {
			b, _ := io.ReadAll(res.Body)
			res.Body.Close()
			if len(b) > 0 {
				t.Errorf("answer: %q", b)
			}
		} else if !errors.Is(err, context.Canceled) {
			t.Errorf("answer: %v", err)
		}
	})
	g.online(1)
	cancel()
	wg.Wait()
	g.online(0)
}
