package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencmg/opencmg"
)

// A labProcess is one role of the lab as a process of its own. When it ends
// without being told to, it is started again, as a service manager would do.
type labProcess struct {
	name       string
	words      []string // e.g. "gateway", "serve"
	config     string
	privateURL string
	dir        string // for what it prints
	log        *slog.Logger

	mu       sync.Mutex // guards what follows
	cmd      *exec.Cmd
	stdin    io.Closer // closing it ends the process
	failed   int       // starts in a row that did not last
	stopping bool

	// foreign is a machine of the lab cloud, which starts it again when it
	// ends; machine is its instance ID.
	foreign    bool
	machine    string
	foreignPID atomic.Int64

	started func() // called after each start, to tell lab.json the new pid
	done    chan struct{}
}

// start starts the process and the goroutine that keeps it running until
// stop.
func (p *labProcess) start() error {
	p.done = make(chan struct{})
	wait, err := p.spawn()
	if err != nil {
		close(p.done)
		return err
	}
	go p.keep(wait)
	return nil
}

func (p *labProcess) keep(wait func() error) {
	defer close(p.done)
	for backoff := 50 * time.Millisecond; ; backoff = min(2*backoff, 2*time.Second) {
		began := time.Now()
		err := wait()
		p.mu.Lock()
		stopping := p.stopping
		p.failed++
		if time.Since(began) > time.Second {
			p.failed, backoff = 0, 50*time.Millisecond
		}
		p.mu.Unlock()
		if stopping {
			return
		}
		p.log.Warn("process ended and is started again", "process", p.name, "err", err)
		// A pause, so that a process which can not start does not spin.
		time.Sleep(backoff)
		if wait, err = p.spawn(); err != nil {
			wait = func() error { return err }
		} else {
			p.started()
		}
	}
}

// spawn starts the program once. Its output goes to <name>.out.
func (p *labProcess) spawn() (wait func() error, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopping {
		return func() error { return nil }, nil
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	out, err := os.OpenFile(filepath.Join(p.dir, p.name+".out"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command(self, append(p.words, "--config", p.config, "--until-stdin-closes")...)
	cmd.Args[0] = "opencmg" // whatever the file is called
	cmd.Stdout, cmd.Stderr = out, out
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	p.cmd, p.stdin = cmd, stdin
	return cmd.Wait, nil
}

// pid returns the process ID, which changes when the process is started again.
func (p *labProcess) pid() int {
	if p.foreign {
		return int(p.foreignPID.Load())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// kill ends the process without warning.
func (p *labProcess) kill() {
	if p.foreign {
		if process, err := os.FindProcess(p.pid()); err == nil && p.pid() > 0 {
			process.Kill()
		}
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		p.cmd.Process.Kill()
	}
}

// stop asks the process to end, and insists after a while.
func (p *labProcess) stop(grace time.Duration) {
	p.mu.Lock()
	p.stopping = true
	if p.stdin != nil {
		p.stdin.Close()
	}
	p.mu.Unlock()
	select {
	case <-p.done:
	case <-time.After(grace):
		p.kill()
		<-p.done
	}
}

// ready waits until the process answers /readyz with 200. It gives up when
// any of the others, which it may need, does not start.
func (p *labProcess) ready(ctx context.Context, others []*labProcess) error {
	client := &http.Client{Timeout: 2 * time.Second}
	last := "it did not answer"
	for {
		req, err := http.NewRequestWithContext(ctx, "GET", p.privateURL+"/readyz", nil)
		if err != nil {
			return err
		}
		if res, err := client.Do(req); err == nil {
			b, _ := io.ReadAll(io.LimitReader(res.Body, 1<<10))
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
			last = string(b)
		}
		for _, o := range others {
			if o.failedStarts() >= maxFailedStarts {
				return opencmg.Errorf(opencmg.Unavailable, "%s does not start: %s", o.name, o.lastWords())
			}
		}
		select {
		case <-ctx.Done():
			return opencmg.Errorf(opencmg.Timeout, "%s did not become ready: %s\n%s", p.name, strings.TrimSpace(last), p.lastWords())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// maxFailedStarts is how often a process may end right after its start before
// the lab gives up on it.
const maxFailedStarts = 3

func (p *labProcess) failedStarts() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failed
}

// lastWords returns the end of what the process printed.
func (p *labProcess) lastWords() string {
	b, err := os.ReadFile(filepath.Join(p.dir, p.name+".out"))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b[max(0, len(b)-2000):])), "\n")
	return "it printed:\n  " + strings.Join(lines[max(0, len(lines)-4):], "\n  ")
}

// portPicker finds free loopback ports below the range that systems use for
// outgoing connections, so that a process which is started again finds its
// port free. It takes them from a block of its own, whose first port it holds as
// long as its process lives: labs that start at the same time would otherwise
// pick ports that nobody listens on yet twice.
type portPicker struct {
	block int          // first port
	lease net.Listener // on it
	used  map[int]bool
}

const (
	firstPort   = 20000
	blockSize   = 400 // more than the largest lab needs
	portBlocks  = 30
	beyondPorts = firstPort + portBlocks*blockSize
)

func (pp *portPicker) pick() (string, error) {
	if pp.lease == nil {
		if err := pp.takeBlock(); err != nil {
			return "", err
		}
	}
	for range 10 * blockSize {
		port := pp.block + 1 + rand.IntN(blockSize-1)
		if pp.used[port] {
			continue
		}
		addr := fmt.Sprintf("127.0.0.1:%d", port)
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		ln.Close()
		pp.used[port] = true
		return addr, nil
	}
	return "", opencmg.Errorf(opencmg.Unavailable, "no free port between %d and %d on 127.0.0.1: stop what listens there", pp.block, pp.block+blockSize)
}

// hold takes the block of an earlier lab.
func (pp *portPicker) hold(block int) error {
	ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", block))
	if err == nil {
		pp.block, pp.lease, pp.used = block, ln, map[int]bool{}
	}
	return err
}

// taken keeps an address from being picked.
func (pp *portPicker) taken(addr string) {
	if a, err := net.ResolveTCPAddr("tcp", addr); err == nil {
		pp.used[a.Port] = true
	}
}

func (pp *portPicker) takeBlock() error {
	for _, i := range rand.Perm(portBlocks) {
		if pp.hold(firstPort+i*blockSize) == nil {
			return nil
		}
	}
	return opencmg.Errorf(opencmg.Unavailable, "every block of ports between %d and %d on 127.0.0.1 is taken: stop a lab", firstPort, beyondPorts)
}
