package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"ssegateway/internal/broker"
)

// lagging is the engine of one node of a cluster. What any node appends gets its number at once,
// stored or not, and is in truth. This node reads it later, in that order. Now and then it
// reopens the log.
type lagging struct {
	random   *rand.Rand // the reader's
	maxBytes int64
	reopens  bool

	mu      sync.Mutex
	truth   *broker.Log // of the cluster
	log     *broker.Log // of this node
	all     []appended
	stored  []uint64 // offsets
	begun   int      // how many of all this node has read, or is about to read
	done    int      // how many of all it has read
	skipped []bool   // for each of all: it was read when the log was reopened, so no client gets it if it is unstored
	reads   []read
	some    chan struct{} // has a value when there may be something to read
}

// appended is an entry of the cluster's log.
type appended struct {
	p      broker.Publication
	number uint64
	answer chan broker.Position // nil if another node appended it; closed if the position is unknown
}

// read is the offset up to which this node has read from a time on.
type read struct {
	at   time.Time
	last uint64
}

const lagEpoch = "LAG"

func newLagging(random *rand.Rand, maxBytes int64, reopens bool) *lagging {
	l := &lagging{random: random, maxBytes: maxBytes, reopens: reopens, some: make(chan struct{}, 1)}
	l.truth, l.log = broker.NewLog(lagEpoch, math.MaxInt64, math.MaxInt64), l.newLog()
	l.truth.LimitRetained(math.MaxInt64)
	return l
}

func (l *lagging) newLog() *broker.Log {
	log := broker.NewLog(lagEpoch, l.maxBytes, math.MaxInt64)
	log.LimitRetained(math.MaxInt64)
	return log
}

func (l *lagging) published() (all []broker.Publication) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.all {
		all = append(all, a.p)
	}
	return all
}

func (l *lagging) Log() *broker.Log {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.log
}

// add appends what this node publishes, or, if answer is nil, another one.
func (l *lagging) add(p broker.Publication, answer chan broker.Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	number := uint64(len(l.all) + 1)
	l.all = append(l.all, appended{p, number, answer})
	l.skipped = append(l.skipped, false)
	_, _ = l.truth.AppendAt(p, number, time.Now()) // it is open
	if p.Store {
		l.stored = append(l.stored, number)
	}
	wake(l.some)
}

func (l *lagging) Append(ctx context.Context, p broker.Publication) (broker.Position, error) {
	answer := make(chan broker.Position, 1)
	l.add(p, answer)
	select {
	case at, ok := <-answer:
		if !ok {
			return at, broker.ErrUnavailable
		}
		return at, nil
	case <-ctx.Done():
		return broker.Position{}, ctx.Err()
	}
}

// Run reads with a delay: mostly a shorter one than a node may have, sometimes a longer one.
func (l *lagging) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.some:
		}
		for l.next() {
			switch n := l.random.IntN(150); {
			case n == 0:
				time.Sleep(time.Duration(l.random.IntN(13000)) * time.Millisecond) // fake clock
			case n < 4:
				time.Sleep(time.Duration(l.random.IntN(3000)) * time.Millisecond) // fake clock
			case n == 4 && l.reopens:
				l.reopen()
			default:
				sometimes(l.random)
			}
		}
	}
}

// next reads the next event, if there is one.
func (l *lagging) next() bool {
	l.mu.Lock()
	if l.done == len(l.all) {
		l.mu.Unlock()
		return false
	}
	a, log := l.all[l.done], l.log
	l.begun++
	l.mu.Unlock()
	at, _ := log.AppendAt(a.p, a.number, time.Now()) // it is open
	l.mu.Lock()
	l.done++
	l.reads = append(l.reads, read{time.Now(), at.Offset})
	l.mu.Unlock()
	if a.answer != nil {
		a.answer <- at
	}
	return true
}

