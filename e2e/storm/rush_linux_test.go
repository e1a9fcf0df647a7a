package storm

import (
	"context"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"ssegateway/e2e/harness"
)

// comer is a client that connects together with all others.
type comer struct {
	target string
	ctx    context.Context
	leave  context.CancelFunc
	done   chan struct{} // closed once it has a stream, or has left

	stream *stream
	took   time.Duration // until it had its stream
	left   time.Time     // while it waited; zero: it did not
}

func (c *comer) come(t *testing.T, e harness.Endpoint) {
	defer close(c.done)
	begun := time.Now()
	x, err := ask(c.ctx, e, c.target)
	switch {
	case err != nil && c.ctx.Err() != nil:
		c.left = time.Now()
	case err != nil || x.status != http.StatusOK:
		t.Errorf("client %s gets no stream: %v", c.target, err)
	default:
		c.stream, c.took = x, time.Since(begun)
	}
}

// TestRush has many clients connect at once to a backend that takes 200 ms, and half of them leave while they wait for
// their turn. The backend is never asked about more than CALLBACK_CONCURRENCY at a time, and not about clients that had
// left. All others get their streams.
func TestRush(t *testing.T) {
	turns := min(concurrency, *streams/10)
	// The first ones are held until everybody is there, which may take long.
	s := start(t, "CALLBACK_CONCURRENCY="+strconv.Itoa(turns), "CALLBACK_TIMEOUT_SECONDS=60")
	b := s.backend
	b.ledger.Timeout = time.Minute
	b.turn(mood{held: true})
	before := s.memory("VmRSS")

	all := make([]*comer, *streams)
	var rush sync.WaitGroup
	begun := time.Now()
	for i := range all {
		c := &comer{target: "/" + strconv.Itoa(i), done: make(chan struct{})}
		c.ctx, c.leave = context.WithCancel(t.Context())
		all[i] = c
		rush.Go(func() { c.come(t, s.Endpoint) })
	}
	defer func() {
		for _, c := range all {
			c.leave()
			<-c.done
			if c.stream != nil {
				c.stream.leave(byFIN)
				<-c.stream.ended
			}
		}
	}()
	waiting := func() int { return int(s.Metric(t, `ssegateway_connect_callbacks{state="waiting"}`)) }
	becomes(t, harness.Patience, "everybody waits", func() bool { return waiting() == *streams-turns })

	// Of those who wait some leave now, and the gateway notices. It may ask about none of them.
	random := rand.New(rand.NewPCG(*seed, 0))
	early, late := *streams*3/8, *streams/4
	var gone, going []*comer
	for _, i := range random.Perm(*streams) {
		_, asked := b.askedAbout(all[i].target)
		switch {
		case asked:
		case len(gone) < early:
			gone = append(gone, all[i])
			all[i].leave()
		case len(going) < late:
			going = append(going, all[i])
		}
	}
	becomes(t, harness.Patience, "they have left", func() bool { return waiting() == *streams-turns-early })

	// Others leave while the rest is asked about.
	const slow = 200 * time.Millisecond
	b.turn(mood{delay: slow})
	rest := slow * time.Duration((*streams-early)/turns)
	for _, c := range going {
		after := time.Duration(random.Int64N(int64(rest)))
		time.AfterFunc(after, func() {
			select {
			case <-c.done: // it has its stream already, and stays
			default:
				c.leave()
			}
		})
	}
	rush.Wait()
	took := time.Since(begun)
	grown := s.memory("VmHWM") - before

	for _, c := range gone {
		if at, ok := b.askedAbout(c.target); ok {
			t.Errorf("the backend is asked about client %s %v after it left", c.target, at.Sub(c.left))
		}
	}
	slack := 2 * time.Second
	if *strict {
		slack = 250 * time.Millisecond
	}
	var have []*stream
	var slowest, latest time.Duration
	left := 0
	for _, c := range all {
		if c.stream != nil && c.stream.isOpen() {
			have = append(have, c.stream)
			slowest = max(slowest, c.took)
		}
		if c.left.IsZero() {
			continue
		}
		left++
		if at, ok := b.askedAbout(c.target); ok {
			after := at.Sub(c.left)
			latest = max(latest, after)
			if after > slack {
				t.Errorf("the backend is asked about client %s %v after it left", c.target, after)
			}
		}
	}
	if len(have)+left != *streams {
		t.Errorf("%d clients have a stream and %d left, of %d", len(have), left, *streams)
	}
	if slowest > time.Minute {
		t.Errorf("a client waited for %v", slowest)
	}
	if n := b.asking.most.Load(); n > int64(turns) {
		t.Errorf("%d connect callbacks at a time, want at most %d", n, turns)
	}
	if n := b.telling.most.Load(); n > int64(turns) {
		t.Errorf("%d disconnect callbacks at a time, want at most %d", n, turns)
	}
	each := grown / int64(*streams)
	if *strict && each > 40<<10 {
		t.Errorf("memory grew by %d bytes for each client, want at most 40 KiB", each)
	}
	s.settles(harness.Patience, have)
	s.check()
	t.Logf("%v in all; asked about a client %v after it left at the latest", took.Round(time.Millisecond), latest.Round(time.Millisecond))
	if !t.Failed() {
		harness.Figure(t, "%d clients at once, of which %d leave while they wait: %d callbacks at a time (bound %d), all others have their streams within %v (bound 60 s), memory grew by %d MiB",
			*streams, left, b.asking.most.Load(), turns, slowest.Round(time.Millisecond), grown>>20)
	}
}
