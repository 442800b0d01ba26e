package browsertest

import (
	"context"
	"encoding/json"
	"net/url"
	"slices"
	"strings"

	logdomain "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// Kinds of problems.
const (
	KindConsole = "console" // an error on the console, or an uncaught exception
	KindCSP     = "csp"     // a violation of the content security policy
	KindHost    = "host"    // a request to another host, or without TLS
	KindTLS     = "tls"     // a server that could not be reached or verified
)

// A Problem is something that no page may do.
type Problem struct{ Kind, Text string }

// String is the problem for a test's log.
func (p Problem) String() string { return p.Kind + ": " + p.Text }

// finish fails the test for what nobody wanted.
func (p *Page) finish() {
	// The answer comes after all events that the page caused before.
	ctx, cancel := context.WithTimeout(p.ctx, p.o.Timeout)
	defer cancel()
	if _, err := chromedp.Run(ctx, chromedp.Evaluate[int]("1")); err != nil {
		p.t.Errorf("the page is gone: %v", err)
	}
	for _, problem := range p.Take() {
		p.t.Errorf("%s", problem)
	}
}

func (p *Page) listen(ev any) {
	switch ev := ev.(type) {
	case *runtime.EventConsoleAPICalled:
		if ev.Type == runtime.ConsoleAPICalledTypeError || ev.Type == runtime.ConsoleAPICalledTypeAssert {
			var words []string
			for _, a := range ev.Args {
				word := a.Description
				if word == "" && json.Unmarshal(a.Value, &word) != nil {
					word = string(a.Value)
				}
				words = append(words, word)
			}
			p.report(KindConsole, strings.Join(words, " "))
		}
	case *runtime.EventExceptionThrown:
		text := ev.ExceptionDetails.Text
		if e := ev.ExceptionDetails.Exception; e != nil {
			text += " " + e.Description
		}
		p.report(KindConsole, text)
	case *logdomain.EventEntryAdded:
		if ev.Entry.Level != logdomain.EntryLevelError {
			return
		}
		kind := KindConsole
		if strings.Contains(ev.Entry.Text, "Content Security Policy") {
			kind = KindCSP
		}
		p.report(kind, strings.TrimSpace(ev.Entry.Text+" "+ev.Entry.URL))
	case *network.EventRequestWillBeSent:
		u, err := url.Parse(ev.Request.URL)
		if err != nil || u.Host == "" {
			return // data: and the like
		}
		host := hostPort(u.Scheme, u.Host)
		if _, ok := p.o.Hosts[host]; !ok {
			p.report(KindHost, host)
		}
	}
}

func (p *Page) report(kind, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	problem := Problem{kind, text}
	if p.seen[problem] || slices.ContainsFunc(p.allowed, func(a string) bool { return strings.Contains(text, a) }) {
		return
	}
	p.seen[problem] = true
	p.problems = append(p.problems, problem)
	close(p.news)
	p.news = make(chan struct{})
}

// Allow makes the page forget problems whose text has this in it, before and
// after: "status of 403" for a refusal that is tested, for example.
func (p *Page) Allow(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.allowed = append(p.allowed, text)
	p.problems = slices.DeleteFunc(p.problems, func(q Problem) bool { return strings.Contains(q.Text, text) })
}

// Take returns the problems so far, which then do not fail the test.
func (p *Page) Take() []Problem {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.problems
	p.problems, p.seen = nil, map[Problem]bool{}
	return list
}

// AwaitProblem waits for a problem of a kind and takes it.
func (p *Page) AwaitProblem(kind string) Problem {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, p.o.Timeout)
	defer cancel()
	for {
		p.mu.Lock()
		news := p.news
		i := slices.IndexFunc(p.problems, func(q Problem) bool { return q.Kind == kind })
		if i >= 0 {
			found := p.problems[i]
			p.problems = slices.Delete(p.problems, i, i+1)
			p.mu.Unlock()
			return found
		}
		p.mu.Unlock()
		select {
		case <-news:
		case <-ctx.Done():
			p.t.Fatalf("no problem of kind %s came", kind)
		}
	}
}
