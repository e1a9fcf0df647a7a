package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"ssegateway/internal/broker"
	"ssegateway/internal/bubble"
	"ssegateway/internal/gateway"
	"ssegateway/internal/topics"
	"ssegateway/sse"
)

// This part of the model is about what topics retain, and about rewind. A client reads such a state a few events at a time,
// while others are published, replaced, removed and trimmed. The model knows of each event whether the client certainly had
// to get it, certainly not, or may have got it: that last is so if it was replaced, removed or trimmed while the client read.

// recording is an engine in memory that remembers what was published.
type recording struct {
	*broker.Memory

	mu  sync.Mutex
	all []broker.Publication
}

func (r *recording) Append(ctx context.Context, p broker.Publication) (broker.Position, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, err := r.Memory.Append(ctx, p)
	if err == nil {
		r.all = append(r.all, p)
	}
	return at, err
}

func (r *recording) published() []broker.Publication {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.all)
}

// retains makes some publications those of retained events or removals.
func (s *seam) retains(p *broker.Publication, random *rand.Rand) {
	if s.keys == 0 {
		return
	}
	key := ""
	if n := random.IntN(s.keys); n > 0 {
		key = strconv.Itoa(n)
	}
	switch n := random.IntN(20); {
	case n == 0:
		p.Store, p.Remove, p.Key = false, true, key
	case n < 8:
		p.Store, p.Retain, p.Key = true, true, key
	}
}

// supersedes reports whether q takes the place of p in a topic that p has.
func supersedes(p, q broker.Publication, topic string) bool {
	return slices.Contains(q.Topics, topic) && (q.Retain && q.Key == p.Key || q.Remove && (q.Key == "" || q.Key == p.Key))
}

// superseded returns the first place at which another took the place of the record at i in a topic, or the number of records.
func (s *seam) superseded(i int, topic string) int {
	for j := i + 1; j < len(s.chain); j++ {
		if supersedes(s.pubs[i], s.pubs[j], topic) {
			return j
		}
	}
	return len(s.chain)
}

// givenState is a state as a client got it.
type givenState struct {
	blocks []block
	due    bool     // a gap without an id said that it comes
	torn   bool     // the client left before its end
	at     uint64   // the position that it belongs to; MaxUint64: unknown
	rewind int      // how many of the newest events of each topic it has
	topics []string // of which it may have events
}

// has is whether an event is in a state.
type has uint8

const (
	hasNot has = iota
	mayHave
	hasTo
)

// everHad returns all topics that the session had at some time.
func (x *session) everHad() []string {
	all := slices.Clone(x.topics)
	for _, c := range x.changes {
		all = append(all, c.topics...)
	}
	return broker.SortTopics(all)
}

// alwaysHad reports whether the session had a topic all the time.
func (x *session) alwaysHad(topic string) bool {
	return slices.Contains(x.topics, topic) && !slices.ContainsFunc(x.changes, func(c seamChange) bool { return !slices.Contains(c.topics, topic) })
}

// stateOf returns for each record of the chain whether it is in a state of the session.
func (s *seam) stateOf(x *session, state givenState) []has {
	known := !state.torn
	all := make([]has, len(s.chain))
	opened := s.placeBy(x.opening.start)
	newest := map[string]int{}
	for i, r := range slices.Backward(s.chain) {
		if !r.Stored || r.Offset > state.at {
			continue
		}
		for _, topic := range r.Topics {
			if !slices.Contains(state.topics, topic) {
				continue
			}
			if s.pubs[i].Retain {
				j := s.superseded(i, topic)
				switch {
				case j < opened, j < len(s.chain) && known && s.chain[j].Offset <= state.at:
				case (j == len(s.chain) || s.spans[j].start > x.endClock) && x.alwaysHad(topic):
					all[i] = hasTo
				default:
					all[i] = max(all[i], mayHave)
				}
			}
			newest[topic]++
			switch {
			case r.Offset <= x.before.Trimmed, known && newest[topic] > state.rewind, state.rewind == 0:
			case known && r.Offset > x.end.Trimmed && x.alwaysHad(topic):
				all[i] = hasTo
			default:
				all[i] = max(all[i], mayHave)
			}
		}
	}
	return all
}

// cutState divides the blocks of a stream before the first that has only an id. Without such a block all are the state's.
func cutState(blocks []block) (state, rest []block) {
	if i := slices.IndexFunc(blocks, func(b block) bool { return b.hasID && !b.event }); i >= 0 {
		return blocks[:i], blocks[i:]
	}
	return blocks, nil
}

// checkState checks a state against the model.
func (s *seam) checkState(x *session, state givenState) error {
	blocks, received := state.blocks, map[string]bool{}
	some := false
	for i, is := range s.stateOf(x, state) {
		r := s.chain[i]
		some = some || is != hasNot
		if len(blocks) == 0 && state.torn {
			break
		}
		switch got := len(blocks) > 0 && blocks[0].raw == string(r.Frame.Wire(false)); {
		case got && is == hasNot:
			return fmt.Errorf("%q came, but is not in its state at %d", blocks[0].raw, state.at)
		case got:
			received[blocks[0].raw] = true
			blocks = blocks[1:]
		case is == hasTo && len(blocks) > 0 && received[blocks[0].raw]:
			return fmt.Errorf("%q came twice", blocks[0].raw)
		case is == hasTo:
			return fmt.Errorf("%q is missing in its state at %d%s", r.Frame.Wire(false), state.at, upNext(blocks))
		}
	}
	switch {
	case len(blocks) > 0 && received[blocks[0].raw]:
		return fmt.Errorf("%q came twice", blocks[0].raw)
	case len(blocks) > 0:
		return fmt.Errorf("%q came out of order, or from nowhere, in its state at %d", blocks[0].raw, state.at)
	case state.due && !some && !state.torn:
		return errors.New("a gap without an id, but nothing is retained")
	}
	return nil
}

