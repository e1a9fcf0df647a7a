package gateway_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/http/httputil"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ssegateway/internal/broker"
	"ssegateway/internal/bubble"
	"ssegateway/internal/frame"
	"ssegateway/internal/gateway"
	"ssegateway/internal/topics"
	"ssegateway/sse"
)

var (
	seamN    = flag.Int("seam.n", 60000, "how many random steps TestSeam takes")
	seamSeed = flag.Uint64("seam.seed", 0, "the seed of TestSeam's first round; 0 for a random one")
)

const (
	seamRound   = 3000 // steps
	seamClients = 24
)

var seamTopics = []string{"a", "b", "c", "d", "e"}

// TestSeam publishes, connects, disconnects, comes back with ids of all kinds, changes topics
// and trims the log, all at once, on several shards, with fast and slow clients. Then a model
// checks what each client received of its topics: every event, in the log's order, none twice,
// and a gap exactly where the log did not reach back.
//
// In half of the rounds the gateway is one node of a cluster. It lags behind the other nodes,
// which publish as well, and clients come with ids that they have from another node.
//
// Concurrent operations may have different outcomes. The model knows from a clock which
// operations were finished before others began. It accepts exactly the outcomes that some order
// of the concurrent ones explains.
func TestSeam(t *testing.T) {
	seed := *seamSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	defer func() {
		if t.Failed() {
			t.Logf("to repeat: -run '^TestSeam$' -seam.n=1 -seam.seed=%d", seed)
		}
	}()
	for n := 0; n < *seamN && !t.Failed(); n += seamRound {
		bubble.Test(t, func(t *testing.T) { newSeam(t, seed).run() })
		seed++
	}
}

// seam is a gateway, and everything that is done with its topics.
type seam struct {
	t      *testing.T
	engine broker.Engine
	lag    *lagging   // the engine, if it is a lagging one
	some   *selecting // the engine, if it is a selecting one
	lives  *lives     // of an engine that outlives the process; nil: there is one life
	gw     *gateway.Gateway
	topics *topics.Topics
	shards int // of topics
	truth  *broker.Tailer
	clock  atomic.Int64
	steps  atomic.Int64 // how many are left
	keys   int          // of retained events; 0: nothing is retained

	published func() []broker.Publication // so far, in the order of the log

	publishers []*seamPublisher
	clients    []*seamClient

	*seamOrder

	fail atomic.Int32
}

// seamOrder is, after the round, what was published.
type seamOrder struct {
	chain []*broker.Record     // in the order of the log
	pubs  []broker.Publication // as what each record of chain was published
	spans []seamSpan           // when each record of chain was published
}

// seamSpan is when an operation began and when it was finished, by the seam's clock.
type seamSpan struct{ start, finish int64 }

type seamPublisher struct {
	number int
	random *rand.Rand
	spans  []seamSpan
	told   []*told // instead of spans, of an engine with several lives
}

// seamClient is a browser.
type seamClient struct {
	number   int
	random   *rand.Rand
	lastID   string
	seen     []string // ids
	conn     *gateway.Conn
	stream   *seamStream
	sessions []*session // the last is that of conn, if there is one
}

// session is one stream of a client.
type session struct {
	order         *seamOrder // that it belongs to
	topics        []string   // granted
	from          string     // the position that the client named, or else the backend
	rewind        int
	asked         broker.Position // where the log was when the backend was asked; zero: it wants what comes from now on
	before, after broker.Stats    // around its opening
	opening       seamSpan
	changes       []seamChange
	wire          []byte
	end           broker.Stats // when the stream was over
	endClock      int64
	last          bool
	shard         int
	openedAt      time.Time
	closedAt      time.Time
}

// seamChange is a change of topics, with the topics that the client had after it.
type seamChange struct {
	topics []string
	span   seamSpan
}

