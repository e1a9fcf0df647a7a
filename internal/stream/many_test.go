package stream_test

import (
	"context"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"ssegateway/internal/gateway"
	"ssegateway/internal/gatewaytest"
)

const (
	manyStreams = 10000
	// As many at once as the usual limits admit: 20,000 open files, with both ends
	// of each stream in this process, and 8,128 goroutines under the race detector,
	// with up to three for each stream.
	manyWave    = 2000
	manySenders = 8
)

// Ten thousand streams are opened, sent to and closed from either side, in random
// order. Each has one end, for one of the reasons that it was given, keeps its
// order, and leaves nothing behind.
func TestTenThousand(t *testing.T) {
	for _, p := range []protocol{http11, front} {
		t.Run(string(p), func(t *testing.T) { tenThousand(t, p) })
	}
}

func tenThousand(t *testing.T, p protocol) {
	before := openFiles(t)
	t.Run("waves", func(t *testing.T) {
		m := &many{t: t}
		m.backend.Answer = func(_, _ context.Context, _ *gatewaytest.History) gateway.Answer {
			return gateway.Answer{Outcome: gateway.Accepted, Status: 200}
		}
		m.site = newSite(t, p, &m.backend, nil)
		m.site.serve(m.serve)
		for begin := 0; begin < manyStreams && !t.Failed(); begin += manyWave {
			m.wave(begin)
		}
		if t.Failed() {
			return
		}
		m.site.settle(t)
		stats := m.site.gw.Stats()
		ends := uint64(0)
		for _, r := range gateway.Reasons() {
			ends += stats.Closed[r].Load()
		}
		if stats.Opened.Load() != manyStreams || ends != manyStreams {
			t.Errorf("%d streams opened and %d ended, of %d", stats.Opened.Load(), ends, manyStreams)
		}
	})
	wait(t, "every descriptor is closed", func() bool { return openFiles(t) <= before })
}

// many is a site with many streams.
type many struct {
	t       *testing.T
	backend gatewaytest.Backend
	site    *site

	mu  sync.Mutex
	all map[int]*life
}

func (m *many) life(number int) *life {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.all[number]
}

func (m *many) serve(w http.ResponseWriter, r *http.Request) {
	number, err := strconv.Atoi(r.URL.Path[1:])
	if err != nil {
		m.t.Errorf("a request for %s", r.URL.Path)
		return
	}
	m.life(number).history.Open(func() bool {
		m.site.openStream(w, r)
		return true
	})
}

// wave opens streams, and ends them all.
func (m *many) wave(begin int) {
	var lives []*life
	m.mu.Lock()
	m.all = map[int]*life{}
	for number := begin; number < begin+manyWave; number++ {
		l := &life{history: gatewaytest.NewHistory(number, manySenders)}
		m.backend.Expect(l.history)
		m.all[number] = l
		lives = append(lives, l)
	}
	m.mu.Unlock()

	each(lives, func(_ int, l *life) {
		var err error
		if l.client, err = dial(context.Background(), http11, m.site.addr, l.history.Path(), 0); err != nil {
			m.t.Error(err)
		}
	})
	if m.t.Failed() {
		return
	}
	wait(m.t, "every stream opens", func() bool { return m.site.gw.Stats().Open.Load() == manyWave })

	// Three events and the end of each, all of them in any order.
	var deeds []*life
	for _, l := range lives {
		deeds = append(deeds, l, l, l, l)
	}
	rand.Shuffle(len(deeds), func(i, j int) { deeds[i], deeds[j] = deeds[j], deeds[i] })
	ends := map[*life]int{} // which of its deeds it is
	var steps []func(sender int)
	for _, l := range deeds {
		if ends[l]++; ends[l] == 1+l.history.Number%4 {
			steps = append(steps, func(sender int) { m.end(l, sender) })
		} else {
			steps = append(steps, func(sender int) { l.history.Sender(sender).Send(m.site.gw, 50, false, false) })
		}
	}
	each(steps, func(sender int, step func(int)) { step(sender) })

	for _, l := range lives {
		await(m.t, "the client sees the end of "+l.history.String(), l.client.over)
		_ = l.client.conn.Close()
		await(m.t, "the backend is told of the end of "+l.history.String(), l.history.Told)
		if m.site.gw.Find(l.history.Token()) != nil {
			m.t.Errorf("still found: %v", l.history)
		}
		if err := l.history.Check(gatewaytest.Received{Body: l.client.body, Chunked: l.client.chunked}); err != nil {
			m.t.Error(err)
			return
		}
	}
}

// end ends a stream from one side or the other.
func (m *many) end(l *life, sender int) {
	h := l.history
	start := h.Begin()
	gone := func() {
		h.Happened(gateway.ClientClosed, 0, start)
		h.Happened(gateway.Error, gateway.WriteFailed, start)
	}
	switch rand.IntN(6) {
	case 0:
		gone()
		_ = l.client.conn.Close()
	case 1:
		gone()
		l.client.halfClose()
	case 2:
		gone()
		l.client.abort()
	case 3:
		h.Happened(gateway.Error, gateway.UnexpectedData, start)
		_, _ = l.client.conn.Write([]byte("?"))
	default:
		h.Sender(sender).Send(m.site.gw, 10, true, false)
	}
}

// each does f for all, by as many goroutines as there are senders.
func each[T any](all []T, f func(worker int, one T)) {
	var next atomic.Int64
	var workers sync.WaitGroup
	for worker := range manySenders {
		workers.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(all); i = int(next.Add(1)) - 1 {
				f(worker, all[i])
			}
		})
	}
	workers.Wait()
}
