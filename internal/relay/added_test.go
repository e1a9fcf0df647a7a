package relay

import (
	"testing"

	"ssegateway/internal/frame"
	"ssegateway/internal/gateway"
)

// An answer is over before its first reader is there: the reader's stream ends as the answer has.
func TestOverBeforeItIsAdded(t *testing.T) {
	for _, s := range []state{complete, stopped, failed} {
		a := newKept()
		a.relay = newPlain(t, &pieces{})
		a.joining = 1 // as of an answer that has just begun
		c, err := a.relay.cfg.Gateway.Forward([]byte("{}"), func() {})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Relay(a, 0); err != nil {
			t.Fatal(err)
		}
		a.end(s)
		a.add(c)
		socket := newSocket(c, false, false, 1<<30)
		socket.gone = func() {}
		c.Open(socket, frame.Frame{}, gateway.Grant{})
		var wire []byte
		for p := socket.take(1 << 20); len(p) > 0; p = socket.take(1 << 20) { // waits for the end
			wire = append(wire, p...)
		}
		body, clean := socket.content(wire)
		if want := "data: 1\nid: " + a.key.String() + ".1\n\ndata: 2\nid: " + a.key.String() + ".2\n\n"; body != want || clean != (s != failed) {
			t.Errorf("%s: %q, a proper end %t", stateNames[s], body, clean)
		}
		a.relay.remove(a)
	}
}
