package gateway_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"ssegateway/internal/broker"
	"ssegateway/internal/frame"
	"ssegateway/internal/gateway"
	"ssegateway/internal/topics"
	"ssegateway/sse"
)

// TestMachine does one operation after the other on a gateway. A model predicts the outcome of
// each exactly: every result, every byte, every counter.
func TestMachine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rapid.SyncTest(t, func(t *rapid.T) {
			m := newMachine(t)
			t.Repeat(map[string]func(*rapid.T){
				"connect": m.connect,
				"answer":  m.answer,
				"open":    m.open,
				"send":    m.send,
				"send2":   m.send, // more often than the rest
				"take":    m.take,
				"ack":     m.ack,
				"leave":   m.leave,
				"late":    m.late,
				"break":   m.breakStream,
				"wait":    m.wait,
				"":        m.check,
			})
			m.drain(t)
			m.check(t)
			for _, what := range m.gw.Leftovers() {
				t.Errorf("left behind: %s", what)
			}
		})
	})
}

// machine is a gateway with its model.
type machine struct {
	cfg     gateway.Config
	gw      *gateway.Gateway
	backend *askedBackend
	clients *addressCounter
	start   time.Time // of the gateway's Run: stalled clients are searched for at whole multiples of sweep

	conns   []*machineConn
	backlog []*machineConn // in the gateway's order, which decides between queues of equal weight
	count   machineCount
}

// machineCount has the expected values of the counters.
type machineCount struct {
	pending, open, queued, opened, events, bytes, dropped int
	closed                                                [gateway.Error + 1]int
}

// machineConn is a connection with its model.
type machineConn struct {
	conn     *gateway.Conn
	client   netip.Addr
	leaving  context.CancelFunc // the client's, while pending
	asked    *question
	answered bool
	owed     bool

	state   gateway.State
	reason  gateway.Reason
	detail  gateway.Detail
	ended   bool
	closing bool // a close is buffered

	items  []*machineItem // buffered or queued
	offset int
	took   time.Duration // when the stream last took something
	moved  time.Duration // when the search last found that the client did
	looked bool          // the search for stalled clients has visited the queue
	acked  bool          // the client acknowledged something since then

	tape   *tape // nil unless it was opened
	live   bool  // the connection still uses the stream
	broken bool
	wire   string
	all    []*machineItem
}

// machineItem is something to be written.
type machineItem struct {
	chunked, plain string
	size           int // as the gateway counts it
	event          bool
	done           chan error
	told           error
	isTold         bool
}

func (i *machineItem) bytes(c *machineConn) string {
	if c.tape.chunked {
		return i.chunked
	}
	return i.plain
}

func (i *machineItem) tell(err error) { i.told, i.isTold = err, true }

func newItem(plain string, event bool) *machineItem {
	chunked := fmt.Sprintf("%x\r\n%s\r\n", len(plain), plain)
	return &machineItem{chunked: chunked, plain: plain, size: len(chunked) + 64, event: event}
}

func newEnd() *machineItem { return &machineItem{chunked: "0\r\n\r\n", size: 5 + 64} }

// askedBackend answers when the test makes it.
type askedBackend struct {
	asked   chan *question
	waiting bool // no connect has its turn

	mu      sync.Mutex
	notices []gateway.Notice
}

type question struct {
	token  gateway.Token
	answer chan gateway.Answer
}

func (b *askedBackend) Connect(ctx, client context.Context, token gateway.Token, _ []byte) gateway.Answer {
	q := &question{token, make(chan gateway.Answer, 1)}
	b.asked <- q
	select {
	case a := <-q.answer:
		return a
	case <-ctx.Done():
		return gateway.Answer{Outcome: gateway.TimedOut}
	case <-client.Done():
		if b.waiting {
			return gateway.Answer{Outcome: gateway.Unasked}
		}
	}
	select {
	case a := <-q.answer:
		return a
	case <-ctx.Done():
		return gateway.Answer{Outcome: gateway.TimedOut}
	}
}

func (b *askedBackend) Disconnect(n gateway.Notice) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.notices = append(b.notices, n)
}

