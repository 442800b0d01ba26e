// Command bench runs the whole chain (client, gateway, tunnel, connection
// point, role) side by side with two others that do the same TLS work: a plain
// net/http reverse proxy pair joined by a yamux tunnel, and, where nginx is
// installed, two nginx proxies in a row. Client and origin are the same minimal
// programs for all, every proxy is a process of its own, all share this
// machine, and the rounds alternate, so that the ratios mean something where
// the absolute figures do not.
//
//	go run ./bench          all scenarios, about three minutes
//	go run ./bench -quick   the same in short, for a pipeline
//
// The figures and what they were measured on stand in docs/benchmarks.md.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

type options struct {
	rounds   int
	duration time.Duration
	conns    int
	held     int
	settle   time.Duration // before the memory of held requests is read
	bulk     int64         // bytes of the large download
	bulks    int           // downloads per round
	check    bool
	only     string
	profile  string
}

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, stdout, stderr io.Writer) int {
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(stderr)
	var o options
	quick := fs.Bool("quick", false, "short rounds, for a pipeline")
	fs.IntVar(&o.rounds, "rounds", 5, "alternating rounds of each scenario")
	fs.DurationVar(&o.duration, "duration", 5*time.Second, "length of one round of small requests")
	fs.IntVar(&o.conns, "conns", 64, "client connections for small requests")
	fs.IntVar(&o.held, "held", 2000, "held requests")
	fs.BoolVar(&o.check, "check", false, "exit 1 when the chain does not beat net/http and yamux: 2.5 times in small requests, at all in the others")
	fs.StringVar(&o.only, "only", "", "run one scenario: small, bulk, beside or held")
	fs.StringVar(&o.profile, "profile", "", "write profiles of gateway and connection point to this directory")
	child := fs.String("child", "", "internal: run one process of the benchmark")
	if err := fs.Parse(args); err != nil {
		return 2
	}
	o.bulk, o.bulks, o.settle = 100<<20, 4, 2*time.Second
	if *quick {
		o.rounds, o.duration, o.held, o.bulks = 2, time.Second, 500, 1
	}
	if !slices.Contains([]string{"", "small", "bulk", "beside", "held"}, o.only) {
		fmt.Fprintf(stderr, "bench: -only %s: must be small, bulk, beside or held\n", o.only)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if *child != "" {
		err = runChild(ctx, *child, os.Stdin, stdout)
	} else {
		err = runBench(ctx, o, stdout)
	}
	if err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 1
	}
	return 0
}

// A system is one of the compared chains, running.
type system struct {
	name    string
	addr    string // where clients connect
	proxies []*process
}

func (s *system) stop() {
	for _, p := range slices.Backward(s.proxies) {
		p.stop()
	}
}

// A figure is what one system reached in one scenario: medians over rounds.
type figure struct {
	rate    float64 // requests or MiB per second
	cpu     []float64
	p50     float64 // ms
	p99     float64 // ms
	memory  float64 // KiB per held client, or MiB in all
	release float64 // ms
}