// checkMiddle checks what follows a gap in the middle of a stream, whose client had what is up to last. It returns what comes
// behind that, and up to where the client then has everything. over reports that the client left before that.
func (s *seam) checkMiddle(x *session, blocks []block, last uint64) (rest []block, upto uint64, over bool, err error) {
	state := givenState{due: true, at: last, topics: x.everHad()}
	end := slices.IndexFunc(blocks, func(b block) bool { return b.hasID && !b.event || b.name == "gap" })
	if end >= 0 && blocks[end].name != "gap" {
		at, ok := broker.ParsePosition(blocks[end].id)
		if !ok || at.Epoch != x.before.Epoch || at.Offset < last || at.Offset > x.end.Trimmed {
			return nil, 0, true, fmt.Errorf("behind a gap after %d it goes on at %q, but the log was trimmed up to %d", last, blocks[end].id, x.end.Trimmed)
		}
		state.blocks, state.at = blocks[:end], at.Offset
		return blocks[end+1:], at.Offset, false, s.checkState(x, state)
	}
	if end < 0 && !x.last {
		torn := state
		torn.blocks, torn.torn, torn.at = blocks, true, x.end.Trimmed
		if s.checkState(x, torn) == nil {
			return nil, 0, true, nil
		}
	}
	state.due = false
	return blocks, last, false, s.checkState(x, state) // nothing is retained
}

// A client is cut after each byte of an opening with a state, and comes back with the last id that it saw, or without one. In both
// streams together it gets all that it is to get, whether the log still reaches back to that id or not.
func TestCutOpening(t *testing.T) {
	for _, first := range []string{"", "unknown"} {
		for _, trims := range []bool{false, true} {
			t.Run(fmt.Sprintf("from %q, trimmed %v", first, trims), func(t *testing.T) {
				for cut, whole := 0, false; !whole; cut++ {
					bubble.Test(t, func(t *testing.T) { whole = cutOpening(t, first, trims, cut) })
				}
			})
		}
	}
}

func cutOpening(t *testing.T, first string, trims bool, cut int) (whole bool) {
	maxBytes := int64(1 << 20)
	if trims {
		maxBytes = 6000
	}
	engine := &replacing{log: retainingLog("A", maxBytes)}
	s := siteOn(engine, nil)
	defer s.start()()
	s.retain(t, "1", "", "t", "u")
	s.publish(t, "2", true, "u")
	s.retain(t, "3", "k", "t")
	s.publish(t, "4", true, "t")
	grant := gateway.Grant{
		Topics: []string{"t", "u"}, Retry: sse.RetryMillis(7), Events: []sse.Event{{Data: "state"}},
		Beginning: topics.Beginning{LastEventID: first, Rewind: 1, Asked: s.topics.Position(context.Background())},
	}
	s.retain(t, "5", "l", "t")
	owed := []string{"1", "3", "5"}

	c, tp := s.grant(t, cut, grant)
	synctest.Wait()
	c.Abort(gateway.ClientClosed, 0)
	got := tp.written()
	whole = len(got) < cut
	if trims {
		for range 10 {
			s.publish(t, strings.Repeat("x", 1000), true, "other")
		}
	}
	had, last := eventsSeen(t, got)
	switch {
	case last == "":
		last = first
	case !trims: // else what is not retained may be gone
		owed = append(owed, "2", "4")
	}
	grant.Beginning = topics.Beginning{LastEventID: last, Rewind: 1, Asked: s.topics.Position(context.Background())}
	_, back := s.grant(t, plenty, grant)
	synctest.Wait()
	gets, _ := eventsSeen(t, back.written())
	for _, data := range owed {
		if !slices.Contains(had, data) && !slices.Contains(gets, data) {
			t.Errorf("cut after %q, back from %q: %q is missing in\n%s", got, last, data, back.written())
		}
	}
	for _, seen := range [][]string{had, gets} {
		slices.Sort(seen)
		if len(slices.Compact(slices.Clone(seen))) < len(seen) {
			t.Errorf("cut after %q, back from %q: one stream has %q", got, last, seen)
		}
	}
	return whole
}

// eventsSeen returns the data of what a browser dispatches of a stream, and the last id that it has then.
func eventsSeen(t *testing.T, wire string) (data []string, lastEventID string) {
	t.Helper()
	d := sse.NewDecoder(strings.NewReader(wire))
	for {
		e, _, err := d.NextBlock()
		if err != nil {
			return data, d.LastEventID().String()
		}
		if e.Data != "" {
			data = append(data, e.Data)
		}
	}
}