func newSeam(t *testing.T, seed uint64) *seam {
	random := rand.New(rand.NewPCG(seed, 0))
	s := &seam{t: t}
	s.populate(seed, random)
	bound := seamBound(random)
	memory := &recording{Memory: broker.NewMemory(bound, time.Hour)}
	memory.LimitRetained(math.MaxInt64)
	s.engine, s.published = memory, memory.published
	s.truth, _ = s.engine.Log().Tail()
	if random.IntN(2) == 0 {
		reopens := random.IntN(2) == 0
		if reopens {
			bound = 64 << 20 // large enough that no client gets a gap
		}
		s.lag = newLagging(rand.New(rand.NewPCG(seed, 500)), bound, reopens)
		s.engine, s.published = s.lag, s.lag.published
		s.truth, _ = s.lag.truth.Tail()
	}
	if s.lag == nil && random.IntN(2) == 0 {
		s.some = newSelecting(rand.New(rand.NewPCG(seed, 501)))
		s.engine, s.published = s.some, s.some.published
		s.truth, _ = s.some.truth.Tail()
	}
	s.steps.Store(seamRound)
	s.serve(random, s.lag != nil)
	return s
}

// seamBound returns how many bytes a log may have.
func seamBound(random *rand.Rand) int64 {
	if random.IntN(3) == 0 {
		return 64 << 20
	}
	return 2000 + random.Int64N(40000)
}

// populate makes those who act.
func (s *seam) populate(seed uint64, random *rand.Rand) {
	s.seamOrder = new(seamOrder)
	s.keys = max(0, random.IntN(60)-20)
	for i := range 1 + random.IntN(4) {
		s.publishers = append(s.publishers, &seamPublisher{number: i, random: rand.New(rand.NewPCG(seed, uint64(1+i)))})
	}
	for i := range seamClients {
		s.clients = append(s.clients, &seamClient{number: i, random: rand.New(rand.NewPCG(seed, uint64(1000+i)))})
	}
}

// serve makes a gateway on the engine.
func (s *seam) serve(random *rand.Rand, shared bool) {
	cfg := gateway.Config{
		Heartbeat: 24 * time.Hour, MaxConnections: 1000, QueueBytes: 1 << 20, BudgetBytes: 1 << 27,
		Clustered: shared, Log: slog.New(slog.DiscardHandler),
	}
	if random.IntN(4) == 0 {
		cfg.QueueBytes = 6000 + random.Int64N(10000) // clients that lag are cut
	}
	s.shards = 1 + random.IntN(6)
	cfg.Topics = sharded(s.engine, shared, s.shards)
	s.topics, s.gw = cfg.Topics, gateway.New(cfg, &backend{})
	if shared {
		s.gw.SetNumber(1)
	}
}

func (s *seam) run() {
	stop := s.start()
	s.act()
	s.comeBack()
	if s.lag != nil {
		time.Sleep(time.Hour) // fake clock: by then the node has read everything, or has given up
	}
	synctest.Wait()
	s.leave()
	synctest.Wait()
	s.leftBehind()

	s.pubs = s.published()
	for _, p := range s.pubs {
		publisher, number := s.origin(p.Event.Data)
		s.chain = append(s.chain, s.truth.Next(context.Background()))
		s.spans = append(s.spans, s.publishers[publisher].spans[number])
	}
	stop()
	s.check()
}

// origin returns whose and which publication has some data.
func (s *seam) origin(data string) (publisher, number int) {
	if _, err := fmt.Sscanf(data, "%d.%d.", &publisher, &number); err != nil {
		s.t.Fatal(err)
	}
	return publisher, number
}

// start runs the gateway until stop is called.
func (s *seam) start() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var background sync.WaitGroup
	background.Go(func() { _ = s.gw.Run(ctx) })
	background.Go(func() { _ = s.topics.Run(ctx) })
	if s.lag != nil || s.lives != nil {
		background.Go(func() { _ = s.engine.Run(ctx) })
	}
	return func() {
		cancel()
		background.Wait()
	}
}

// act takes the steps.
func (s *seam) act() {
	var publishers, clients sync.WaitGroup
	for _, p := range s.publishers {
		publishers.Go(func() {
			for s.steps.Add(-1) >= 0 {
				s.publish(p)
			}
		})
	}
	for _, c := range s.clients {
		clients.Go(func() {
			for s.lives.turn() && s.steps.Add(-1) >= 0 {
				s.step(c)
			}
		})
	}
	publishers.Wait()
	s.lives.lastTurns()
	clients.Wait()
}

