package site

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"path"
	"strings"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/adminservice/cmdlet"
	"github.com/opencmg/opencmg/internal/web"
)

// runCmdlet runs a cmdlet for a caller that has none of our programs, as the
// PowerShell module does. The cmdlet's own requests come back into this service
// as the caller's, so roles, checks and audit are those of the resources.
//
// The answer is JSON lines, so that what somebody has to do (a sign-in by device
// code) is seen while the cmdlet waits for it. Until the first line an error is a
// problem document.
func (s *Server) runCmdlet(w http.ResponseWriter, r *http.Request) error {
	c := cmdlet.Find(r.PathValue("name"))
	if c == nil {
		return opencmg.Errorf(opencmg.NotFound, "there is no cmdlet %q: docs/reference lists them", r.PathValue("name"))
	}
	var in adminservice.CmdletCall
	if err := decodeBody(r, &in); err != nil {
		return err
	}
	var args []cmdlet.Argument
	for name, v := range in.Parameters {
		if name == "" {
			return opencmg.Errorf(opencmg.Invalid, "parameters: a parameter has no name")
		}
		args = append(args, cmdlet.Argument{Name: name, Value: v})
	}
	b, err := c.Bind(args, cmdlet.BindOptions{Pipeline: len(in.Input) > 0})
	if err != nil {
		return err
	}
	var piped []cmdlet.Object
	for _, o := range in.Input {
		piped = append(piped, o)
	}
	out := &cmdletLines{w: w}
	h := &cmdlet.Host{
		Client: &adminservice.Client{URL: s.cfg.URL, HTTP: &http.Client{Transport: &sameCaller{s, r}}},
		ReadFile: func(name string) ([]byte, error) {
			// The caller's file, never one of this host.
			if b, ok := in.Files[name]; ok {
				return b, nil
			}
			return nil, opencmg.Errorf(opencmg.Invalid, "the content of %s was not sent along (files)", path.Base(strings.ReplaceAll(name, `\`, "/")))
		},
		WhatIf:   func(line string) { out.line(adminservice.CmdletLine{WhatIf: line}) },
		Warn:     func(line string) { out.line(adminservice.CmdletLine{Warning: line}) },
		Progress: func(op adminservice.Operation, l adminservice.OperationLog) { out.progress(op, l) },
		Wait:     in.Wait,
	}
	err = cmdlet.Run(r.Context(), h, b, piped, func(o cmdlet.Object) error {
		return out.line(adminservice.CmdletLine{Object: o})
	})
	if err != nil {
		err = outside(err)
		if !out.begun {
			return err
		}
		web.Handler(s.log, func(http.ResponseWriter, *http.Request) error { return err }).ServeHTTP(out, r)
		return nil
	}
	out.begin()
	return nil
}

// outside makes an error of this service of what the service answered itself.
func outside(err error) error {
	p, ok := errors.AsType[*adminservice.ProblemError](err)
	if !ok {
		return err
	}
	e := &opencmg.Error{Kind: opencmg.Unavailable, Msg: err.Error()}
	if kind, ok := p.Unwrap().(opencmg.Kind); ok {
		e.Kind = kind
	}
	switch {
	case p.CloudError != nil:
		e.Err = p.CloudError
	case len(p.Checks) > 0:
		e.Err = checksFailed(p.Checks)
	}
	return e
}

// cmdletLines writes the answer. As a ResponseWriter it takes the problem that
// ended it.
type cmdletLines struct {
	w     http.ResponseWriter
	begun bool
	head  http.Header
}

func (l *cmdletLines) begin() {
	if !l.begun {
		l.w.Header().Set("Content-Type", "application/x-ndjson")
		l.w.WriteHeader(http.StatusOK)
		l.begun = true
	}
}

func (l *cmdletLines) line(v adminservice.CmdletLine) error {
	l.begin()
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if _, err := l.w.Write(append(b, '\n')); err != nil {
		return err
	}
	return http.NewResponseController(l.w).Flush()
}

func (l *cmdletLines) progress(op adminservice.Operation, line adminservice.OperationLog) {
	l.line(adminservice.CmdletLine{Progress: &adminservice.CmdletProgress{Operation: op.ID, Activity: op.Kind, Percent: op.Percent, Step: line.Step, Text: line.Text}})
}

func (l *cmdletLines) Header() http.Header {
	if l.head == nil {
		l.head = http.Header{}
	}
	return l.head
}

func (l *cmdletLines) WriteHeader(int) {}

func (l *cmdletLines) Write(problem []byte) (int, error) {
	b, err := json.Marshal(adminservice.CmdletLine{Problem: bytes.TrimSpace(problem)})
	if err == nil {
		_, err = l.w.Write(append(b, '\n'))
	}
	return len(problem), err
}

// sameCaller sends requests into this very service, as whoever made another one.
type sameCaller struct {
	s  *Server
	as *http.Request
}

func (t *sameCaller) RoundTrip(r *http.Request) (*http.Response, error) {
	in := r.Clone(r.Context())
	in.TLS, in.RemoteAddr, in.RequestURI = t.as.TLS, t.as.RemoteAddr, r.URL.RequestURI()
	if in.Body == nil {
		in.Body = http.NoBody
	}
	for _, h := range []string{"Authorization", opencmg.HeaderCorrelationID} {
		if v := t.as.Header.Get(h); v != "" {
			in.Header.Set(h, v)
		}
	}
	return t.s.inProcess(in, r)
}

// inProcess serves a request that this process makes itself, as the answer to r.
func (s *Server) inProcess(in, r *http.Request) (*http.Response, error) {
	out := &answerBuffer{header: http.Header{}, status: http.StatusOK}
	s.handler.ServeHTTP(out, in)
	return &http.Response{
		StatusCode: out.status, Status: http.StatusText(out.status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: out.header, Body: io.NopCloser(&out.body), ContentLength: int64(out.body.Len()), Request: r,
	}, context.Cause(r.Context())
}

// answerBuffer keeps an answer.
type answerBuffer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answerBuffer) Header() http.Header         { return a.header }
func (a *answerBuffer) WriteHeader(status int)      { a.status = status }
func (a *answerBuffer) Write(b []byte) (int, error) { return a.body.Write(b) }
