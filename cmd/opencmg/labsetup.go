package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/labcloud"
	"github.com/opencmg/opencmg/pki"
)

// Names of the lab's site.
const (
	labSite         = "LAB"
	labServiceName  = "gateway.lab.opencmg.example"
	labGateway      = "gateway" // the deployment name's prefix
	labRegion       = "westeurope"
	labTenant       = "6f3b5a0e-8d2c-4c57-9a41-2d1f0e9b7c11"
	labSubscription = "9a41c7d2-0b63-4f18-8e2d-57c3a1f0b6e4"
	labDeployer     = "0b9de3c4-5f0e-4b7f-8d5e-0f6a1c2d3e4f" // the administrator's own app
	labResourceURI  = "api://6f3b5a0e-8d2c-4c57-9a41-2d1f0e9b7c11/opencmg"
	crlValidity     = 7 * 24 * time.Hour
)

// lab is a whole site on this machine.
type lab struct {
	opts      labOptions
	dir       string
	temporary bool // dir goes away with the lab
	resumed   bool // it goes on from what an earlier one left in dir
	keptMu    sync.Mutex
	kept      *labKept // guarded by keptMu
	log       *slog.Logger

	ports          portPicker
	addr           labAddresses
	pkiRoot        *pki.Authority // of the clients' certificates
	pkiIssuing     *pki.Authority
	publicCA       *pki.Authority    // of the gateways' server certificate and of the lab cloud's
	devices        map[string]string // Entra device ID to secret
	adminSecret    string            // of the lab cloud
	deployerSecret string
	registered     labRegistrations
	users          []labUser
	crlMu          sync.Mutex // one revocation at a time
	lifeline       net.Listener

	// What the parts of the set-up made.
	admin  *adminservice.Client
	mpRole opencmg.RoleID

	processes []*labProcess
	stopWatch context.CancelFunc // ends the watch over machines
	infoMu    sync.Mutex         // guards info and its file
	info      labInfo
}

// labAddresses are the listeners of the lab, as host:port on loopback.
type labAddresses struct {
	crl, cloud, site, mp, mpFast string
	frontends                    map[int]string // public ports of the gateway
	machines                     []string       // metrics and health of machines, by instance ID
	gatewayHTTPS                 []string       // where each instance takes clients, by number
}

func (l *lab) path(parts ...string) string {
	return filepath.Join(append([]string{l.dir}, parts...)...)
}

// setUp makes what an administrator has before the set-up begins: certificates
// and their revocation lists, and here the configuration files of the lab's own
// servers.
func (l *lab) setUp(now time.Time) error {
	for _, d := range []string{"pki", "ca", "crl", "config", "logs", "clients", "state"} {
		if err := os.MkdirAll(l.path(d), 0o700); err != nil {
			return err
		}
	}
	if l.kept == nil {
		l.kept = &labKept{Addresses: map[string]string{}, Devices: map[string]string{}}
	}
	l.kept.Processes = map[string]int{}
	if err := l.pickAddresses(); err != nil {
		return err
	}
	if err := l.makeCertificates(now); err != nil {
		return fmt.Errorf("make certificates: %w", err)
	}
	l.makeSecrets(now)
	// Machines of the lab cloud outlive it, so that they can be adopted, but
	// not the lab.
	var err error
	if l.lifeline, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return err
	}
	go l.holdLifeline()
	// Once the configuration of the site is there, so is what goes with it.
	if err := l.keep(); err != nil {
		return err
	}
	if err := l.writeConfigs(); err != nil {
		return err
	}
	return l.keep()
}

// holdLifeline keeps the connections of machines open until the lab's process
// ends, however it ends.
func (l *lab) holdLifeline() {
	for {
		c, err := l.lifeline.Accept()
		if err != nil {
			return
		}
		go func() {
			io.Copy(io.Discard, c)
			c.Close()
		}()
	}
}

// maxMachines is how many machines of the lab have metrics: a replaced one gets
// a new instance ID.
const maxMachines = 2 * opencmg.MaxInstances

