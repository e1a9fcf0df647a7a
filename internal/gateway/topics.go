package gateway

import (
	"context"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/go-json-experiment/json/jsontext"

	"ssegateway/internal/broker"
	"ssegateway/internal/frame"
	"ssegateway/internal/guard"
	"ssegateway/sse"
)

// topics delivers what is published. Connections are divided into shards, each with
// a goroutine that follows the log and writes to the shard's connections: so every
// connection gets the records in the log's order, and all cores share the work.
type topics struct {
	engine  broker.Engine
	shared  bool // with other nodes, from which a client may have more than this one has read
	shards  []*shard
	refs    atomic.Uint64
	waiters sync.Map // Publication.Ref to *waiter
}

// shard is a part of the connections that have topics. Its lock is taken under
// connections' locks, never the other way round.
type shard struct {
	topics *topics
	tailer *broker.Tailer // of log

	mu       sync.Mutex
	log      *broker.Log
	position uint64 // the last stored record that was delivered to the members of that time
	index    map[string]*topic
}

// topic has the members of a shard that get it.
type topic struct {
	name    string
	members []seat
}

// seat is one member of a topic; place is the index of the topic in the member's topics.
type seat struct {
	member *member
	place  int32
}

// member is a connection as far as it has topics. Guarded by the shard's lock; which
// topics it has changes under the connection's lock as well, so that either is enough to
// read that, but not the tickets' places.
type member struct {
	conn   *Conn
	topics []ticket
	log    *broker.Log // to which the rest applies: the shard's, or one to which that has yet to come
	after  uint64      // what is stored up to this offset the client has, or gets by a replay: no less
	place  uint64      // what is not stored up to this place it has, or is never to get: no less
}

// ticket is a topic of a member; place is the index of the member in the topic's members.
type ticket struct {
	topic *topic
	place int32
}

func newTopics(engine broker.Engine, shared bool) *topics {
	t := &topics{engine: engine, shared: shared, shards: make([]*shard, runtime.GOMAXPROCS(0))}
	t.refs.Store(rand.Uint64()) //nolint:gosec // unlike other nodes', not secret
	for i := range t.shards {
		s := &shard{topics: t, index: map[string]*topic{}}
		s.log = engine.Log()
		s.tailer, s.position = s.log.Tail()
		t.shards[i] = s
	}
	return t
}

// run delivers until ctx ends.
func (t *topics) run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, s := range t.shards {
		wg.Go(func() {
			defer guard.Recover()
			s.run(ctx)
		})
	}
	wg.Wait()
}

// of is the shard of a connection.
func (t *topics) of(c *Conn) *shard { return t.shards[int(c.token[shardByte])%len(t.shards)] }

func (s *shard) run(ctx context.Context) {
	var chosen []*Conn // reused: a delivery allocates nothing
	for {
		record := s.tailer.Next(ctx)
		if record == nil {
			next := s.log.Successor()
			if next == nil || ctx.Err() != nil {
				return
			}
			s.succeed(next)
			continue
		}
		chosen = s.choose(record, chosen[:0])
		receivers := 0
		for _, c := range chosen {
			if c.deliver(record) == Sent {
				receivers++
			}
		}
		clear(chosen)
		if record.Ref != 0 {
			if w, ok := s.topics.waiters.Load(record.Ref); ok {
				w.(*waiter).add(receivers) //nolint:forcetypeassert // there is nothing else
			}
		}
	}
}

// choose appends the connections that a record goes to. Who joins later gets it by
// its replay, since the shard's position is moved at the same time.
func (s *shard) choose(record *broker.Record, chosen []*Conn) []*Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.position = record.Offset
	for _, name := range record.Topics {
		t := s.index[name]
		if t == nil {
			continue
		}
		for _, seat := range t.members {
			if seat.member.log == s.log && seat.member.wants(record) {
				chosen = append(chosen, seat.member.conn)
			}
		}
	}
	return chosen
}

