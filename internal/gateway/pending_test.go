package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"ssegateway/internal/frame"
	"ssegateway/internal/gateway"
)

// A sender that waits for a buffered event gets an error even if the stream fails at the very
// write of the buffer.
func TestBufferedFailsAtOpening(t *testing.T) {
	s := newSite(nil)
	c := s.connect(t)
	var waiting []chan error
	for range 3 {
		done := make(chan error, 1)
		waiting = append(waiting, done)
		if r := c.Send(eventOf(t, 20), false, done); r != gateway.Buffered {
			t.Fatalf("a send to a pending connection: %d", r)
		}
	}
	c.Open(&tape{conn: c, fault: gateway.WriteFailed}, frame.Frame{}, gateway.Grant{})
	for i, done := range waiting {
		select {
		case err := <-done:
			if !errors.Is(err, gateway.ErrNotWritten) {
				t.Errorf("event %d: done got %v", i, err)
			}
		default:
			t.Errorf("event %d: done got nothing", i)
		}
	}
	if n := s.gw.Stats().Dropped.Load(); n != 3 {
		t.Errorf("%d events counted as dropped, want 3", n)
	}
	s.expectEnds(t, "error/write_failed")
	s.expectNothingLeft(t)
}

// A send after a buffered close returns Buffered too, and its event is dropped.
func TestBehindBufferedClose(t *testing.T) {
	s := newSite(nil)
	c := s.connect(t)
	done := make(chan error, 1)
	for i, r := range []gateway.Result{
		c.Send(eventOf(t, 10), true, nil),
		c.Send(eventOf(t, 20), false, done),
		c.Send(frame.Frame{}, true, nil),
	} {
		if r != gateway.Buffered {
			t.Errorf("send %d: %d", i, r)
		}
	}
	if err := <-done; !errors.Is(err, gateway.ErrNotWritten) {
		t.Errorf("done got %v", err)
	}
	tp := &tape{conn: c, room: plenty}
	if !c.Open(tp, frame.Frame{}, gateway.Grant{}) {
		t.Fatal("the connection did not open")
	}
	if len(tp.wire) != 10 || !tp.closed || tp.aborted {
		t.Errorf("written %q, closed %v, aborted %v", tp.wire, tp.closed, tp.aborted)
	}
	if n := s.gw.Stats().Dropped.Load(); n != 1 {
		t.Errorf("%d events counted as dropped, want 1", n)
	}
	s.expectEnds(t, "server_closed/")
	s.expectNothingLeft(t)
}

// The budget holds for pending connections too, however many there are, although an empty
// queue takes one event of any size. Sends to them are refused, and no open connections are
// cut for them.
func TestPendingBudget(t *testing.T) {
	s := newSite(func(cfg *gateway.Config) { cfg.BudgetBytes = 10000 })
	open, slow := s.open(t, 0)
	if r := open.Send(eventOf(t, 1000), false, nil); r != gateway.Sent {
		t.Fatalf("a send to an open connection: %d", r)
	}
	results := map[gateway.Result]int{}
	for range 20 {
		results[s.connect(t).Send(eventOf(t, 1000), false, nil)]++
	}
	if results[gateway.Buffered] < 7 || results[gateway.Full] < 11 {
		t.Errorf("of 20 sends %d were buffered and %d refused", results[gateway.Buffered], results[gateway.Full])
	}
	if n := s.gw.QueuedBytes(); n > 10000 {
		t.Errorf("%d bytes are queued, the budget is 10000", n)
	}
	if slow.closed || open.State() != gateway.Open {
		t.Error("an open connection was cut for what waits for pending ones")
	}
}

// The gauge of pending connections stays true when a drain begins just as
// connections arrive.
func TestPendingGaugeAtDrain(t *testing.T) {
	for range 500 {
		s := newSite(nil)
		s.answer = func(context.Context) gateway.Answer { return gateway.Answer{Outcome: gateway.Refused} }
		var clients sync.WaitGroup
		for range 4 {
			clients.Go(func() { _, _, _ = s.gw.Connect(t.Context(), request) })
		}
		s.gw.Drain(0, 0)
		clients.Wait()
		s.expectNothingLeft(t)
		if t.Failed() {
			return
		}
	}
}

func TestMaxConnections(t *testing.T) {
	s := newSite(func(cfg *gateway.Config) { cfg.MaxConnections = 2 })
	first := s.connect(t)
	second, tp := s.open(t, plenty)
	if _, _, err := s.gw.Connect(t.Context(), request); !errors.Is(err, gateway.ErrFull) {
		t.Fatalf("with a limit of 2, the third connection returned the error %v", err)
	}
	first.Abort(gateway.ClientClosed, 0)
	if third := s.connect(t); third.State() != gateway.Pending {
		t.Error("no room after a connection left")
	}
	second.Send(frame.Frame{}, true, nil)
	if !tp.closed {
		t.Error("the stream is not closed")
	}
	s.expectEnds(t, "client_closed/", "server_closed/")
	want := fmt.Sprintf("[connections counted: 1 connections registered: 1 pending: 1 bytes of requests: %d]", len(request)+256)
	if left := fmt.Sprint(s.gw.Leftovers()); left != want {
		t.Error(left)
	}
}
