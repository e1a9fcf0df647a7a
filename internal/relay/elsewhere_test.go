package relay

import (
	"log/slog"
	"net/http"
	"testing"
	"testing/synctest"

	"ssegateway/internal/bubble"
	"ssegateway/internal/connections"
	"ssegateway/internal/frame"
	"ssegateway/internal/gateway"
)

// newKept makes an answer of two events that are kept. Nobody reads it.
func newKept() *answer {
	gw := gateway.New(gateway.Config{MaxConnections: 1, Log: slog.New(slog.DiscardHandler)}, noBackend{})
	r := &Relay{cfg: Config{Gateway: gw, AnswerBytes: 1 << 20, BudgetBytes: 1 << 20, Log: slog.New(slog.DiscardHandler)}}
	a := &answer{
		relay: r, key: key{1}, head: http.Header{}, wait: 1 << 40, cancel: func() {}, ended: make(chan struct{}),
		kept: true, keeping: true, ids: true,
	}
	r.enter(a)
	a.keep([]byte("data: 1\n"), []byte("\n"))
	a.keep([]byte("data: 2\n"), []byte("\n"))
	return a
}

// An answer is kept no more while a reader on another node is about to be there: it would miss what is written meanwhile.
func TestTooLateElsewhere(t *testing.T) {
	a := newKept()
	what, _ := a.come(2)
	a.drop("of the test")
	a.write(&frame.Shared{Frame: frame.Blocks([]byte("data: 3\n\n"), 1)})
	if what != streaming || a.begin("reader", 2) {
		t.Errorf("%s: it reads on behind event 2, and misses the one behind", stateNames[what])
	}
}

// An answer that is kept no more is stopped while a reader on another node has yet to get what was kept.
func TestStoppedBeforeItIsThereElsewhere(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		a := newKept()
		q := connections.AnswerQuestion{Key: gateway.Token(a.key), Reader: "reader", What: connections.Begin}
		if _, err := a.relay.ServeAnswer(t.Context(), q); err != nil {
			t.Fatal(err)
		}
		go func() {
			a.drop("of the test")
			a.write(&frame.Shared{Frame: frame.Blocks([]byte("data: 3\n\n"), 1)})
		}()
		synctest.Wait() // it waits for the reader
		a.Stop()
		synctest.Wait()
		q.What = connections.Pull
		reply, err := a.relay.ServeAnswer(t.Context(), q)
		if err != nil || reply.State != "stopped" || len(reply.Pieces) != 3 {
			t.Errorf("%d pieces, %q and %v, want 3 and the end", len(reply.Pieces), reply.State, err)
		}
		q.What = connections.Leave
		if _, err := a.relay.ServeAnswer(t.Context(), q); err != nil {
			t.Error(err)
		}
	})
}