func (b *askedBackend) told() []gateway.Notice {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.notices)
}

func newMachine(t *rapid.T) *machine {
	m := &machine{
		cfg: gateway.Config{
			Topics:         topics.New(broker.NewMemory(1<<20, time.Hour), false),
			Heartbeat:      24 * time.Hour, // none, within a test
			MaxConnections: rapid.IntRange(2, 6).Draw(t, "max connections"),
			QueueBytes:     rapid.Int64Range(200, 1500).Draw(t, "queue bytes"),
			BudgetBytes:    rapid.Int64Range(200, 4000).Draw(t, "budget bytes"),
			Log:            slog.New(slog.DiscardHandler),
		},
		backend: &askedBackend{asked: make(chan *question, 1), waiting: rapid.Bool().Draw(t, "connects wait for their turn")},
		start:   time.Now(),
	}
	m.clients = newAddressCounter(rapid.IntRange(1, 4).Draw(t, "max connections of an address"))
	m.cfg.Addresses = m.clients
	m.gw = gateway.New(m.cfg, m.backend)
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	go func() {
		defer close(over)
		_ = m.gw.Run(ctx)
	}()
	t.Cleanup(func() {
		m.gw.Drain(0, time.Second) // ends the connections that a failure left behind
		cancel()
		<-over
	})
	time.Sleep(time.Millisecond) // fake clock: so that the test itself does nothing at a whole multiple of sweep
	return m
}

func (m *machine) now() time.Duration { return time.Since(m.start) }

// pick draws a connection for which ok holds.
func (m *machine) pick(t *rapid.T, ok func(c *machineConn) bool) *machineConn {
	var fit []int
	for i, c := range m.conns {
		if ok(c) {
			fit = append(fit, i)
		}
	}
	if len(fit) == 0 {
		t.Skip("no such connection")
	}
	return m.conns[rapid.SampledFrom(fit).Draw(t, "connection")]
}

func (m *machine) connect(t *rapid.T) {
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	failed := make(chan error, 1)
	client := netip.AddrFrom4([4]byte{192, 0, 2, byte(rapid.IntRange(1, 2).Draw(t, "client"))})
	go func() {
		_, _, err := m.gw.Connect(ctx, requestOf(client))
		failed <- err
	}()
	synctest.Wait()
	if m.registered() == m.cfg.MaxConnections {
		if err := <-failed; !errors.Is(err, gateway.ErrFull) {
			t.Fatalf("connecting beyond the limit returned the error %v", err)
		}
		return
	}
	if m.addresses()[client] == m.clients.most {
		if err := <-failed; !errors.Is(err, errAddress) {
			t.Fatalf("connecting beyond the limit of an address returned the error %v", err)
		}
		return
	}
	q := <-m.backend.asked
	m.conns = append(m.conns, &machineConn{conn: m.gw.Find(q.token), client: client, leaving: cancel, asked: q})
	m.count.pending++
}

// registered returns how many connections have not ended.
func (m *machine) registered() int {
	n := 0
	for _, c := range m.conns {
		if !c.ended {
			n++
		}
	}
	return n
}

// addresses returns how many connections of each address have not ended.
func (m *machine) addresses() map[netip.Addr]int {
	n := map[netip.Addr]int{}
	for _, c := range m.conns {
		if !c.ended {
			n[c.client]++
		}
	}
	return n
}

func (m *machine) answer(t *rapid.T) {
	c := m.pick(t, func(c *machineConn) bool { return !c.answered })
	a := rapid.SampledFrom([]gateway.Answer{
		accepted, accepted, accepted, accepted,
		{Outcome: gateway.Refused, Status: 401},
		{Outcome: gateway.Unreachable},
		{Outcome: gateway.TimedOut},
		{Outcome: gateway.TimedOut, Unsent: true},
		{Outcome: gateway.Unanswered},
	}).Draw(t, "answer")
	c.asked.answer <- a
	synctest.Wait()
	m.settle(c, a)
}

