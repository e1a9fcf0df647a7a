package edge

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ssegateway/internal/bubble"
)

// fakeConn is a connection that knows whether it was closed.
type fakeConn struct {
	net.Conn
	addr   string
	closed bool
}

func (c *fakeConn) Close() error { c.closed = true; return nil }
func (c *fakeConn) RemoteAddr() net.Addr {
	return &net.TCPAddr{IP: net.ParseIP(c.addr), Port: 1}
}

// world is an edge with what else has descriptors.
type world struct {
	*Edge
	streams, senders, asked int
}

func newWorld(limit, internal int) *world {
	w := &world{}
	w.Edge = New(Config{
		Limit: limit, Internal: internal, Log: slog.New(slog.DiscardHandler),
		Streams: func() int { return w.streams }, Senders: func() int { return w.senders },
		CloseSender: func() bool {
			if w.senders > 0 {
				w.asked++
			}
			return w.senders > 0
		},
	})
	return w
}

// come has a peer of an address connect, and returns the connection.
func (w *world) come(addr string) (*Conn, *fakeConn, bool) {
	nc := &fakeConn{addr: addr}
	c := w.newConn(nc, Plain)
	return c, nc, w.admit(c)
}

// used has the connection answer one request.
func used(c *Conn) {
	answering(c)
	c.rest()
}

// answering is a connection whose handler has returned, and whose answer net/http may not have written yet.
func answering(c *Conn) {
	c.begin(false, maxHead)
	c.done()
}

const local = "127.0.0.1"

func TestWhoMakesRoom(t *testing.T) {
	for _, test := range []struct {
		name string
		come func(w *world, ncs *[]*fakeConn) // fills the four places there are
		want []int                            // who goes for the next that come, in this order; -1: nobody, and who came is refused
	}{
		{"the one that has waited for longest", func(w *world, ncs *[]*fakeConn) {
			for range 4 {
				_, nc, _ := w.come(local)
				*ncs = append(*ncs, nc)
			}
		}, []int{0, 1}},
		{"whose handler works stays", func(w *world, ncs *[]*fakeConn) {
			for n := range 4 {
				c, nc, _ := w.come(local)
				if n != 2 {
					c.begin(false, maxHead)
				}
				*ncs = append(*ncs, nc)
			}
		}, []int{2, 4}},
		{"since it was of use for the last time", func(w *world, ncs *[]*fakeConn) {
			var first *Conn
			for n := range 4 {
				c, nc, _ := w.come(local)
				*ncs = append(*ncs, nc)
				if n == 0 {
					first = c
				}
			}
			time.Sleep(2 * freshTime) // fake clock
			used(first)
		}, []int{1, 2, 3, 0}},
		{"one that waits for a body is of no use", func(w *world, ncs *[]*fakeConn) {
			for n := range 4 {
				c, nc, _ := w.come(local)
				c.begin(false, maxHead)
				if n == 1 {
					(&body{conn: c}).await(true)
				}
				*ncs = append(*ncs, nc)
			}
		}, []int{1, 4}},
		{"one that had its answer before one that came just now", func(w *world, ncs *[]*fakeConn) {
			for n := range 4 {
				c, nc, _ := w.come(local)
				if n > 1 {
					used(c)
				}
				*ncs = append(*ncs, nc)
			}
		}, []int{2, 3, 0}},
		{"one whose answer may not be out yet stays while another can go", func(w *world, ncs *[]*fakeConn) {
			for n := range 4 {
				c, nc, _ := w.come(local)
				if n == 0 {
					answering(c)
				} else {
					used(c)
				}
				*ncs = append(*ncs, nc)
			}
		}, []int{1, 2, 3, 0}},
		{"one of the address that has most", func(w *world, ncs *[]*fakeConn) {
			for _, addr := range []string{"192.0.2.1", "192.0.2.2", "192.0.2.2", "192.0.2.3"} {
				_, nc, _ := w.come(addr)
				*ncs = append(*ncs, nc)
			}
		}, []int{1, 0}},
		{"of IPv6 a /64 is one address, and of this host each counts alone", func(w *world, ncs *[]*fakeConn) {
			for _, addr := range []string{local, local, "2001:db8::1", "2001:db8::2:1"} {
				_, nc, _ := w.come(addr)
				*ncs = append(*ncs, nc)
			}
		}, []int{2, 0}},
		{"connections of the internal API stay while they have no more than their share", func(w *world, ncs *[]*fakeConn) {
			for n := range 4 {
				c, nc, _ := w.come(local)
				c.begin(false, maxHead)
				if n < 2 {
					trust(c)
				}
				if n != 3 {
					c.done()
				}
				*ncs = append(*ncs, nc)
			}
		}, []int{2, 4, 5}},
		{"beyond their share they make room for others, before one that came just now", func(w *world, ncs *[]*fakeConn) {
			for range 4 {
				c, nc, _ := w.come(local)
				c.begin(false, maxHead)
				trust(c)
				c.done()
				*ncs = append(*ncs, nc)
			}
		}, []int{0, 1, 4}},
		{"nobody", func(w *world, ncs *[]*fakeConn) {
			w.streams = 4
			*ncs = make([]*fakeConn, 0)
		}, []int{-1}},
		{"a sender that is idle, soon", func(w *world, ncs *[]*fakeConn) {
			w.senders = 4
			*ncs = make([]*fakeConn, 0)
		}, []int{-2}},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				w := newWorld(4, 2)
				var ncs []*fakeConn
				test.come(w, &ncs)
				for n, want := range test.want {
					closed := 0
					for _, nc := range ncs {
						if nc.closed {
							closed++
						}
					}
					_, nc, ok := w.come(local)
					ncs = append(ncs, nc)
					switch {
					case want == -1:
						if ok {
							t.Errorf("%d: admitted, although there is no room", n)
						}
					case want == -2:
						if !ok || w.asked != 1 {
							t.Errorf("%d: admitted %t, %d senders asked to go", n, ok, w.asked)
						}
					case !ok || !ncs[want].closed:
						t.Errorf("%d: admitted %t, %v closed, want %d", n, ok, closedOnes(ncs), want)
					case len(closedOnes(ncs)) != closed+1:
						t.Errorf("%d: %v closed", n, closedOnes(ncs))
					}
				}
			})
		})
	}
}

