package gateway_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"ssegateway/internal/bubble"
	"ssegateway/internal/gateway"
)

// In a cluster the tokens contain the node's number, and are still version-4 UUIDs.
func TestNumber(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newSite(func(cfg *gateway.Config) { cfg.Clustered = true })
		if _, _, err := s.gw.Connect(t.Context(), request); !errors.Is(err, gateway.ErrNameless) {
			t.Errorf("connecting to a gateway without a number returned the error %v", err)
		}
		seen := map[gateway.Token]bool{}
		for _, number := range []uint32{1, 0xdeadbeef, 0xffffffff} {
			s.gw.SetNumber(number)
			for range 100 {
				c := s.connect(t)
				token := c.Token()
				if token.Node() != number || token[6]>>4 != 4 || token[8]>>6 != 2 || seen[token] {
					t.Errorf("node %08x: token %v", number, token)
				}
				if again, ok := gateway.ParseToken(token.String()); !ok || again != token {
					t.Errorf("ParseToken does not return %v", token)
				}
				seen[token] = true
				c.Abort(gateway.ClientClosed, 0)
			}
		}
		s.expectNothingLeft(t)
	})
}

// A gateway that loses its number closes all its connections: open streams in order, asking
// their clients to come back, and pending ones as soon as the backend has answered.
func TestAbandon(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newSite(func(cfg *gateway.Config) { cfg.Clustered = true })
		s.gw.SetNumber(1)
		idle, read := s.open(t, plenty)
		lagging, slow := s.open(t, 10)
		lagging.Send(eventOf(t, 100), false, nil)
		asked := make(chan struct{})
		s.answer = func(context.Context) gateway.Answer {
			<-asked
			return accepted
		}
		handled := make(chan *gateway.Conn)
		go func() {
			c, _, _ := s.gw.Connect(t.Context(), request)
			handled <- c
		}()
		synctest.Wait()
		s.gw.Abandon()
		if _, _, err := s.gw.Connect(t.Context(), request); !errors.Is(err, gateway.ErrNameless) {
			t.Errorf("connecting after the number was lost returned the error %v", err)
		}
		if !strings.HasPrefix(read.written(), "retry: ") || read.aborted || idle.State() != gateway.Closed {
			t.Errorf("the idle client received %q, aborted %v", read.written(), read.aborted)
		}
		slow.takes(plenty)
		if wire := slow.written(); len(wire) < 100 || !strings.Contains(wire[100:], "retry: ") || slow.aborted {
			t.Errorf("the slow client received %q, aborted %v", wire, slow.aborted)
		}
		close(asked)
		if c := <-handled; c.State() != gateway.Closed {
			t.Error("the pending connection was not closed")
		}
		synctest.Wait()
		s.expectEnds(t, "error/gateway_lost", "error/gateway_lost", "error/gateway_lost")
		s.expectNothingLeft(t)
	})
}