// wants says whether a record that has come up is one more for the member: one with
// several of its topics comes once. Of one with a single topic no note is taken: that
// would be a write to each member, whose cache line another shard's may share.
func (m *member) wants(record *broker.Record) bool {
	n, had := record.Place, &m.place
	if record.Stored {
		n, had = record.Offset, &m.after
	}
	if n <= *had || record.Offset < m.after {
		return false
	}
	if len(record.Topics) > 1 {
		*had = n
	}
	return true
}

// succeed goes on with the log that succeeds the shard's. Members get what there is of it
// behind what they have, which is nothing if it is another log; a gap first, where there
// is one. What they have still to get of the log before comes before that.
func (s *shard) succeed(next *broker.Successor) {
	replays := map[*member]*replay{}
	s.mu.Lock()
	before, position := s.log, s.position
	s.log, s.tailer, s.position = next.Log, next.Tailer, next.Position
	for _, t := range s.index {
		for _, seat := range t.members {
			if m := seat.member; replays[m] == nil && (m.log == before || m.log == s.log) {
				replays[m] = s.followLocked(m, before, position)
			}
		}
	}
	s.mu.Unlock()
	for m, r := range replays {
		m.conn.goOn(r)
	}
}

// followLocked takes a member along to the shard's log, which has just succeeded the one
// before, and returns what it gets of it up to the shard's position.
func (s *shard) followLocked(m *member, before *broker.Log, position uint64) *replay {
	r := &replay{log: s.log, topics: m.names(), after: m.after, upto: s.position}
	if m.log == before { // else it was there first
		r.after = max(m.after, position)
		extent := s.log.Stats()
		if extent.Epoch != before.Epoch() || r.after < extent.Trimmed {
			had := broker.Position{Epoch: before.Epoch(), Offset: r.after}
			r.after = min(extent.Trimmed, s.position)
			r.gap = gapFrame(had.String(), idOf(s.log, r.after))
		}
	}
	m.log, m.after = s.log, max(r.after, s.position)
	return r
}

// joinLocked adds a topic that the member does not have.
func (s *shard) joinLocked(m *member, name string) {
	t := s.index[name]
	if t == nil {
		t = &topic{name: strings.Clone(name)}
		s.index[t.name] = t
	}
	m.topics = append(m.topics, ticket{t, int32(len(t.members))})    //nolint:gosec // fewer than 2^31
	t.members = append(t.members, seat{m, int32(len(m.topics) - 1)}) //nolint:gosec // fewer than 2^31
}

// leaveLocked gives up the topic at an index of the member's topics.
func (s *shard) leaveLocked(m *member, index int) {
	gone := m.topics[index]
	t := gone.topic
	// The last of the topic's members takes the free seat, and the last of the
	// member's tickets the free place.
	last := len(t.members) - 1
	t.members[gone.place] = t.members[last]
	t.members[gone.place].member.topics[t.members[gone.place].place].place = gone.place
	t.members[last] = seat{}
	if t.members = t.members[:last]; last == 0 {
		delete(s.index, t.name)
	}
	end := len(m.topics) - 1
	if index != end {
		m.topics[index] = m.topics[end]
		moved := m.topics[index]
		moved.topic.members[moved.place].place = int32(index) //nolint:gosec // fewer than 2^31
	}
	m.topics[end] = ticket{}
	m.topics = m.topics[:end]
}

// piece is how many topics are joined or left before the lock is let go: what is
// delivered to others waits for it.
const piece = 256

// inPieces calls f with each number below n, under the lock.
func (s *shard) inPieces(n int, f func(i int)) {
	for i := 0; i < n; {
		s.mu.Lock()
		for end := min(i+piece, n); i < end; i++ {
			f(i)
		}
		s.mu.Unlock()
	}
}

func (s *shard) leaveAll(m *member) {
	s.inPieces(len(m.topics), func(int) { s.leaveLocked(m, len(m.topics)-1) })
	s.mu.Lock()
	defer s.mu.Unlock()
	m.topics = nil
	if len(s.index) == 0 {
		s.index = map[string]*topic{} // a map never shrinks: let a storm's go
	}
}

