package server

import (
	"net"
	"net/http"
	"testing"
)

// fakeConn is a connection that knows whether it was closed.
type fakeConn struct {
	net.Conn
	closed bool
}

func (c *fakeConn) Close() error { c.closed = true; return nil }

func TestWaitingRoom(t *testing.T) {
	streams := 0
	w := newWaitingRoom(4, func() int { return streams })
	conns := make([]*fakeConn, 8)
	for i := range conns {
		conns[i] = new(fakeConn)
	}
	move := func(i int, states ...http.ConnState) {
		for _, s := range states {
			w.track(conns[i], s)
		}
	}
	closed := func(want ...int) {
		t.Helper()
		n := 0
		for i, c := range conns {
			for _, j := range want {
				if i == j && !c.closed {
					t.Errorf("%d is open", i)
				}
			}
			if c.closed {
				n++
			}
		}
		if n != len(want) {
			t.Errorf("%d closed, want %d", n, len(want))
		}
	}
	move(0, http.StateNew, http.StateActive)                      // a request
	move(1, http.StateNew, http.StateActive, http.StateIdle)      // kept alive
	move(2, http.StateNew)                                        // silent
	move(3, http.StateNew)                                        // silent
	closed()                                                      // four are within the limit
	move(4, http.StateNew)                                        // the fifth
	closed(2)                                                     // the longest silent went
	move(2, http.StateClosed)                                     // as net/http will say
	move(3, http.StateActive, http.StateHijacked)                 // became a stream
	streams = 1                                                   // which keeps its descriptor
	move(5, http.StateNew)                                        // too many again
	closed(2, 4)                                                  // the longest silent
	move(4, http.StateClosed)                                     //
	streams = 4                                                   // nothing but streams
	move(6, http.StateNew)                                        //
	closed(2, 4, 5)                                               //
	move(5, http.StateClosed)                                     //
	move(7, http.StateNew)                                        //
	closed(2, 4, 5, 6)                                            //
	move(6, http.StateClosed)                                     //
	move(7, http.StateClosed)                                     //
	move(0, http.StateIdle, http.StateClosed)                     //
	move(1, http.StateActive, http.StateIdle, http.StateClosed)   //
	if w.open != 0 || w.silent.Len() != 0 || len(w.places) != 0 { // nothing stays
		t.Errorf("left: %d, %d, %d", w.open, w.silent.Len(), len(w.places))
	}
}
