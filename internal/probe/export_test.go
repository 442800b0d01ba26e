package probe

import (
	"context"

	"github.com/opencmg/opencmg"
)

// WatchWith makes a watch that looks by a function.
func WatchWith(look func(context.Context, []opencmg.ProbeTarget) opencmg.ProbeReport) *Watch {
	w := (&Prober{}).NewWatch(nil)
	w.look = look
	return w
}
