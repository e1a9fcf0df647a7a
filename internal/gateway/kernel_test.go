package gateway_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"ssegateway/internal/gateway"
	"ssegateway/internal/gatewaytest"
)

// kernel simulates in memory what a kernel does for sockets: it has a table of descriptors,
// with clients at the other ends. As in a real kernel, the number of a closed descriptor is
// reused at once, so code that still uses it reaches another client.
type kernel struct {
	tick time.Duration
	stop chan struct{}

	mu sync.Mutex
	// Guarded by mu.
	table      []*endpoint // by descriptor
	free       []int       // the last one closed is the next one opened
	watched    []*watch    // by descriptor: the epoll set
	generation int
	failures   []error

	events chan struct{} // has a value when posted is not empty
	posted []event
}

// watch is an entry of the epoll set.
type watch struct {
	generation int
	socket     *socket
}

type event struct {
	fd, generation int
	left, writable bool
}

func newKernel(tick time.Duration) *kernel {
	return &kernel{tick: tick, stop: make(chan struct{}), events: make(chan struct{}, 1)}
}

func (k *kernel) failf(format string, args ...any) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.failures = append(k.failures, fmt.Errorf(format, args...))
}

// accept assigns a descriptor to a client's socket.
func (k *kernel) accept(h *gatewaytest.History, r *rand.Rand, chunked bool) *endpoint {
	k.mu.Lock()
	defer k.mu.Unlock()
	e := &endpoint{
		k: k, history: h, chunked: chunked, random: r, room: 50 + r.IntN(400), reading: true,
		took:     time.Now(),
		writable: make(chan struct{}, 1), leaving: make(chan struct{}),
	}
	if n := len(k.free); n > 0 {
		e.fd, k.free = k.free[n-1], k.free[:n-1]
	} else {
		e.fd = len(k.table)
		k.table = append(k.table, nil)
		k.watched = append(k.watched, nil)
	}
	k.table[e.fd] = e
	return e
}

// at returns the endpoint that has the descriptor fd now; nil if none has.
func (k *kernel) at(fd int) *endpoint {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.table[fd]
}

// close closes a descriptor, whichever endpoint has it now.
func (k *kernel) close(fd int, abort bool) {
	k.mu.Lock()
	e := k.table[fd]
	if e == nil {
		k.failures = append(k.failures, fmt.Errorf("descriptor %d is closed, but it is not open", fd))
		k.mu.Unlock()
		return
	}
	k.table[fd], k.watched[fd] = nil, nil
	k.free = append(k.free, fd)
	k.mu.Unlock()
	e.shut(abort)
}

func (k *kernel) post(ev event) {
	k.mu.Lock()
	k.posted = append(k.posted, ev)
	k.mu.Unlock()
	select {
	case k.events <- struct{}{}:
	default:
	}
}

// epoll delivers events to connections.
func (k *kernel) epoll() {
	for {
		select {
		case <-k.stop:
			return
		case <-k.events:
		}
		k.mu.Lock()
		batch := k.posted
		k.posted = nil
		sockets := make([]*socket, len(batch))
		for i, ev := range batch {
			if w := k.watched[ev.fd]; w != nil && w.generation == ev.generation {
				sockets[i] = w.socket
			}
		}
		k.mu.Unlock()
		for i, s := range sockets {
			if s == nil {
				continue
			}
			runtime.Gosched() // so that the event may be outdated when it is delivered
			s.conn.Ready(s, batch[i].left, batch[i].writable)
			if how := s.left.Load(); how != nil {
				s.history.Closed(how.reason, how.detail, how.start)
			}
		}
	}
}

// endpoint is a client and its socket.
type endpoint struct {
	k       *kernel
	history *gatewaytest.History
	fd      int
	chunked bool

	writable chan struct{} // for a pump: has a value when there may be room
	leaving  chan struct{} // for a pump: closed when the client has done what left returns

	mu sync.Mutex
	// Guarded by mu.
	random   *rand.Rand
	watch    *watch // nil before it is watched
	handed   []byte // all that the gateway wrote
	waiting  int    // how many bytes of handed the client has not read yet
	lost     int    // how many bytes of handed it will never read
	room     int    // how many bytes may wait
	reading  bool
	hanging  bool
	armed    bool // the gateway waits for room
	took     time.Time
	leave    *leaving // what the client did first
	reset    bool
	closed   bool
	closedAt time.Time
}