// reopen replaces the node's log by the current one, as a node does that fell behind.
func (l *lagging) reopen() {
	l.mu.Lock()
	defer l.mu.Unlock()
	next := l.newLog()
	upto := l.done + l.random.IntN(len(l.all)-l.done+1)
	for i, a := range l.all[:upto] {
		at, _ := next.AppendAt(a.p, a.number, time.Now()) // it is open
		if i >= l.done {
			l.skipped[i] = true
			l.reads = append(l.reads, read{time.Now(), at.Offset})
			if a.answer != nil {
				close(a.answer)
			}
		}
	}
	l.begun, l.done = upto, upto
	before := l.log
	l.log = next
	before.ReplaceWith(next)
}

// ahead returns an offset that this node has not read yet, if there is one.
func (l *lagging) ahead(random *rand.Rand) (offset uint64, ok bool) {
	last := l.Log().Stats().Last
	l.mu.Lock()
	defer l.mu.Unlock()
	i, _ := slices.BinarySearch(l.stored, last+1)
	if i == len(l.stored) {
		return 0, false
	}
	return l.stored[i+random.IntN(len(l.stored)-i)], true
}

// lastAt returns up to which offset this node had read at a time: at least low, at most high.
func (l *lagging) lastAt(at time.Time) (low, high uint64) {
	for _, r := range l.reads {
		if r.at.Before(at) {
			low = r.last
		}
		if !r.at.After(at) {
			high = r.last
		}
	}
	return low, high
}

// givesUp checks what follows the opening of a client that was ahead of its node: there has to
// be a gap if, and only if, the node had not read as far within 10 s. It returns where the
// stream continues, and between which places that is.
func (s *seam) givesUp(x *session, start uint64, blocks []block) (from uint64, opening [2]int, rest []block, err error) {
	opening = [2]int{int(x.before.Records), int(x.after.Records)}
	had := broker.Position{Epoch: lagEpoch, Offset: start}.String()
	gap := len(blocks) > 0 && blocks[0].name == "gap" && (blocks[0].hasID || blocks[0].checkGap(had, "") == nil)
	if s.lag == nil || start == math.MaxUint64 || start <= x.before.Last {
		return start, opening, blocks, nil
	}
	low, high := s.lag.lastAt(x.openedAt.Add(10 * time.Second))
	switch {
	case !gap && len(blocks) > 0 && s.isBehind(blocks[0], start):
		return 0, opening, nil, fmt.Errorf("received %q, which is not for it: it has what is up to %d", blocks[0].raw, start)
	case !gap && x.last && high < start && x.closedAt.Sub(x.openedAt) > 10*time.Second:
		return 0, opening, nil, fmt.Errorf("no gap, but within 10 s its node had come to %d only", high)
	case !gap:
		return start, opening, blocks, nil
	case low >= start:
		return 0, opening, nil, fmt.Errorf("a gap, but within 10 s its node had come to %d", low)
	}
	if err := blocks[0].checkGap(had, blocks[0].id); err != nil {
		return 0, opening, nil, err
	}
	state := givenState{due: !blocks[0].hasID, topics: x.everHad()}
	if state.due {
		if state.blocks, blocks = cutState(blocks[1:]); len(blocks) == 0 {
			state.torn, state.at = true, math.MaxUint64
			if x.last {
				return 0, opening, nil, errors.New("no id behind a gap")
			}
			return math.MaxUint64, opening, nil, s.checkState(x, state)
		}
	}
	at, _ := broker.ParsePosition(blocks[0].id)
	if at.Epoch != lagEpoch || at.Offset < low || at.Offset > high {
		return 0, opening, nil, fmt.Errorf("it goes on from %q, but its node was between %d and %d", blocks[0].id, low, high)
	}
	state.at = at.Offset
	if err := s.checkState(x, state); err != nil {
		return 0, opening, nil, err
	}
	opening = [2]int{len(s.chain), 0}
	for place := range len(s.chain) + 1 {
		if s.at(place) == at.Offset {
			opening[0], opening[1] = min(opening[0], place), place
		}
	}
	return at.Offset, opening, blocks[1:], nil
}

// isBehind reports whether a block is an event that comes before what a client has that is at an offset.
func (s *seam) isBehind(b block, offset uint64) bool {
	return slices.ContainsFunc(s.chain, func(r *broker.Record) bool {
		return b.raw == string(r.Frame.Wire(false)) && (r.Offset < offset || r.Stored && r.Offset == offset)
	})
}
