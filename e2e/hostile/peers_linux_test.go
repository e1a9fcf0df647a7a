package hostile

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// kind is what hostile peers do once they are connected.
type kind struct {
	name     string
	tls      bool                       // the gateway speaks TLS
	internal bool                       // they connect to the listener of INTERNAL_ADDR
	small    bool                       // they have small receive buffers
	say      func(nc net.Conn) net.Conn // returns the connection to hold: nc or a wrapper of it
	drip     string                     // sent again and again
}

func says(text string) func(net.Conn) net.Conn {
	return func(nc net.Conn) net.Conn {
		_, _ = nc.Write([]byte(text))
		return nc
	}
}

// asks sends text, and waits for the beginning of an answer.
func asks(text string) func(net.Conn) net.Conn {
	return func(nc net.Conn) net.Conn {
		_, _ = nc.Write([]byte(text))
		_, _ = nc.Read(make([]byte, 12))
		return nc
	}
}

var kinds = []kind{
	{name: "silent", say: says("")},
	{name: "unfinished head", say: says("GET / HTTP/1.1\r\nHost: x\r\nX: ")},
	{name: "head that drips", say: says("GET / HTTP/1.1\r\nHost: x\r\nX: "), drip: "x"},
	{name: "body that never comes", say: says("POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n")},
	{name: "body of an OPTIONS * that never comes", say: says("OPTIONS * HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n")},
	{name: "body of a GET that never comes", say: says("GET /x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")},
	{name: "chunked body that drips", say: says("POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n"), drip: "x"},
	{name: "body behind a continue", say: says("POST /x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n")},
	{name: "idle after one answer", say: asks("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")},
	{name: "idle after a malformed request", say: asks("nonsense nonsense nonsense\r\n\r\n")},
	{name: "answers that nobody reads", small: true, say: says(strings.Repeat("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 320))},
	{name: "TLS without a handshake", tls: true, say: says("")},
	{name: "half a ClientHello", tls: true, say: says("\x16\x03\x01\x02\x00\x01\x00")},
	{name: "TLS, then silence", tls: true, say: handshake("http/1.1", "")},
	{name: "TLS, then a body that never comes", tls: true, say: handshake("http/1.1", "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n")},
	{name: "HTTP/2 over TLS, then silence", tls: true, say: handshake("h2", http2.ClientPreface)},
	{name: "HTTP/2 over TLS that never reads", tls: true, say: handshake("h2", unread)},
	{name: "HTTP/2, then silence", say: says(http2.ClientPreface)},
	{name: "HTTP/2 that never reads", say: says(unread)},
	{name: "HTTP/2 without a window", say: says(windowless)},
	{name: "HTTP/2 bodies that never come", say: says(bodiless)},
	{name: "HTTP/2 header without its end", say: says(headless)},
	{name: "relayed: body that never comes", say: says("POST /relayed HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n")},
	{name: "relayed: long body that drips", say: says("POST /relayed HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"), drip: "x"},
	{name: "relayed: chunked body that drips", say: says("POST /relayed HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n"), drip: "x"},
	{name: "relayed: body over TLS that drips", tls: true, say: handshake("http/1.1", "POST /relayed HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"), drip: "x"},
	{name: "relayed: HTTP/2 bodies that never come", say: says(relayed)},
	{name: "relayed: HTTP/2 bodies over TLS that never come", tls: true, say: handshake("h2", relayed)},
	{name: "internal: silent", internal: true, say: says("")},
	{name: "internal: idle after a refusal", internal: true, say: asks("GET /internal/stats HTTP/1.1\r\nHost: x\r\n\r\n")},
	{name: "internal: body that never comes", internal: true, say: says("POST /internal/send HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n")},
}

// proxied are kinds that reach the gateway through a proxy.
var proxied = []kind{
	{name: "unfinished head", say: says("GET /events/x HTTP/1.1\r\nHost: x\r\nX: ")},
	{name: "body that never comes", say: says("POST /events/x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n")},
	{name: "body of a GET that never comes", say: says("GET /events/x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")},
	{name: "chunked body that drips", say: says("POST /events/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n"), drip: "x"},
	{name: "idle after one answer", say: asks("POST /events/x HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")},
}

func handshake(proto, text string) func(net.Conn) net.Conn {
	return func(nc net.Conn) net.Conn {
		c := tls.Client(nc, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{proto}, MinVersion: tls.VersionTLS12})
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if c.HandshakeContext(ctx) == nil {
			_, _ = c.Write([]byte(text))
		}
		return c
	}
}

// What HTTP/2 peers send: requests on one or many streams.
var (
	unread     = framesOf(20, nil, "GET", "/healthz", true)
	windowless = framesOf(20, []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 0}}, "GET", "/healthz", true)
	bodiless   = framesOf(20, nil, "POST", "/x", true)
	relayed    = framesOf(20, nil, "POST", "/relayed", true)
	headless   = framesOf(1, nil, "POST", "/x", false)
)