func closedOnes(ncs []*fakeConn) (closed []int) {
	for n, nc := range ncs {
		if nc.closed {
			closed = append(closed, n)
		}
	}
	return closed
}

// trust is Trust of a request that came by c.
func trust(c *Conn) { Trust(Context(context.Background(), c)) }

// Whatever connections do, each is on the account exactly once for as long as it is the
// edge's, in a list exactly while no handler works for it, and goes only if it may.
func TestAccount(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(what string, n int) int { return rapid.IntRange(0, n-1).Draw(t, what) }
		w := newWorld(8, 3)
		type peer struct {
			c       *Conn
			nc      *fakeConn
			bodies  []*body
			working int
			trusted bool
		}
		var peers []*peer
		live := func(p *peer) bool { return p.c.counted }
		for range 150 {
			var some *peer
			if len(peers) > 0 {
				some = peers[draw("peer", len(peers))]
			}
			switch op := draw("operation", 10); {
			case op < 3 || some == nil:
				before := map[*peer]bool{}
				for _, p := range peers {
					before[p] = live(p)
				}
				c, nc, ok := w.come(local)
				for _, p := range peers {
					if !before[p] || live(p) {
						continue
					}
					if p.working > 0 {
						t.Fatal("evicted a connection whose handler works")
					}
					if p.trusted && w.internal+1+w.senders <= 3 {
						t.Fatal("evicted a connection of the internal API, which is within its share")
					}
				}
				if ok {
					peers = append(peers, &peer{c: c, nc: nc})
				} else if c.counted {
					t.Fatal("a refused connection is on the account")
				}
			case !live(some):
			case op < 5:
				some.c.begin(draw("HTTP/2", 2) == 0, maxHead)
				some.working++
			case op < 7 && some.working > 0:
				some.c.done()
				some.working--
			case op == 7 && some.working > 0:
				b := &body{conn: some.c}
				b.await(true)
				some.working--
				some.bodies = append(some.bodies, b)
			case op == 8 && len(some.bodies) > 0:
				some.bodies[0].await(false)
				some.bodies = some.bodies[1:]
				some.working++
			case op == 9 && some.working > 0 && draw("trust", 3) == 0:
				trust(some.c)
				some.trusted = true
			case draw("close", 8) == 0:
				_ = some.c.Close()
			case draw("hand over", 8) == 0:
				HandOver(some.c)
			}
			open, internal := 0, 0
			var listed []*Conn
			for _, l := range []*list{&w.fresh, &w.used, &w.callers} {
				for c := l.first; c != nil; c = c.next {
					if c.list != l || c.next == nil && l.last != c {
						t.Fatal("the links of a list are inconsistent")
					}
					listed = append(listed, c)
				}
			}
			for _, p := range peers {
				if !live(p) {
					if slices.Contains(listed, p.c) {
						t.Fatal("a connection that is gone is still in a list")
					}
					continue
				}
				open++
				if p.trusted {
					internal++
				}
				if slices.Contains(listed, p.c) != (p.working == 0) {
					t.Fatalf("%d handlers, listed %t", p.working, slices.Contains(listed, p.c))
				}
			}
			if w.open != open || w.internal != internal || open > 8 {
				t.Fatalf("open %d internal %d, want %d, %d", w.open, w.internal, open, internal)
			}
		}
		for _, p := range peers {
			_ = p.c.Close()
		}
		if w.open != 0 || w.internal != 0 || w.fresh != (list{}) || w.used != (list{}) || w.callers != (list{}) {
			t.Fatal("the account is not empty after all connections have ended")
		}
	})
}