func runBench(ctx context.Context, o options, out io.Writer) error {
	dir, err := os.MkdirTemp("", "opencmg-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	e, err := newEnvironment(dir)
	if err != nil {
		return err
	}
	// An interruption ends the processes, and that ends whatever waits for
	// them.
	defer context.AfterFunc(ctx, e.interrupt)()
	origin, err := e.start("origin", nil)
	if err != nil {
		return err
	}
	defer origin.stop()
	e.origin = origin.line["addr"]
	starters := []func() (*system, error){e.startChain, e.startYamux}
	if nginxPath() != "" {
		starters = append(starters, e.startNginx)
	} else {
		fmt.Fprintln(out, "nginx is not installed: it is left out")
	}
	fmt.Fprintf(out, "%s %s, %d cores, %s\n", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version())
	b := &bench{o: o, e: e, out: out}
	if o.only != "held" {
		var systems []*system
		for _, f := range starters {
			s, err := f()
			if err != nil {
				return err
			}
			defer s.stop()
			systems = append(systems, s)
		}
		for _, scenario := range []struct {
			name string
			run  func(context.Context, []*system) error
		}{{"small", b.small}, {"bulk", b.bulk}, {"beside", b.beside}} {
			if o.only != "" && o.only != scenario.name {
				continue
			}
			if err := scenario.run(ctx, systems); err != nil {
				return err
			}
		}
		for _, s := range systems {
			s.stop()
		}
	}
	if o.only == "" || o.only == "held" {
		if err := b.held(ctx, starters); err != nil {
			return err
		}
	}
	if o.check && len(b.missed) > 0 {
		return errors.New("goals missed: " + strings.Join(b.missed, "; "))
	}
	return nil
}

// A bench runs the scenarios and prints their tables.
type bench struct {
	o      options
	e      *environment
	out    io.Writer
	missed []string
}

func (b *bench) require(ok bool, format string, args ...any) {
	if !ok {
		b.missed = append(b.missed, fmt.Sprintf(format, args...))
	}
}

// small measures 2 KiB answers over keep-alive connections.
func (b *bench) small(ctx context.Context, systems []*system) error {
	fmt.Fprintf(b.out, "\nSmall requests: 2 KiB answers, %d keep-alive connections, %d rounds of %v\n", b.o.conns, b.o.rounds, b.o.duration)
	figures := map[string][]figure{}
	for round := range b.o.rounds {
		for _, s := range systems {
			if round == 0 && b.o.profile != "" && s == systems[0] {
				go profile(b.o.profile, "small", s, b.o.duration)
			}
			f, err := b.load(ctx, s, loadConfig{Conns: b.o.conns, Seconds: b.o.duration.Seconds(), Path: "/SMS_MP/small"})
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			figures[s.name] = append(figures[s.name], f)
		}
	}
	base := medianOf(figures[systems[1].name])
	fmt.Fprintf(b.out, "%-12s %10s %8s %9s %9s   %s\n", "", "req/s", "ratio", "p50 ms", "p99 ms", "CPU s per 10,000 requests")
	for _, s := range systems {
		f := medianOf(figures[s.name])
		fmt.Fprintf(b.out, "%-12s %10.0f %8.2f %9.2f %9.2f   %s\n", s.name, f.rate, f.rate/base.rate, f.p50, f.p99, cpuText(s, f.cpu))
	}
	ours := medianOf(figures[systems[0].name])
	b.require(ours.rate >= 2.5*base.rate, "small requests %.2f times net/http and yamux instead of 2.5", ours.rate/base.rate)
	return nil
}

// bulk measures large downloads, one after the other.
func (b *bench) bulk(ctx context.Context, systems []*system) error {
	fmt.Fprintf(b.out, "\nDownload: %d MiB, %d per round, %d rounds\n", b.o.bulk>>20, b.o.bulks, b.o.rounds)
	figures := map[string][]figure{}
	for round := range b.o.rounds {
		for _, s := range systems {
			if round == 0 && b.o.profile != "" && s == systems[0] {
				go profile(b.o.profile, "bulk", s, 2*time.Second)
			}
			f, err := b.load(ctx, s, loadConfig{Conns: 1, Count: b.o.bulks, Path: fmt.Sprintf("/SMS_MP/bulk?n=%d", b.o.bulk)})
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			f.rate *= float64(b.o.bulk) / (1 << 20)
			for i := range f.cpu {
				f.cpu[i] /= 10000 * float64(b.o.bulk) / (1 << 30)
			}
			for _, p := range s.proxies {
				f.memory += p.rss() / 1024
			}
			figures[s.name] = append(figures[s.name], f)
		}
	}
	base := medianOf(figures[systems[1].name])
	fmt.Fprintf(b.out, "%-12s %10s %8s %9s   %s\n", "", "MiB/s", "ratio", "RSS MiB", "CPU s per GiB")
	for _, s := range systems {
		f := medianOf(figures[s.name])
		fmt.Fprintf(b.out, "%-12s %10.0f %8.2f %9.0f   %s\n", s.name, f.rate, f.rate/base.rate, f.memory, cpuText(s, f.cpu))
	}
	ours := medianOf(figures[systems[0].name])
	b.require(ours.rate > base.rate, "downloads %.2f times net/http and yamux", ours.rate/base.rate)
	return nil
}

// load runs the load client once and measures the CPU that the proxies used.
func (b *bench) load(ctx context.Context, s *system, c loadConfig) (figure, error) {
	c.Addr = s.addr
	p, err := b.e.start("load", c)
	if err != nil {
		return figure{}, err
	}
	defer p.stop()
	before := cpuOf(s.proxies)
	var r loadResult
	if err := p.next(&r); err != nil {
		return figure{}, fmt.Errorf("load client: %w", err)
	}
	after := cpuOf(s.proxies)
	if r.Errors > 0 {
		return figure{}, fmt.Errorf("%d of %d requests failed: %s", r.Errors, r.Requests, r.Error)
	}
	f := figure{rate: float64(r.Requests) / r.Seconds, p50: r.P50, p99: r.P99}
	for i := range after {
		f.cpu = append(f.cpu, (after[i]-before[i])/float64(r.Requests)*10000)
	}
	return f, ctx.Err()
}

// held measures memory and release of requests that wait for an answer.
func (b *bench) held(ctx context.Context, starters []func() (*system, error)) error {
	fmt.Fprintf(b.out, "\nHeld requests: %d\n", b.o.held)
	rounds := min(b.o.rounds, 3)
	figures := map[string][]figure{}
	var systems []*system
	for round := range rounds {
		for _, start := range starters {
			s, err := start()
			if err != nil {
				return err
			}
			f, err := b.hold(ctx, s)
			s.stop()
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			if round == 0 {
				systems = append(systems, s)
			}
			figures[s.name] = append(figures[s.name], f)
		}
	}
	base := medianOf(figures[systems[1].name])
	fmt.Fprintf(b.out, "%-12s %16s %8s %16s %16s   %s\n", "", "KiB per client", "ratio", "release p50 ms", "release all ms", "by process")
	for _, s := range systems {
		f := medianOf(figures[s.name])
		var parts []string
		for i, p := range s.proxies {
			parts = append(parts, fmt.Sprintf("%s %.1f", p.name, f.cpu[i]))
		}
		fmt.Fprintf(b.out, "%-12s %16.1f %8.2f %16.1f %16.1f   %s\n", s.name, f.memory, f.memory/base.memory, f.p50, f.release, strings.Join(parts, ", "))
	}
	ours := medianOf(figures[systems[0].name])
	b.require(ours.memory < base.memory, "memory per held client %.2f times net/http and yamux", ours.memory/base.memory)
	b.require(ours.release < base.release, "release of held clients %.2f times net/http and yamux", ours.release/base.release)
	return nil
}

func (b *bench) hold(ctx context.Context, s *system) (figure, error) {
	// A first request, so that what a proxy makes once is there before.
	if _, err := b.load(ctx, s, loadConfig{Conns: 1, Count: 1, Path: "/SMS_MP/small"}); err != nil {
		return figure{}, err
	}
	time.Sleep(b.o.settle / 4)
	before := rssOf(s.proxies)
	p, err := b.e.start("hold", loadConfig{Addr: s.addr, Conns: b.o.held, Path: "/BGB/hold"})
	if err != nil {
		return figure{}, err
	}
	defer p.stop()
	if err := b.e.waitHeld(ctx, b.o.held); err != nil {
		return figure{}, err
	}
	time.Sleep(b.o.settle) // memory at rest is what counts
	during := rssOf(s.proxies)
	if b.o.profile != "" {
		snapshot(b.o.profile, "held", s, "heap", "goroutine")
	}
	released, err := b.e.release()
	if err != nil {
		return figure{}, err
	}
	var r holdResult
	if err := p.next(&r); err != nil {
		return figure{}, fmt.Errorf("hold client: %w", err)
	}
	if r.Errors > 0 {
		return figure{}, fmt.Errorf("%d held requests failed: %s", r.Errors, r.Error)
	}
	f := figure{p50: float64(r.MedianUnixNano-released) / 1e6, release: float64(r.LastUnixNano-released) / 1e6}
	for i := range during {
		kib := (during[i] - before[i]) / float64(b.o.held)
		f.cpu = append(f.cpu, kib)
		f.memory += kib
	}
	return f, nil
}

func medianOf(all []figure) figure {
	pick := func(get func(figure) float64) float64 {
		v := make([]float64, len(all))
		for i := range all {
			v[i] = get(all[i])
		}
		slices.Sort(v)
		return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
	}
	f := figure{
		rate:    pick(func(f figure) float64 { return f.rate }),
		p50:     pick(func(f figure) float64 { return f.p50 }),
		p99:     pick(func(f figure) float64 { return f.p99 }),
		memory:  pick(func(f figure) float64 { return f.memory }),
		release: pick(func(f figure) float64 { return f.release }),
	}
	for i := range all[0].cpu {
		f.cpu = append(f.cpu, pick(func(f figure) float64 { return f.cpu[i] }))
	}
	return f
}

func cpuText(s *system, cpu []float64) string {
	sum := 0.0
	var parts []string
	for i, p := range s.proxies {
		sum += cpu[i]
		parts = append(parts, fmt.Sprintf("%s %.2f", p.name, cpu[i]))
	}
	return fmt.Sprintf("%.2f (%s)", sum, strings.Join(parts, ", "))
}

// runChild is one process of the benchmark. Its configuration comes as JSON on
// standard input; it says where it listens, or what it measured, as JSON lines
// on standard output, and ends when standard input does.
func runChild(ctx context.Context, role string, stdin io.Reader, stdout io.Writer) error {
	d := json.NewDecoder(stdin)
	var c childConfig
	if err := d.Decode(&c); err != nil {
		return fmt.Errorf("read configuration of %s: %w", role, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		io.Copy(io.Discard, stdin) // until the parent closes it
		cancel()
	}()
	say := json.NewEncoder(stdout)
	switch role {
	case "origin":
		return serveOrigin(ctx, say)
	case "load":
		return runLoad(ctx, &c, say)
	case "hold":
		return runHold(ctx, &c, say)
	case "gateway":
		return serveGateway(ctx, &c, say)
	case "connpoint":
		return serveConnectionPoint(ctx, &c, say)
	case "edge":
		return serveEdge(ctx, &c, say)
	case "inner":
		return serveInner(ctx, &c, say)
	}
	return fmt.Errorf("no such child: %s", role)
}