// comeBack brings all clients back. They take all that is left.
func (s *seam) comeBack() {
	for _, c := range s.clients {
		if c.gone() {
			s.disconnect(c)
		}
		if c.conn == nil {
			s.connect(c)
		}
		c.stream.takes(plenty)
	}
}

// leave ends the streams of clients that have taken all.
func (s *seam) leave() {
	for _, c := range s.clients {
		c.sessions[len(c.sessions)-1].last = !c.gone()
		s.disconnect(c)
	}
}

// leftBehind checks that nothing is left of the clients.
func (s *seam) leftBehind() {
	for _, what := range s.gw.Leftovers() {
		s.t.Errorf("left behind: %s", what)
	}
	for _, name := range seamTopics {
		if n := s.topics.Count(name); n != 0 {
			s.t.Errorf("left behind: topics in shards: %s, of %d members", name, n)
		}
	}
}

// sometimes lets other goroutines run first.
func sometimes(random *rand.Rand) {
	if random.IntN(3) == 0 {
		runtime.Gosched()
	}
}

func (s *seam) publish(p *seamPublisher) {
	topics := []string{}
	for len(topics) == 0 || p.random.IntN(3) == 0 {
		topics = append(topics, seamTopics[p.random.IntN(len(seamTopics))])
	}
	e := sse.Event{Data: fmt.Sprintf("%d.%d.%s", p.number, max(len(p.spans), len(p.told)), strings.Repeat("x", p.random.IntN(100)))}
	span := seamSpan{start: s.clock.Add(1), finish: math.MaxInt64}
	publication := broker.Publication{Topics: broker.SortTopics(topics), Event: e, Store: p.random.IntN(4) > 0}
	s.retains(&publication, p.random)
	if s.lives != nil {
		s.lives.publish(p, publication)
		return
	}
	if s.lag != nil && p.random.IntN(2) == 0 {
		s.lag.add(publication, nil)
	} else {
		d := s.topics.Expect(0)
		defer d.Forget()
		switch _, _, err := d.Publish(context.Background(), publication); {
		case err == nil:
			span.finish = s.clock.Add(1)
		case s.lag == nil || !errors.Is(err, broker.ErrUnavailable):
			s.t.Error(err)
		}
	}
	p.spans = append(p.spans, span)
	sometimes(p.random)
}

// gone reports whether the gateway has ended the client's stream.
func (c *seamClient) gone() bool { return c.conn != nil && c.conn.State() == gateway.Closed }

// step does one random step of a client, or of the backend for this client.
func (s *seam) step(c *seamClient) {
	sometimes(c.random)
	if s.lag != nil && c.random.IntN(40) == 0 {
		time.Sleep(time.Duration(c.random.IntN(4000)) * time.Millisecond) // fake clock
	}
	s.lives.pause(c.random)
	switch n := c.random.IntN(100); {
	case c.conn == nil:
		s.connect(c)
	case c.gone() || n < 10:
		s.disconnect(c)
	case n < 12:
		c.conn.Send(frame.Frame{}, true, nil)
	case n < 13:
		s.gw.CloseAll(gateway.Filter{Subject: strconv.Itoa(c.random.IntN(seamClients))})
	case n < 14:
		s.gw.CloseAll(gateway.Filter{Subject: strconv.Itoa(c.number), Topic: "a"})
	case n < 15:
		s.gw.List(gateway.Filter{Topic: seamTopics[c.random.IntN(len(seamTopics))]}, gateway.Token{}, 3)
	case n < 35:
		s.change(c)
	default:
		c.stream.takes(c.random.IntN(400))
	}
}

func someTopics(random *rand.Rand, outOf int) []string {
	return slices.DeleteFunc(slices.Clone(seamTopics), func(string) bool { return random.IntN(outOf) > 0 })
}

