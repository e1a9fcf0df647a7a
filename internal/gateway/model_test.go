package gateway_test

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ssegateway/e2e/harness"
	"ssegateway/internal/broker"
	"ssegateway/internal/bubble"
	"ssegateway/internal/frame"
	"ssegateway/internal/gateway"
	"ssegateway/internal/gatewaytest"
	"ssegateway/internal/topics"
)

var (
	modelN    = flag.Int("model.n", 6000, "how many random connections TestModel lives through")
	modelSeed = flag.Uint64("model.seed", 0, "the seed of TestModel's first round; 0 for a random one")
	// For a planted bug of which the test has to find the consequences, not the bug itself.
	modelBlind = flag.Bool("model.blind", false, "streams do not notice that they are used after their end")
)

const (
	modelRound = 100                   // connections
	modelTick  = 50 * time.Millisecond // of the fake clock
	modelTicks = 30                    // within which connections begin
	// By then the last step of every plan is done, and clients that hang have stalled.
	modelEnd = 16 * time.Second
)

// TestModel runs random lives of connections, many at once, and afterwards checks each against
// a model of what must be true of it.
//
// Everything between two ticks of the fake clock is really concurrent: senders, clients, the
// backend's answers, heartbeats, the search for stalled clients, drains. A failure prints the
// seed of its round; -model.seed=SEED -model.n=1 repeats the same plans, but not necessarily
// the same schedule.
func TestModel(t *testing.T) {
	if *modelSeed == 0 {
		*modelSeed = rand.Uint64()
	}
	// One round per processor keeps all processors busy, so that what can happen at the
	// same time does.
	var next, sends, overlapping atomic.Int64
	t.Run("rounds", func(t *testing.T) {
		for worker := range runtime.GOMAXPROCS(0) {
			t.Run(strconv.Itoa(worker), func(t *testing.T) {
				t.Parallel()
				seed := *modelSeed
				defer func() {
					if t.Failed() {
						t.Logf("to repeat: -run '^TestModel$' -model.n=1 -model.seed=%d", seed)
					}
				}()
				for round := next.Add(1) - 1; round*modelRound < int64(*modelN); round = next.Add(1) - 1 {
					seed = *modelSeed + uint64(round)
					bubble.Test(t, func(t *testing.T) { // ends this test if it fails
						r := newRound(t, seed)
						r.run()
						sends.Add(r.sends)
						overlapping.Add(r.overlapping)
					})
				}
			})
		}
	})
	if !t.Failed() {
		harness.Figure(t, "%d random lives and %d sends, %.1f %% of which overlapped with something else on their connection: each ends once, for one reason, and what was buffered keeps its order (first seed %d)",
			*modelN, sends.Load(), 100*float64(overlapping.Load())/float64(max(sends.Load(), 1)), *modelSeed)
	}
}

// round is a gateway and all its connections.
type round struct {
	t       *testing.T
	random  *rand.Rand
	start   time.Time
	kernel  *kernel
	backend gatewaytest.Backend
	gw      *gateway.Gateway
	drainAt int // tick; negative for no drain
	tight   bool
	cut     bool // by the drain
	all     []*life

	sends, overlapping int64
}

// life is the life of one connection.
type life struct {
	plan     gatewaytest.Plan
	seed     uint64
	history  *gatewaytest.History
	endpoint *endpoint
	conn     *gateway.Conn // nil if refused by the gateway
	left     atomic.Bool   // the gateway was notified that the client left
}

// pumped reports whether the stream is written by a goroutine of its own.
func (l *life) pumped() bool { return l.history.Number%3 == 0 }

func newRound(t *testing.T, seed uint64) *round {
	random := rand.New(rand.NewPCG(seed, 0))
	r := &round{t: t, random: random, start: time.Now(), kernel: newKernel(modelTick), drainAt: -1}
	cfg := gateway.Config{
		Heartbeat: time.Second, MaxConnections: 1000, QueueBytes: 1 << 20, BudgetBytes: 1 << 27,
		Topics: topics.New(broker.NewMemory(64<<20, time.Hour), false), Log: slog.New(slog.DiscardHandler),
	}
	scope := gatewaytest.Scope{Ticks: modelTicks, Size: 600, Hangs: true, Opening: true, Unknown: true}
	switch random.IntN(4) {
	case 0:
		r.tight = true
		cfg.QueueBytes = 200 + random.Int64N(1000)
	case 1:
		r.tight = true
		cfg.BudgetBytes = 1000 + random.Int64N(10000)
	}
	if random.IntN(8) == 0 {
		cfg.MaxConnections = 1 + random.IntN(20)
	}
	if random.IntN(2) == 0 {
		r.drainAt = random.IntN(2 * modelTicks)
		scope.MayLast = true
	}
	loose := random.IntN(2) == 0
	r.backend.Answer = r.answer
	r.gw = gateway.New(cfg, &r.backend)
	for i := range modelRound {
		plan := scope.NewPlan(random)
		l := &life{plan: plan, seed: random.Uint64(), history: gatewaytest.NewHistory(i, len(plan.Senders))}
		l.history.Loose = loose
		l.history.Budgeted = cfg.BudgetBytes < 1<<20
		if r.tight {
			l.history.Happened(gateway.Error, gateway.SlowConsumer, 0)
		}
		r.backend.Expect(l.history)
		r.all = append(r.all, l)
	}
	return r
}