func (l *lab) pickAddresses() error {
	pick := func(to *string, purpose string) (err error) {
		*to, err = l.address(purpose)
		return err
	}
	for purpose, a := range map[string]*string{"crl": &l.addr.crl, "cloud": &l.addr.cloud, "site": &l.addr.site, "mp": &l.addr.mp, "mp-fast": &l.addr.mpFast} {
		if err := pick(a, purpose); err != nil {
			return err
		}
	}
	l.addr.frontends = map[int]string{}
	public := []int{machineHTTPS}
	for n := range opencmg.MaxInstances {
		public = append(public, machineTunnel+n)
	}
	for _, port := range public {
		var a string
		if err := pick(&a, fmt.Sprintf("public-%d", port)); err != nil {
			return err
		}
		l.addr.frontends[port] = a
	}
	l.addr.machines = make([]string, maxMachines)
	for i := range l.addr.machines {
		if err := pick(&l.addr.machines[i], fmt.Sprintf("machine-%d", i)); err != nil {
			return err
		}
	}
	return nil
}

// cloudRules lead from the names of the lab's clouds to the lab cloud.
func (l *lab) cloudRules() []string {
	h := labcloud.LabHosts()
	var rules []string
	for _, host := range []string{h.Login, h.ARM, h.Graph, labGateway + "." + h.Vault, labGateway + "." + h.Blob} {
		rules = append(rules, host+":443:"+l.addr.cloud)
	}
	return rules
}

// loginRule leads to the page where people sign in.
func (l *lab) loginRule() string { return labcloud.LabHosts().Login + ":443:" + l.addr.cloud }

// gatewayRules lead from the gateway's public name to its public ports.
func (l *lab) gatewayRules() []string {
	var rules []string
	for port, a := range l.addr.frontends {
		rules = append(rules, fmt.Sprintf("%s:%d:%s", labServiceName, port, a))
	}
	slices.Sort(rules)
	return rules
}

// writeConfigs writes the configuration files of the servers that are there
// before the set-up begins.
func (l *lab) writeConfigs() error {
	if err := pki.WriteFile(l.path("config", "cloud-admin-secret"), []byte(l.adminSecret+"\n"), 0o600); err != nil {
		return err
	}
	crl := &LabCRLConfig{Listen: l.addr.crl, Dir: l.path("crl")}
	if err := l.addProcess("crl-server", []string{"lab-crl", "serve"}, &crl.Private, crl); err != nil {
		return err
	}
	cloud := &LabCloudConfig{
		Listen: l.addr.cloud, Certificate: l.path("pki", "cloud.pem"), Key: l.path("pki", "cloud.key"),
		AdminSecretFile: l.path("config", "cloud-admin-secret"), StateDir: l.path("state", "cloud"), Tenant: labTenant, Subscription: labSubscription,
		DeployerID: labDeployer, DeployerSecret: l.deployerSecret, Registered: l.registered, Devices: l.devices, Users: l.users,
		Frontends: l.addr.frontends, MachinePrivate: l.addr.machines, MachineLogs: l.path("logs"), Lifeline: l.lifeline.Addr().String(), Log: l.logs("lab-cloud"),
	}
	if err := l.addProcess("lab-cloud", []string{"lab-cloud", "serve"}, &cloud.Private, cloud); err != nil {
		return err
	}
	site := &SiteServerConfig{
		Site: labSite, DataDir: l.path("site"), Listen: l.addr.site, Environments: []opencmg.Environment{opencmg.AzureLab}, Poll: 20,
		Outbound: OutboundConfig{CAFile: l.path("ca.pem"), ConnectTo: append(l.cloudRules(), l.gatewayRules()...)}, Log: l.logs("site"),
	}
	return l.addProcess("site", []string{"site", "serve"}, &site.Private, site)
}

func (l *lab) logs(name string) LogConfig {
	return LogConfig{Dir: l.path("logs", name), Level: l.opts.logLevel}
}

// addProcess writes the configuration of a process that is to be started.
// private is the key for the address of its metrics and health.
func (l *lab) addProcess(name string, words []string, private *string, config any) error {
	var err error
	if *private, err = l.address("private-" + name); err != nil {
		return err
	}
	b, err := yaml.Marshal(config)
	if err != nil {
		return err
	}
	file := l.path("config", name+".yaml")
	if err := pki.WriteFile(file, b, 0o600); err != nil {
		return err
	}
	p := &labProcess{name: name, words: words, config: file, privateURL: "http://" + *private, dir: l.path("logs"), log: l.log}
	p.started = func() { l.started(p) }
	l.processes = append(l.processes, p)
	return nil
}

