package site

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencmg/opencmg"
)

// inBubble runs f with choices and a clock that stands still while anybody does
// something.
func inBubble(t *testing.T, f func(t *testing.T, c *choices)) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		c := newChoices(time.Now)
		for range maxChoicesAsked {
			go c.run(ctx)
		}
		f(t, c)
		stop()
		synctest.Wait()
	})
}

func TestChoicesAreKept(t *testing.T) {
	inBubble(t, func(t *testing.T, c *choices) {
		key := choicesKey{what: "regions"}
		asked, refused := 0, errors.New("refused")
		var fails error
		get := func() (any, error) {
			return c.get(t.Context(), key, choicesTimeout, func(context.Context) (any, error) {
				asked++
				return asked, fails
			})
		}
		want := func(when string, list int, err error) {
			t.Helper()
			if got, e := get(); got != list || e != err {
				t.Errorf("%s: %v, %v; want %d, %v", when, got, e, list, err)
			}
		}
		want("first", 1, nil)
		time.Sleep(choicesKept - time.Nanosecond)
		want("kept", 1, nil)
		time.Sleep(time.Nanosecond)
		fails = refused
		want("too old", 2, refused)
		time.Sleep(refusalKept - time.Nanosecond)
		want("a failure is kept", 2, refused)
		time.Sleep(time.Nanosecond)
		fails = nil
		want("not for long", 3, nil)
		key.version++
		want("another sign-in", 4, nil)
	})
}

// TestChoicesOfASlowCloud asks one that takes its time: once for everybody, and
// whoever does not wait finds the list later.
func TestChoicesOfASlowCloud(t *testing.T) {
	inBubble(t, func(t *testing.T, c *choices) {
		key, asked := choicesKey{what: "regions"}, 0
		ask := func(context.Context) (any, error) {
			asked++
			time.Sleep(3 * time.Second)
			return "list", nil
		}
		began := time.Now()
		for range 3 {
			if _, err := c.get(t.Context(), key, 0, ask); !errors.Is(err, opencmg.Unavailable) {
				t.Errorf("at once: %v", err)
			}
		}
		if d := time.Since(began); d != 0 {
			t.Errorf("at once took %v", d)
		}
		gone, leave := context.WithCancel(t.Context())
		leave()
		if _, err := c.get(gone, key, choicesTimeout, ask); !errors.Is(err, context.Canceled) {
			t.Errorf("who left: %v", err)
		}
		if list, err := c.get(t.Context(), key, choicesTimeout, ask); list != "list" || err != nil || time.Since(began) != 3*time.Second {
			t.Errorf("%v, %v after %v", list, err, time.Since(began))
		}
		if list, err := c.get(t.Context(), key, 0, ask); list != "list" || err != nil || asked != 1 {
			t.Errorf("%v, %v; asked %d times", list, err, asked)
		}
	})
}

// TestChoicesAreBounded asks for more lists than may be asked for, and for more
// than are kept.
func TestChoicesAreBounded(t *testing.T) {
	inBubble(t, func(t *testing.T, c *choices) {
		never := func(ctx context.Context) (any, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		key := func(n int) choicesKey { return choicesKey{what: "regions", subscription: strconv.Itoa(n)} }
		began := time.Now()
		for n := range maxChoicesAsked + maxChoicesQueued {
			c.get(t.Context(), key(n), 0, never)
			synctest.Wait()
		}
		if _, err := c.get(t.Context(), key(99), choicesTimeout, never); !errors.Is(err, opencmg.Unavailable) || time.Since(began) != 0 {
			t.Errorf("one too many: %v after %v", err, time.Since(began))
		}
		if _, err := c.get(t.Context(), key(0), time.Hour, never); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != choicesTimeout {
			t.Errorf("a cloud that does not answer: %v after %v", err, time.Since(began))
		}
		time.Sleep(time.Hour)
		asked := 0
		list := func(context.Context) (any, error) { asked++; return asked, nil }
		for n := range 3 * maxChoices {
			if got, err := c.get(t.Context(), key(n), choicesTimeout, list); got != n+1 || err != nil {
				t.Fatalf("list %d: %v, %v", n, got, err)
			}
			time.Sleep(time.Millisecond)
		}
		if len(c.kept) != maxChoices {
			t.Errorf("%d lists are kept", len(c.kept))
		}
		if got, _ := c.get(t.Context(), key(3*maxChoices-1), 0, list); got != 3*maxChoices {
			t.Errorf("the last list was forgotten: %v", got)
		}
	})
}