// changes are the names of add that the member lacks, and the indexes of those of remove
// that it has, the highest first. What is in both is to be removed.
func (m *member) changes(add, remove []string) (join []string, leave []int) {
	wanted := make(map[string]bool, len(add)+len(remove))
	for _, name := range add {
		wanted[name] = true
	}
	for _, name := range remove {
		wanted[name] = false
	}
	for i := len(m.topics) - 1; i >= 0; i-- {
		name := m.topics[i].topic.name
		if want, named := wanted[name]; named && !want {
			leave = append(leave, i)
		}
		delete(wanted, name)
	}
	for _, name := range add {
		if wanted[name] {
			join = append(join, name)
			delete(wanted, name)
		}
	}
	return join, leave
}

// change adds and removes topics, as changes has found them. For a member that had none
// it returns the id of the position from which on it gets what is published. As long as
// it has one, it goes along with the shard: so the first comes together with its
// position, and topics are added before others are removed.
func (s *shard) change(m *member, join []string, leave []int) (entered sse.ID) {
	s.inPieces(len(join), func(i int) {
		if len(m.topics) == 0 {
			s.enterLocked(m)
			entered = idOf(m.log, m.after)
		}
		s.joinLocked(m, join[i])
	})
	s.inPieces(len(leave), func(i int) { s.leaveLocked(m, leave[i]) })
	return entered
}

// enterLocked puts a member without topics behind what the shard has delivered. Where
// the shard has not yet come to the log that is there now, the member is put behind that
// one, and waits there: its client may have been told of the other's end already.
func (s *shard) enterLocked(m *member) broker.Stats {
	log, position := s.topics.engine.Log(), s.position
	extent := log.Stats()
	if log != s.log {
		position = extent.Last
	}
	if m.log == nil || m.log.Epoch() != log.Epoch() {
		m.after = 0
	}
	m.log = log
	m.after = max(m.after, position)
	return extent
}

// has says whether the member has a topic.
func (m *member) has(name string) bool {
	for i := range m.topics {
		if m.topics[i].topic.name == name {
			return true
		}
	}
	return false
}

// names is what the member has, in no order.
func (m *member) names() []string {
	names := make([]string, len(m.topics))
	for i := range m.topics { // of a ticket the topic alone, whatever lock is held
		names[i] = m.topics[i].topic.name
	}
	return names
}

// welcome makes the connection a member for the first time. It returns what the client
// has to be told first, the retry included, and the replay of what it missed, if there
// is any; ahead says that it has more than this node has read.
// From that moment on the shard delivers to the connection, whose lock is held, so
// that the replay comes first and nothing is lost or doubled between the two.
func (s *shard) welcome(m *member, names []string, lastEventID string, retry sse.Retry) (opening []frame.Frame, missed *replay, ahead bool) {
	// It has no log yet, so that nothing is delivered to it before it has all topics.
	names = broker.SortTopics(slices.Clone(names))
	s.inPieces(len(names), func(i int) { s.joinLocked(m, names[i]) })
	s.mu.Lock()
	defer s.mu.Unlock()
	extent := s.enterLocked(m)
	// The shard may be behind the log. What is stored and not yet delivered is still
	// to come; of what is not stored the client may have had some from another shard,
	// and it was published before the client came.
	position := m.after
	m.place = extent.Records
	start := position // what the client has after this opening
	gap := false
	if lastEventID != "" {
		had, ok := broker.ParsePosition(lastEventID)
		switch {
		case !ok || had.Epoch != extent.Epoch || had.Offset > extent.Last && !s.topics.shared:
			// Nothing is known of what it has. It learns so, and goes on from now.
			gap = true
		case had.Offset < extent.Trimmed && had.Offset < position:
			// What is left of what it missed still comes.
			gap = true
			start = min(extent.Trimmed, position)
			missed = &replay{log: m.log, topics: names, after: start, upto: position}
		case had.Offset < position:
			start = had.Offset
			missed = &replay{log: m.log, topics: names, after: start, upto: position}
		default:
			// It may be ahead of this shard, by what it got from another, or of this node.
			start, m.after = had.Offset, had.Offset
			ahead = had.Offset > extent.Last
		}
	}
	id := idOf(m.log, start)
	if gap {
		// With the id, since some clients take none from a block without an event.
		opening = append(opening, gapFrame(lastEventID, id))
	}
	return append(opening, frame.Block(sse.AppendSettings(nil, retry, id))), missed, ahead
}

