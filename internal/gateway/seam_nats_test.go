package gateway_test

import (
	"bytes"
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	client "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"ssegateway/e2e/harness"
	"ssegateway/internal/broker"
	"ssegateway/internal/broker/nats"
)

// TestSeamOnNATS is TestSeam with two nodes on a NATS server. The clients are on one of them, which is killed between two
// steps, or while others publish, and comes back. The other one publishes as well, and clients come with ids that it has read.
func TestSeamOnNATS(t *testing.T) {
	url := harness.StartNATS(t).URL()
	round := 0
	within := func(t *testing.T, f func(t *testing.T)) {
		round++
		t.Run(strconv.Itoa(round), f)
	}
	testLives(t, within, func(seam *seam, random *rand.Rand) home {
		h := &natsHome{seam: seam, random: random, url: url, cfg: nats.LogConfig{
			Prefix: "seam" + strconv.Itoa(round), MaxBytes: seamBound(random), MaxAge: time.Hour, RetainedBytes: 1 << 30,
		}}
		h.observe()
		return h
	})
}

// seamPatience is how long something may take that should happen at once.
const seamPatience = 30 * time.Second

// natsHome is a NATS server.
type natsHome struct {
	seam   *seam
	random *rand.Rand
	url    string
	cfg    nats.LogConfig
	there  *nats.Engine   // of the other node
	order  *broker.Tailer // of there
	hangUp func()

	after atomic.Int64 // so many publications the node is killed
	gone  atomic.Bool  // it was
}

// dial opens the engine of a node.
func (h *natsHome) dial() (_ *nats.Engine, hangUp func()) {
	conn, err := nats.Dial(nats.Config{URL: h.url, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		h.seam.t.Fatal(err)
	}
	h.seam.t.Cleanup(conn.Close)
	ctx, cancel := context.WithTimeout(context.Background(), seamPatience)
	defer cancel()
	engine := nats.NewEngine(conn, h.cfg)
	if err := engine.Open(ctx); err != nil {
		h.seam.t.Fatal(err)
	}
	return engine, conn.Close
}

// observe starts the other node. It is there for the whole round.
func (h *natsHome) observe() {
	h.there, _ = h.dial()
	h.order, _ = h.there.Log().Tail()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = h.there.Run(ctx) })
	h.seam.t.Cleanup(func() {
		cancel()
		running.Wait()
	})
}

func (h *natsHome) open() (engine broker.Engine, order *broker.Tailer) {
	engine, h.hangUp = h.dial()
	h.gone.Store(false)
	h.after.Store(0)
	return engine, h.order
}

func (h *natsHome) risk() { h.after.Store(1 + h.random.Int64N(200)) }

func (h *natsHome) end(stop func()) {
	h.hangUp()
	stop()
	if last := h.seam.lives.era.last; last > 20 && h.random.IntN(2) == 0 {
		h.forget(1 + h.random.Uint64N(last-20))
	}
}

// forget has the stream drop what is up to an offset, as its bounds do, so that a node that comes then cannot read it there.
func (h *natsHome) forget(upto uint64) {
	conn, err := client.Connect(h.url)
	if err != nil {
		h.seam.t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), seamPatience)
	defer cancel()
	js, err := jetstream.New(conn)
	if err != nil {
		h.seam.t.Fatal(err)
	}
	log, err := js.Stream(ctx, h.cfg.Prefix+"_log")
	if err == nil {
		err = log.Purge(ctx, jetstream.WithPurgeSequence(upto+1))
	}
	if err != nil {
		h.seam.t.Fatal(err)
	}
}

// die kills the node, while others publish.
func (h *natsHome) die() {
	h.gone.Store(true)
	h.hangUp()
	h.seam.lives.giveUp()
}

func (h *natsHome) follows(before *era, now broker.Stats) {
	unanswered := slices.ContainsFunc(h.seam.publishers, func(p *seamPublisher) bool {
		return slices.ContainsFunc(p.told, func(x *told) bool { return x.state == unknown })
	})
	if now.Epoch != before.epoch || now.Last < before.last || now.Last > before.last && !unanswered {
		h.seam.failf("the log ends at %s-%d for a node that comes then, and at %s-%d for the others", now.Epoch, now.Last, before.epoch, before.last)
	}
}

// settle publishes a last event, and waits until all clients have it.
func (h *natsHome) settle() {
	last := []byte("data: " + h.seam.lives.mark() + "\n")
	h.wait(func() bool {
		return !slices.ContainsFunc(h.seam.clients, func(c *seamClient) bool {
			session := c.sessions[len(c.sessions)-1]
			topics := session.topics
			if n := len(session.changes); n > 0 {
				topics = session.changes[n-1].topics
			}
			return len(topics) > 0 && !c.gone() && !bytes.Contains(c.stream.received(), last)
		})
	})
}

func (h *natsHome) left() { h.wait(func() bool { return len(h.seam.gw.Leftovers()) == 0 }) }

// wait waits until something is so, or has taken too long. Then the model says what is wrong.
func (h *natsHome) wait(is func() bool) {
	for end := time.Now().Add(seamPatience); !is() && time.Now().Before(end); {
		<-time.After(time.Millisecond)
	}
}

func (h *natsHome) other() broker.Engine { return h.there }

func (h *natsHome) dead() bool { return h.gone.Load() }

func (h *natsHome) pause(random *rand.Rand, publisher bool) {
	if publisher && h.after.Add(-1) == 0 {
		h.die()
	}
	sometimes(random)
}