// resume returns the id that the client comes back with.
func (s *seam) resume(c *seamClient) string {
	log := s.engine.Log().Stats()
	position := func(offset uint64) string { return broker.Position{Epoch: log.Epoch, Offset: offset}.String() }
	switch n := c.random.IntN(20); {
	case n == 0:
		return ""
	case n == 1:
		return [...]string{"x", "0", "-5", log.Epoch, log.Epoch + "-", position(3) + "x", "\"\\\x01\xff\u2028"}[c.random.IntN(7)]
	case n == 2:
		return "other-" + strconv.Itoa(c.random.IntN(10))
	case n == 3 && !s.lives.others():
		return position(log.Last + 1000000)
	case n == 3:
		return position(s.lives.last())
	case n < 8 && s.lag != nil:
		if offset, ok := s.lag.ahead(c.random); ok {
			return position(offset)
		}
	case n < 6:
		return position(c.random.Uint64N(log.Last + 1))
	case n < 9 && len(c.seen) > 0:
		return c.seen[len(c.seen)-1-c.random.IntN(min(len(c.seen), 30))]
	}
	return c.lastID
}

func (s *seam) connect(c *seamClient) {
	conn, _, err := s.gw.Connect(context.Background(), request)
	if err != nil {
		s.t.Error(err)
		return
	}
	g := gateway.Grant{Topics: someTopics(c.random, 2), Subject: strconv.Itoa(c.number), Beginning: topics.Beginning{LastEventID: s.resume(c)}}
	if c.random.IntN(4) == 0 { // the backend's turn
		g.LastEventID, g.Position = "", g.LastEventID
	}
	if c.random.IntN(3) > 0 {
		g.Asked = s.topics.Position(context.Background())
		for range c.random.IntN(20) {
			runtime.Gosched() // others publish while the backend thinks
		}
		if c.random.IntN(4) == 0 {
			g.LastEventID, g.Position = "", ""
		}
	}
	if c.random.IntN(3) == 0 {
		g.Rewind = 1 + c.random.IntN(40)
	}
	if n := len(c.sessions); n > 0 && c.random.IntN(2) == 0 {
		g.Topics = c.sessions[n-1].topics
	}
	room := plenty
	if c.random.IntN(2) == 0 {
		room = c.random.IntN(200)
	}
	c.conn, c.stream = conn, newSeamStream(conn, room, c.random)
	session := &session{order: s.seamOrder, topics: g.Topics, rewind: g.Rewind, from: cmp.Or(g.LastEventID, g.Position), asked: g.Asked, shard: gateway.ShardOf(conn, s.shards)}
	session.before, session.opening.start, session.openedAt = s.extent(false), s.clock.Add(1), time.Now()
	release, err := s.topics.Follow(context.Background(), g.Topics, session.from)
	if err != nil {
		s.t.Fatal(err)
	}
	if !conn.Open(c.stream, frame.Frame{}, g) {
		s.t.Error("the connection did not open")
	}
	release()
	if s.some != nil && c.random.IntN(3) == 0 {
		s.some.Prune(func(name string) bool { return s.topics.Count(name) > 0 })
	}
	session.opening.finish, session.after = s.clock.Add(1), s.extent(true)
	c.sessions = append(c.sessions, session)
}

// extent returns a lower bound of the log's current extent or, with most set, an upper one. Oldest
// ignores a hole before the oldest event. With a lagging engine places are those of truth.
func (s *seam) extent(most bool) broker.Stats {
	if s.some != nil {
		count := s.some.count() // before the log is read, and with most set behind that
		stats := s.engine.Log().Stats()
		if most {
			count = s.some.count()
			stats.Last = max(stats.Last, count)
		}
		stats.Oldest, stats.Records = stats.Trimmed+1, count
		return stats
	}
	if s.lag == nil {
		stats := s.engine.Log().Stats()
		stats.Oldest = stats.Trimmed + 1
		stats.Records += s.lives.before()
		return stats
	}
	if most { // the log is read first, so that what the node is about to read counts
		stats := s.engine.Log().Stats()
		s.lag.mu.Lock()
		defer s.lag.mu.Unlock()
		stats.Oldest, stats.Records = stats.Trimmed+1, uint64(s.lag.begun)
		return stats
	}
	s.lag.mu.Lock()
	done := s.lag.done
	s.lag.mu.Unlock()
	stats := s.engine.Log().Stats()
	stats.Oldest, stats.Records = stats.Trimmed+1, uint64(done)
	return stats
}

