package gateway_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ssegateway/internal/broker"
)

// This part of the model is about engines that outlive the process. A round has several lives: each ends with a clean stop,
// a kill or a cut of power, and the next one has a new gateway on what is left. The clients come back with their ids.
// Each publication has an idempotency key. A publisher without an answer repeats it at once in the next life, and so learns
// whether the first attempt is in the log. Now and then it repeats what was answered, too.

var seamLives = flag.Int("seam.lives", 9000, "how many random steps TestSeamOnDisk and TestSeamOnNATS take each")

// seamTurns is how many steps clients take for each publication.
const seamTurns = 6

// lives is what there is beside a seam with several lives.
type lives struct {
	seam   *seam
	home   home
	random *rand.Rand
	turns  chan struct{}
	acted  atomic.Int64 // publications that were added since collect was called
	ctx    context.Context
	giveUp func() // ends ctx, in which is published
	base   uint64 // how many records of the era the log of this life does not count
	eras   []*era

	mu  sync.Mutex
	era *era // the last of eras
}

// home is where an engine is at home.
type home interface {
	// open opens the engine for the next life, and returns what reads the order of all that is published in it.
	open() (broker.Engine, *broker.Tailer)
	// risk says that from now on the process may be killed.
	risk()
	// end ends a life with whatever happens to the process. stop ends the gateway.
	end(stop func())
	// follows checks what is left of a log that had come up to an offset.
	follows(before *era, now broker.Stats)
	// settle waits until the clients have received all, and left until nothing is left of them, if they have left.
	settle()
	left()
	// other returns another node, if there is one.
	other() broker.Engine
	// dead reports whether nothing can be written any more, since the process is about to end.
	dead() bool
	// pause is called before each step.
	pause(random *rand.Rand, publisher bool)
}

// era is all that was published under an epoch, and what it began with.
type era struct {
	epoch   string
	last    uint64 // offset
	entries []entry
	at      map[uint64]*told // by offset, of what was answered; guarded by the lock of lives
	order   *seamOrder
}

// entry is a record of the log. The publication of a removal is known by its offset only.
type entry struct {
	offset uint64 // 0: it is not stored
	told   *told
}

// told is a publication, and what its publisher was told of it.
type told struct {
	p     broker.Publication
	span  seamSpan
	at    broker.Position
	when  time.Time // it was answered; zero: it is not repeated
	state uint8
}

// hasPlace reports whether a publication has an offset of its own.
func (x *told) hasPlace() bool { return x.p.Store || x.p.Remove }

const (
	untold   = iota // it was never tried
	unknown         // there was no answer
	answered        // it is in the log, or was when it was answered
	lost            // it was answered, and is not in the log any more
)

// testLives takes the steps in as many rounds as that takes.
func testLives(t *testing.T, within func(t *testing.T, f func(t *testing.T)), newHome func(s *seam, random *rand.Rand) home) {
	seed := *seamSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	defer func() {
		if t.Failed() {
			t.Logf("to repeat: -run '^%s$' -seam.lives=1 -seam.seed=%d", t.Name(), seed)
		}
	}()
	for n := 0; n < *seamLives && !t.Failed(); n += seamRound {
		within(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 0))
			s := &seam{t: t}
			s.populate(seed, random)
			s.lives = &lives{seam: s, random: random, turns: make(chan struct{}, seamTurns*seamRound)}
			s.lives.home = newHome(s, random)
			s.lives.run(2 + random.IntN(9))
		})
		seed++
	}
}

func (l *lives) run(n int) {
	s := l.seam
	for life := range n {
		s.engine, s.truth = l.home.open()
		s.seamOrder = l.begin()
		s.serve(l.random, l.others())
		stop := s.start()
		for _, p := range s.publishers {
			if n := len(p.told); n > 0 && p.told[n-1].state == unknown {
				l.append(p.told[n-1], false)
			}
		}
		if l.others() {
			l.mark()
			l.collect() // so it is known how many records the node has
			l.base = uint64(len(l.era.entries)) - s.engine.Log().Stats().Records
		}
		if life < n-1 {
			l.home.risk()
		}
		s.steps.Store(int64(seamRound / n))
		s.act()
		if life < n-1 {
			for _, c := range s.clients {
				if c.conn != nil {
					s.disconnect(c)
				}
			}
			l.collect()
			l.home.end(stop)
			l.giveUp()
			continue
		}
		s.comeBack()
		l.home.settle()
		s.leave()
		l.home.left()
		s.leftBehind()
		l.collect()
		stop()
		l.giveUp()
	}
	for _, e := range l.eras {
		l.build(e)
	}
	if !s.t.Failed() {
		s.check()
	}
}