// start starts the processes with the names and waits until they are ready.
func (l *lab) start(ctx context.Context, progress func(done, all int), names ...string) error {
	for _, n := range names {
		p := l.process(n)
		if err := p.start(); err != nil {
			return err
		}
		l.started(p)
	}
	ctx, cancel := context.WithTimeout(ctx, 40*time.Second)
	defer cancel()
	for i, n := range names {
		if err := l.process(n).ready(ctx, l.processes); err != nil {
			return err
		}
		progress(i+1, len(names))
	}
	return nil
}

// stop ends every process and removes what the lab made.
func (l *lab) stop() {
	if l.stopWatch != nil {
		l.stopWatch()
	}
	// The lab cloud takes its machines with it.
	var wg sync.WaitGroup
	for _, p := range l.processes {
		if p.done != nil {
			wg.Go(func() { p.stop(10 * time.Second) })
		}
	}
	wg.Wait()
	if l.lifeline != nil {
		l.lifeline.Close()
	}
	l.stopMachines()
	os.Remove(l.path(labInfoFile))
	if l.temporary {
		os.RemoveAll(l.dir)
	}
}

// describe fills lab.json.
func (l *lab) describe(ctx context.Context) error {
	spare, err := l.clientCertificate("spare-client", time.Now())
	if err != nil {
		return err
	}
	bulk, err := l.bulkToken(ctx)
	if err != nil {
		return err
	}
	device, err := l.entraToken(ctx, map[string]any{"tenant": labTenant, "deviceId": labDeviceID(-1), "audience": labResourceURI})
	if err != nil {
		return err
	}
	base := "https://" + l.addr.gatewayHTTPS[0]
	l.infoMu.Lock()
	l.info = labInfo{
		PID: os.Getpid(), Console: labConsole{URL: l.consoleURL()}, ServiceName: labServiceName, PublicAddress: l.addr.frontends[machineHTTPS], CAFile: l.path("ca.pem"),
		MutualAuthBase:  base + opencmg.MutualAuthPrefix + string(l.mpRole),
		ServerAuthBase:  base + opencmg.ServerAuthPrefix + string(l.mpRole),
		ManagementPoint: "https://" + l.addr.mp,
		SpareClient:     spare,
		BulkToken:       bulk.Token,
		Entra:           labEntra{Issuer: "https://" + labcloud.LabHosts().STS + "/" + labTenant + "/", Audience: labResourceURI, Token: device, Users: l.users, ConnectTo: l.loginRule()},
		AdminService:    labAdminService{URL: l.admin.URL, CAFile: l.path("site", siteCAFile), TokenFile: l.path("site", siteTokenFile)},
		LogDir:          l.path("logs"),
	}
	for _, a := range l.addr.gatewayHTTPS {
		l.info.GatewayURLs = append(l.info.GatewayURLs, "https://"+a)
	}
	l.infoMu.Unlock()
	// The list of processes is complete from here on.
	watching, stop := context.WithCancel(context.Background())
	l.stopWatch = stop
	go l.watchMachines(watching)
	return l.saveInfo()
}

// saveInfo writes lab.json with the processes as they are now.
func (l *lab) saveInfo() error {
	l.infoMu.Lock()
	defer l.infoMu.Unlock()
	if l.info.PID == 0 {
		return nil // not described yet
	}
	l.info.Processes = nil
	for _, p := range l.processes {
		l.info.Processes = append(l.info.Processes, labProcInfo{Name: p.name, PID: p.pid(), MetricsURL: p.privateURL + "/metrics", PrivateURL: p.privateURL})
	}
	return l.info.save(l.dir)
}

// process returns the process with the name.
func (l *lab) process(name string) *labProcess {
	for _, p := range l.processes {
		if p.name == name {
			return p
		}
	}
	return nil
}

// labDeviceID returns the Entra device ID of the i-th client.
func labDeviceID(i int) string {
	return fmt.Sprintf("d0000000-0000-4000-8000-%012d", i+1)
}

func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// instanceURL returns the URL of a path on one instance.
func (l *lab) instanceURL(i int, path string) string {
	u := url.URL{Scheme: "https", Host: l.addr.gatewayHTTPS[i]}
	return u.String() + path
}