// idOf is a position in a log, as clients keep it.
func idOf(log *broker.Log, offset uint64) sse.ID {
	id, _ := sse.NewID(broker.Position{Epoch: log.Epoch(), Offset: offset}.String()) // an epoch is a valid id
	return id
}

// IsAhead says whether an id is a position of the log that has not been delivered up to. A
// client that had it would miss what is published until then, and would not be told.
func (g *Gateway) IsAhead(id string) bool {
	p, ok := broker.ParsePosition(id)
	return ok && slices.ContainsFunc(g.topics.shards, func(s *shard) bool { return s.isAhead(p) })
}

func (s *shard) isAhead(p broker.Position) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.Epoch == s.log.Epoch() {
		return p.Offset > s.position
	}
	return p.Epoch == s.topics.engine.Log().Epoch() && p.Offset > 0 // to which the shard has yet to come
}

// gapFrame tells a client that events between what it has and what comes next are
// lost, and the id from which it goes on, if it is known.
func gapFrame(lastEventID string, id sse.ID) frame.Frame {
	quoted, _ := jsontext.AppendQuote(nil, lastEventID) // fails for invalid UTF-8 only
	name, _ := sse.NewName("gap")                       // valid
	return frame.Event(sse.Event{Name: name, ID: id, Data: `{"last_event_id":` + string(quoted) + `}`})
}

// Delivery is a publication that somebody waits for.
type Delivery struct {
	topics *topics
	ref    uint64
	waiter *waiter
}

// waiter waits until every shard has delivered a record.
type waiter struct {
	receivers atomic.Int64
	shards    atomic.Int32 // that have not yet
	done      chan struct{}
}

// Expect waits for the record of that ref, or for a new one that no other node has if
// ref is 0. Forget has to be called in the end.
func (g *Gateway) Expect(ref uint64) *Delivery {
	t := g.topics
	if ref == 0 {
		ref = t.refs.Add(1)
	}
	w := &waiter{done: make(chan struct{})}
	w.shards.Store(int32(len(t.shards))) //nolint:gosec // a few
	t.waiters.Store(ref, w)
	return &Delivery{t, ref, w}
}

// Ref comes back in the record.
func (d *Delivery) Ref() uint64 { return d.ref }

// Wait waits until this node has delivered the record, or ctx ends, and tells to how
// many connections so far.
func (d *Delivery) Wait(ctx context.Context) (receivers int, all bool) {
	select {
	case <-d.waiter.done:
		all = true
	case <-ctx.Done():
	}
	return int(d.waiter.receivers.Load()), all
}

// Forget ends the wait.
func (d *Delivery) Forget() { d.topics.waiters.Delete(d.ref) }

func (w *waiter) add(receivers int) {
	w.receivers.Add(int64(receivers))
	if w.shards.Add(-1) == 0 {
		close(w.done)
	}
}

// Publish appends an event to the log and delivers it to the connections that have
// any of the topics; each gets it once. It returns the event's position, and how
// many connections of this node it went to.
func (g *Gateway) Publish(ctx context.Context, names []string, e sse.Event, store bool) (broker.Position, int, error) {
	d := g.Expect(0)
	defer d.Forget()
	return d.Publish(ctx, names, e, store)
}

// Publish is Gateway.Publish of a record with that ref.
func (d *Delivery) Publish(ctx context.Context, names []string, e sse.Event, store bool) (broker.Position, int, error) {
	position, err := d.topics.engine.Append(ctx, broker.Publication{Topics: broker.SortTopics(names), Event: e, Store: store, Ref: d.ref})
	if err != nil {
		return position, 0, err
	}
	receivers, _ := d.Wait(ctx) // even if ctx ends it is in the log, and on its way
	return position, receivers, nil
}

// ValidTopic says whether a string can be a topic: 1 to 256 bytes of UTF-8 without
// control characters.
func ValidTopic(s string) bool {
	if s == "" || len(s) > 256 {
		return false
	}
	_, err := sse.NewName(s) // the same rule, but for the length
	return err == nil
}
