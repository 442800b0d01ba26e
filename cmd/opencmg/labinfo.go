package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/pki"
)

// labInfo is lab.json in the lab's data directory: it tells programs what a
// newcomer reads on the screen. It holds secrets of the lab (0600).
type labInfo struct {
	PID int `json:"pid"`
	// Console is the site's web console, where the token of AdminService signs
	// in.
	Console     labConsole `json:"console"`
	ServiceName string     `json:"serviceName"`
	GatewayURLs []string   `json:"gatewayURLs"` // one for each instance
	// PublicAddress is where the gateway's own address and port 443 are on
	// loopback.
	PublicAddress string `json:"publicAddress"`
	CAFile        string `json:"caFile"` // roots of the gateways' server certificate and of the management point's
	// MutualAuthBase and ServerAuthBase go up to and including the role ID.
	MutualAuthBase  string     `json:"mutualAuthBase"`
	ServerAuthBase  string     `json:"serverAuthBase"`
	ManagementPoint string     `json:"managementPoint"` // inside URL
	SpareClient     labKeyPair `json:"spareClient"`     // a PKI client that is not used yet
	BulkToken       string     `json:"bulkToken"`
	Entra           labEntra   `json:"entra"`
	// AdminService is where the site is administered.
	AdminService labAdminService `json:"adminService"`
	// SetUp is what an administrator has in hand before the five parts.
	SetUp     labSetUp      `json:"setUp,omitzero"`
	LogDir    string        `json:"logDir"`
	Processes []labProcInfo `json:"processes"`
}

type labConsole struct {
	URL string `json:"url"`
}

type labKeyPair struct {
	CertFile string `json:"certFile"`
	KeyFile  string `json:"keyFile"`
}

type labEntra struct {
	Issuer   string `json:"issuer"`
	Audience string `json:"audience"`
	Token    string `json:"token"` // for a device
	// Users can sign in to the console; ConnectTo leads their browser from the
	// name of the sign-in page to where it is on this machine.
	Users     []labUser `json:"users"`
	ConnectTo string    `json:"connectTo"`
}

// A labUser is a person of the lab's tenant.
type labUser struct {
	ID       string            `json:"objectId" yaml:"objectId"`
	UPN      string            `json:"userPrincipalName" yaml:"userPrincipalName"`
	Name     string            `json:"name" yaml:"name"`
	Password string            `json:"password" yaml:"password"`
	Role     adminservice.Role `json:"role,omitempty" yaml:"role,omitempty"` // at the site; empty: none
}

// labUsers are two administrators, and one who is none.
func labUsers() []labUser {
	list := []labUser{
		{ID: "0a7c1e52-3b84-4d6f-9c20-5e8f1a2b3c41", UPN: "ann@lab.example", Name: "Ann Analyst", Role: adminservice.ReadOnlyAnalyst},
		{ID: "0a7c1e52-3b84-4d6f-9c20-5e8f1a2b3c42", UPN: "otto@lab.example", Name: "Otto Operator", Role: adminservice.OperationsAdministrator},
		{ID: "0a7c1e52-3b84-4d6f-9c20-5e8f1a2b3c43", UPN: "sam@lab.example", Name: "Sam Stranger"},
	}
	for i := range list {
		list[i].Password = randomHex(10)
	}
	return list
}

type labAdminService struct {
	URL       string `json:"url"`
	CAFile    string `json:"caFile"`
	TokenFile string `json:"tokenFile"`
}

type labProcInfo struct {
	Name       string `json:"name"`
	PID        int    `json:"pid"`
	MetricsURL string `json:"metricsURL"`
	PrivateURL string `json:"privateURL"` // of /livez, /readyz and /explain
}

const labInfoFile = "lab.json"

func (l *labInfo) save(dir string) error {
	b, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return err
	}
	return pki.WriteFile(filepath.Join(dir, labInfoFile), append(b, '\n'), 0o600)
}

// findLab reads lab.json of the directory, or of the running lab.
func findLab(dir string) (*labInfo, error) {
	dirs := []string{dir}
	if dir == "" {
		dirs = defaultLabDirs()
	}
	for _, d := range dirs {
		b, err := os.ReadFile(filepath.Join(d, labInfoFile))
		if err != nil {
			if dir != "" {
				return nil, fmt.Errorf("read the lab's description: %w", err)
			}
			continue
		}
		l := new(labInfo)
		if err := json.Unmarshal(b, l); err != nil {
			return nil, fmt.Errorf("read %s: %w", filepath.Join(d, labInfoFile), err)
		}
		return l, nil
	}
	return nil, opencmg.Errorf(opencmg.NotFound, "no lab is running: start one with opencmg lab, or name its directory with --data-dir")
}

// defaultLabDirs are where a lab puts its data when nobody says where. There
// are several, so that two labs can run at once.
func defaultLabDirs() []string {
	base := filepath.Join(os.TempDir(), "opencmg-lab-"+strconv.Itoa(os.Getuid()))
	dirs := []string{base}
	for i := 2; i <= 8; i++ {
		dirs = append(dirs, fmt.Sprintf("%s-%d", base, i))
	}
	return dirs
}

// makeLabDir makes the data directory. temporary says that it goes away with
// the lab.
func makeLabDir(dir string) (path string, temporary bool, err error) {
	if dir != "" {
		if err := requireDir("--data-dir", dir); err != nil {
			return "", false, err
		}
		path, err = filepath.Abs(dir)
		return path, false, err
	}
	for _, d := range defaultLabDirs() {
		err = os.Mkdir(d, 0o700)
		if err == nil {
			return d, true, nil
		}
		// What a lab left behind that was killed is cleared away. Only a
		// directory of this user can be removed.
		if l, lerr := findLab(d); lerr == nil && !processAlive(l.PID) && os.RemoveAll(d) == nil && os.Mkdir(d, 0o700) == nil {
			return d, true, nil
		}
	}
	d, err := os.MkdirTemp("", "opencmg-lab-")
	return d, true, err
}
