package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// loadConfig says what a client does. Either Seconds or Count is set.
type loadConfig struct {
	Addr    string
	Path    string // below the role
	Conns   int
	Seconds float64
	Count   int // requests in all
}

type loadResult struct {
	Requests int
	Errors   int
	Error    string // one of them
	Seconds  float64
	P50, P99 float64 // ms
}

type holdResult struct {
	Errors         int
	Error          string
	MedianUnixNano int64
	LastUnixNano   int64
}

// A benchClient is one TLS connection with a client certificate that speaks
// just enough HTTP/1.1.
type benchClient struct {
	nc      *tls.Conn
	r       *bufio.Reader
	request []byte
}

func dialClient(ctx context.Context, c *childConfig, conf *tls.Config, method string) (*benchClient, error) {
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: 30 * time.Second}, Config: conf}
	nc, err := d.DialContext(ctx, "tcp", c.Load.Addr)
	if err != nil {
		return nil, err
	}
	body := ""
	if method == "POST" {
		body = "Content-Length: 2\r\n\r\nhi"
	} else {
		body = "\r\n"
	}
	return &benchClient{
		nc: nc.(*tls.Conn),
		r:  bufio.NewReaderSize(nc, 64<<10),
		request: fmt.Appendf(nil, "%s %s%s HTTP/1.1\r\nHost: %s\r\nUser-Agent: CcmHttpClient\r\nAccept: */*\r\n%s",
			method, externalRoot, c.Load.Path, serviceName, body),
	}, nil
}

func (b *benchClient) send() error {
	_, err := b.nc.Write(b.request)
	return err
}

// receive reads one response and throws its body away.
func (b *benchClient) receive() error {
	status, err := b.r.ReadSlice('\n')
	if err != nil {
		return err
	}
	if len(status) < 12 || string(status[9:12]) != "200" {
		return fmt.Errorf("status %q", bytes.TrimSpace(status))
	}
	length, chunked := -1, false
	for {
		line, err := b.r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) <= 2 {
			break
		}
		if len(line) > 15 && (line[0]|0x20 == 'c') && bytes.EqualFold(line[:15], []byte("content-length:")) {
			if length, err = strconv.Atoi(strings.TrimSpace(string(line[15:]))); err != nil {
				return err
			}
		}
		if len(line) > 18 && (line[0]|0x20 == 't') && bytes.EqualFold(line[:18], []byte("transfer-encoding:")) {
			chunked = true
		}
	}
	if !chunked {
		if length < 0 {
			return errors.New("response without a length")
		}
		_, err := b.r.Discard(length)
		return err
	}
	for {
		line, err := b.r.ReadSlice('\n')
		if err != nil {
			return err
		}
		n, err := strconv.ParseInt(strings.TrimSpace(string(line)), 16, 64)
		if err != nil {
			return err
		}
		if _, err := b.r.Discard(int(n) + 2); err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
	}
}

