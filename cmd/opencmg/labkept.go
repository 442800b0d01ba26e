package main

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/pki"
)

// A lab can be started again on the directory of one that ended, however that
// ended, and goes on from what is there. Certificates, custom data of machines
// and identities name addresses and secrets, so those are kept.

// labKept is what a lab needs to go on: state/lab.yaml, 0600. It is written
// before the first server starts, and after everything that it needs beside
// itself, so where there is none nothing was set up.
type labKept struct {
	Block          int               `yaml:"block"`     // of the lab's ports
	Addresses      map[string]string `yaml:"addresses"` // by purpose
	Devices        map[string]string `yaml:"devices"`   // Entra device ID to secret
	AdminSecret    string            `yaml:"adminSecret"`
	DeployerSecret string            `yaml:"deployerSecret"`
	Registered     labRegistrations  `yaml:"registered"`
	Users          []labUser         `yaml:"users"`
	// Processes are the IDs of those that the lab started, by name. One that was
	// killed leaves them, and they take a moment to notice and end.
	Processes map[string]int `yaml:"processes,omitempty"`
}

func (l *lab) keptFile() string { return l.path("state", "lab.yaml") }

// siteConfig is there when a lab is.
func (l *lab) siteConfig() string { return l.path("config", "site.yaml") }

// labEntries are what a lab makes in its directory. By the last one it is told
// from other directories, and from a lab whose removal was cut off.
var labEntries = []string{"pki", "ca", "crl", "logs", "clients", "state", "site", "set-up", "ca.pem", labInfoFile, "lab.log", "config"}

// takeUp looks whether the directory holds a lab, waits until what is left of it
// has ended, and takes its ports. With --fresh the lab is removed then.
func (l *lab) takeUp(ctx context.Context, ui *labUI) error {
	kept := new(labKept)
	err := loadYAML(l.keptFile(), kept)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		kept, err = nil, nil
		if _, e := os.Stat(l.siteConfig()); e == nil {
			err = opencmg.Errorf(opencmg.NotFound, "%s is missing, so nobody knows the lab's keys and secrets", l.keptFile())
		}
	case err == nil && (kept.Block == 0 || len(kept.Addresses) == 0 || kept.AdminSecret == ""):
		err = opencmg.Errorf(opencmg.Invalid, "%s is not whole", l.keptFile())
	}
	if err != nil && !l.opts.fresh {
		return opencmg.Errorf(opencmg.Invalid, "--data-dir %s: the lab that is there can not go on: %w. Nothing was changed. Choose another directory, or remove this lab and begin anew with --fresh", l.dir, err)
	}
	if err == nil && kept != nil {
		if err := l.ports.hold(kept.Block); err != nil {
			return l.running(kept, err)
		}
		l.awaitEnd(ctx, kept, ui)
	}
	if l.opts.fresh {
		return l.remove()
	}
	if kept == nil {
		return nil
	}
	if err := freeAddresses(kept.Addresses); err != nil {
		return opencmg.Errorf(opencmg.Conflict, "--data-dir %s: %w. The lab's certificates and machines name these addresses: end what listens there, or begin anew with --fresh, which removes this lab", l.dir, err)
	}
	for _, a := range kept.Addresses {
		l.ports.taken(a)
	}
	l.kept, l.resumed = kept, true
	ui.say("going on with the lab in %s", l.dir)
	return nil
}

func (l *lab) running(kept *labKept, err error) error {
	who := "a lab is running there"
	if info, e := findLab(l.dir); e == nil && processAlive(info.PID) {
		return opencmg.Errorf(opencmg.Conflict, "--data-dir %s: %s with process %d; stop it, or choose another directory", l.dir, who, info.PID)
	}
	return opencmg.Errorf(opencmg.Conflict, "--data-dir %s: %s, or another program has its port %d: stop it, or choose another directory: %w", l.dir, who, kept.Block, err)
}

// leftoversEnd is how long processes of a lab that was killed get to end.
const leftoversEnd = 15 * time.Second