func (m *machine) settle(c *machineConn, a gateway.Answer) {
	c.answered = true
	c.owed = a.Outcome == gateway.Accepted || a.Outcome == gateway.Unanswered || a.Outcome == gateway.TimedOut && !a.Unsent
	switch a.Outcome {
	case gateway.TimedOut:
		m.close(c, gateway.Error, gateway.ConnectTimeout)
	case gateway.Unanswered:
		m.close(c, gateway.Error, gateway.ConnectUnanswered)
	case gateway.Refused, gateway.Unreachable, gateway.Unasked:
		m.close(c, gateway.Error, 0)
	case gateway.Accepted:
	}
	if c.state == gateway.Closed {
		m.end(c)
	}
}

func (m *machine) open(t *rapid.T) {
	c := m.pick(t, func(c *machineConn) bool { return c.answered && c.tape == nil })
	c.tape = &tape{conn: c.conn, chunked: rapid.Bool().Draw(t, "chunked"), room: rapid.IntRange(0, 600).Draw(t, "room")}
	if rapid.IntRange(0, 9).Draw(t, "fault") == 0 {
		c.tape.fault, c.broken = gateway.WriteFailed, true
	}
	opens := c.conn.Open(c.tape, frame.Head([]byte("HEAD")), gateway.Grant{})
	if want := c.state == gateway.Pending; opens != want {
		t.Fatalf("Open returned %v", opens)
	} else if !want {
		return
	}
	c.state, c.live = gateway.Open, true
	m.count.pending--
	m.count.open++
	m.count.opened++
	buffered := c.items
	c.items = nil
	for _, i := range buffered {
		m.count.queued -= i.size
	}
	opening := &machineItem{chunked: "HEAD", plain: "HEAD", size: 4 + 64}
	if len(buffered) == 0 && !c.closing {
		beat := newItem(sse.Heartbeat, false)
		opening.chunked += beat.chunked
		opening.plain += beat.plain
		opening.size = len(opening.bytes(c)) + 64
	}
	m.write(c, opening, false)
	for _, i := range buffered {
		if c.state != gateway.Open || !m.write(c, i, false) {
			m.drop(i)
		}
	}
	if c.closing && c.state == gateway.Open {
		m.close(c, gateway.ServerClosed, 0)
	}
}

func (m *machine) send(t *rapid.T) {
	c := m.pick(t, func(*machineConn) bool { return true })
	end := rapid.IntRange(0, 7).Draw(t, "end") == 0
	var f frame.Frame
	var i *machineItem
	if n := rapid.OneOf(rapid.IntRange(-20, 200), rapid.IntRange(0, 2000)).Draw(t, "data"); n >= 0 {
		f = frame.Event(sse.Event{Data: zeros(n)})
		i = newItem("data: "+zeros(n)+"\n\n", true)
		if rapid.Bool().Draw(t, "done") {
			i.done = make(chan error, 2)
		}
	}
	var done chan<- error
	if i != nil && i.done != nil {
		done = i.done
	}
	result := c.conn.Send(f, end, done)
	synctest.Wait() // until relief has cut connections beyond the budget
	if want := m.sent(c, i, end); result != want {
		t.Fatalf("Send returned %d instead of %d", result, want)
	}
	m.relieve()
}

// sent returns the expected result of a send.
func (m *machine) sent(c *machineConn, i *machineItem, end bool) gateway.Result {
	switch {
	case c.state == gateway.Closed:
		return gateway.Gone
	case c.state == gateway.Pending && c.closing:
		if i != nil {
			c.all = append(c.all, i)
			m.drop(i)
		}
		return gateway.Buffered
	case c.state == gateway.Pending:
		if i != nil {
			if m.count.queued+i.size > int(m.cfg.BudgetBytes) || !m.room(c, i) {
				return gateway.Full
			}
			m.push(c, i)
			c.all = append(c.all, i)
		}
		c.closing = end
		return gateway.Buffered
	}
	if i != nil {
		if !m.write(c, i, true) {
			return gateway.Failed
		}
		c.all = append(c.all, i)
	}
	if end {
		m.close(c, gateway.ServerClosed, 0)
	}
	return gateway.Sent
}