func (s *seam) disconnect(c *seamClient) {
	session := c.sessions[len(c.sessions)-1]
	c.conn.Abort(gateway.ClientClosed, 0)
	session.wire = c.stream.received()
	session.end, session.endClock, session.closedAt = s.extent(true), s.clock.Add(1), time.Now()
	c.conn, c.stream = nil, nil
	blocks, err := parseBlocks(session.wire)
	if err != nil {
		s.failf("client %d: %v", c.number, err)
	}
	for _, b := range blocks {
		if b.hasID {
			c.lastID = b.id
			c.seen = append(c.seen, b.id)
		}
	}
}

func (s *seam) change(c *seamClient) {
	session := c.sessions[len(c.sessions)-1]
	add, remove := someTopics(c.random, 4), someTopics(c.random, 4)
	want := slices.Clone(session.topics)
	if n := len(session.changes); n > 0 {
		want = slices.Clone(session.changes[n-1].topics)
	}
	want = broker.SortTopics(append(want, add...))
	want = slices.DeleteFunc(want, func(name string) bool { return slices.Contains(remove, name) })
	change := seamChange{topics: want, span: seamSpan{start: s.clock.Add(1)}}
	release, err := s.topics.Follow(context.Background(), add, "")
	if err != nil {
		s.t.Fatal(err)
	}
	got, err := c.conn.Change(add, remove)
	release()
	change.span.finish = s.clock.Add(1)
	switch {
	case err != nil && c.conn.State() != gateway.Closed:
		s.failf("client %d: Change failed for an open connection", c.number)
	case err == nil && !slices.Equal(got, want):
		s.failf("client %d: has the topics %q after a change, want %q", c.number, got, want)
	case err == nil:
		session.changes = append(session.changes, change)
	}
}

// failf reports the first few failures of a round.
func (s *seam) failf(format string, args ...any) {
	if s.fail.Add(1) <= 5 {
		s.t.Errorf(format, args...)
	}
}

func (s *seam) check() {
	for _, c := range s.clients {
		for n, session := range c.sessions {
			s.seamOrder = session.order
			if err := s.checkSession(session); err != nil {
				s.failf("client %d, stream %d, on shard %d, with the topics %q, from %q: %v", c.number, n, session.shard, session.topics, session.begins(), err)
			}
		}
	}
}

// offsetBy returns the offset that all shards had reached at a time.
func (s *seam) offsetBy(start int64) uint64 { return s.at(s.placeBy(start)) }

// placeBy returns the place that all shards had reached at a time: a publish returns only when
// they have reached its event, if it comes to them.
func (s *seam) placeBy(start int64) int {
	for place := len(s.chain); place > 0; place-- {
		if s.spans[place-1].finish < start && (s.some == nil || !s.some.unread[place-1]) {
			return place
		}
	}
	return 0
}

// placeAt returns the last place that any shard can have reached at a time.
func (s *seam) placeAt(finish int64) int {
	for place := len(s.chain); place > 0; place-- {
		if s.spans[place-1].start < finish {
			return place
		}
	}
	return 0
}

func (s *seam) at(place int) uint64 {
	if place == 0 {
		return 0
	}
	return s.chain[place-1].Offset
}

// checkSession checks one stream against the model.
func (s *seam) checkSession(x *session) error {
	blocks, err := parseBlocks(x.wire)
	if err != nil {
		return err
	}
	start, blocks, err := s.checkOpening(x, blocks)
	if err != nil {
		return err
	}
	start, opening, blocks, err := s.givesUp(x, start, blocks)
	if err != nil {
		return err
	}
	return s.checkEvents(x, start, opening, blocks)
}

// begins returns the position that is named for the session, or else where the backend was asked.
func (x *session) begins() string {
	if x.from == "" && x.asked.Epoch != "" {
		return x.asked.String()
	}
	return x.from
}

