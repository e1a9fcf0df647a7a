package stream_test

import (
	"context"
	"flag"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"ssegateway/internal/gateway"
	"ssegateway/internal/gatewaytest"
)

var (
	sampleN    = flag.Int("sample.n", 300, "how many random connections TestSample lives through over each protocol")
	sampleSeed = flag.Uint64("sample.seed", 0, "the seed of TestSample's plans; 0 for a random one")
)

// TestSample lives through random lives of connections, as the gateway's model
// test does in memory, over real sockets: the same plans, the same checks.
func TestSample(t *testing.T) {
	for _, p := range protocols {
		t.Run(string(p), func(t *testing.T) {
			seed := *sampleSeed
			if seed == 0 {
				seed = rand.Uint64()
			}
			newSample(t, p, seed).run()
			if t.Failed() {
				t.Logf("to repeat: -run 'TestSample/%s' -sample.n=%d -sample.seed=%d", p, *sampleN, seed)
			}
		})
	}
}

// sample is a site and the lives of its connections.
type sample struct {
	t        *testing.T
	protocol protocol
	backend  gatewaytest.Backend
	site     *site
	all      []*life
}

type life struct {
	plan    gatewaytest.Plan
	history *gatewaytest.History
	seed    uint64
	start   time.Time // to be read when started is closed, since no synchronisation passes through a socket
	started chan struct{}
	client  *client
}

func newSample(t *testing.T, p protocol, seed uint64) *sample {
	s := &sample{t: t, protocol: p}
	random := rand.New(rand.NewPCG(seed, 0))
	scope := gatewaytest.Scope{Size: 60000, Opening: true, Unknown: true}
	for i := range *sampleN {
		plan := scope.NewPlan(random)
		l := &life{started: make(chan struct{}), plan: plan, history: gatewaytest.NewHistory(i, len(plan.Senders)), seed: random.Uint64()}
		s.backend.Expect(l.history)
		s.all = append(s.all, l)
	}
	s.backend.Answer = s.answer
	s.site = newSite(t, p, &s.backend, nil)
	s.site.serve(s.serve)
	return s
}

// at waits for a tick: a millisecond, so that a plan and what it causes overlap.
func (l *life) at(tick int) {
	<-l.started
	if wait := time.Until(l.start.Add(time.Duration(tick) * time.Millisecond)); wait > 0 {
		<-time.After(wait)
	}
}

func (s *sample) answer(_, _ context.Context, h *gatewaytest.History) gateway.Answer {
	l := s.all[h.Number]
	l.at(l.plan.AnswerAt)
	return l.plan.Answer
}

// serve is the handler.
func (s *sample) serve(w http.ResponseWriter, r *http.Request) {
	number, err := strconv.Atoi(r.URL.Path[1:])
	if err != nil {
		s.t.Errorf("a request for %s", r.URL.Path)
		return
	}
	l := s.all[number]
	h := l.history
	c, a, err := s.site.gw.Connect(r.Context(), h.Request())
	if err != nil {
		s.t.Errorf("connection %d: %v", number, err)
		h.Unasked()
		return
	}
	l.at(l.plan.OpenAt)
	if a.Outcome != gateway.Accepted || c.State() != gateway.Pending {
		refuse(w)
		return
	}
	if l.plan.Opening != gatewaytest.Opens {
		h.Happened(gateway.Error, gateway.OpenFailed, h.Begin())
		c.Abort(gateway.Error, gateway.OpenFailed)
		refuse(w)
		return
	}
	// An HTTP/2 stream is over when this returns. Whether the opening succeeded is
	// to be seen by the end.
	h.Open(func() bool {
		s.site.opener.Open(w, r, c, gateway.Grant{})
		return true
	})
}