// room reports whether a connection's bound admits one more item. The written part of the first
// item does not count.
func (m *machine) room(c *machineConn, i *machineItem) bool {
	return len(c.items) == 0 || size(c)-c.offset+i.size <= int(m.cfg.QueueBytes)
}

func size(c *machineConn) int {
	n := 0
	for _, i := range c.items {
		n += i.size
	}
	return n
}

func (m *machine) push(c *machineConn, i *machineItem) {
	if len(c.items) == 0 {
		c.took, c.moved, c.looked, c.acked = m.now(), m.now(), false, false
		if c.live {
			m.backlog = append(m.backlog, c)
		}
	}
	c.items = append(c.items, i)
	m.count.queued += i.size
}

// write reports whether an item is accepted: written or queued.
func (m *machine) write(c *machineConn, i *machineItem, bounded bool) bool {
	if len(c.items) > 0 {
		if bounded && !m.room(c, i) {
			m.close(c, gateway.Error, gateway.SlowConsumer)
			return false
		}
		m.push(c, i)
		return true
	}
	if c.broken {
		m.close(c, gateway.Error, gateway.WriteFailed)
		return false
	}
	c.offset = 0
	if !m.hand(c, i) {
		m.push(c, i)
	}
	return true
}

// hand writes to the stream what it takes of an item, and reports whether that was all.
func (m *machine) hand(c *machineConn, i *machineItem) bool {
	b := i.bytes(c)
	n := min(len(b)-c.offset, c.taking()-len(c.wire))
	c.wire += b[c.offset : c.offset+n]
	m.count.bytes += n
	c.offset += n
	if n > 0 {
		c.took = m.now()
	}
	if c.offset < len(b) {
		return false
	}
	c.offset = 0
	if i.event {
		m.count.events++
	}
	i.tell(nil)
	return true
}

// taking returns how many bytes the stream will have taken when it is full.
func (c *machineConn) taking() (n int) {
	c.tape.set(func(tp *tape) { n = len(tp.wire) + tp.room })
	return n
}

func (m *machine) drop(i *machineItem) {
	if i.event {
		m.count.dropped++
	}
	i.tell(gateway.ErrNotWritten)
}

func (m *machine) flush(c *machineConn) {
	for len(c.items) > 0 {
		if c.broken {
			m.close(c, gateway.Error, gateway.WriteFailed)
			return
		}
		i := c.items[0]
		if !m.hand(c, i) {
			return
		}
		c.items = c.items[1:]
		m.count.queued -= i.size
		if len(c.items) == 0 {
			m.unlist(c)
		}
	}
	if c.state == gateway.Closed {
		m.end(c)
	}
}

func (m *machine) unlist(c *machineConn) {
	for i := range m.backlog {
		if m.backlog[i] == c {
			last := len(m.backlog) - 1
			m.backlog[i] = m.backlog[last]
			m.backlog = m.backlog[:last]
			return
		}
	}
}

func (m *machine) close(c *machineConn, r gateway.Reason, d gateway.Detail) {
	if c.state == gateway.Closed {
		m.end(c)
		return
	}
	if c.state == gateway.Open {
		m.count.open--
	} else {
		m.count.pending--
	}
	c.state, c.reason, c.detail = gateway.Closed, r, d
	if r == gateway.ServerClosed && c.live {
		m.write(c, newEnd(), false)
		if len(c.items) > 0 {
			return
		}
	}
	m.end(c)
}

func (m *machine) end(c *machineConn) {
	for _, i := range c.items {
		m.count.queued -= i.size
		if m.drop(i); c.reason == gateway.ClientClosed {
			i.tell(gateway.ErrLeft)
		}
	}
	c.items = nil
	m.unlist(c)
	c.live = false
	if c.answered && !c.ended {
		c.ended = true
		if c.owed {
			m.count.closed[c.reason]++
		}
	}
}

