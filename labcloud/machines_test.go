package labcloud_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencmg/opencmg/labcloud"
)

// TestMain is also the machine: the test binary starts itself with the
// specification in the environment.
func TestMain(m *testing.M) {
	if spec := os.Getenv("LABCLOUD_TEST_MACHINE"); spec != "" {
		runMachine(spec)
		return
	}
	os.Exit(m.Run())
}

// runMachine serves every port: "/" tells who it is, "/readyz" is its health,
// "/exit" ends it. A file named sick in its directory makes it unhealthy.
func runMachine(raw string) {
	var spec labcloud.MachineSpec
	if err := json.Unmarshal([]byte(raw), &spec); err != nil {
		panic(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s|%s|%d|%s", spec.InstanceID, strings.TrimSpace(string(spec.CustomData)), os.Getpid(), r.Host)
	})
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if _, err := os.Stat(filepath.Join(spec.Dir, "sick")); err == nil {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("/exit", func(http.ResponseWriter, *http.Request) { os.Exit(3) })
	for _, addr := range spec.Ports {
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			panic(err)
		}
		go http.Serve(ln, mux)
	}
	io.Copy(io.Discard, os.Stdin) // until the parent test is gone
	os.Exit(0)
}

type process struct {
	cmd  *exec.Cmd
	done chan struct{}
}

func (p *process) PID() int              { return p.cmd.Process.Pid }
func (p *process) Kill() error           { return p.cmd.Process.Kill() }
func (p *process) Done() <-chan struct{} { return p.done }

// A launcher starts machines and counts them.
type launcher struct {
	mu      sync.Mutex
	started map[string]int // by instance ID
	running map[int]*process
	fail    int // how many starts still fail
}

func newLauncher() *launcher {
	return &launcher{started: map[string]int{}, running: map[int]*process{}}
}

func (l *launcher) start(spec labcloud.MachineSpec) (labcloud.MachineProcess, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail > 0 {
		l.fail--
		return nil, fmt.Errorf("the launcher fails on purpose")
	}
	b, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "LABCLOUD_TEST_MACHINE="+string(b))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	l.started[spec.InstanceID]++
	l.running[p.PID()] = p
	go func() {
		cmd.Wait()
		in.Close()
		close(p.done)
	}()
	return p, nil
}

func (l *launcher) count(id string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.started[id]
}

// await asks again until the condition holds. The things waited for happen in
// other processes, which send no signal; the test's own timeout is the limit.
func await(t *testing.T, what string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	limit, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for !f() {
		select {
		case <-tick.C:
		case <-limit.Done():
			t.Fatalf("still not: %s", what)
		}
	}
}

func (c *cloud) frontend(port int) string {
	for _, f := range c.State().Frontends {
		if f.Port == port {
			return f.Address
		}
	}
	return ""
}

// via asks the machine behind an address with a connection of its own.
func via(addr, path string) (string, error) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	resp, err := client.Get("http://" + addr + path)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

func (c *cloud) healthy(n int) bool {
	got := 0
	for _, m := range c.State().Machines {
		if m.Health == "healthy" {
			got++
		}
	}
	return got == n
}

// seen collects which instances answer behind an address.
func seen(t *testing.T, addr string, tries int) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	for range tries {
		s, err := via(addr, "/")
		if err != nil {
			t.Fatal(err)
		}
		out[strings.Split(s, "|")[0]] = true
	}
	return out
}

