package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/pki"
)

// A labRefusal is one thing that the gateway must refuse, and how it did.
type labRefusal struct {
	Case          string `json:"case"`
	Status        int    `json:"status"`
	Reason        string `json:"reason"`
	CorrelationID string `json:"correlationId"`
	// OK says that status and reason are the right ones.
	OK bool `json:"ok"`
}

type refusalCase struct {
	name   string
	base   string // MutualAuthPrefix or ServerAuthPrefix
	path   string
	method string
	cert   *tls.Certificate
	bearer string
	length int64 // of the body, which is never sent in full

	status int
	reason string
}

// proveRefusals sends what must be refused through every second instance and
// compares the answers with what they must be (cmg-behaviour G26).
func (l *lab) proveRefusals(ctx context.Context, revoked labKeyPair) ([]labRefusal, error) {
	revokedPair, err := pki.LoadKeyPair(revoked.CertFile, revoked.KeyFile)
	if err != nil {
		return nil, err
	}
	good, err := l.clientCertificate("visitor", time.Now())
	if err != nil {
		return nil, err
	}
	pair, err := pki.LoadKeyPair(good.CertFile, good.KeyFile)
	if err != nil {
		return nil, err
	}
	bulk, err := l.bulkToken(ctx)
	if err != nil {
		return nil, err
	}
	token := func(options map[string]any) string {
		var t string
		if err == nil {
			t, err = l.entraToken(ctx, options)
		}
		return t
	}
	const other = "99999999-0000-4000-8000-000000000099"
	device := labDeviceID(0)
	mpList := "/SMS_MP/.sms_aut?MPLIST"
	cases := []refusalCase{
		{name: "revoked certificate", base: opencmg.MutualAuthPrefix, path: mpList, cert: &revokedPair, status: 401, reason: "Unauthorized"},
		{name: "expired token", base: opencmg.ServerAuthPrefix, path: "/CCM_STS", bearer: token(map[string]any{"tenant": labTenant, "deviceId": device, "audience": labResourceURI, "notBefore": -7200, "expiresIn": 3600}), status: 401, reason: opencmg.ReasonInvalidToken},
		{name: "wrong audience", base: opencmg.ServerAuthPrefix, path: "/CCM_STS", bearer: token(map[string]any{"tenant": labTenant, "deviceId": device, "audience": "https://graph.microsoft.com"}), status: 401, reason: opencmg.ReasonInvalidToken},
		{name: "unknown tenant", base: opencmg.ServerAuthPrefix, path: "/CCM_STS", bearer: token(map[string]any{"tenant": other, "deviceId": device, "audience": labResourceURI}), status: 401, reason: opencmg.ReasonInvalidToken},
		{name: "unpublished URL", base: opencmg.MutualAuthPrefix, path: "/CCM_System_WindowsAuth/request", method: "CCM_POST", cert: &pair, status: 404, reason: "Not Found"},
		{name: "oversized body", base: opencmg.MutualAuthPrefix, path: "/ccm_system/request", method: "CCM_POST", cert: &pair, length: 17 << 20, status: 413, reason: http.StatusText(http.StatusRequestEntityTooLarge)},
		{name: "bulk token on a policy URL", base: opencmg.ServerAuthPrefix, path: "/SMS_MP/.sms_pol?LAB00001.1_00", bearer: bulk.Token, status: 401, reason: opencmg.ReasonInvalidToken},
	}
	if err != nil {
		return nil, fmt.Errorf("ask for tokens: %w", err)
	}
	var refusals []labRefusal
	for i, c := range cases {
		r, err := l.proveRefusal(ctx, c, i%l.opts.instances)
		if err != nil {
			return refusals, fmt.Errorf("refusal %q: %w", c.name, err)
		}
		refusals = append(refusals, r)
	}
	return refusals, nil
}

func (l *lab) proveRefusal(ctx context.Context, c refusalCase, instance int) (labRefusal, error) {
	tlsConfig, err := l.clientTLS()
	if err != nil {
		return labRefusal{}, err
	}
	if c.cert != nil {
		tlsConfig.Certificates = []tls.Certificate{*c.cert}
	}
	// HTTP/1.1 only: HTTP/2 has no reason phrase.
	t := &http.Transport{TLSClientConfig: tlsConfig, ExpectContinueTimeout: 10 * time.Second}
	defer t.CloseIdleConnections()
	if c.method == "" {
		c.method = "GET"
	}
	var body io.Reader
	if c.length > 0 {
		body = io.LimitReader(zeros{}, c.length)
	}
	req, err := http.NewRequestWithContext(ctx, c.method, l.instanceURL(instance, c.base+string(l.mpRole)+c.path), body)
	if err != nil {
		return labRefusal{}, err
	}
	if c.length > 0 {
		req.ContentLength = c.length
		req.Header.Set("Expect", "100-continue")
	}
	if c.bearer != "" {
		req.Header.Set("Authorization", "Bearer "+c.bearer)
	}
	res, err := (&http.Client{Transport: t, Timeout: 20 * time.Second}).Do(req)
	if err != nil {
		return labRefusal{}, err
	}
	defer res.Body.Close()
	_, reason, _ := strings.Cut(res.Status, " ")
	r := labRefusal{Case: c.name, Status: res.StatusCode, Reason: reason, CorrelationID: res.Header.Get(opencmg.HeaderCorrelationID)}
	r.OK = r.Status == c.status && r.Reason == c.reason && r.CorrelationID != ""
	return r, nil
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