// framesOf returns requests. A POST has a body, of which nothing comes.
func framesOf(streams int, settings []http2.Setting, method, path string, endHeaders bool) string {
	var b bytes.Buffer
	b.WriteString(http2.ClientPreface)
	f := http2.NewFramer(&b, nil)
	_ = f.WriteSettings(settings...)
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	for n := range streams {
		block.Reset()
		for _, field := range [][2]string{{":method", method}, {":scheme", "http"}, {":authority", "x"}, {":path", path}} {
			_ = e.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
		}
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*n + 1), BlockFragment: block.Bytes(), EndStream: method != "POST", EndHeaders: endHeaders})
	}
	return b.String()
}

// siege is a number of hostile peers, each of which reconnects when its connection is closed.
type siege struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
	opened atomic.Int64
	held   atomic.Int64
}

// comeBack is how long a peer waits before it reconnects.
const comeBack = 10 * time.Second

// besiege lets peers connect to an address, and waits until each has tried once.
func besiege(ctx context.Context, addr string, k kind, peers int) (*siege, error) {
	s := &siege{}
	ctx, s.cancel = context.WithCancel(ctx)
	come := make(chan struct{}, peers)
	hands := make(chan struct{}, 64) // bounds how many connect at a time
	for range peers {
		s.done.Go(func() { s.peer(ctx, addr, k, hands, come) })
	}
	for n := range peers {
		select {
		case <-come:
		case <-time.After(30 * time.Second):
			return s, fmt.Errorf("only %d of %d peers have tried to connect", n, peers)
		}
	}
	return s, nil
}

func (s *siege) peer(ctx context.Context, addr string, k kind, hands, come chan struct{}) {
	for first := true; ctx.Err() == nil; first = false {
		hands <- struct{}{}
		d := net.Dialer{Timeout: 5 * time.Second}
		if k.small {
			d.Control = smallBuffer
		}
		nc, err := d.DialContext(ctx, "tcp", addr)
		if err == nil {
			s.opened.Add(1)
			_ = nc.SetDeadline(time.Now().Add(5 * time.Second))
			held := k.say(nc)
			<-hands
			if first {
				come <- struct{}{}
			}
			s.hold(ctx, nc, held, k.drip)
		} else {
			<-hands
			if first {
				come <- struct{}{}
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(comeBack):
		}
	}
}

// hold keeps a connection without reading from it, until it is closed or the siege is over.
func (s *siege) hold(ctx context.Context, nc, held net.Conn, drip string) {
	defer nc.Close()
	s.held.Add(1)
	defer s.held.Add(-1)
	over := context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Unix(1, 0)) })
	defer over()
	for ctx.Err() == nil {
		if drip != "" {
			if _, err := held.Write([]byte(drip)); err != nil {
				return
			}
		}
		if !isOpen(nc, time.Second) {
			return
		}
	}
}

// isOpen reports whether a connection stays open for a while. It reads nothing from it.
func isOpen(nc net.Conn, wait time.Duration) bool {
	tcp, ok := nc.(*net.TCPConn)
	if !ok {
		return false
	}
	_ = tcp.SetDeadline(time.Now().Add(wait))
	return watch(tcp)
}

func (s *siege) end() {
	s.cancel()
	s.done.Wait()
}