func TestMachinesBehindTheBalancer(t *testing.T) {
	l := newLauncher()
	c := newCloud(t, func(cfg *labcloud.Config) { cfg.StartMachine = l.start })
	c.deploy(templateOptions{custom: "first"})
	await(t, "two healthy machines", func() bool { return c.healthy(2) })
	addr := c.frontend(443)
	if diff := cmp.Diff(map[string]bool{"0": true, "1": true}, seen(t, addr, 40)); diff != "" {
		t.Errorf("behind 443 (-want +got):\n%s", diff)
	}
	for _, m := range c.State().Machines {
		s, err := via(c.frontend(m.PublicPorts[0]), "/")
		if err != nil || !strings.HasPrefix(s, m.InstanceID+"|#cloud-config") || !strings.Contains(s, "first|"+strconv.Itoa(m.PID)+"|") {
			t.Errorf("NAT port %d of instance %s: %q %v", m.PublicPorts[0], m.InstanceID, s, err)
		}
	}
	view := c.arm("GET", resourcePath(setType, prefix)+"/virtualMachines?$expand=instanceView", "2024-07-01", nil)
	if !contains(view.body, "HealthState/healthy") {
		t.Errorf("view: %s", view.raw)
	}
	// A sick machine gets no new clients, but its own port still works.
	m := c.State().Machines[0]
	var dir string
	await(t, "the directory", func() bool {
		found, _ := filepath.Glob(filepath.Join(os.TempDir(), "labcloud-*", "machines", m.VMID))
		if len(found) == 1 {
			dir = found[0]
		}
		return dir != ""
	})
	if err := os.WriteFile(filepath.Join(dir, "sick"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	await(t, "one healthy machine", func() bool { return c.healthy(1) })
	if diff := cmp.Diff(map[string]bool{"1": true}, seen(t, addr, 20)); diff != "" {
		t.Errorf("behind 443 with one sick (-want +got):\n%s", diff)
	}
	if _, err := via(c.frontend(m.PublicPorts[0]), "/"); err != nil {
		t.Error(err)
	}
	os.Remove(filepath.Join(dir, "sick"))
	await(t, "two healthy machines again", func() bool { return c.healthy(2) })
	// A machine that ends by itself is started again, at the same addresses.
	via(c.frontend(m.PublicPorts[0]), "/exit")
	await(t, "a second start", func() bool { return l.count(m.InstanceID) == 2 })
	await(t, "two healthy machines after an exit", func() bool { return c.healthy(2) })
	if diff := cmp.Diff(m.Ports, c.State().Machines[0].Ports); diff != "" {
		t.Errorf("ports (-want +got):\n%s", diff)
	}
	if l.count("1") != 1 {
		t.Errorf("instance 1 was started %d times", l.count("1"))
	}
	// Cutting ends connections that are open.
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if a := c.admin("POST", "/lab/cut", nil).want(t, 200, ""); a.body["cut"] == 0.0 {
		t.Error("nothing was cut")
	}
	if _, err := io.Copy(io.Discard, conn); err == nil {
		t.Log("the connection ended without a reset")
	}
	if got := c.arm("GET", resourcePath(setType, prefix)+"/providers/Microsoft.Insights/metrics?metricnames=Network%20Out%20Total&aggregation=Total&interval=PT1H&timespan="+span(), "2023-10-01", nil).want(t, 200, ""); !contains(got.body, `"total":`) {
		t.Errorf("metrics: %s", got.raw)
	}
}

func span() string {
	now := time.Now().UTC()
	return now.Add(-2*time.Hour).Format(time.RFC3339) + "/" + now.Add(time.Hour).Format(time.RFC3339)
}

func (c *cloud) act(action string, body any) answer {
	c.t.Helper()
	return c.finish(c.arm("POST", resourcePath(setType, prefix)+"/"+action, "2024-07-01", body).want(c.t, 202, ""))
}

func (c *cloud) power() map[string]string {
	out := map[string]string{}
	for _, m := range c.State().Machines {
		out[m.InstanceID] = m.Power
		if (m.PID != 0) != (m.Power == "running") {
			c.t.Errorf("instance %s: process %d, power %s", m.InstanceID, m.PID, m.Power)
		}
	}
	return out
}

func TestScaleSetLife(t *testing.T) {
	l := newLauncher()
	c := newCloud(t, func(cfg *labcloud.Config) { cfg.StartMachine = l.start })
	c.deploy(templateOptions{custom: "one"})
	want := func(what string, power map[string]string) {
		t.Helper()
		if diff := cmp.Diff(power, c.power()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	want("deployed", map[string]string{"0": "running", "1": "running"})
	ports := func() string { return fmt.Sprint(c.State().Machines[0].PublicPorts, c.State().Machines[1].PublicPorts) }
	before := ports()
	c.act("deallocate", nil)
	want("deallocated", map[string]string{"0": "deallocated", "1": "deallocated"})
	iv := c.arm("GET", resourcePath(setType, prefix)+"/instanceView", "2024-07-01", nil).want(t, 200, "")
	if !contains(iv.body, `{"code":"PowerState/deallocated","count":2}`) {
		t.Errorf("view: %s", iv.raw)
	}
	c.act("start", j{"instanceIds": l2("1")})
	want("started one", map[string]string{"0": "deallocated", "1": "running"})
	c.act("start", nil)
	want("started", map[string]string{"0": "running", "1": "running"})
	if ports() != before {
		t.Errorf("NAT ports changed from %s to %s", before, ports())
	}
	pids := func() []int { return []int{c.State().Machines[0].PID, c.State().Machines[1].PID} }
	old := pids()
	c.act("restart", j{"instanceIds": l2("0")})
	if now := pids(); now[0] == old[0] || now[1] != old[1] {
		t.Errorf("restart of one: %v, before %v", now, old)
	}
	c.arm("POST", resourcePath(setType, prefix)+"/restart", "2024-07-01", j{"instanceIds": l2("9")}).want(t, 400, "InvalidParameter")
	c.arm("POST", resourcePath(setType, prefix)+"/restart", "2024-07-01", j{"instances": l2("0")}).want(t, 400, "InvalidRequestContent")

	// Scaling: new instances get new IDs and free ports, the newest go first.
	scale := func(n int) answer {
		return c.arm("PATCH", resourcePath(setType, prefix), "2024-07-01", j{"sku": j{"name": "Standard_A2_v2", "tier": "Standard", "capacity": n}})
	}
	c.finish(scale(3).want(t, 200, ""))
	want("scaled out", map[string]string{"0": "running", "1": "running", "2": "running"})
	c.finish(scale(1).want(t, 200, ""))
	want("scaled in", map[string]string{"0": "running"})
	c.finish(scale(2).want(t, 200, ""))
	want("scaled out again", map[string]string{"0": "running", "3": "running"})
	if ports() != before {
		t.Errorf("NAT ports %s, want those freed: %s", ports(), before)
	}
	scale(17).want(t, 400, "InvalidRequestContent")
	c.fault(labcloud.Fault{Kind: "quota", Name: "cores", Limit: 4})
	scale(3).want(t, 409, "OperationNotAllowed")
	c.clear()

	// A new model: custom data waits for a reimage.
	c.finish(c.put(template(templateOptions{custom: "two"}, nil)).want(t, 200, ""))
	latest := func() map[string]bool {
		out := map[string]bool{}
		for _, e := range c.arm("GET", resourcePath(setType, prefix)+"/virtualMachines", "2024-07-01", nil).body["value"].([]any) {
			out[field(e, "instanceId").(string)] = field(e, "properties", "latestModelApplied").(bool)
		}
		return out
	}
	if diff := cmp.Diff(map[string]bool{"0": false, "3": false}, latest()); diff != "" {
		t.Errorf("latest model after PUT (-want +got):\n%s", diff)
	}
	old = pids()
	c.act("manualupgrade", j{"instanceIds": l2("0")})
	if diff := cmp.Diff(map[string]bool{"0": true, "3": false}, latest()); diff != "" {
		t.Errorf("latest model after upgrade (-want +got):\n%s", diff)
	}
	boot := func(i int) string {
		m := c.State().Machines[i]
		var s string
		await(t, "an answer of instance "+m.InstanceID, func() (good bool) {
			var err error
			s, err = via(c.frontend(m.PublicPorts[0]), "/")
			return err == nil
		})
		return strings.Split(s, "|")[1]
	}
	if pids()[0] != old[0] || !strings.HasSuffix(boot(0), "one") {
		t.Errorf("an upgrade of custom data alone replaced the machine: %q", boot(0))
	}
	c.act("reimage", j{"instanceIds": l2("0")})
	if got := boot(0); !strings.HasSuffix(got, "two") || c.State().Machines[0].Generation != 1 {
		t.Errorf("after reimage: %q", got)
	}
	if got := boot(1); !strings.HasSuffix(got, "one") {
		t.Errorf("the other machine: %q", got)
	}
	// One machine, by its own path.
	c.finish(c.arm("POST", resourcePath(setType, prefix)+"/virtualMachines/3/reimage", "2024-07-01", nil).want(t, 202, ""))
	if diff := cmp.Diff(map[string]bool{"0": true, "3": true}, latest()); diff != "" {
		t.Errorf("latest model after reimage (-want +got):\n%s", diff)
	}
	// A new size rolls through by itself, one after the other.
	await(t, "two healthy machines", func() bool { return c.healthy(2) })
	old = pids()
	c.finish(c.put(template(templateOptions{custom: "two", size: "Standard_A4_v2"}, nil)).want(t, 200, ""))
	if now := pids(); now[0] == old[0] || now[1] == old[1] {
		t.Errorf("after a new size: %v, before %v", now, old)
	}
	r := c.arm("GET", resourcePath(setType, prefix)+"/rollingUpgrades/latest", "2024-07-01", nil).want(t, 200, "")
	if field(r.body, "properties", "runningStatus", "code") != "Completed" || field(r.body, "properties", "progress", "successfulInstanceCount") != 2.0 {
		t.Errorf("rolling upgrade: %s", r.raw)
	}
	c.arm("POST", resourcePath(setType, prefix)+"/rollingUpgrades/cancel", "2024-07-01", nil).want(t, 409, "OperationNotAllowed")
	c.act("delete", j{"instanceIds": l2("0")})
	want("deleted one", map[string]string{"3": "running"})
	// A start that fails fails the operation; the machine is tried again.
	l.mu.Lock()
	l.fail = 1
	l.mu.Unlock()
	if p := c.finish(scale(2).want(t, 200, "")); field(p.body, "error", "code") != "OSProvisioningTimedOut" {
		t.Errorf("failing start: %s", p.raw)
	}
	await(t, "the machine after all", func() bool { return len(c.State().Machines) == 2 && c.State().Machines[1].PID != 0 })
}

func l2(s ...string) l {
	out := l{}
	for _, e := range s {
		out = append(out, e)
	}
	return out
}

func TestPortMapping(t *testing.T) {
	c := newCloud(t, nil)
	c.deploy(templateOptions{})
	query := func(body any) answer {
		return c.arm("POST", resourcePath(lbType, prefix+"-lb")+"/backendAddressPools/machines/queryInboundNatRulePortMapping", "2024-05-01", body)
	}
	nics := c.arm("GET", resourcePath(setType, prefix)+"/networkInterfaces", "2018-10-01", nil).want(t, 200, "")
	for i, m := range c.State().Machines {
		ipConfig := field(nics.body, "value", i, "properties", "ipConfigurations", 0)
		for _, body := range []j{{"ipAddress": field(ipConfig, "properties", "privateIPAddress")}, {"ipConfiguration": j{"id": field(ipConfig, "id")}}} {
			got := c.finish(query(body).want(t, 202, "")).want(t, 200, "")
			if diff := cmp.Diff(j{"inboundNatRuleName": "tunnels", "protocol": "Tcp", "frontendPort": float64(m.PublicPorts[0]), "backendPort": 10124.0}, field(got.body, "inboundNatRulePortMappings", 0)); diff != "" {
				t.Errorf("instance %s (-want +got):\n%s", m.InstanceID, diff)
			}
		}
	}
	if got := c.finish(query(j{"ipAddress": "10.9.9.9"}).want(t, 202, "")); len(field(got.body, "inboundNatRulePortMappings").([]any)) != 0 {
		t.Errorf("unknown address: %s", got.raw)
	}
	query(j{}).want(t, 400, "InvalidRequestFormat")
	query(j{"ip": "10.0.0.4"}).want(t, 400, "InvalidRequestContent")
}

func TestMetadata(t *testing.T) {
	c := newCloud(t, nil)
	d := c.deploy(templateOptions{})
	client := field(d.body, "properties", "outputs", "identity", "value").(string)
	base := "http://" + c.State().Machines[1].Metadata + "/metadata"
	get := func(path string, header bool) (int, j) {
		req, _ := http.NewRequestWithContext(t.Context(), "GET", base+path, nil)
		if header {
			req.Header.Set("Metadata", "true")
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		m := j{}
		json.NewDecoder(resp.Body).Decode(&m)
		return resp.StatusCode, m
	}
	token := "/identity/oauth2/token?api-version=2018-02-01&resource=" + c.hosts.VaultAudience
	if status, _ := get(token, false); status != 400 {
		t.Errorf("without the header: %d", status)
	}
	for _, path := range []string{token + "&client_id=" + client, token} {
		status, m := get(path, true)
		if status != 200 || m["client_id"] != client || m["token_type"] != "Bearer" {
			t.Fatalf("%s: %d %v", path, status, m)
		}
		if _, err := strconv.Atoi(m["expires_on"].(string)); err != nil {
			t.Errorf("expires_on %v", m["expires_on"])
		}
		got := claims(t, m["access_token"].(string))
		if got["aud"] != c.hosts.VaultAudience || got["appid"] != client || got["tid"] != tenant {
			t.Errorf("claims %v", got)
		}
	}
	for _, path := range []string{token + "&client_id=" + device, "/identity/oauth2/token?api-version=2018-02-01&resource=x", "/identity/oauth2/token?resource=" + c.hosts.VaultAudience, "/identity/oauth2/token?api-version=1&resource=x", "/instance/compute?api-version=1"} {
		if status, m := get(path, true); status != 400 {
			t.Errorf("%s: %d %v", path, status, m)
		}
	}
	_, m := get("/instance/compute?api-version=2021-02-01", true)
	want := j{"vmId": c.State().Machines[1].VMID, "name": prefix + "_1", "vmScaleSetName": prefix, "location": region, "subscriptionId": subscription, "resourceGroupName": group}
	got := j{}
	for k := range want {
		got[k] = m[k]
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("compute (-want +got):\n%s", diff)
	}
	if status, m := get("/instance?api-version=2021-02-01", true); status != 200 || field(m, "compute", "vmId") != want["vmId"] {
		t.Errorf("instance: %d %v", status, m)
	}
}

// adopted is a process of an earlier server's.
type adopted struct {
	pid  int
	done <-chan struct{}
}

func (a adopted) PID() int              { return a.pid }
func (a adopted) Done() <-chan struct{} { return a.done }
func (a adopted) Kill() error {
	p, err := os.FindProcess(a.pid)
	if err != nil {
		return err
	}
	return p.Kill()
}

func TestRestart(t *testing.T) {
	dir := t.TempDir()
	l := newLauncher()
	t.Cleanup(func() {
		for _, p := range l.running {
			p.Kill()
		}
	})
	config := func(cfg *labcloud.Config) {
		cfg.StateDir, cfg.LeaveMachines, cfg.StartMachine = dir, true, l.start
		cfg.AdoptMachine = func(pid int, spec labcloud.MachineSpec) (labcloud.MachineProcess, bool) {
			l.mu.Lock()
			p := l.running[pid]
			l.mu.Unlock()
			if p == nil {
				return nil, false
			}
			select {
			case <-p.done:
				return nil, false
			default:
			}
			_, err := via(spec.Ports[9445], "/readyz")
			return adopted{pid, p.done}, err == nil
		}
	}
	c := newCloud(t, config)
	c.deploy(templateOptions{})
	await(t, "two healthy machines", func() bool { return c.healthy(2) })
	before := c.State()
	token := c.token(c.hosts.ARMAudiences[0] + "//.default")
	if err := c.PutUser(labcloud.User{Tenant: tenant, ID: device, UPN: "bob@contoso.example"}); err != nil {
		t.Fatal(err)
	}
	c.stop()
	if info, err := os.Stat(filepath.Join(dir, "state.json")); err != nil || info.Mode().Perm() != 0o600 && runtime.GOOS != "windows" {
		t.Errorf("state file: %v %v", info, err)
	}
	// One of the two machines dies while nobody looks.
	dead := l.running[before.Machines[1].PID]
	dead.Kill()
	<-dead.done

	c = newCloud(t, config)
	await(t, "two healthy machines again", func() bool { return c.healthy(2) })
	after := c.State()
	if after.Machines[0].PID != before.Machines[0].PID {
		t.Errorf("instance 0 was not adopted: process %d, before %d", after.Machines[0].PID, before.Machines[0].PID)
	}
	if after.Machines[1].PID == before.Machines[1].PID || l.count("1") != 2 || l.count("0") != 1 {
		t.Errorf("instance 1 was not started again: %v", l.started)
	}
	for i := range after.Machines {
		before.Machines[i].PID, after.Machines[i].PID = 0, 0
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("state (-want +got):\n%s", diff)
	}
	if got := seen(t, c.frontend(443), 20); len(got) != 2 {
		t.Errorf("behind 443: %v", got)
	}
	// The key that signed the token is still there, and so is everything else.
	c.do("GET", "https://"+c.hosts.ARM+"/subscriptions/"+subscription+"?api-version=2022-12-01", token, nil).want(t, 200, "")
	if d := c.arm("GET", deploymentPath, "2025-04-01", nil); field(d.body, "properties", "provisioningState") != "Succeeded" {
		t.Errorf("deployment: %s", d.raw)
	}
	c.finish(c.arm("DELETE", "/resourcegroups/"+group, "2021-04-01", nil).want(t, 202, ""))
	for pid, p := range l.running {
		select {
		case <-p.done:
		default:
			t.Errorf("process %d outlives its group", pid)
		}
	}
}

// TestRestartDuringDeployment ends the server while the first machine starts;
// the next one finishes the deployment.
func TestRestartDuringDeployment(t *testing.T) {
	dir := t.TempDir()
	l := newLauncher()
	starting, gate := make(chan struct{}, 8), make(chan struct{})
	config := func(cfg *labcloud.Config) {
		cfg.StateDir = dir
		cfg.StartMachine = func(spec labcloud.MachineSpec) (labcloud.MachineProcess, error) {
			starting <- struct{}{}
			<-gate
			return l.start(spec)
		}
	}
	c := newCloud(t, config)
	c.makeGroup()
	c.put(template(templateOptions{}, nil)).want(t, 201, "")
	<-starting
	front := c.frontend(443)
	stopped := make(chan struct{})
	go func() { defer close(stopped); c.stop() }()
	await(t, "closed front ends", func() bool {
		conn, err := net.Dial("tcp", front)
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	close(gate)
	<-stopped
	c = newCloud(t, config)
	await(t, "the end of the deployment", func() bool {
		s := field(c.arm("GET", deploymentPath, "2025-04-01", nil).want(t, 200, "").body, "properties", "provisioningState")
		return s == "Succeeded" || s == "Failed"
	})
	d := c.arm("GET", deploymentPath, "2025-04-01", nil)
	if field(d.body, "properties", "provisioningState") != "Succeeded" || len(c.State().Machines) != 2 {
		t.Errorf("deployment: %s", d.raw)
	}
	await(t, "two healthy machines", func() bool { return c.healthy(2) })
}