// begin begins a life with what is in the log.
func (l *lives) begin() *seamOrder {
	s, stats, before := l.seam, l.seam.engine.Log().Stats(), l.era
	if before != nil {
		l.home.follows(before, stats)
	}
	if before == nil || before.epoch != stats.Epoch {
		l.era = &era{epoch: stats.Epoch, at: map[uint64]*told{}, order: new(seamOrder)}
		l.eras = append(l.eras, l.era)
		if before != nil {
			l.inherit(before, stats.Last)
		}
	}
	for !l.others() && l.era.last < stats.Last { // it was written, but not answered
		l.era.last++
		l.era.entries = append(l.era.entries, entry{offset: l.era.last})
	}
	now := s.clock.Add(1)
	for _, e := range l.era.entries {
		if e.told != nil {
			e.told.span.finish = min(e.told.span.finish, now)
		}
	}
	l.ctx, l.giveUp = context.WithTimeout(context.Background(), time.Minute)
	l.turns = make(chan struct{}, seamTurns*seamRound)
	l.base = uint64(len(l.era.entries)) - stats.Records
	return l.era.order
}

// inherit begins an era with what the one before has up to an offset. What was behind is lost.
func (l *lives) inherit(before *era, upto uint64) {
	l.era.entries = slices.DeleteFunc(slices.Clone(before.entries), func(e entry) bool { return e.offset == 0 || e.offset > upto })
	maps.Copy(l.era.at, before.at)
	maps.DeleteFunc(l.era.at, func(offset uint64, _ *told) bool { return offset > upto })
	l.era.last = min(before.last, upto)
	for _, p := range l.seam.publishers {
		for n, x := range p.told {
			switch {
			case x.state != answered:
			case !x.hasPlace():
				x.when = time.Time{}
			case x.at.Offset > upto:
				again := *x
				again.state = lost
				p.told[n] = &again
			}
		}
	}
}

// mark publishes an event that the node has read when mark returns. It returns the event's data.
func (l *lives) mark() string {
	x := l.fresh(l.seam.publishers[0], broker.Publication{Topics: slices.Clone(seamTopics), Store: true})
	l.append(x, false)
	return x.p.Event.Data
}

// collect reads what was published since it was called before.
func (l *lives) collect() {
	s := l.seam
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for range l.acted.Swap(0) {
		r := s.truth.Next(ctx)
		if r == nil {
			s.t.Fatal("the log lacks what was published in this life")
		}
		e := entry{offset: r.Offset}
		if len(r.Topics) > 0 {
			publisher, number := s.origin(dataOf(r))
			e.told = s.publishers[publisher].told[number]
			if !r.Stored {
				e.offset = 0
			}
		}
		l.era.last = max(l.era.last, r.Offset)
		l.era.entries = append(l.era.entries, e)
	}
}

func dataOf(r *broker.Record) string {
	blocks, err := parseBlocks(r.Frame.Wire(false))
	if err != nil || len(blocks) != 1 {
		return ""
	}
	return blocks[0].data
}

// build makes the records of an era as they have to be, with ids of its epoch.
func (l *lives) build(e *era) {
	log := broker.NewLog(e.epoch, math.MaxInt64, math.MaxInt64)
	log.LimitRetained(math.MaxInt64)
	tailer, _ := log.Tail()
	seen := map[*told]bool{}
	for _, entry := range e.entries {
		x := entry.told
		if x == nil {
			x = e.at[entry.offset]
		}
		if x == nil {
			l.seam.failf("at %d is what no publisher knows of: its repeat acted again, or it is something else", entry.offset)
			continue
		}
		if seen[x] {
			l.seam.failf("%q is twice in the log, the second time at %d", x.p.Event.Data, entry.offset)
		}
		seen[x] = true
		_, _ = log.AppendAt(x.p, entry.offset, time.Now()) // it is open
		e.order.chain = append(e.order.chain, tailer.Next(context.Background()))
		e.order.pubs = append(e.order.pubs, x.p)
		e.order.spans = append(e.order.spans, x.span)
	}
}