// at sleeps until a tick.
func (r *round) at(tick int) {
	time.Sleep(time.Until(r.start.Add(time.Duration(tick) * modelTick))) // fake clock
}

// answer waits for the connection's turn. Unless the client has left by then, it asks and waits
// for the answer.
func (r *round) answer(ctx, client context.Context, h *gatewaytest.History) gateway.Answer {
	l := r.all[h.Number]
	until := func(tick int) <-chan time.Time {
		return time.After(time.Until(r.start.Add(time.Duration(tick) * modelTick)))
	}
	left := l.left.Load()
	select {
	case <-client.Done():
	case <-ctx.Done():
		return gateway.Answer{Outcome: gateway.TimedOut, Unsent: true}
	case <-until(l.plan.AskAt):
		left = l.left.Load()
	}
	if client.Err() != nil {
		return gateway.Answer{Outcome: gateway.Unasked}
	}
	if left {
		r.kernel.failf("connection %d: the backend is asked about a client that had left", h.Number)
	}
	select {
	case <-ctx.Done():
		return gateway.Answer{Outcome: gateway.TimedOut}
	case <-until(l.plan.AnswerAt):
	}
	return l.plan.Answer
}

func (r *round) run() {
	ctx, cancel := context.WithCancel(context.Background())
	var background sync.WaitGroup
	background.Go(func() { _ = r.gw.Run(ctx) })
	background.Go(r.kernel.epoll)

	var lives sync.WaitGroup
	for _, l := range r.all {
		lives.Go(func() { r.live(l) })
	}
	if r.drainAt >= 0 {
		r.at(r.drainAt)
		r.drain()
	}
	lives.Wait()
	r.at(int(modelEnd / modelTick))

	cancel()
	close(r.kernel.stop)
	background.Wait()
	synctest.Wait()
	r.check()
}

func (r *round) drain() {
	starts := make([]int64, len(r.all))
	for i, l := range r.all {
		starts[i] = l.history.Begin()
		l.history.Happened(gateway.ServerClosed, gateway.Draining, starts[i])
	}
	grace := 2 * time.Second
	began := time.Now()
	r.gw.Drain(time.Duration(r.random.IntN(2))*time.Second, grace)
	if r.cut = time.Since(began) >= grace; r.cut {
		for i, l := range r.all {
			l.history.Happened(gateway.Error, gateway.Stalled, starts[i])
		}
	}
}

// live carries out a plan.
func (r *round) live(l *life) {
	r.at(l.plan.Begin)
	random := rand.New(rand.NewPCG(l.seed, 0))
	l.endpoint = r.kernel.accept(l.history, random, random.IntN(3) > 0)
	client, gone := context.WithCancel(context.Background())
	defer gone()

	var actors sync.WaitGroup
	defer actors.Wait()
	actors.Go(func() {
		spoke := false
		for _, a := range l.plan.Client {
			r.at(a.At)
			l.endpoint.do(a.Deed)
			spoke = spoke || a.Deed == gatewaytest.Byte
			if !spoke && (a.Deed == gatewaytest.FIN || a.Deed == gatewaytest.RST) {
				gone() // net/http notices, unless the client has sent something before
				l.left.Store(true)
			}
		}
	})
	for i, steps := range l.plan.Senders {
		actors.Go(func() {
			<-l.history.Known
			for _, s := range steps {
				r.at(s.At)
				l.history.Sender(i).Send(r.gw, s.Size, s.End, s.Wait)
			}
		})
	}

	c, a, err := r.gw.Connect(client, l.history.Request())
	if err != nil {
		l.history.Unasked()
		r.kernel.close(l.endpoint.fd, false)
		return
	}
	l.conn = c
	r.at(l.plan.OpenAt)
	if a.Outcome != gateway.Accepted || !r.open(l) {
		r.kernel.close(l.endpoint.fd, false)
	}
}

