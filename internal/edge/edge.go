// Package edge owns every connection that a listener accepts, from there until it ends or is
// handed over to what serves streams and senders without net/http.
//
// A peer that keeps a connection and does nothing costs a descriptor, and descriptors are what
// a server runs out of. So the edge knows of each connection whether a handler works for it, or
// whether its peer has to do something: finish a handshake, a header or a body, take an answer,
// or send the next request. Each of the latter states has a deadline, and when all descriptors
// are taken, the connection that has been useless for longest makes room for the one that comes.
package edge

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"
)

// Config has the bounds of an Edge and what it shares them with.
type Config struct {
	// Limit is how many descriptors connections may have: those of the edge, and those that
	// were handed over and are still open.
	Limit int
	// Internal is the share of Limit that connections of the internal API keep: as long as
	// they have no more, none of them is closed to make room for another peer.
	Internal int
	// Streams and Senders count the connections that were handed over and are open.
	Streams, Senders func() int
	// CloseSender closes the sender's connection that has been idle for longest, soon. It
	// returns false if there is none.
	CloseSender func() bool
	// Log gets at most a line a second about connections that were closed to make room.
	Log *slog.Logger
}

// Edge owns the accepted connections of all listeners. Its methods are safe for concurrent use.
type Edge struct {
	cfg Config

	mu       sync.Mutex
	admitted uint64 // connections so far
	open     int    // connections that are ours
	internal int    // those of them that belong to the internal API
	// Connections that wait for their peer, the one that has done so for longest first.
	fresh   list // no request has come yet, or its answer is not known to be out
	used    list // one has, and was answered, or its body is awaited
	callers list // of the internal API
	stats   Stats
	said    time.Time // when the last line was logged
	unsaid  int       // connections closed to make room since then
}

// Stats count what the edge did. Each field is a number of connections.
type Stats struct {
	Open    [StateHTTP2 + 1]int    // now, by state
	Evicted [StateHTTP2 + 1]uint64 // closed to make room, by state
	Refused uint64                 // closed at once, because no other connection could make room
	Floods  uint64                 // closed because their peer sent much and asked for little
}

// New makes an Edge.
func New(cfg Config) *Edge { return &Edge{cfg: cfg} }

// Stats returns the counters as they are now.
func (e *Edge) Stats() Stats {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.stats
	waiting := 0
	for _, l := range []*list{&e.fresh, &e.used, &e.callers} {
		for c := l.first; c != nil; c = c.next {
			s.Open[c.stateLocked()]++
			waiting++
		}
	}
	s.Open[StateHandler] = e.open - waiting
	return s
}

// admit makes a connection that was just accepted one of the edge's. It returns false if
// there is no room for it, and none could be made.
func (e *Edge) admit(c *Conn) bool {
	e.mu.Lock()
	victim, ok := (*Conn)(nil), true
	if e.takenLocked() >= e.cfg.Limit {
		if victim, ok = e.victimLocked(); victim != nil {
			e.evictLocked(victim)
		}
	}
	if ok {
		c.counted = true
		e.open++
		e.admitted++
		if c.internal {
			e.internal++
		}
		c.moveLocked()
	} else {
		e.stats.Refused++
	}
	closed := e.sayLocked(victim != nil || !ok)
	cut := victim.cutLocked()
	e.mu.Unlock()
	cut()
	e.say(closed)
	return ok
}

func (e *Edge) admittedSoFar() uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.admitted
}

// makeRoom closes one connection, if there is a useless one.
func (e *Edge) makeRoom() {
	e.mu.Lock()
	victim, _ := e.victimLocked()
	if victim != nil {
		e.evictLocked(victim)
	}
	cut := victim.cutLocked()
	e.mu.Unlock()
	cut()
}

// takenLocked returns how many descriptors connections have.
func (e *Edge) takenLocked() int { return e.open + e.cfg.Streams() + e.cfg.Senders() }

// freshTime is what a new connection has to send its request, and net/http and the peer to get the answer out, before it
// makes room for others while another connection could.
const freshTime = 3 * time.Second

