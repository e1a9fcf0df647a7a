package edge

import "testing"

// Callers may have what streams do not need, but for what is spare. Beyond that one that is idle
// makes room for a new one, and else the new one is refused; nobody whose handler works goes.
func TestTooManyCallers(t *testing.T) {
	w := newSpareWorld(10, 2, 3)
	w.streams = 3
	var conns []*Conn
	for range 4 { // 10 - 3 streams - 3 spare
		c, _, _ := w.come(local)
		c.begin(false, maxHead)
		if !trust(c) {
			t.Fatal("refused beside what streams do not need")
		}
		conns = append(conns, c)
	}
	stream, _, _ := w.come(local)
	stream.begin(false, maxHead)
	if !w.Crowded() {
		t.Error("one more stream would take what is spare")
	}
	_ = stream.Close()
	late, _, _ := w.come(local)
	late.begin(false, maxHead)
	if trust(late) || late.Trusted() || w.internal != 4 || w.Stats().Callers != 1 {
		t.Errorf("%d callers, %d refused", w.internal, w.Stats().Callers)
	}
	w.senders = 1
	_ = conns[0].Close()
	if trust(late) || w.asked != 1 {
		t.Error("admitted in the place of a sender")
	}
	w.senders = 0
	_ = conns[1].Close()
	conns[2].done() // its answer is ready, and it idles
	_, next, _ := w.come(local)
	if !trust(late) || !trust(conns[2]) || w.internal != 3 {
		t.Errorf("%d callers", w.internal)
	}
	w.streams = 4
	c, _, _ := w.come(local)
	c.begin(false, maxHead)
	if idle := conns[2].Conn.(*fakeConn); !trust(c) || !idle.closed || next.closed || w.internal != 3 {
		t.Errorf("the idle one closed: %t, %d callers", idle.closed, w.internal)
	}
	w.streams = 8
	_ = conns[3].Close()
	_ = c.Close()
	c, _, _ = w.come(local)
	c.begin(false, maxHead)
	if !trust(c) {
		t.Error("refused within the share")
	}
	if w.Crowded() {
		t.Error("callers within their share turn no stream away")
	}
}