// runLoad keeps Conns connections busy.
func runLoad(ctx context.Context, c *childConfig, say *json.Encoder) error {
	conf, err := clientTLS(c.Dir)
	if err != nil {
		return err
	}
	clients := make([]*benchClient, c.Load.Conns)
	for i := range clients {
		if clients[i], err = dialClient(ctx, c, conf, "GET"); err != nil {
			return err
		}
		defer clients[i].nc.Close()
	}
	var stop atomic.Bool
	var left atomic.Int64
	left.Store(1 << 62)
	work := func() (all []time.Duration, failed int, reason error) {
		var mu sync.Mutex
		var wg sync.WaitGroup
		for _, b := range clients {
			wg.Go(func() {
				var mine []time.Duration
				var err error
				for !stop.Load() && left.Add(-1) >= 0 && ctx.Err() == nil {
					began := time.Now()
					if err = b.send(); err == nil {
						err = b.receive()
					}
					if err != nil {
						break
					}
					mine = append(mine, time.Since(began))
				}
				mu.Lock()
				defer mu.Unlock()
				all = append(all, mine...)
				if err != nil {
					failed++
					reason = err
				}
			})
		}
		wg.Wait()
		return all, failed, reason
	}
	if c.Load.Seconds > 0 {
		// Warm up a little: connections, pools, buffers.
		time.AfterFunc(300*time.Millisecond, func() { stop.Store(true) })
		if _, n, err := work(); n > 0 {
			return fmt.Errorf("warm up: %w", err)
		}
		stop.Store(false)
	}
	if err := say.Encode(map[string]string{"state": "ready"}); err != nil {
		return err
	}
	if c.Load.Seconds > 0 {
		time.AfterFunc(time.Duration(c.Load.Seconds*float64(time.Second)), func() { stop.Store(true) })
	} else {
		left.Store(int64(c.Load.Count))
	}
	began := time.Now()
	all, failed, reason := work()
	r := loadResult{Requests: len(all), Errors: failed, Seconds: time.Since(began).Seconds()}
	if reason != nil {
		r.Error = reason.Error()
	}
	if len(all) > 0 {
		slices.Sort(all)
		r.P50 = float64(all[len(all)/2]) / 1e6
		r.P99 = float64(all[len(all)*99/100]) / 1e6
	}
	return say.Encode(r)
}

// runHold opens Conns connections, sends one request on each, and says when
// they were answered.
func runHold(ctx context.Context, c *childConfig, say *json.Encoder) error {
	conf, err := clientTLS(c.Dir)
	if err != nil {
		return err
	}
	if err := say.Encode(map[string]string{"state": "started"}); err != nil {
		return err
	}
	var mu sync.Mutex
	var r holdResult
	var times []int64
	var wg sync.WaitGroup
	dialling := make(chan struct{}, 16)
	for range c.Load.Conns {
		wg.Go(func() {
			dialling <- struct{}{}
			b, err := dialClient(ctx, c, conf, "POST")
			if err == nil {
				err = b.send()
			}
			<-dialling
			if err == nil {
				_, err = b.r.Peek(1)
			}
			now := time.Now().UnixNano()
			if err == nil {
				err = b.receive()
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				r.Errors++
				r.Error = err.Error()
				return
			}
			b.nc.Close()
			times = append(times, now)
		})
	}
	wg.Wait()
	slices.Sort(times)
	if len(times) > 0 {
		r.MedianUnixNano, r.LastUnixNano = times[len(times)/2], times[len(times)-1]
	}
	return say.Encode(r)
}

// waitHeld waits until the origin holds n requests.
func (e *environment) waitHeld(ctx context.Context, n int) error {
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		got, err := e.ask("/held")
		if err != nil {
			return err
		}
		if got >= int64(n) {
			return nil
		}
		if ctx.Err() != nil || time.Since(began) > time.Minute {
			return fmt.Errorf("only %d of %d requests reached the origin", got, n)
		}
	}
}

// release lets the held requests go and returns when that was, in Unix
// nanoseconds.
func (e *environment) release() (int64, error) { return e.ask("/release") }

func (e *environment) ask(path string) (int64, error) {
	nc, err := net.Dial("tcp", e.origin)
	if err != nil {
		return 0, err
	}
	defer nc.Close()
	if _, err := fmt.Fprintf(nc, "GET %s HTTP/1.1\r\nHost: origin\r\nConnection: close\r\n\r\n", path); err != nil {
		return 0, err
	}
	r := bufio.NewReader(nc)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return 0, err
		}
		if v, ok := strings.CutPrefix(line, "Content-Length: "); ok {
			n, _ := strconv.Atoi(strings.TrimSpace(v))
			if _, err := r.ReadString('\n'); err != nil {
				return 0, err
			}
			b := make([]byte, n)
			if _, err := io.ReadFull(r, b); err != nil {
				return 0, err
			}
			return strconv.ParseInt(string(b), 10, 64)
		}
	}
}