// checkOpening checks the opening against the model: a gap, if there is one, and the id that
// the client then has, whose offset it returns.
func (s *seam) checkOpening(x *session, blocks []block) (start uint64, rest []block, err error) {
	if len(x.topics) == 0 {
		return s.checkFirstTopics(x, blocks)
	}
	gap := len(blocks) > 0 && blocks[0].name == "gap"
	id := "" // of the gap
	if gap {
		id = blocks[0].id
		if err := blocks[0].checkGap(x.begins(), id); err != nil {
			return 0, nil, err
		}
		blocks = blocks[1:]
	}
	state, blocks := cutState(blocks)
	switch {
	case len(state) > 0 && id != "":
		return 0, nil, fmt.Errorf("%q comes behind a gap that has the id %q", state[0].raw, id)
	case len(state) > 0 && !gap && x.from != "":
		return 0, nil, fmt.Errorf("%q comes to one who has a position", state[0].raw)
	case len(blocks) == 0 && x.last:
		return 0, nil, errors.New("no opening at all")
	case len(blocks) == 0: // the client left before it had the opening
		return math.MaxUint64, nil, s.checkState(x, givenState{blocks: state, due: gap && id == "", torn: true, at: math.MaxUint64, rewind: x.rewind, topics: x.topics})
	case id != "" && blocks[0].id != id:
		return 0, nil, fmt.Errorf("the id %q comes after a gap with the id %q", blocks[0].id, id)
	}
	at, ok := broker.ParsePosition(blocks[0].id)
	if !ok || at.Epoch != x.before.Epoch {
		return 0, nil, fmt.Errorf("it opens with %+v instead of an id", blocks[0])
	}
	if gap || x.from == "" {
		if err := s.checkState(x, givenState{blocks: state, due: gap && id == "", at: at.Offset, rewind: x.rewind, topics: x.topics}); err != nil {
			return 0, nil, err
		}
	}
	reached := s.offsetBy(x.opening.start)
	had, ok := broker.ParsePosition(x.begins())
	known := ok && had.Epoch == x.before.Epoch && (had.Offset <= x.after.Last || s.lag != nil || s.lives.others())
	low := min(x.before.Oldest-1, reached)
	switch {
	case !known && gap != (x.from != ""):
		return 0, nil, fmt.Errorf("gap sent: %v", gap)
	case !known && x.asked.Epoch != "" && at.Offset != x.asked.Offset && (at.Offset < max(low, x.asked.Offset) || at.Offset >= x.after.Oldest):
		return 0, nil, fmt.Errorf("behind the gap it opens at %d; the backend was asked at %d", at.Offset, x.asked.Offset)
	case !known && x.asked.Epoch == "" && (at.Offset < reached || at.Offset > x.after.Last):
		return 0, nil, fmt.Errorf("it opens at %d, but what is live was between %d and %d", at.Offset, reached, x.after.Last)
	case known && gap && x.after.Oldest <= had.Offset+1:
		return 0, nil, fmt.Errorf("a gap, but the log reaches back to %d", x.after.Oldest)
	case known && gap && (at.Offset < max(low, had.Offset) || at.Offset >= x.after.Oldest):
		return 0, nil, fmt.Errorf("behind the gap it opens at %d; the log begins between %d and %d", at.Offset, x.before.Oldest, x.after.Oldest)
	case known && !gap && x.before.Oldest > had.Offset+1 && reached > had.Offset:
		return 0, nil, fmt.Errorf("no gap, but the log begins at %d", x.before.Oldest)
	case known && !gap && at.Offset != had.Offset:
		return 0, nil, fmt.Errorf("it opens at %d", at.Offset)
	}
	return at.Offset, blocks[1:], nil
}

// checkFirstTopics checks a stream that opened without topics against the model: it begins with
// the id of the change that added its first topics.
func (s *seam) checkFirstTopics(x *session, blocks []block) (start uint64, rest []block, err error) {
	first := slices.IndexFunc(x.changes, func(c seamChange) bool { return len(c.topics) > 0 })
	switch {
	case first < 0:
		return 0, blocks, nil
	case len(blocks) == 0 && x.last:
		return 0, nil, errors.New("no id for the first topics")
	case len(blocks) == 0:
		return math.MaxUint64, nil, nil // the client left before it had the id
	}
	at, ok := broker.ParsePosition(blocks[0].id)
	span := x.changes[first].span
	low, high := s.offsetBy(span.start), s.at(s.placeAt(span.finish))
	if s.some != nil { // whose end may be an event that is not stored
		high = uint64(s.placeAt(span.finish))
	}
	if !ok || blocks[0].event || at.Epoch != x.before.Epoch || at.Offset < low || at.Offset > high {
		return 0, nil, fmt.Errorf("its first topics come with %+v instead of an id from %d to %d", blocks[0], low, high)
	}
	return at.Offset, blocks[1:], nil
}

