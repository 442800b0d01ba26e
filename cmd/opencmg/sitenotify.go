package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/smtp"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// SiteNotify says who hears of alerts besides the log and the console.
type SiteNotify struct {
	// WebhookFile names a file with a URL on its first line, which gets every
	// new or changed alert as JSON by POST. Such URLs are secrets.
	WebhookFile string `yaml:"webhookFile,omitempty"`
	// SMTP sends mail.
	SMTP *SiteSMTP `yaml:"smtp,omitempty"`
}

// SiteSMTP is a mail server.
type SiteSMTP struct {
	// Server is host:port. TLS is used when the server offers STARTTLS, and
	// from the start on port 465.
	Server string   `yaml:"server"`
	From   string   `yaml:"from"`
	To     []string `yaml:"to"`
	// User and PasswordFile sign in; both may be left out. They are sent over
	// TLS only.
	User         string `yaml:"user,omitempty"`
	PasswordFile string `yaml:"passwordFile,omitempty"`
}

// senders makes what sends alerts on.
func (n SiteNotify) senders(base string, c *http.Client) ([]func(context.Context, adminservice.Alert) error, error) {
	var list []func(context.Context, adminservice.Alert) error
	if n.WebhookFile != "" {
		b, err := os.ReadFile(relativeTo(base, n.WebhookFile))
		if err != nil {
			return nil, fmt.Errorf("notify.webhookFile: %w", err)
		}
		address, _, _ := strings.Cut(strings.TrimSpace(string(b)), "\n")
		if u, err := url.Parse(address); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
			return nil, opencmg.Errorf(opencmg.Invalid, "notify.webhookFile: the file must hold an http or https address")
		}
		list = append(list, func(ctx context.Context, a adminservice.Alert) error {
			body, err := json.Marshal(a)
			if err != nil {
				return err
			}
			if err := httpPost(ctx, c, address, "application/json", bytes.NewReader(body)); err != nil {
				// The error of net/http holds the address, which is a secret.
				if e, ok := err.(*url.Error); ok {
					err = e.Err
				}
				return fmt.Errorf("web hook: %w", err)
			}
			return nil
		})
	}
	if m := n.SMTP; m != nil {
		if _, _, err := net.SplitHostPort(m.Server); err != nil || m.From == "" || len(m.To) == 0 {
			return nil, opencmg.Errorf(opencmg.Invalid, "notify.smtp: server (host:port), from and to must be set")
		}
		for _, a := range append([]string{m.From}, m.To...) {
			if strings.ContainsAny(a, "\r\n<> ") || !strings.Contains(a, "@") {
				return nil, opencmg.Errorf(opencmg.Invalid, "notify.smtp: %q is not a mail address", a)
			}
		}
		password := ""
		if m.PasswordFile != "" {
			b, err := os.ReadFile(relativeTo(base, m.PasswordFile))
			if err != nil {
				return nil, fmt.Errorf("notify.smtp.passwordFile: %w", err)
			}
			password, _, _ = strings.Cut(string(b), "\n")
		}
		list = append(list, func(ctx context.Context, a adminservice.Alert) error { return m.send(ctx, password, a) })
	}
	return list, nil
}

// send mails one alert.
func (m *SiteSMTP) send(ctx context.Context, password string, a adminservice.Alert) error {
	host, port, err := net.SplitHostPort(m.Server)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", m.Server)
	if err != nil {
		return fmt.Errorf("mail: %w", err)
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		conn.SetDeadline(deadline)
	}
	conf := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	if port == "465" {
		conn = tls.Client(conn, conf)
	}
	c, err := smtp.NewClient(conn, host)
	if err != nil {
		return fmt.Errorf("mail: %w", err)
	}
	defer c.Close()
	if ok, _ := c.Extension("STARTTLS"); ok {
		if err := c.StartTLS(conf); err != nil {
			return fmt.Errorf("mail: %w", err)
		}
	}
	if m.User != "" {
		if err := c.Auth(smtp.PlainAuth("", m.User, password, host)); err != nil {
			return fmt.Errorf("mail: sign in: %w", err)
		}
	}
	if err := c.Mail(m.From); err != nil {
		return fmt.Errorf("mail: %w", err)
	}
	for _, to := range m.To {
		if err := c.Rcpt(to); err != nil {
			return fmt.Errorf("mail: %w", err)
		}
	}
	w, err := c.Data()
	if err != nil {
		return fmt.Errorf("mail: %w", err)
	}
	line := strings.NewReplacer("\r", " ", "\n", " ")
	fmt.Fprintf(w, "From: %s\r\nTo: %s\r\nSubject: OpenCMG %s: %s\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n%s\r\n\r\nNext: %s\r\nOpened: %s\r\n",
		m.From, strings.Join(m.To, ", "), a.Severity, line.Replace(a.Kind), line.Replace(a.Text), line.Replace(a.NextStep), a.Opened.Format(time.RFC3339))
	if err := w.Close(); err != nil {
		return fmt.Errorf("mail: %w", err)
	}
	return c.Quit()
}
