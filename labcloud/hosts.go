package labcloud

import (
	"log/slog"
	"net"
	"net/http"
	"strings"
)

// Hosts are the names under which the services answer. A suffix has no dot in
// front.
type Hosts struct {
	Login    string // login.microsoftonline.com
	STS      string // sts.windows.net; only an issuer, nothing answers there
	ARM      string // management.azure.com
	Graph    string // graph.microsoft.com
	Vault    string // suffix, vault.azure.net
	Blob     string // suffix, blob.core.windows.net
	CloudApp string // suffix, cloudapp.azure.com
	// ARMAudiences are what Resource Manager takes as aud; slashes at the end
	// do not matter.
	ARMAudiences  []string
	VaultAudience string
}

// LabHosts returns the names of the lab environment.
func LabHosts() Hosts {
	return Hosts{
		Login:         "login.lab.opencmg.example",
		STS:           "sts.lab.opencmg.example",
		ARM:           "management.lab.opencmg.example",
		Graph:         "graph.lab.opencmg.example",
		Vault:         "vault.lab.opencmg.example",
		Blob:          "blob.lab.opencmg.example",
		CloudApp:      "cloudapp.lab.opencmg.example",
		ARMAudiences:  []string{"https://management.core.lab.opencmg.example", "https://management.lab.opencmg.example"},
		VaultAudience: "https://vault.lab.opencmg.example",
	}
}

// A Region is one place of the cloud.
type Region struct {
	Name        string // westeurope
	DisplayName string // West Europe
	// NoScaleSets says that the compute provider is not offered there.
	NoScaleSets bool
	// Logical regions are listed and hold nothing.
	Logical bool
}

func regions() []Region {
	return []Region{
		{Name: "westeurope", DisplayName: "West Europe"},
		{Name: "northeurope", DisplayName: "North Europe"},
		{Name: "eastus", DisplayName: "East US"},
		{Name: "eastus2", DisplayName: "East US 2"},
		{Name: "westus2", DisplayName: "West US 2"},
		{Name: "uksouth", DisplayName: "UK South"},
		{Name: "usgovvirginia", DisplayName: "USGov Virginia"},
		{Name: "jioindiacentral", DisplayName: "Jio India Central", NoScaleSets: true},
		{Name: "europe", DisplayName: "Europe", Logical: true},
	}
}

func (s *Server) region(name string) (Region, bool) {
	name = strings.ToLower(strings.ReplaceAll(name, " ", ""))
	for _, r := range s.cfg.Regions {
		if r.Name == name && !r.Logical {
			return r, true
		}
	}
	return Region{}, false
}

// routes chooses the service by host name and writes the access log: never a
// query, because shared access signatures stand there.
func (s *Server) routes() http.Handler {
	entra := http.NewServeMux()
	entra.HandleFunc("/", s.serveEntra)
	entra.HandleFunc("GET /device", s.signInDevice)
	entra.HandleFunc("POST /device", s.signInDevice)
	s.adminRoutes(entra)
	small := http.MaxBytesHandler(entra, 64<<10)
	arm := http.MaxBytesHandler(http.HandlerFunc(s.serveARM), 8<<20)
	graph := http.MaxBytesHandler(http.HandlerFunc(s.serveGraph), 1<<20)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		host = strings.ToLower(host)
		rec := &recorder{ResponseWriter: w, status: http.StatusOK}
		switch name, ok := "", false; {
		case host == s.hosts.ARM:
			arm.ServeHTTP(rec, r)
		case host == s.hosts.Graph:
			graph.ServeHTTP(rec, r)
		default:
			if name, ok = strings.CutSuffix(host, "."+s.hosts.Vault); ok {
				s.serveVault(rec, r, name)
			} else if name, ok = strings.CutSuffix(host, "."+s.hosts.Blob); ok {
				s.serveBlob(rec, r, name)
			} else {
				small.ServeHTTP(rec, r)
			}
		}
		s.cfg.Log.Info("request", "method", r.Method, "host", host, "path", r.URL.Path, "status", rec.status, slog.Int64("bytes", rec.bytes))
	})
}

// A recorder remembers the status of an answer.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	n, err := r.ResponseWriter.Write(b)
	r.bytes += int64(n)
	return n, err
}

func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