// victimLocked chooses the connection that makes room: of those that wait longest for their peer,
// the one that worst names. A connection that has just come is chosen only if nobody else can go,
// and one of the internal API, or of a sender, only if those have more than their share. With (nil,
// true) a sender's connection is about to close; with (nil, false) none can make room.
func (e *Edge) victimLocked() (c *Conn, ok bool) {
	fresh, used := e.fresh.first, e.used.first
	expired := fresh != nil && time.Since(fresh.since) >= freshTime
	switch {
	case expired && (used == nil || fresh.since.Before(used.since)):
		return e.fresh.worst(), true
	case used != nil:
		return e.used.worst(), true
	}
	if e.internal+e.cfg.Senders() > e.cfg.Internal {
		if e.callers.first != nil {
			return e.callers.first, true
		}
		if e.cfg.CloseSender() {
			return nil, true
		}
	}
	if fresh != nil {
		return e.fresh.worst(), true
	}
	return nil, false
}

// evictLocked takes a connection that is about to be closed off the account.
func (e *Edge) evictLocked(c *Conn) {
	e.stats.Evicted[c.stateLocked()]++
	e.forgetLocked(c)
}

// forgetLocked ends the edge's ownership of a connection.
func (e *Edge) forgetLocked(c *Conn) {
	if !c.counted {
		return
	}
	c.counted = false
	if c.over != nil {
		close(c.over)
	}
	e.open--
	if c.internal {
		e.internal--
	}
	c.leaveListLocked()
}

// waitingLocked returns the list in which a connection waits for its peer.
func (e *Edge) waitingLocked(c *Conn) *list {
	switch {
	case c.internal:
		return &e.callers
	case c.idle, c.bodies > 0:
		return &e.used
	default:
		return &e.fresh
	}
}

const sayInterval = time.Second

// sayLocked returns how many connections a line is to be logged about now; 0: no line.
func (e *Edge) sayLocked(closed bool) int {
	if !closed {
		return 0
	}
	e.unsaid++
	now := time.Now()
	if now.Sub(e.said) < sayInterval {
		return 0
	}
	n := e.unsaid
	e.said, e.unsaid = now, 0
	return n
}

func (e *Edge) say(closed int) {
	if closed > 0 {
		e.cfg.Log.LogAttrs(context.Background(), slog.LevelWarn, "connections closed to make room: all descriptors are taken",
			slog.Int("closed", closed), slog.Int("descriptors", e.cfg.Limit))
	}
}

// list has connections in the order in which they began to wait. It is guarded by the edge's lock.
type list struct{ first, last *Conn }

func (l *list) push(c *Conn) {
	c.list, c.prev, c.next = l, l.last, nil
	if l.last == nil {
		l.first = c
	} else {
		l.last.next = c
	}
	l.last = c
}

func (c *Conn) leaveListLocked() {
	l := c.list
	if l == nil {
		return
	}
	if c.prev == nil {
		l.first = c.next
	} else {
		c.prev.next = c.next
	}
	if c.next == nil {
		l.last = c.prev
	} else {
		c.next.prev = c.prev
	}
	c.list, c.prev, c.next = nil, nil, nil
}

// sample is how many of the connections that wait for longest worst looks at.
const sample = 64

// worst returns the connection to close. Among those that wait for longest it takes the address
// with most connections, and of these the first. One address with many connections is an
// attacker's rather than a visitor's. Behind a proxy on this host all have the same address,
// which then means nothing: a loopback address counts as one connection.
func (l *list) worst() *Conn {
	var worst *Conn
	most := 0
	counts := make(map[netip.Addr]int, sample)
	firsts := make(map[netip.Addr]*Conn, sample)
	n := 0
	for c := l.first; c != nil && n < sample; c, n = c.next, n+1 {
		if c.addr.IsLoopback() || !c.addr.IsValid() {
			if worst == nil {
				worst, most = c, 1
			}
			continue
		}
		if firsts[c.addr] == nil {
			firsts[c.addr] = c
		}
		if counts[c.addr]++; counts[c.addr] > most {
			worst, most = firsts[c.addr], counts[c.addr]
		}
	}
	return worst
}
