package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"text/template"
	"time"

	"crypto/tls"
)

// nginxPath returns the nginx program, empty when there is none.
func nginxPath() string {
	for _, p := range []string{"nginx", "/usr/sbin/nginx", "/usr/local/sbin/nginx"} {
		if path, err := exec.LookPath(p); err == nil {
			return path
		}
	}
	return ""
}

// Two nginx in a row: the outer one terminates TLS with client certificates
// and goes on over pooled mutual TLS to the inner one, which calls the origin
// over pooled plain connections.
var nginxConf = template.Must(template.New("").Parse(`
worker_processes auto;
daemon off;
master_process on;
pid {{.Dir}}/{{.Name}}.pid;
error_log stderr crit;
events { worker_connections 16384; }
http {
	access_log off;
	client_body_temp_path {{.Dir}}/{{.Name}}-body;
	proxy_temp_path {{.Dir}}/{{.Name}}-proxy;
	fastcgi_temp_path {{.Dir}}/{{.Name}}-f;
	uwsgi_temp_path {{.Dir}}/{{.Name}}-u;
	scgi_temp_path {{.Dir}}/{{.Name}}-s;
	keepalive_requests 100000000;
	keepalive_timeout 120s;
	proxy_http_version 1.1;
	proxy_set_header Connection "";
	proxy_read_timeout 300s;
	proxy_max_temp_file_size 0;
	ssl_protocols TLSv1.3;
	upstream next {
		server {{.Next}};
		keepalive 4096;
		keepalive_requests 100000000;
	}
	server {
		listen {{.Listen}} ssl backlog=4096;
		ssl_certificate {{.Dir}}/{{.Certificate}}.pem;
		ssl_certificate_key {{.Dir}}/{{.Certificate}}.key;
		ssl_client_certificate {{.Dir}}/{{.ClientCA}}.pem;
		ssl_verify_client on;
		ssl_session_cache shared:s:10m;
{{if .Inner}}
		location {{.Root}}/ { proxy_pass http://next/; }
{{else}}
		location / {
			proxy_pass https://next;
			proxy_ssl_certificate {{.Dir}}/outer.pem;
			proxy_ssl_certificate_key {{.Dir}}/outer.key;
			proxy_ssl_trusted_certificate {{.Dir}}/site-ca.pem;
			proxy_ssl_verify on;
			proxy_ssl_name inner.bench.test;
			proxy_ssl_protocols TLSv1.3;
			proxy_ssl_session_reuse on;
		}
{{end}}
	}
}
`))

type nginxValues struct {
	Dir, Name, Listen, Next, Certificate, ClientCA, Root string
	Inner                                                bool
}

func (e *environment) startNginx() (*system, error) {
	innerAddr, err := freePort()
	if err != nil {
		return nil, err
	}
	outerAddr, err := freePort()
	if err != nil {
		return nil, err
	}
	inner, err := e.nginx(nginxValues{Name: "inner", Listen: innerAddr, Next: e.origin, Certificate: "inner", ClientCA: "site-ca", Inner: true})
	if err != nil {
		return nil, err
	}
	outer, err := e.nginx(nginxValues{Name: "outer", Listen: outerAddr, Next: innerAddr, Certificate: "edge", ClientCA: "web-ca"})
	if err != nil {
		inner.stop()
		return nil, err
	}
	return &system{name: "two nginx", addr: outerAddr, proxies: []*process{outer, inner}}, nil
}

func (e *environment) nginx(v nginxValues) (*process, error) {
	v.Dir, v.Root = e.dir, externalRoot
	conf := filepath.Join(e.dir, v.Name+".conf")
	f, err := os.Create(conf)
	if err != nil {
		return nil, err
	}
	if err := nginxConf.Execute(f, v); err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	p := &process{name: v.Name, cmd: exec.Command(nginxPath(), "-c", conf, "-p", e.dir, "-g", "user root;")}
	if os.Geteuid() != 0 {
		p.cmd.Args = p.cmd.Args[:len(p.cmd.Args)-2]
	}
	p.cmd.Stderr = os.Stderr
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	conn := func() error {
		nc, err := tls.Dial("tcp", v.Listen, &tls.Config{InsecureSkipVerify: true}) // only to see that it listens
		if err == nil {
			nc.Close()
		}
		return err
	}
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		if err := conn(); err == nil {
			return e.started(p)
		} else if time.Since(began) > 5*time.Second {
			p.stop()
			return nil, fmt.Errorf("nginx %s does not listen: %w", v.Name, err)
		}
	}
}