// checkEvents checks what comes after the opening against the model. Each record of the log was
// received or not, and this has to be explained by some moment for the opening (from which on
// the client gets unstored events) and for each change of topics.
func (s *seam) checkEvents(x *session, start uint64, opened [2]int, blocks []block) error {
	if start == math.MaxUint64 {
		return nil
	}
	type bounds struct{ low, high int } // a moment, as the last place before it
	moments := make([]bounds, 0, len(x.changes))
	sets := [][]string{x.topics}
	for _, c := range x.changes {
		moments = append(moments, bounds{s.placeBy(c.span.start), s.placeAt(c.span.finish)})
		sets = append(sets, c.topics)
	}
	// The client gets unstored records that were appended after its opening, however far its
	// shard was by then. If it opened without topics, it gets those after its shard's position.
	opening := bounds{opened[0], opened[1]}
	if len(x.topics) == 0 {
		opening = bounds{}
	}
	replayed := s.placeAt(x.opening.finish) // how far a replay may reach, unless the log is replaced
	if s.lag != nil {
		replayed = len(s.chain)
	}
	// states[open][k] is whether k of the moments may be over, before (0) or after (1) the opening.
	states := [2][]bool{make([]bool, len(moments)+1), make([]bool, len(moments)+1)}
	states[0][0] = true
	from, last := start, start // from: stored events come from there on; last: the last offset received, at first that of the opening
	skipping := false
	received := map[string]bool{}
	for i, r := range s.chain {
		for len(blocks) > 0 && blocks[0].name == "gap" {
			if err := blocks[0].checkGap(broker.Position{Epoch: x.before.Epoch, Offset: last}.String(), ""); err != nil {
				return err
			}
			if x.end.Oldest <= last+1 {
				return fmt.Errorf("a gap after %d, but the log reaches back to %d", last, x.end.Oldest)
			}
			skipping = true
			rest, upto, over, err := s.checkMiddle(x, blocks[1:], last)
			if err != nil || over {
				return err
			}
			blocks, from, last = rest, upto, upto
		}
		if len(blocks) == 0 && !x.last {
			return nil
		}
		got := len(blocks) > 0 && blocks[0].raw == string(r.Frame.Wire(false))
		next := [2][]bool{make([]bool, len(moments)+1), make([]bool, len(moments)+1)}
		explained, possible := false, false
		for open := range 2 {
			for k := range states[open] {
				// The next moment may have been before this record.
				if k > 0 && states[open][k-1] && moments[k-1].low <= i {
					states[open][k] = true
				}
				if open > 0 && states[0][k] && opening.low <= i {
					states[1][k] = true
				}
				if !states[open][k] || k < len(moments) && moments[k].high <= i || open == 0 && opening.high <= i {
					continue
				}
				possible = true
				want := slices.ContainsFunc(r.Topics, func(name string) bool { return slices.Contains(sets[k], name) })
				if r.Stored {
					want = want && r.Offset > from
				} else {
					want = want && open > 0 && r.Offset >= start && (s.lag == nil || !s.lag.skipped[i])
				}
				// A replay brings nothing of topics that are removed while it waits, even if they come back.
				removed := r.Stored && i < replayed && !slices.ContainsFunc(r.Topics, func(name string) bool {
					return !slices.ContainsFunc(sets[k:], func(set []string) bool { return !slices.Contains(set, name) })
				})
				if want == got || want && (removed || skipping && r.Stored && r.Offset < x.end.Oldest) {
					next[open][k], explained = true, true
				}
			}
		}
		switch {
		case !possible:
			return fmt.Errorf("the model allows no order of the moments at place %d", i)
		case !explained && got:
			return fmt.Errorf("received %q, which has the topics %q and is not for it", r.Frame.Wire(false), r.Topics)
		case !explained && len(blocks) > 0 && received[blocks[0].raw]:
			return fmt.Errorf("%q came twice", blocks[0].raw)
		case !explained:
			return fmt.Errorf("%q is missing, of the topics %q, stored %v%s", r.Frame.Wire(false), r.Topics, r.Stored, upNext(blocks))
		}
		states = next
		if got {
			received[blocks[0].raw] = true
			blocks = blocks[1:]
			skipping = false
			if r.Stored {
				last = r.Offset
			}
		}
	}
	if len(blocks) > 0 {
		if received[blocks[0].raw] {
			return fmt.Errorf("%q came twice", blocks[0].raw)
		}
		return fmt.Errorf("%q came out of order, or from nowhere", blocks[0].raw)
	}
	return nil
}