// relieve cuts connections once the queues exceed their budget, until a sixteenth of it is
// free. Those with the most bytes that wait for the longest time come first.
func (m *machine) relieve() {
	limit := int(m.cfg.BudgetBytes)
	if m.count.queued <= limit {
		return
	}
	all := slices.Clone(m.backlog)
	weight := func(c *machineConn) int { return size(c) * int(1+(m.now()-c.took)/time.Millisecond) }
	slices.SortFunc(all, func(x, y *machineConn) int {
		a, b := x.conn.Token(), y.conn.Token()
		return cmp.Or(weight(y)-weight(x), bytes.Compare(a[:], b[:]))
	})
	for _, c := range all {
		if m.count.queued <= limit-limit/16 {
			return
		}
		m.close(c, gateway.Error, gateway.SlowConsumer)
	}
}

func isLive(c *machineConn) bool { return c.live }

// take lets the client take bytes.
func (m *machine) take(t *rapid.T) {
	c := m.pick(t, isLive)
	n := rapid.OneOf(rapid.IntRange(0, 100), rapid.IntRange(0, 3000)).Draw(t, "bytes")
	c.tape.takes(n)
	c.acked = c.acked || n > 0
	m.flush(c)
}

// ack lets the client acknowledge something that it took.
func (m *machine) ack(t *rapid.T) {
	c := m.pick(t, func(c *machineConn) bool { return c.live && len(c.items) > 0 && c.looked })
	c.tape.set(func(tp *tape) { tp.progress++ })
	c.acked = true
}

func (m *machine) leave(t *rapid.T) {
	c := m.pick(t, func(c *machineConn) bool { return c.tape == nil || c.live })
	if !c.live {
		if c.answered {
			t.Skip("the handler has the answer, and no longer watches the client")
		}
		c.leaving()
		synctest.Wait()
		m.close(c, gateway.ClientClosed, 0)
		if m.backend.waiting {
			m.settle(c, gateway.Answer{Outcome: gateway.Unasked})
		}
		return
	}
	c.tape.reason = gateway.ClientClosed
	if rapid.Bool().Draw(t, "with a byte") {
		c.tape.reason, c.tape.detail = gateway.Error, gateway.UnexpectedData
	}
	c.conn.Ready(c.tape, true, rapid.Bool().Draw(t, "writable as well"))
	m.close(c, c.tape.reason, c.tape.detail)
}

// late delivers an event for a stream that the connection has dropped.
func (m *machine) late(t *rapid.T) {
	c := m.pick(t, func(c *machineConn) bool { return c.tape != nil && !c.live })
	c.tape.reason = gateway.ClientClosed
	c.conn.Ready(c.tape, true, true)
	if c.conn.Pump(c.tape, func([]byte) gateway.Detail { panic("a late write") }) {
		t.Fatal("Pump returned true for a stream that was dropped")
	}
}

// breakStream makes the next write fail.
func (m *machine) breakStream(t *rapid.T) {
	c := m.pick(t, isLive)
	c.tape.set(func(tp *tape) { tp.fault = gateway.WriteFailed })
	c.broken = true
}

// wait lets time pass.
func (m *machine) wait(t *rapid.T) {
	tenths := rapid.OneOf(rapid.IntRange(1, 10), rapid.IntRange(1, 110)).Draw(t, "tenths of a second")
	m.pass(time.Duration(tenths) * 100 * time.Millisecond)
}

// pass lets time pass, and models the searches for stalled clients in it.
func (m *machine) pass(d time.Duration) {
	until := m.now() + d
	time.Sleep(d) // fake clock
	synctest.Wait()
	for at := (until - d).Truncate(sweep) + sweep; at <= until; at += sweep {
		m.look(at)
	}
}

func (m *machine) look(at time.Duration) {
	for _, c := range append([]*machineConn(nil), m.backlog...) {
		if !c.looked || c.acked {
			c.moved = at
		}
		c.looked, c.acked = true, false
		if at-c.moved >= gateway.StallDeadline {
			m.close(c, gateway.Error, gateway.Stalled)
		}
	}
}

