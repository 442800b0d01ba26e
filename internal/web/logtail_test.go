package web_test

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/internal/web"
)

type secret struct{}

func (secret) LogValue() slog.Value { return slog.StringValue("hidden") }

func TestLogTailLines(t *testing.T) {
	tail := web.NewLogTail("gw/0")
	log := slog.New(tail.Handler()).With("component", "CMGService", "gateway", "gw")
	log.Debug("too small")
	log.WithGroup("g").With("a", 1).Warn("warned", "key", secret{}, slog.Group("h", "b", true), "component", "in a group")
	log.Info(strings.Repeat("x", 5000), "component", "CMGSetup")
	lines, lost := tail.Follow().Take()
	for i := range lines {
		if lines[i].Time.IsZero() {
			t.Error("no time")
		}
		lines[i].Time = lines[i].Time.Truncate(1 << 62)
	}
	want := []opencmg.LogLine{
		{Level: "WARN", Component: "CMGService", Message: "warned", Source: "gw/0", Attrs: map[string]string{
			"gateway": "gw", "g.a": "1", "g.key": "hidden", "g.h.b": "true", "g.component": "in a group"}},
		{Level: "INFO", Component: "CMGSetup", Message: strings.Repeat("x", 2048) + "...", Source: "gw/0", Attrs: map[string]string{"gateway": "gw"}},
	}
	ignore := cmp.FilterPath(func(p cmp.Path) bool { return p.String() == "Time" }, cmp.Ignore())
	if diff := cmp.Diff(want, lines, ignore); diff != "" || lost != 0 {
		t.Errorf("lost %d: %s", lost, diff)
	}
}

func TestLogTailFollow(t *testing.T) {
	tail := web.NewLogTail("x")
	log := slog.New(tail.Handler())
	for i := range web.LogTailSize + 10 {
		log.Info(strconv.Itoa(i))
	}
	f := tail.Follow()
	lines, lost := f.Take()
	if len(lines) != web.LogTailSize || lost != 0 || lines[0].Message != "10" || lines[999].Message != "1009" {
		t.Fatalf("%d lines, %d lost, from %q", len(lines), lost, lines[0].Message)
	}
	if lines, lost := f.Take(); len(lines) != 0 || lost != 0 {
		t.Errorf("nothing new: %d lines, %d lost", len(lines), lost)
	}
	// A reader that waits gets the next line; one that sleeps loses some.
	got := make(chan string, 1)
	go func() {
		lines, _, err := f.Next(context.Background())
		if err != nil {
			t.Error(err)
		}
		got <- lines[0].Message
	}()
	log.Info("live")
	if m := <-got; m != "live" {
		t.Errorf("got %q", m)
	}
	f.Take()
	for i := range web.LogTailSize + 7 {
		log.Info(strconv.Itoa(i))
	}
	lines, lost, err := f.Next(t.Context())
	if err != nil || len(lines) != web.LogTailSize || lost != 7 {
		t.Errorf("%d lines, %d lost, %v", len(lines), lost, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := f.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestLogTailMore: whoever does something else meanwhile hears of lines.
func TestLogTailMore(t *testing.T) {
	tail := web.NewLogTail("x")
	log := slog.New(tail.Handler())
	f := tail.Follow()
	more := f.More()
	select {
	case <-more:
		t.Fatal("there is nothing")
	default:
	}
	log.Info("one")
	<-more
	<-f.More() // it was not taken
	if lines, _ := f.Take(); len(lines) != 1 {
		t.Errorf("%d lines", len(lines))
	}
	select {
	case <-f.More():
		t.Error("there is nothing more")
	default:
	}
}
