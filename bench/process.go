package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A process is one child of the benchmark.
type process struct {
	name  string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	out   *json.Decoder
	line  map[string]string // what it said first: where it listens
	once  sync.Once
}

// childConfig is what every child gets; each reads what it needs.
type childConfig struct {
	Dir    string
	Origin string // host:port
	Load   loadConfig
	Peer   map[string]string // what the process it connects to said
}

// startProcess runs this program again as a child and reads its first line.
func startProcess(role string, c childConfig) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{name: role, cmd: exec.Command(self, "-child", role)}
	p.cmd.Stderr = os.Stderr
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	p.out = json.NewDecoder(bufio.NewReader(stdout))
	if err := json.NewEncoder(p.stdin).Encode(c); err != nil {
		p.stop()
		return nil, err
	}
	if err := p.out.Decode(&p.line); err != nil {
		p.stop()
		return nil, fmt.Errorf("start %s: %w", role, err)
	}
	return p, nil
}

// next reads the next line of the process.
func (p *process) next(v any) error { return p.out.Decode(v) }

// stop ends the process and waits for it.
func (p *process) stop() {
	p.once.Do(func() {
		if p.stdin != nil {
			p.stdin.Close()
		} else {
			p.cmd.Process.Signal(syscall.SIGTERM)
		}
		t := time.AfterFunc(5*time.Second, func() { p.cmd.Process.Kill() })
		p.cmd.Wait()
		t.Stop()
	})
}

// pids returns the process and its children, as nginx has workers.
func (p *process) pids() []int {
	all := []int{p.cmd.Process.Pid}
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", all[0]))
	for _, f := range tasks {
		b, _ := os.ReadFile(f)
		for _, s := range strings.Fields(string(b)) {
			if n, err := strconv.Atoi(s); err == nil {
				all = append(all, n)
			}
		}
	}
	return all
}

// cpu returns the CPU seconds used so far; 0 where there is no /proc.
func (p *process) cpu() float64 {
	var ticks float64
	for _, pid := range p.pids() {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		_, after, _ := strings.Cut(string(b), ") ")
		f := strings.Fields(after)
		if len(f) < 13 {
			continue
		}
		for _, s := range f[11:13] { // utime, stime
			n, _ := strconv.ParseFloat(s, 64)
			ticks += n
		}
	}
	return ticks / 100
}

// rss returns the resident memory in KiB; 0 where there is no /proc. What
// several nginx workers share counts once (Pss).
func (p *process) rss() float64 {
	var sum float64
	for _, pid := range p.pids() {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			continue
		}
		for l := range strings.Lines(string(b)) {
			if v, ok := strings.CutPrefix(l, "Pss:"); ok {
				n, _ := strconv.ParseFloat(strings.Fields(v)[0], 64)
				sum += n
			}
		}
	}
	return sum
}

func cpuOf(ps []*process) (v []float64) {
	for _, p := range ps {
		v = append(v, p.cpu())
	}
	return v
}

func rssOf(ps []*process) (v []float64) {
	for _, p := range ps {
		v = append(v, p.rss())
	}
	return v
}
