package nats

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"ssegateway/internal/broker"
	"ssegateway/internal/broker/brokertest"
)

func dialTest(t testing.TB, s *server.Server) *Conn {
	t.Helper()
	conn, err := Dial(Config{URL: s.ClientURL(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return conn
}

func mustOpenNodes(t testing.TB, conn *Conn, prefix string) *Nodes {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	n, err := OpenNodes(ctx, conn, prefix, 1)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestNodes(t *testing.T) {
	s := serve(t, server.Options{Port: -1, StoreDir: t.TempDir()})
	brokertest.RunNodes(t, func(t testing.TB) func() broker.Nodes {
		prefix := rand.Text()
		return func() broker.Nodes { return mustOpenNodes(t, dialTest(t, s), prefix) }
	})
}

// Nothing of a stream that was deleted, or made anew, is taken for something else.
func TestNodesLost(t *testing.T) {
	s := serve(t, server.Options{Port: -1, StoreDir: t.TempDir()})
	conn := dialTest(t, s)
	n := mustOpenNodes(t, conn, "x")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	revision, err := n.Set(ctx, 1, []byte("x"), 0)
	if err != nil {
		t.Fatal(err)
	}
	check := func() {
		t.Helper()
		for name, f := range map[string]func() error{
			"Set":      func() error { _, err := n.Set(ctx, 1, []byte("y"), revision); return err },
			"Get":      func() error { _, err := n.Get(ctx, 1); return err },
			"Remove":   func() error { return n.Remove(ctx, 1, revision) },
			"Watch":    func() error { return n.Watch(ctx, func(k broker.Key) { t.Errorf("seen %+v", k) }) },
			"Hold":     func() error { return n.Hold(ctx, 1, broker.Token{}, []byte("{}")) },
			"TakeOver": func() error { _, _, err := n.TakeOver(ctx, 1, broker.Token{}, 2); return err },
			"Held":     func() error { return n.Held(ctx, 1, func(broker.Token, []byte) error { return nil }) },
		} {
			if err := f(); !errors.Is(err, broker.ErrStoreLost) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if err := n.js.DeleteStream(ctx, n.name); err != nil {
		t.Fatal(err)
	}
	check()
	other := mustOpenNodes(t, conn, "x")
	if _, err := other.Set(ctx, 1, []byte("z"), 0); err != nil {
		t.Error(err)
	}
	check()
	if err := other.Hold(ctx, 1, broker.Token{}, []byte("{}")); err != nil {
		t.Error(err)
	}
	if err := errors.Join(n.Release(ctx, 1, broker.Token{}), n.Forget(ctx, 1)); err != nil && !errors.Is(err, broker.ErrStoreLost) {
		t.Error(err)
	}
	held := 0
	if err := other.Held(ctx, 1, func(broker.Token, []byte) error { held++; return nil }); err != nil || held != 1 {
		t.Errorf("%d records, %v", held, err)
	}
	if k, err := other.Get(ctx, 1); err != nil || string(k.Value) != "z" {
		t.Errorf("%+v, %v", k, err)
	}
}

// What is released leaves nothing behind, what was taken over a trace that goes.
func TestReleasedGoes(t *testing.T) {
	t.Parallel()
	s := serve(t, server.Options{Port: -1, StoreDir: t.TempDir()})
	n := mustOpenNodes(t, dialTest(t, s), "x")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := errors.Join(n.Hold(ctx, 1, broker.Token{}, []byte("{}")), n.Release(ctx, 1, broker.Token{})); err != nil {
		t.Fatal(err)
	}
	if taken, _, err := n.TakeOver(ctx, 1, broker.Token{1}, 2); !taken || err != nil {
		t.Fatal(taken, err)
	}
	m, err := n.last(ctx, n.recordSubject(1, broker.Token{1}))
	if err != nil || m.Header.Get(jetstream.MsgTTLHeader) != traceTTL.String() {
		t.Errorf("%+v, %v", m, err)
	}
	awaitMessages(ctx, t, n, 1)
}

// What was released does not come back when NATS is killed. A copy of its directory is
// what a kill leaves.
func TestReleasedAndKilled(t *testing.T) {
	t.Parallel()
	dir, copied := t.TempDir(), t.TempDir()
	s := serve(t, server.Options{Port: -1, StoreDir: dir})
	n := mustOpenNodes(t, dialTest(t, s), "x")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, token := range []broker.Token{{1}, {2}} {
		if err := n.Hold(ctx, 1, token, []byte("{}")); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.Release(ctx, 1, broker.Token{1}); err != nil {
		t.Fatal(err)
	}
	awaitMessages(ctx, t, n, 1)
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	after := mustOpenNodes(t, dialTest(t, serve(t, server.Options{Port: -1, StoreDir: copied})), "x")
	var held []broker.Token
	err := after.Held(ctx, 1, func(token broker.Token, _ []byte) error {
		held = append(held, token)
		return nil
	})
	if want := []broker.Token{{2}}; err != nil || !slices.Equal(held, want) {
		t.Errorf("%v are held, want %v; %v", held, want, err)
	}
}

// awaitMessages waits until there are so many in the stream.
func awaitMessages(ctx context.Context, t *testing.T, n *Nodes, want uint64) {
	t.Helper()
	for tick := time.NewTicker(50 * time.Millisecond); ; <-tick.C {
		info, err := n.stream.Info(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if info.State.Msgs == want {
			return
		}
	}
}

// A request is not waited for any longer than the connection that it was sent on.
func TestRequestOnALostConnection(t *testing.T) {
	t.Parallel()
	s := serve(t, server.Options{Port: -1, StoreDir: t.TempDir()})
	r := newRelay(t, s)
	conn, err := Dial(Config{URL: r.url(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	n := mustOpenNodes(t, conn, "p")
	for name, ask := range map[string]func(ctx context.Context) error{
		"set": func(ctx context.Context) error {
			_, err := n.Set(ctx, 1, []byte("x"), 0)
			return err
		},
		"get": func(ctx context.Context) error {
			_, err := n.Get(ctx, 1)
			return err
		},
	} {
		back := conn.back()
		r.hung.Store(true)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		begin := time.Now()
		if err := ask(ctx); err == nil || ctx.Err() != nil {
			t.Errorf("%s: %v after %v", name, err, time.Since(begin))
		}
		cancel()
		r.hung.Store(false)
		<-back
	}
}