// lackingListener fails for a while, then accepts one connection, then is none any more.
type lackingListener struct {
	net.Listener
	errs []error
}

func (l *lackingListener) Accept() (net.Conn, error) {
	err := l.errs[0]
	l.errs = l.errs[1:]
	if err != nil {
		return nil, err
	}
	return &fakeConn{addr: local}, nil
}

func (l *lackingListener) Close() error { return nil }

func TestAcceptFails(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(4, 2)
		l := w.Listen(&lackingListener{errs: []error{
			syscall.ENOMEM, syscall.ENOBUFS, syscall.EPROTO, syscall.ECONNABORTED, syscall.EMFILE, nil, syscall.EINVAL,
		}}, Plain, nil)
		if c, err := l.Accept(); err != nil {
			t.Fatal(c, err)
		}
		if c, err := l.Accept(); !errors.Is(err, syscall.EINVAL) {
			t.Fatal(c, err)
		}
		// A pause ends when the listener is closed.
		l = w.Listen(&lackingListener{errs: slices.Repeat([]error{syscall.ENOMEM}, 1000)}, Plain, nil)
		done := make(chan error)
		go func() {
			_, err := l.Accept()
			done <- err
		}()
		time.Sleep(10 * time.Second) // fake clock
		_ = l.Close()
		if err := <-done; !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
}

// A failure long after the last one is paused for as the first.
func TestAcceptFailsRarely(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(4, 2)
		rare := &rareListener{edge: w.Edge}
		if _, err := w.Listen(rare, Plain, nil).Accept(); !errors.Is(err, net.ErrClosed) {
			t.Fatal(err)
		}
		if rare.paused != rareFailures*minPause {
			t.Errorf("paused for %s, want %d times %s", rare.paused, rareFailures, minPause)
		}
	})
}

// rareListener takes a socket in each call, and fails then, rareFailures times. Then it is closed.
type rareListener struct {
	net.Listener
	edge   *Edge
	failed time.Time
	times  int
	paused time.Duration // between a failure and the next Accept
}

const rareFailures = 20

func (l *rareListener) Accept() (net.Conn, error) {
	if l.times > 0 {
		l.paused += time.Since(l.failed)
	}
	if l.times == rareFailures {
		return nil, net.ErrClosed
	}
	l.edge.AdmitSocket(&net.TCPAddr{}, nil, func() {}).Forget()
	l.failed = time.Now()
	l.times++
	return nil, syscall.ENOMEM
}

func TestDone(t *testing.T) {
	w := newWorld(2, 1)
	isOver := func(c *Conn) bool {
		select {
		case <-c.Done():
			return true
		default:
			return false
		}
	}
	closed, _, _ := w.come(local)
	handed, _, _ := w.come(local)
	if isOver(closed) || isOver(handed) {
		t.Error("over too early")
	}
	done := closed.Done()
	_ = closed.Close()
	<-done
	HandOver(handed)
	_ = handed.Close()
	if !isOver(closed) || !isOver(handed) {
		t.Error("not over")
	}
}

// With EMFILE somebody useless goes at once.
func TestNoDescriptor(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(100, 2)
		_, old, _ := w.come(local)
		if _, err := w.Listen(&lackingListener{errs: []error{syscall.EMFILE, nil}}, Plain, nil).Accept(); err != nil || !old.closed {
			t.Error(err, old.closed)
		}
	})
}