// awaitEnd waits for the processes that a killed lab left: they still write to
// its files. An ID may be somebody else's by now, so it does not wait for ever;
// who still listens is found by freeAddresses.
func (l *lab) awaitEnd(ctx context.Context, kept *labKept, ui *labUI) {
	ctx, cancel := context.WithTimeout(ctx, leftoversEnd)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for said := false; slices.ContainsFunc(slices.Collect(maps.Values(kept.Processes)), processAlive); {
		if !said {
			ui.step("processes of the lab that was here end")
			said = true
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// remove removes what an earlier lab made, and nothing else: first what a lab
// goes on from, so that nothing goes on from a half.
func (l *lab) remove() error {
	if _, err := os.Stat(l.siteConfig()); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := os.RemoveAll(l.keptFile()); err != nil {
		return opencmg.Errorf(opencmg.Invalid, "--fresh: %w", err)
	}
	for _, e := range labEntries {
		if err := os.RemoveAll(l.path(e)); err != nil {
			return opencmg.Errorf(opencmg.Invalid, "--fresh: %w", err)
		}
	}
	return nil
}

// freeAddresses says which addresses somebody listens on.
func freeAddresses(addresses map[string]string) error {
	var taken []string
	for purpose, a := range addresses {
		ln, err := net.Listen("tcp", a)
		if err != nil {
			taken = append(taken, a+" ("+purpose+")")
			continue
		}
		ln.Close()
	}
	if len(taken) == 0 {
		return nil
	}
	slices.Sort(taken)
	return opencmg.Errorf(opencmg.Conflict, "another program has %s", strings.Join(taken, ", "))
}

// address is where the lab listens for a purpose: where it did before, if it
// did.
func (l *lab) address(purpose string) (string, error) {
	l.keptMu.Lock()
	defer l.keptMu.Unlock()
	if a := l.kept.Addresses[purpose]; a != "" {
		return a, nil
	}
	a, err := l.ports.pick()
	if err != nil {
		return "", err
	}
	l.kept.Block, l.kept.Addresses[purpose] = l.ports.block, a
	return a, nil
}

// makeSecrets makes those that are not kept yet.
func (l *lab) makeSecrets(now time.Time) {
	l.keptMu.Lock()
	defer l.keptMu.Unlock()
	k := l.kept
	for i := -1; i < l.opts.clients; i++ { // -1 is of the token in lab.json
		if id := labDeviceID(i); k.Devices[id] == "" {
			k.Devices[id] = randomHex(16)
		}
	}
	if !l.resumed {
		k.AdminSecret, k.DeployerSecret = randomHex(32), randomHex(32)
		k.Registered, k.Users = registeredApps(now), labUsers()
	}
	l.devices, l.adminSecret, l.deployerSecret, l.registered, l.users = k.Devices, k.AdminSecret, k.DeployerSecret, k.Registered, k.Users
}

// keep writes what a lab needs to go on.
func (l *lab) keep() error {
	l.keptMu.Lock()
	defer l.keptMu.Unlock()
	b, err := yaml.Marshal(l.kept)
	if err != nil {
		return err
	}
	return pki.WriteFile(l.keptFile(), b, 0o600)
}

// started keeps the ID of a process that has just been started, and tells it
// lab.json.
func (l *lab) started(p *labProcess) {
	l.keptMu.Lock()
	l.kept.Processes[p.name] = p.pid()
	l.keptMu.Unlock()
	if err := l.keep(); err != nil {
		l.log.Warn("a process is not written down", "process", p.name, "err", err)
	}
	l.saveInfo()
}

// authority makes a CA of the lab, or takes the one that is kept.
func (l *lab) authority(name string, o pki.AuthorityOptions, now time.Time) (*pki.Authority, error) {
	if l.resumed {
		return pki.LoadAuthority(l.path("ca"), name)
	}
	a, err := pki.CreateAuthority(o, now)
	if err != nil {
		return nil, err
	}
	return a, a.Save(l.path("ca"), name)
}