// open does what a handler does with an accepted connection.
func (r *round) open(l *life) bool {
	h, e := l.history, l.endpoint
	if l.plan.Opening == gatewaytest.GivenUp {
		start := h.Begin()
		l.conn.Abort(gateway.Error, gateway.OpenFailed)
		h.Closed(gateway.Error, gateway.OpenFailed, start)
		return false
	}
	failing := l.plan.Opening == gatewaytest.StartFails
	if failing {
		h.Happened(gateway.Error, gateway.OpenFailed, h.Begin())
	}
	plain := &socket{k: r.kernel, fd: e.fd, conn: l.conn, history: h, chunked: e.chunked, failing: failing}
	var s gateway.Stream
	if l.pumped() {
		s = &pumped{socket: plain, e: e, wake: make(chan struct{}, 1), done: make(chan struct{})}
	} else {
		s = plain
	}
	return h.Open(func() bool { return l.conn.Open(s, frame.Head([]byte(head)), gateway.Grant{}) })
}

const head = "HEAD\r\n\r\n"

func (r *round) check() {
	var failures []error
	for _, what := range r.gw.Leftovers() {
		r.t.Errorf("left behind: %s", what)
	}
	for _, what := range slices.Compact(r.backend.Strange()) {
		r.t.Errorf("the backend received %s", what)
	}
	var want struct {
		opened, accepted uint64
		closed           [gateway.Error + 1]uint64
	}
	for _, l := range r.all {
		got := l.endpoint.received()
		got.Exact = !l.pumped()
		failures = append(failures, l.check(r, &got)...)
		c := l.history.Counted()
		if c.Opened {
			want.opened++
		}
		want.accepted += uint64(c.Accepted)
		r.sends += int64(c.Sends)
		r.overlapping += int64(c.Overlapping)
		want.closed[c.Reason]++
	}
	stats := r.gw.Stats()
	if n := stats.Opened.Load(); n != want.opened {
		r.t.Errorf("%d streams counted as opened, want %d", n, want.opened)
	}
	if n := stats.Events.Load() + stats.Dropped.Load(); n != want.accepted {
		r.t.Errorf("%d events counted as written and %d as dropped, want %d together", stats.Events.Load(), stats.Dropped.Load(), want.accepted)
	}
	for _, reason := range gateway.Reasons() {
		if n := stats.Closed[reason].Load(); n != want.closed[reason] {
			r.t.Errorf("%d ends counted as %v, want %d", n, reason, want.closed[reason])
		}
	}
	k := r.kernel
	k.mu.Lock()
	defer k.mu.Unlock()
	failures = append(failures, k.failures...)
	for fd, e := range k.table {
		if e != nil {
			r.t.Errorf("descriptor %d is still open", fd)
		}
	}
	for i, err := range failures {
		if i == 5 {
			r.t.Errorf("and %d more", len(failures)-i)
			break
		}
		r.t.Error(err)
	}
}

// check compares a finished life with the model.
func (l *life) check(r *round, got *gatewaytest.Received) []error {
	var failures []error
	failf := func(format string, args ...any) {
		failures = append(failures, fmt.Errorf("connection %d: "+format, append([]any{l.history.Number}, args...)...))
	}
	if r.gw.Find(l.history.Token()) != nil {
		failf("is still found")
	}
	if l.conn != nil {
		if l.conn.State() != gateway.Closed {
			failf("is in state %d", l.conn.State())
		}
		if res := l.conn.Send(frame.Frame{}, true, nil); res != gateway.Gone {
			failf("returned %d for a late close", res)
		}
	}
	if !cutHead(&got.Body) {
		failf("the head of the response is torn: %q", got.Body)
	}
	cutHead(&got.Handed)
	// A client that took something is not cut as stalled within the next 10 s. (How much of
	// a blocking write it took is visible only if it acknowledges faster than the write
	// continues.)
	if slices.Contains(l.history.Ends(), "error/stalled") && !r.cut && !l.pumped() {
		if idle := l.endpoint.closedAt.Sub(l.endpoint.took); idle < gateway.StallDeadline {
			failf("was cut as stalled %v after it took something", idle)
		}
	}
	if err := l.history.Check(*got); err != nil {
		failures = append(failures, fmt.Errorf("%w%v", err, l.plan))
	}
	return failures
}

// cutHead removes the head of the response, which may be incomplete itself.
func cutHead(b *[]byte) bool {
	n := min(len(head), len(*b))
	ok := string((*b)[:n]) == head[:n]
	*b = (*b)[n:]
	return ok
}