func (s *sample) run() {
	var lives sync.WaitGroup
	turns := make(chan struct{}, 64) // more at once would starve each other, which looks like clients that stall
	for _, l := range s.all {
		turns <- struct{}{}
		lives.Go(func() {
			s.live(l)
			<-turns
		})
	}
	lives.Wait()
	if s.t.Failed() {
		return
	}
	for _, what := range s.backend.Strange() {
		s.t.Errorf("the backend received %s", what)
	}
	s.site.settle(s.t)
	var opened, accepted int
	for _, l := range s.all {
		if l.history.Owed() {
			await(s.t, "the backend is told of the end of "+l.history.String(), l.history.Told)
		}
		s.check(l)
		c := l.history.Counted()
		accepted += c.Accepted
		if c.Opened {
			opened++
		}
	}
	stats := s.site.gw.Stats()
	if n := stats.Events.Load() + stats.Dropped.Load(); n != uint64(accepted) {
		s.t.Errorf("%d events counted as written and %d as dropped, of %d", stats.Events.Load(), stats.Dropped.Load(), accepted)
	}
	// Some are told apart only by a race: a client that left before the answer opens nothing.
	if n := stats.Opened.Load(); n > uint64(opened) || n < uint64(opened/4) {
		s.t.Errorf("%d streams counted as opened, of %d at most", n, opened)
	}
}

// live carries a plan out.
func (s *sample) live(l *life) {
	random := rand.New(rand.NewPCG(l.seed, 0))
	l.start = time.Now()
	close(l.started)
	var err error
	l.client, err = dial(context.Background(), s.protocol, s.site.addr, l.history.Path(), random.IntN(2)*4096)
	if err != nil {
		s.t.Errorf("connection %d: %v", l.history.Number, err)
		return
	}
	defer l.client.conn.Close()

	var actors sync.WaitGroup
	actors.Go(func() {
		for _, a := range l.plan.Client {
			l.at(a.At)
			s.do(l, a.Deed, random)
		}
	})
	for i, steps := range l.plan.Senders {
		actors.Go(func() {
			select {
			case <-l.history.Known:
			case <-l.client.over: // it left so early that nobody was asked
				return
			}
			for _, step := range steps {
				l.at(step.At)
				l.history.Sender(i).Send(s.site.gw, step.Size, step.End, step.Wait)
			}
		})
	}
	actors.Wait()
	l.client.pause(false)
	select {
	case <-l.client.over:
	case <-time.After(patience):
		s.t.Errorf("the client never saw the end of %v%v", l.history, l.plan)
	}
}

// do makes the client do something.
func (s *sample) do(l *life, d gatewaytest.Deed, random *rand.Rand) {
	h, c := l.history, l.client
	start := h.Begin()
	// Whoever writes to a client that is gone may be the first to notice.
	gone := func() {
		h.Happened(gateway.ClientClosed, 0, start)
		h.Happened(gateway.Error, gateway.WriteFailed, start)
	}
	if s.protocol == https2 && d == gatewaytest.Byte {
		d = gatewaytest.RST // between its frames there is no room for a byte
	}
	switch d {
	case gatewaytest.FIN:
		gone()
		if s.protocol == https2 || random.IntN(2) == 0 {
			_ = c.conn.Close()
		} else {
			c.halfClose()
		}
	case gatewaytest.RST:
		gone()
		if s.protocol == https2 {
			c.reset()
		} else {
			c.abort()
		}
	case gatewaytest.Byte:
		h.Happened(gateway.Error, gateway.UnexpectedData, start)
		_, _ = c.conn.Write(make([]byte, 1+random.IntN(2)*2999))
	case gatewaytest.Pause, gatewaytest.Hurry, gatewaytest.Hang:
		c.pause(d == gatewaytest.Pause)
	}
}

func (s *sample) check(l *life) {
	c := l.client
	got := gatewaytest.Received{Chunked: c.chunked}
	if c.status == http.StatusOK {
		got.Body = c.body
	}
	if err := l.history.Check(got); err != nil {
		s.t.Errorf("%v%vthe client saw status %d, %d bytes, then %v", err, l.plan, c.status, len(c.body), c.end)
	}
}
