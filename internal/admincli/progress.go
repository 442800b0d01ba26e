package admincli

import (
	"fmt"
	"strings"
	"sync"

	"github.com/opencmg/opencmg/adminservice"
)

// progress shows how far an operation is: a bar on a terminal, a line for each
// step elsewhere, always on standard error.
type progress struct {
	e   *Env
	bar bool // there is a terminal

	mu    sync.Mutex // guards what follows
	drawn int        // width of the bar that stands on the line
}

func newProgress(e *Env) *progress { return &progress{e: e, bar: terminal(e.Stderr)} }

const barWidth = 24

// operation shows a new line of an operation's log.
func (p *progress) operation(op adminservice.Operation, line adminservice.OperationLog) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.bar {
		fmt.Fprintf(p.e.Stderr, "%3d%%  %s: %s\n", op.Percent, line.Step, line.Text)
		return
	}
	p.clear()
	// What somebody has to do, such as a sign-in, must stay to be read.
	if line.Step == "sign-in" {
		fmt.Fprintln(p.e.Stderr, line.Text)
	}
	full := min(barWidth, barWidth*op.Percent/100)
	text := fmt.Sprintf("[%s%s] %3d%%  %.60s", strings.Repeat("#", full), strings.Repeat(".", barWidth-full), op.Percent, line.Text)
	fmt.Fprint(p.e.Stderr, text)
	p.drawn = len(text)
}

func (p *progress) clear() {
	if p.drawn > 0 {
		fmt.Fprintf(p.e.Stderr, "\r%s\r", strings.Repeat(" ", p.drawn))
		p.drawn = 0
	}
}

// end takes the bar away.
func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
}
