package storm

import (
	"context"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ssegateway/e2e/harness"
)

// Of the connections of TestChurn so many are open during the whole test, and half of these leave while the backend is away.
const staying = 100

// guests are how many clients of TestChurn come and go at a time.
const guests = 256

// TestChurn has clients come and go while a tenth of all callbacks fails in every way, and the backend is away for a
// while in the middle. The backend has to be told of the end of each connection that it accepted, or that the gateway
// cannot know it did not accept: once, after its answer. It must hear of no other.
func TestChurn(t *testing.T) {
	s := start(t)
	b := s.backend
	stay := open(t, s.Endpoint, staying)
	b.turn(mood{fails: 0.1})
	stop := s.watch()

	var group sync.WaitGroup
	var refused, left, closed atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for number := range guests {
		random := rand.New(rand.NewPCG(*seed, uint64(2+number)))
		group.Go(func() {
			g := guest{s, random}
			for ctx.Err() == nil && b.ledger.Connects() < *churned {
				switch g.visit(ctx) {
				case wasRefused:
					refused.Add(1)
				case hasLeft:
					left.Add(1)
				case wasClosed:
					closed.Add(1)
				}
			}
		})
	}
	begun := time.Now()
	becomes(t, time.Hour, "half of the connections", func() bool { return b.ledger.Connects() >= *churned/2 })
	b.leave()
	for i, x := range stay[:staying/2] {
		x.leave(i % leavings)
	}
	<-time.After(*away) // the backend is away for that long
	b.comeBack(t)
	becomes(t, time.Hour, "all connections", func() bool { return b.ledger.Connects() >= *churned })
	b.turn(mood{})
	group.Wait()
	took := time.Since(begun)
	settled := s.settles(harness.Patience, stay[staying/2:])
	for i, x := range stay[staying/2:] {
		x.leave(i % leavings)
	}
	s.settles(harness.Patience, nil)
	stop()
	s.check()
	if n := b.ledger.Count(harness.Asked); n != 0 {
		t.Errorf("%d connects are still to be answered", n)
	}
	ends := b.ledger.Count(harness.Accepted) + b.ledger.Count(harness.Unanswered)
	t.Logf("%d connects in %v: %d accepted, %d without an answer; clients: %d refused, %d left, %d closed",
		b.ledger.Connects(), took.Round(time.Millisecond), b.ledger.Count(harness.Accepted), b.ledger.Count(harness.Unanswered), refused.Load(), left.Load(), closed.Load())
	if !t.Failed() {
		harness.Figure(t, "%d connections, a tenth of the callbacks failing, the backend away for %v: %d ends told in %d callbacks, each after its answer, 0 of the %d refused; the backend's picture true %v after the churn",
			b.ledger.Connects(), *away, ends, b.ledger.Tellings(), b.ledger.Count(harness.Refused), settled.Round(time.Millisecond))
	}
}

// guest is a client of TestChurn.
type guest struct {
	s      *site
	random *rand.Rand
}

// How a visit ended.
const (
	wasRefused = iota
	hasLeft
	wasClosed
)

// visit asks for a stream, has it for a while, and leaves or is closed.
func (g *guest) visit(ctx context.Context) int {
	t := g.s.t
	impatient := g.random.IntN(10) == 0
	if impatient { // it may leave while the backend is asked
		var leave context.CancelFunc
		ctx, leave = context.WithCancel(ctx)
		defer leave()
		defer time.AfterFunc(g.upTo(20*time.Millisecond), leave).Stop()
	}
	x, err := ask(ctx, g.s.Endpoint, "/")
	if err != nil {
		if ctx.Err() == nil {
			t.Errorf("a stream is not answered: %v", err)
		}
		return hasLeft
	}
	if x.status != http.StatusOK {
		if x.status != http.StatusInternalServerError && x.status != http.StatusServiceUnavailable && x.status != http.StatusGatewayTimeout {
			t.Errorf("a stream is refused with %d", x.status)
		}
		<-time.After(g.upTo(200 * time.Millisecond)) // until it comes back
		return wasRefused
	}
	if x.token == "" {
		t.Error("a stream ended without its first event")
		return hasLeft
	}
	if fate, ok := g.s.backend.ledger.Fate(x.token); fate != harness.Accepted || !ok {
		t.Errorf("token %s: open, and the backend has %v it", x.token, fate)
	}
	<-time.After(g.upTo(50 * time.Millisecond)) // it has the stream for so long
	how := g.random.IntN(leavings + 1)
	if how < leavings {
		x.leave(how)
		<-x.ended
		return hasLeft
	}
	if status, answer := g.s.post("/internal/send", map[string]any{"token": x.token, "close": true}); status != http.StatusOK {
		t.Errorf("closing %s is answered %d %v", x.token, status, answer)
	}
	<-x.ended
	if clean, _ := x.over(); !clean {
		t.Errorf("token %s: closed by the backend, and its stream was cut off", x.token)
	}
	return wasClosed
}

func (g *guest) upTo(d time.Duration) time.Duration { return time.Duration(g.random.Int64N(int64(d))) }
