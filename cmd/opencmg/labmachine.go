package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/internal/bootstrap"
	"github.com/opencmg/opencmg/internal/cloudinit"
	"github.com/opencmg/opencmg/internal/keyvault"
	"github.com/opencmg/opencmg/labcloud"
	"github.com/opencmg/opencmg/pki"
)

// The ports of a gateway on a machine in the cloud, which the load balancer
// sends to.
const (
	machineHTTPS  = 443
	machineTunnel = 10124
	machineProbe  = 9445
)

// machineRoom starts the lab cloud's virtual machines. Each is a process of its
// own that boots from its custom data as cloud-init would have it
// (bootLabMachine), and then is a gateway.
type machineRoom struct {
	logDir   string
	logLevel string
	lifeline string   // address; a machine ends with whoever listens there
	private  []string // addresses of metrics and health, by instance ID
	programs string   // directory of fetched programs
}

// labMachine is what a machine's process is told.
type labMachine struct {
	CustomData   []byte
	Dir          string
	MetadataAddr string
	Ports        map[int]string
	Private      string
	LogDir       string
	LogLevel     string
	Lifeline     string
	Programs     string
}

// start starts a machine.
func (m *machineRoom) start(spec labcloud.MachineSpec) (labcloud.MachineProcess, error) {
	b, err := json.Marshal(labMachine{
		CustomData: spec.CustomData, Dir: spec.Dir, MetadataAddr: spec.MetadataAddr, Ports: spec.Ports, Private: m.privateOf(spec.InstanceID),
		LogDir: filepath.Join(m.logDir, machineName(spec.InstanceID)), LogLevel: m.logLevel, Lifeline: m.lifeline, Programs: m.programs,
	})
	if err != nil {
		return nil, err
	}
	file := filepath.Join(spec.Dir, "machine.json")
	if err := pki.WriteFile(file, b, 0o600); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	out, err := os.OpenFile(filepath.Join(m.logDir, machineName(spec.InstanceID)+".out"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command(self, "lab-machine", "boot", "--config", file)
	cmd.Args[0] = "opencmg" // whatever the file is called
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("boot %s: %w", spec.Name, err)
	}
	p := &machineProcess{process: cmd.Process, done: make(chan struct{})}
	go func() {
		cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// bootLabMachine is a machine of the lab cloud from its boot: it reads the
// custom data, fetches the program from where the vault says, and runs it on
// the loopback addresses that stand for the machine's ports.
func bootLabMachine(ctx context.Context, e *env, args []string) error {
	flags, err := parseServe(e, "lab-machine boot", args)
	if err != nil {
		return err
	}
	b, err := os.ReadFile(flags.config)
	if err != nil {
		return err
	}
	var m labMachine
	if err := json.Unmarshal(b, &m); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if err := followLifeline(ctx, stop, m.Lifeline); err != nil {
		return err
	}
	files, err := cloudinit.Parse(m.CustomData)
	if err != nil {
		return err
	}
	doc, err := cloudinit.Document(files)
	if err != nil {
		return err
	}
	sum, err := cloudinit.ProgramSHA256(files)
	if err != nil {
		return err
	}
	doc.Outbound.ConnectTo = append(doc.Outbound.ConnectTo, "169.254.169.254:80:"+m.MetadataAddr)
	program, err := m.program(ctx, doc, sum)
	if err != nil {
		return err
	}
	doc.Listen.HTTPS, doc.Listen.TunnelHTTPS, doc.Listen.Probe, doc.Listen.Private = m.Ports[machineHTTPS], m.Ports[machineTunnel], m.Ports[machineProbe], m.Private
	doc.StateDir, doc.Log.Dir = filepath.Join(m.Dir, "state"), m.LogDir
	doc.Log.Level = m.LogLevel
	doc.DrainSettle = 500 * time.Millisecond // the lab cloud probes every 50 ms
	if b, err = yaml.Marshal(doc); err != nil {
		return err
	}
	config := filepath.Join(m.Dir, "bootstrap.yaml")
	if err := pki.WriteFile(config, b, 0o600); err != nil {
		return err
	}
	return become(ctx, program, []string{"opencmg", "gateway", "serve", "--config", config, "--lifeline", m.Lifeline})
}

func machineName(instanceID string) string { return "gateway-" + instanceID }

// privateOf is the address of a machine's metrics and health; none when there
// are more machines than addresses.
func (m *machineRoom) privateOf(instanceID string) string {
	if n, err := strconv.Atoi(instanceID); err == nil && n < len(m.private) {
		return m.private[n]
	}
	return "off"
}

// adopt takes over a machine that an earlier lab cloud started.
func (m *machineRoom) adopt(pid int, spec labcloud.MachineSpec) (labcloud.MachineProcess, bool) {
	if !processAlive(pid) {
		return nil, false
	}
	if m.ofEarlierLab(spec) {
		// It is about to end with the lab that it belongs to.
		for range 500 {
			if !processAlive(pid) {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		return nil, false
	}
	process, err := os.FindProcess(pid)
	if err != nil {
		return nil, false
	}
	// The process may be somebody else's by now; the machine answers its probe.
	client := &http.Client{Timeout: time.Second}
	res, err := client.Get("http://" + spec.Ports[machineProbe] + "/readyz")
	if err != nil {
		return nil, false
	}
	res.Body.Close()
	p := &machineProcess{process: process, done: make(chan struct{})}
	go func() {
		// It is not our child, so its end can only be looked for.
		t := time.NewTicker(50 * time.Millisecond)
		defer t.Stop()
		for range t.C {
			if !processAlive(pid) {
				close(p.done)
				return
			}
		}
	}()
	return p, true
}

// ofEarlierLab reports whether a machine's process ends with another lab than
// this one.
func (m *machineRoom) ofEarlierLab(spec labcloud.MachineSpec) bool {
	var told labMachine
	b, err := os.ReadFile(filepath.Join(spec.Dir, "machine.json"))
	return err == nil && json.Unmarshal(b, &told) == nil && told.Lifeline != m.lifeline
}

// program returns the file of the gateway program with the checksum. The
// machines share what one of them fetched.
func (m *labMachine) program(ctx context.Context, doc *bootstrap.Gateway, sum string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	file := filepath.Join(m.Programs, sum)
	part := file + ".part"
	t := time.NewTicker(20 * time.Millisecond)
	defer t.Stop()
	for {
		if _, err := os.Stat(file); err == nil {
			return file, nil
		}
		out, err := os.OpenFile(part, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o700)
		if err == nil {
			if err = m.fetch(ctx, doc, sum, out); err != nil {
				os.Remove(part)
				return "", err
			}
			return file, os.Rename(part, file)
		}
		if !errors.Is(err, os.ErrExist) {
			return "", err
		}
		// Another machine fetches it. One that was killed is not waited for.
		if info, err := os.Stat(part); err == nil && time.Since(info.ModTime()) > staleFetch {
			os.Remove(part)
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("wait for the gateway program: %w", ctx.Err())
		case <-t.C:
		}
	}
}

// staleFetch is how long a fetch may make no progress.
const staleFetch = 20 * time.Second

// fetch does what fetch.sh does on a machine: it gets the program's address
// from the vault, waiting for the site to write it, and the program from there,
// and checks its SHA-256.
func (m *labMachine) fetch(ctx context.Context, doc *bootstrap.Gateway, sum string, out *os.File) error {
	defer out.Close()
	httpClient, err := doc.Outbound.Client("", time.Minute, nil)
	if err != nil {
		return err
	}
	vault, err := keyvault.New(keyvault.Config{
		Vault: doc.Cloud.Vault, Audience: doc.Cloud.VaultAudience, ClientID: doc.Cloud.IdentityClientID, HTTP: httpClient,
		Metadata: &keyvault.Metadata{URL: doc.Cloud.Metadata, HTTP: httpClient},
	})
	if err != nil {
		return err
	}
	var address keyvault.Secret
	for {
		if address, err = vault.Secret(ctx, cloudinit.SecretServiceURL); err == nil {
			break
		}
		now := time.Now()
		os.Chtimes(out.Name(), now, now) // still at it
		select {
		case <-ctx.Done():
			return fmt.Errorf("the address of the gateway program is not in the vault: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address.Value, nil)
	if err != nil {
		return opencmg.Errorf(opencmg.Invalid, "the address of the gateway program is no URL")
	}
	res, err := httpClient.Do(req)
	if err != nil {
		return opencmg.Errorf(opencmg.Unavailable, "the gateway program can not be fetched") // the error holds the address, a secret
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return opencmg.Errorf(opencmg.Unavailable, "fetch the gateway program: the storage account answered %s", res.Status)
	}
	h := sha256.New()
	if _, err := io.Copy(io.MultiWriter(out, h), res.Body); err != nil {
		return fmt.Errorf("fetch the gateway program: %w", err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != sum {
		return opencmg.Errorf(opencmg.Invalid, "the gateway program has the SHA-256 %s, and the custom data says %s", got, sum)
	}
	return out.Close()
}

// machineProcess is a machine that runs.
type machineProcess struct {
	process *os.Process
	done    chan struct{}
}

func (p *machineProcess) PID() int              { return p.process.Pid }
func (p *machineProcess) Kill() error           { return p.process.Kill() }
func (p *machineProcess) Done() <-chan struct{} { return p.done }