// leaving is how the client ended the stream, as a read reports it.
type leaving struct {
	reason gateway.Reason
	detail gateway.Detail
	start  int64
}

// do makes the client do something.
func (e *endpoint) do(d gatewaytest.Deed) {
	start := e.history.Begin()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return
	}
	how := leaving{gateway.ClientClosed, 0, start}
	switch d {
	case gatewaytest.Hang:
		e.hanging = true
		e.history.Happened(gateway.Error, gateway.Stalled, start)
		fallthrough
	case gatewaytest.Pause:
		e.reading = false
		e.room = e.waiting
		return
	case gatewaytest.Hurry:
		if e.hanging {
			return
		}
		e.reading = true
		e.room = e.waiting + 100
		e.read(0)
		return
	case gatewaytest.Byte:
		how = leaving{gateway.Error, gateway.UnexpectedData, start}
	case gatewaytest.RST:
		e.reset = true
		e.history.Happened(gateway.Error, gateway.WriteFailed, start)
		fallthrough
	case gatewaytest.FIN:
	}
	e.history.Happened(how.reason, how.detail, start)
	if e.leave == nil {
		e.leave = &how
		close(e.leaving)
	}
	e.signal(true, e.armed)
	wake(e.writable)
}

// signal posts an event. e.mu is held.
func (e *endpoint) signal(left, writable bool) {
	if w := e.watch; w != nil {
		e.k.post(event{e.fd, w.generation, left, writable})
	}
}

func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// read lets the client read some of what waits for it, at once or after some ticks, and so on
// until nothing waits. e.mu is held.
func (e *endpoint) read(ticks int) {
	go func() {
		time.Sleep(time.Duration(ticks) * e.k.tick) // fake clock
		e.mu.Lock()
		defer e.mu.Unlock()
		if !e.reading || e.closed {
			return
		}
		if e.waiting > 0 {
			e.waiting -= 1 + e.random.IntN(e.waiting)
			e.took = time.Now()
		}
		if e.armed {
			e.armed = false
			e.signal(false, true)
			wake(e.writable)
		}
		if e.waiting > 0 {
			e.read(e.random.IntN(3))
		}
	}()
}

// write takes as many bytes as there is room for, or fewer.
func (e *endpoint) write(p []byte) (int, gateway.Detail) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.reset || e.closed {
		return 0, gateway.WriteFailed
	}
	n := min(len(p), max(e.room-e.waiting, 0))
	if n > 0 && e.random.IntN(4) == 0 {
		n = e.random.IntN(n + 1)
	}
	e.handed = append(e.handed, p[:n]...)
	e.waiting += n
	if n < len(p) {
		e.armed = true
		if e.reading {
			e.read(e.random.IntN(3))
		}
	}
	return n, 0
}

// dawdle often lets other goroutines run, so that some of them run during a call to the stream.
func (e *endpoint) dawdle() {
	e.mu.Lock()
	n := 0
	if e.random != nil {
		n = e.random.IntN(4) - 1
	}
	e.mu.Unlock()
	for range n {
		runtime.Gosched()
	}
}

func (e *endpoint) look() (uint64, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return uint64(1 + len(e.handed) - e.waiting), e.waiting > 0
}

func (e *endpoint) left() *leaving {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.leave
}

// shut is the effect of a close on the client. A client that is cut may lose what it has not
// read yet.
func (e *endpoint) shut(abort bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed, e.closedAt = true, time.Now()
	if abort || e.reset {
		e.lost = e.random.IntN(e.waiting + 1)
	}
}

// socket is a stream that the gateway writes to directly.
type socket struct {
	k       *kernel
	fd      int
	conn    *gateway.Conn
	history *gatewaytest.History
	chunked bool
	failing bool // Start fails

	left atomic.Pointer[leaving] // what Left reported; nil if nothing

	// Guarded by the connection's lock, which the gateway has to hold.
	busy  int
	state int // 1 started, 2 closed
}

