package stream_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"ssegateway/internal/gateway"
	"ssegateway/internal/gatewaytest"
)

// single is a site with one open stream.
type single struct {
	*site
	backend gatewaytest.Backend
	history *gatewaytest.History
	client  *client
}

func openSingle(t *testing.T, p protocol, change func(cfg *gateway.Config)) *single {
	t.Helper()
	s := &single{history: gatewaytest.NewHistory(1, 1)}
	s.backend.Answer = func(_, _ context.Context, _ *gatewaytest.History) gateway.Answer {
		return gateway.Answer{Outcome: gateway.Accepted, Status: 200}
	}
	s.backend.Expect(s.history)
	s.site = newSite(t, p, &s.backend, change)
	s.serve(func(w http.ResponseWriter, r *http.Request) {
		s.history.Open(func() bool {
			s.openStream(w, r)
			return true
		})
	})
	var err error
	if s.client, err = dial(t.Context(), p, s.addr, s.history.Path(), 4096); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.client.pause(false)
		_ = s.client.conn.Close()
		await(t, "the client's end", s.client.over)
	})
	await(t, "the connect callback", s.history.Known)
	wait(t, "the stream opens", func() bool { return s.gw.Stats().Open.Load() == 1 })
	return s
}

func (s *single) expectEnd(t *testing.T, want string) {
	t.Helper()
	await(t, "the backend is told of the end", s.history.Told)
	if got := s.history.Ends(); len(got) != 1 || got[0] != want {
		t.Errorf("the backend was told %q, want %q", got, want)
	}
	s.client.pause(false)
	await(t, "the client sees the end", s.client.over)
	if s.client.end == nil || errors.Is(s.client.end, io.EOF) {
		t.Errorf("the client, which was cut, read %d bytes and then %v", len(s.client.body), s.client.end)
	}
	s.settle(t)
}

// A client that stops reading is cut as soon as more waits for it than may.
func TestSlowConsumer(t *testing.T) {
	for _, p := range protocols {
		t.Run(string(p), func(t *testing.T) {
			s := openSingle(t, p, func(cfg *gateway.Config) { cfg.QueueBytes = 300000 })
			s.client.pause(true)
			sender := s.history.Sender(0)
			var sent int
			for sender.Send(s.gw, 10000, false, true) == gateway.Sent {
				if sent++; sent > 1000 {
					t.Fatal("10 MB were sent to a client that does not read")
				}
			}
			results := sender.Results()
			if last := results[len(results)-1]; last != gateway.Failed {
				t.Errorf("the last send was answered with %d", last)
			}
			if sent < 25 {
				t.Errorf("cut after %d events of 12 kB, the bound is 300 kB", sent)
			}
			s.history.Closed(gateway.Error, gateway.SlowConsumer, 0)
			s.expectEnd(t, "error/slow_consumer")
			s.check(t)
		})
	}
}

// A client that takes nothing for 10 seconds while bytes wait is cut. All kinds of
// clients stall at once, to save the time.
func TestStalled(t *testing.T) {
	t.Parallel()
	start := time.Now()
	all := map[protocol]*single{}
	for _, p := range protocols {
		s := openSingle(t, p, nil)
		s.client.pause(true)
		sender := s.history.Sender(0)
		for range 50 {
			if r := sender.Send(s.gw, 10000, false, true); r != gateway.Sent {
				t.Fatalf("%s: a send was answered with %d", p, r)
			}
		}
		s.history.Happened(gateway.Error, gateway.Stalled, 0)
		all[p] = s
	}
	for p, s := range all {
		t.Run(string(p), func(t *testing.T) {
			s.expectEnd(t, "error/stalled")
			if took := time.Since(start); took < gateway.StallDeadline || took > gateway.StallDeadline+5*time.Second {
				t.Errorf("cut after %v", took)
			}
			s.check(t)
		})
	}
}

// A client that reads slowly, but all the time, gets everything, though it takes
// longer than any deadline: each byte that it takes begins the 10 seconds anew.
func TestSlowButSteady(t *testing.T) {
	t.Parallel()
	type kind struct {
		protocol
		close bool // behind the last event, rather than when that was written
	}
	all := map[kind]*single{}
	for _, p := range protocols {
		for _, closing := range []bool{false, true} {
			s := openSingle(t, p, nil)
			s.client.slow(pace{1000, 100 * time.Millisecond}) // 24 s for all
			sender := s.history.Sender(0)
			for i := range 20 {
				if r := sender.Send(s.gw, 10000, closing && i == 19, true); r != gateway.Sent {
					t.Fatalf("%s: a send was answered with %d", p, r)
				}
			}
			all[kind{p, closing}] = s
		}
	}
	for k, s := range all {
		t.Run(fmt.Sprintf("%s/close=%v", k.protocol, k.close), func(t *testing.T) {
			if !k.close {
				sender := s.history.Sender(0)
				if err := sender.Done(); err != nil {
					t.Errorf("the last event: %v", err)
				}
				sender.Send(s.gw, -1, true, false)
			}
			await(t, "the client sees the end", s.client.over)
			await(t, "the backend is told of the end", s.history.Told)
			if got := s.history.Ends()[0]; got != "server_closed/" {
				t.Errorf("the backend was told %q", got)
			}
			s.settle(t)
			s.check(t)
		})
	}
}

func (s *single) check(t *testing.T) {
	t.Helper()
	if err := s.history.Check(gatewaytest.Received{Body: s.client.body, Chunked: s.client.chunked}); err != nil {
		t.Error(err)
	}
}
