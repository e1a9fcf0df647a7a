package nats

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"ssegateway/internal/broker"
)

// A NATS that is back with an earlier state of the stream is noticed by whoever wrote since,
// however much others have written meanwhile.
func TestNodesRestored(t *testing.T) {
	t.Parallel()
	for _, meanwhile := range []int{0, 1, 20} {
		t.Run(fmt.Sprint(meanwhile), func(t *testing.T) { nodesRestored(t, meanwhile, false) })
	}
	t.Run("found", func(t *testing.T) { nodesRestored(t, 20, true) })
}

// found: the answers to what was written since were lost, and it was found when it was tried again.
func nodesRestored(t *testing.T, meanwhile int, found bool) {
	t.Helper()
	dir, copied := t.TempDir(), t.TempDir()
	s := serve(t, server.Options{Port: -1, StoreDir: dir})
	relay := newRelay(t, s)
	conn, err := Dial(Config{URL: relay.url(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	n := mustOpenNodes(t, conn, "x")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := n.Hold(ctx, 1, broker.Token{1}, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	for i := range byte(5) {
		if found {
			if err := mustOpenNodes(t, conn, "x").Hold(ctx, 1, broker.Token{2, i}, []byte("{}")); err != nil {
				t.Fatal(err)
			}
		}
		if err := n.Hold(ctx, 1, broker.Token{2, i}, []byte("{}")); err != nil {
			t.Fatal(err)
		}
	}

	earlier := serve(t, server.Options{Port: -1, StoreDir: copied})
	other := mustOpenNodes(t, dialTest(t, earlier), "x")
	for i := range meanwhile {
		if err := other.Hold(ctx, 2, broker.Token{3, byte(i)}, []byte("{}")); err != nil {
			t.Fatal(err)
		}
	}
	back := conn.back()
	relay.to(earlier)
	shutdown(s)
	<-back
	for err = errLinkLost; err != nil && !errors.Is(err, broker.ErrStoreLost) && ctx.Err() == nil; {
		err = n.Hold(ctx, 1, broker.Token{4}, []byte("{}"))
	}
	if _, another := n.Set(ctx, 1, []byte("x"), 0); !errors.Is(err, broker.ErrStoreLost) || !errors.Is(another, broker.ErrStoreLost) {
		t.Errorf("%d written meanwhile: %v, then %v", meanwhile, err, another)
	}
	again := mustOpenNodes(t, conn, "x") // what it is now
	if err := again.Hold(ctx, 1, broker.Token{4}, []byte("{}")); err != nil {
		t.Errorf("%d written meanwhile: opened anew: %v", meanwhile, err)
	}
}

// A NATS that was merely away has the same stream.
func TestNodesAfterRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := serve(t, server.Options{Port: -1, StoreDir: dir})
	relay := newRelay(t, s)
	conn, err := Dial(Config{URL: relay.url(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	n := mustOpenNodes(t, conn, "x")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, last := range []func() error{
		func() error { return n.Hold(ctx, 1, broker.Token{1}, []byte("{}")) },
		func() error { return n.Release(ctx, 1, broker.Token{1}) }, // the last message is not there any more
	} {
		if err := last(); err != nil {
			t.Fatal(err)
		}
		back := conn.back()
		shutdown(s)
		s = serve(t, server.Options{Port: -1, StoreDir: dir})
		relay.to(s)
		<-back
		if err := n.Hold(ctx, 1, broker.Token{9}, []byte("{}")); err != nil {
			t.Error(err)
		}
		if err := n.Release(ctx, 1, broker.Token{9}); err != nil {
			t.Error(err)
		}
	}
}