func upNext(blocks []block) string {
	if len(blocks) == 0 {
		return ""
	}
	return fmt.Sprintf(", before %q", blocks[0].raw)
}

// block is one block of a stream.
type block struct {
	raw            string
	name, data, id string
	hasID, event   bool
}

func (b block) checkGap(lastEventID, id string) error {
	var goesOn sse.ID
	if id != "" {
		goesOn, _ = sse.NewID(id)
	}
	want := topics.Gap(lastEventID, goesOn)
	if b.raw != string(want.Wire(false)) {
		return fmt.Errorf("the gap says %q, want %q", b.raw, want.Wire(false))
	}
	return nil
}

// parseBlocks reads the whole blocks of a stream.
func parseBlocks(wire []byte) ([]block, error) {
	var blocks []block
	for rest := string(wire); ; {
		raw, after, whole := strings.Cut(rest, "\n\n")
		if !whole {
			return blocks, nil
		}
		rest = after
		if raw+"\n\n" == sse.Heartbeat {
			continue // a stream without topics begins with it
		}
		b := block{raw: raw + "\n\n"}
		for line := range strings.SplitSeq(raw, "\n") {
			field, value, _ := strings.Cut(line, ": ")
			switch field {
			case "id":
				b.id, b.hasID = value, true
			case "event":
				b.name = value
			case "data":
				b.data, b.event = b.data+value, true
			default:
				return nil, fmt.Errorf("a torn block %q", b.raw)
			}
		}
		blocks = append(blocks, b)
	}
}

// seamStream is a stream that takes what it has room for, either as sockets do, or in a
// goroutine that pumps.
type seamStream struct {
	conn    *gateway.Conn
	chunked bool
	pumped  bool

	mu     sync.Mutex
	room   int
	wire   []byte
	closed bool
	some   chan struct{} // for the pump: has a value when there may be something to do
}

func newSeamStream(c *gateway.Conn, room int, random *rand.Rand) *seamStream {
	return &seamStream{conn: c, room: room, chunked: random.IntN(2) == 0, pumped: random.IntN(3) == 0, some: make(chan struct{}, 1)}
}

func (s *seamStream) Start() gateway.Detail {
	if s.pumped {
		go func() {
			for range s.some {
				if !s.conn.Pump(s, s.writeAll) {
					return
				}
			}
		}()
	}
	return 0
}

func (s *seamStream) Write(p []byte) (int, gateway.Detail) {
	if s.pumped {
		wake(s.some)
		return 0, 0
	}
	return s.take(p)
}

func (s *seamStream) take(p []byte) (int, gateway.Detail) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, gateway.WriteFailed
	}
	n := min(len(p), s.room)
	s.room -= n
	s.wire = append(s.wire, p[:n]...)
	return n, 0
}

// writeAll takes all of p, waiting for room.
func (s *seamStream) writeAll(p []byte) gateway.Detail {
	for {
		n, fault := s.take(p)
		if p = p[n:]; len(p) == 0 || fault != 0 {
			return fault
		}
		<-s.some
	}
}

func (s *seamStream) Left() (gateway.Reason, gateway.Detail) { return 0, 0 }

func (s *seamStream) Look(last uint64) (uint64, bool) { return last + 1, false }

func (s *seamStream) Close(bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	close(s.some)
}

func (s *seamStream) Chunked() bool { return s.chunked }

func (s *seamStream) takes(n int) {
	s.mu.Lock()
	s.room += n
	if s.pumped && !s.closed {
		wake(s.some)
	}
	s.mu.Unlock()
	if !s.pumped {
		s.conn.Ready(s, false, true)
	}
}

// received returns what the client read, without the chunk framing.
func (s *seamStream) received() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.chunked {
		return s.wire
	}
	body, _ := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(s.wire))) // it may be cut
	return body
}