// drain ends the life of the gateway, and with it all connections.
func (m *machine) drain(t *rapid.T) {
	const grace = 8 * time.Second
	over := make(chan struct{})
	go func() {
		defer close(over)
		m.gw.Drain(0, grace)
	}()
	synctest.Wait()
	for _, c := range m.conns {
		if c.state == gateway.Open {
			m.write(c, newItem("retry: 0000\n\n", false), false)
		}
		if c.state != gateway.Closed {
			m.close(c, gateway.ServerClosed, gateway.Draining)
		}
	}
	m.check(t)
	if _, _, err := m.gw.Connect(context.Background(), request); err == nil {
		t.Fatal("a connection was accepted while draining")
	}
	m.pass(grace / 2)
	for _, c := range m.conns {
		if !c.answered {
			m.settle(c, gateway.Answer{Outcome: gateway.TimedOut})
		}
	}
	m.check(t)
	m.pass(grace / 2)
	for _, c := range m.conns {
		if !c.ended {
			m.close(c, gateway.Error, gateway.Stalled)
		}
	}
	<-over
}

// check compares the gateway with the model.
func (m *machine) check(t *rapid.T) {
	owed := map[gateway.Token]*machineConn{}
	for n, c := range m.conns {
		if got := c.conn.State(); got != c.state {
			t.Fatalf("connection %d is in state %d instead of %d", n, got, c.state)
		}
		if found := m.gw.Find(c.conn.Token()); (found != nil) == c.ended {
			t.Fatalf("connection %d: ended %v, found %v", n, c.ended, found != nil)
		}
		if c.ended && c.owed {
			owed[c.conn.Token()] = c
		}
		if c.tape != nil {
			m.checkTape(t, n, c)
		}
		for k, i := range c.all {
			if told := len(i.done) > 0; i.done != nil && told != i.isTold {
				t.Fatalf("connection %d, event %d: done got a value: %v instead of %v", n, k, told, i.isTold)
			}
			if len(i.done) > 0 {
				if err := <-i.done; !errors.Is(err, i.told) || len(i.done) > 0 {
					t.Fatalf("connection %d, event %d: done got %v instead of %v", n, k, err, i.told)
				}
				i.done = nil
			}
		}
	}
	told := m.backend.told()
	if len(told) != len(owed) {
		t.Fatalf("%d disconnects instead of %d", len(told), len(owed))
	}
	for _, n := range told {
		c := owed[n.Token]
		if c == nil || n.Reason != c.reason || n.Detail != c.detail || !bytes.Equal(n.Request, requestOf(c.client)) {
			t.Fatalf("an unexpected disconnect: %v/%v", n.Reason, n.Detail)
		}
	}
	if err := m.clients.check(m.addresses()); err != nil {
		t.Fatal(err)
	}
	if got := m.counted(); got != m.count {
		t.Fatalf("the counters are\n%+v instead of\n%+v", got, m.count)
	}
}

func (m *machine) checkTape(t *rapid.T, n int, c *machineConn) {
	if got := maskRetry(c.tape.written()); got != c.wire {
		t.Fatalf("connection %d: written %q instead of %q", n, got, c.wire)
	}
	closed, _ := c.tape.state()
	if opened := c.live || c.wire != "" || closed; opened && closed == c.live {
		t.Fatalf("connection %d: stream closed %v, in use %v", n, closed, c.live)
	}
}

// maskRetry replaces the random digits of a retry.
func maskRetry(s string) string {
	const before = "retry: "
	for i := 0; i+len(before) <= len(s); i++ {
		if s[i:i+len(before)] != before {
			continue
		}
		masked := []byte(s)
		for j := i + len(before); j < len(s) && masked[j] >= '0' && masked[j] <= '9'; j++ {
			masked[j] = '0'
		}
		return string(masked)
	}
	return s
}

func (m *machine) counted() machineCount {
	s := m.gw.Stats()
	got := machineCount{
		pending: int(s.Pending.Load()), open: int(s.Open.Load()), queued: int(m.gw.QueuedBytes()),
		opened: int(s.Opened.Load()), events: int(s.Events.Load()), bytes: int(s.Bytes.Load()), dropped: int(s.Dropped.Load()),
	}
	for _, r := range gateway.Reasons() {
		got.closed[r] = int(s.Closed[r].Load())
	}
	return got
}
