package gateway_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"ssegateway/internal/frame"
	"ssegateway/internal/gateway"
)

// A tail takes no connection's place and is none: it is not listed, not given to what records connections,
// not counted, and the backend is not told of its end. Its own place is free when it has ended.
func TestTail(t *testing.T) {
	s := newSite(func(cfg *gateway.Config) { cfg.MaxConnections, cfg.MaxTails = 1, 2 })
	tails := make([]*gateway.Conn, 2)
	for i := range tails {
		c, err := s.gw.Tail()
		if err != nil {
			t.Fatal(err)
		}
		tails[i] = c
	}
	if _, err := s.gw.Tail(); !errors.Is(err, gateway.ErrTails) {
		t.Errorf("a third tail: %v", err)
	}
	if !tails[0].Open(&tape{conn: tails[0], room: 1000}, frame.Frame{}, gateway.Grant{Topics: []string{"t"}}) {
		t.Fatal("the tail is not open")
	}
	c := s.connect(t)
	c.Open(&tape{conn: c, room: 1000}, frame.Frame{}, gateway.Grant{Topics: []string{"t"}})
	for _, f := range []gateway.Filter{{}, {Topic: "t"}} {
		if list := s.gw.List(f, gateway.Token{}, 10); !slices.Equal(list, []*gateway.Conn{c}) {
			t.Errorf("%+v lists %d connections", f, len(list))
		}
		if _, _, err := s.gw.Connect(t.Context(), request); !errors.Is(err, gateway.ErrFull) {
			t.Errorf("beyond MaxConnections: %v", err)
		}
	}
	s.gw.Each(func(token gateway.Token, _ []byte) {
		if token != c.Token() {
			t.Error("Each has a tail")
		}
	})
	if pending, open := s.gw.Stats().Pending.Load(), s.gw.Stats().Open.Load(); pending != 0 || open != 1 {
		t.Errorf("%d pending, %d open, want 0 and 1", pending, open)
	}
	if n := s.gw.CloseAll(gateway.Filter{Topic: "t"}); n != 1 || tails[0].State() != gateway.Open {
		t.Errorf("%d closed, the tail is in state %d", n, tails[0].State())
	}
	for _, tail := range tails { // the second was never open
		tail.Abort(gateway.ClientClosed, 0)
	}
	s.expectEnds(t, "server_closed/")
	s.expectNothingLeft(t)
	if _, err := s.gw.Tail(); err != nil {
		t.Error(err)
	}
	s.gw.Drain(0, time.Second)
	if _, err := s.gw.Tail(); !errors.Is(err, gateway.ErrDraining) {
		t.Errorf("while it drains: %v", err)
	}
	s.expectNothingLeft(t)
}
