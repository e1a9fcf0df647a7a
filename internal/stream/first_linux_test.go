package stream_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ssegateway/internal/gateway"
	"ssegateway/sse"
)

// A stream's first bytes go out with its head: the client gets both in one segment.
func TestFirstSegment(t *testing.T) {
	for _, p := range []protocol{http11, http10} {
		t.Run(string(p), func(t *testing.T) {
			s := newSite(t, p, welcome{}, nil)
			c, err := dial(t.Context(), p, s.addr, "/", 0)
			if err != nil {
				t.Fatal(err)
			}
			raw, err := c.tcp.SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			segments := func() (n uint32) {
				_ = raw.Control(func(fd uintptr) {
					if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
						n = info.Data_segs_in
					}
				})
				return n
			}
			// The gateway counts the bytes after it has written them.
			wait(t, "the stream begins", func() bool { return segments() > 0 && s.gw.Stats().Bytes.Load() >= 100 })
			if segments() != 1 {
				t.Errorf("%d bytes in %d segments", s.gw.Stats().Bytes.Load(), segments())
			}
			c.halfClose()
			await(t, "the client sees the end", c.over)
			want := sse.Heartbeat
			if c.chunked {
				want = fmt.Sprintf("%x\r\n%s\r\n", len(want), want)
			}
			if !strings.HasPrefix(string(c.body), want) {
				t.Errorf("the stream begins with %q", c.body)
			}
			s.settle(t)
		})
	}
}

// welcome accepts every connection and forgets it.
type welcome struct{}

func (welcome) Connect(_, _ context.Context, _ gateway.Token, _ []byte) gateway.Answer {
	return gateway.Answer{Outcome: gateway.Accepted, Status: 200}
}
func (welcome) Disconnect(gateway.Notice) {}