// fresh is a new publication of a publisher.
func (l *lives) fresh(p *seamPublisher, publication broker.Publication) *told {
	number := len(p.told)
	if publication.Event.Data == "" {
		publication.Event.Data = fmt.Sprintf("%d.%d.", p.number, number)
	}
	publication.IdempotencyKey = strconv.Itoa(p.number) + "." + strconv.Itoa(number)
	publication.Digest[0], publication.Digest[1], publication.Digest[2] = byte(p.number), byte(number), byte(number>>8)
	x := &told{p: publication}
	p.told = append(p.told, x)
	return x
}

// publish publishes what is next, and sometimes something again.
func (l *lives) publish(p *seamPublisher, next broker.Publication) {
	l.home.pause(p.random, true)
	if n := len(p.told); n > 0 && p.random.IntN(6) == 0 {
		x := p.told[n-1-p.random.IntN(min(n, 30))]
		if x.state == lost || x.state == answered && time.Since(x.when) < broker.KeyLife/2 {
			l.append(x, false)
		}
	}
	if l.home.dead() {
		l.seam.steps.Store(0)
		return
	}
	l.append(l.fresh(p, next), p.random.IntN(3) == 0)
	for range seamTurns {
		l.turns <- struct{}{}
	}
}

// append publishes something, on this node or on the other one, if there is one.
func (l *lives) append(x *told, there bool) {
	s := l.seam
	start := s.clock.Add(1)
	if x.state == untold {
		x.span = seamSpan{start, math.MaxInt64}
	}
	publication := x.p
	publication.Topics = slices.Clone(x.p.Topics)
	there = there && l.others()
	var at broker.Position
	var err error
	if there {
		at, err = l.home.other().Append(l.ctx, publication)
	} else {
		d := s.topics.Expect(0)
		defer d.Forget()
		at, _, err = d.Publish(l.ctx, publication)
	}
	finish := s.clock.Add(1)
	repeated := errors.Is(err, broker.ErrRepeated)
	switch {
	case err == nil && x.state == answered:
		s.failf("a repeat of %q at %v acted again at %v", x.p.Event.Data, x.at, at)
	case err == nil:
		l.acted.Add(1)
		if x.span = (seamSpan{start, finish}); there {
			x.span.finish = math.MaxInt64 // this node may not have read it
		}
		l.isAt(x, at)
	case repeated && (x.state == untold || x.state == lost):
		s.failf("%q is not in the log, but said to be at %v", x.p.Event.Data, at)
	case repeated && x.state == answered && at.Offset != x.at.Offset && x.hasPlace():
		s.failf("a repeat of %q at %v is said to be at %v", x.p.Event.Data, x.at, at)
	case repeated && x.state == unknown:
		if x.span.finish = finish; l.others() {
			l.acted.Add(1)
		}
		l.isAt(x, at)
	case repeated:
	case l.home.dead():
		if x.state == untold || x.state == lost {
			x.state = unknown
		}
	default:
		s.t.Error(err)
	}
}

// isAt notes where a publication is.
func (l *lives) isAt(x *told, at broker.Position) {
	x.at, x.when, x.state = at, time.Now(), answered
	if !x.hasPlace() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if other := l.era.at[at.Offset]; other != nil && other != x {
		l.seam.failf("%q and %q are both at %d", other.p.Event.Data, x.p.Event.Data, at.Offset)
	}
	l.era.at[at.Offset] = x
}

// What follows may be called where there is only one life.

// turn waits for a client's turn, so that publications keep pace.
func (l *lives) turn() bool {
	if l != nil {
		<-l.turns
	}
	return true
}

// lastTurns says that nobody publishes any more in this life.
func (l *lives) lastTurns() {
	if l != nil {
		close(l.turns)
	}
}

func (l *lives) pause(random *rand.Rand) {
	if l != nil {
		l.home.pause(random, false)
	}
}

// others reports whether there is another node.
func (l *lives) others() bool { return l != nil && l.home.other() != nil }

// last returns the offset that the other node has read up to.
func (l *lives) last() uint64 { return l.home.other().Log().Stats().Last }

// before returns how many records of the era the log does not count.
func (l *lives) before() uint64 {
	if l == nil {
		return 0
	}
	return l.base
}