// call records that a method is called. The gateway's lock serialises the calls: if it does
// not, the race detector or the count finds that.
func (s *socket) call(what string, state int) (e *endpoint, over func()) {
	s.busy++
	if *modelBlind {
		state = s.state
	}
	if s.busy != 1 {
		s.k.failf("connection %d: %s during another call to its stream", s.history.Number, what)
	}
	if s.state != state {
		s.k.failf("connection %d: %s in the state %d of its stream (1 started, 2 closed)", s.history.Number, what, s.state)
	}
	e = s.k.at(s.fd)
	if e == nil {
		s.k.failf("connection %d: %s on the closed descriptor %d", s.history.Number, what, s.fd)
		e = &endpoint{k: s.k, closed: true}
	}
	return e, func() { s.busy-- }
}

func (s *socket) Start() gateway.Detail {
	e, over := s.call("Start", 0)
	defer over()
	if s.failing {
		return gateway.OpenFailed
	}
	s.state = 1
	s.k.mu.Lock()
	s.k.generation++
	w := &watch{s.k.generation, s}
	s.k.watched[s.fd] = w
	s.k.mu.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.watch = w
	e.signal(e.leave != nil, true)
	return 0
}

func (s *socket) Write(p []byte) (int, gateway.Detail) {
	e, over := s.call("Write", 1)
	defer over()
	e.dawdle()
	n, fault := e.write(p)
	e.dawdle()
	return n, fault
}

func (s *socket) Left() (gateway.Reason, gateway.Detail) {
	e, over := s.call("Left", 1)
	defer over()
	e.dawdle()
	how := e.left()
	if how == nil {
		return 0, 0
	}
	s.left.Store(how)
	return how.reason, how.detail
}

func (s *socket) Look(uint64) (uint64, bool) {
	e, over := s.call("Look", 1)
	defer over()
	return e.look()
}

func (s *socket) Close(abort bool) {
	e, over := s.call("Close", 1)
	defer over()
	e.dawdle()
	s.state = 2
	s.k.close(s.fd, abort)
}

func (s *socket) Chunked() bool { return s.chunked }

// pumped is a stream with a goroutine that writes and another that sees the client leave.
type pumped struct {
	*socket
	e    *endpoint // known without the descriptor's number, as in a net.Conn
	wake chan struct{}
	done chan struct{}
}

func (s *pumped) Start() gateway.Detail {
	_, over := s.call("Start", 0)
	defer over()
	if s.failing {
		return gateway.OpenFailed
	}
	s.state = 1
	go func() {
		for {
			select {
			case <-s.done:
				return
			case <-s.wake:
			}
			if !s.conn.Pump(s, s.writeAll) {
				return
			}
		}
	}()
	go func() {
		select {
		case <-s.done:
		case <-s.e.leaving:
			how := s.e.left()
			s.conn.Abort(how.reason, how.detail)
			s.history.Closed(how.reason, how.detail, how.start)
		}
	}()
	return 0
}

func (s *pumped) writeAll(p []byte) gateway.Detail {
	for {
		n, fault := s.e.write(p)
		if p = p[n:]; fault != 0 || len(p) == 0 {
			return fault
		}
		select {
		case <-s.done:
			return gateway.WriteFailed
		case <-s.e.writable:
		}
	}
}

func (s *pumped) Write([]byte) (int, gateway.Detail) {
	_, over := s.call("Write", 1)
	defer over()
	wake(s.wake)
	return 0, 0
}

func (s *pumped) Left() (gateway.Reason, gateway.Detail) { return 0, 0 }

func (s *pumped) Close(abort bool) {
	if s.state == 1 {
		close(s.done)
	}
	s.socket.Close(abort)
}

// received returns what is visible at the client's end.
func (e *endpoint) received() gatewaytest.Received {
	e.mu.Lock()
	defer e.mu.Unlock()
	return gatewaytest.Received{
		Body: slices.Clone(e.handed[:len(e.handed)-e.lost]), Handed: e.handed, Chunked: e.chunked,
	}
}
