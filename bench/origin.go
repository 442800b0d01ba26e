package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// serveOrigin is the internal role of every system: as little as answers
// HTTP/1.1, so that what is measured lies before it.
//
//	…/small     2 KiB
//	…/bulk?n=N  N bytes
//	…/hold      2 KiB once somebody asked for /release
//	/held       how many are held
//	/release    releases them and says when
func serveOrigin(ctx context.Context, say *json.Encoder) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { ln.Close() })
	if err := say.Encode(map[string]string{"addr": ln.Addr().String()}); err != nil {
		return err
	}
	o := &originServer{small: answer(bytes.Repeat([]byte("opencmg "), 256)), hold: make(chan struct{}), piece: make([]byte, 256<<10)}
	for {
		nc, err := ln.Accept()
		if err != nil {
			return nil
		}
		go o.serve(nc)
	}
}

type originServer struct {
	small, piece []byte

	mu   sync.Mutex // guards what follows
	held int
	hold chan struct{}
}

func answer(body []byte) []byte {
	return append(fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nDate: Mon, 23 Nov 2026 08:00:00 GMT\r\nServer: origin\r\nContent-Length: %d\r\n\r\n", len(body)), body...)
}

func (o *originServer) serve(nc net.Conn) {
	defer nc.Close()
	r := bufio.NewReaderSize(nc, 4<<10)
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return
		}
		_, rest, _ := bytes.Cut(line, []byte(" "))
		t, _, _ := bytes.Cut(rest, []byte(" "))
		kind := byte(0)
		var n int64
		switch {
		case bytes.HasSuffix(t, []byte("/hold")):
			kind = 'h'
		case bytes.HasSuffix(t, []byte("/held")):
			kind = 'c'
		case bytes.HasSuffix(t, []byte("/release")):
			kind = 'r'
		case bytes.Contains(t, []byte("/bulk?n=")):
			kind = 'b'
			_, v, _ := strings.Cut(string(t), "?n=")
			n, _ = strconv.ParseInt(v, 10, 64)
		}
		length := 0
		for {
			line, err := r.ReadSlice('\n')
			if err != nil {
				return
			}
			if len(line) <= 2 {
				break
			}
			if v, ok := bytes.CutPrefix(bytes.ToLower(line), []byte("content-length:")); ok {
				length, _ = strconv.Atoi(strings.TrimSpace(string(v)))
			}
		}
		if _, err := io.CopyN(io.Discard, r, int64(length)); err != nil {
			return
		}
		switch kind {
		case 0:
			_, err = nc.Write(o.small)
		case 'h':
			o.mu.Lock()
			o.held++
			hold := o.hold
			o.mu.Unlock()
			<-hold
			_, err = nc.Write(o.small)
		case 'c':
			o.mu.Lock()
			n := o.held
			o.mu.Unlock()
			_, err = nc.Write(answer(strconv.AppendInt(nil, int64(n), 10)))
		case 'r':
			now := time.Now().UnixNano()
			o.mu.Lock()
			close(o.hold)
			o.hold, o.held = make(chan struct{}), 0
			o.mu.Unlock()
			_, err = nc.Write(answer(strconv.AppendInt(nil, now, 10)))
		case 'b':
			_, err = fmt.Fprintf(nc, "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n", n)
			for n > 0 && err == nil {
				k := min(n, int64(len(o.piece)))
				_, err = nc.Write(o.piece[:k])
				n -= k
			}
		}
		if err != nil {
			return
		}
	}
}
