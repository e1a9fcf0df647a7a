package nats

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"ssegateway/internal/broker"
)

// mustWrite writes a message that is not the gateway's.
func mustWrite(t *testing.T, n *Nodes, subject, data string) {
	t.Helper()
	if _, err := n.js.Publish(t.Context(), subject, []byte(data)); err != nil {
		t.Fatal(err)
	}
}

// A key whose name is no node's number is passed over, and those behind it are seen.
func TestForeignKey(t *testing.T) {
	t.Parallel()
	s := serve(t, server.Options{Port: -1, StoreDir: t.TempDir()})
	n := mustOpenNodes(t, dialTest(t, s), "x")
	for _, name := range []string{"zzzz", "7", "0000000A", "00000000", "000000007", "-0000007"} {
		mustWrite(t, n, n.base+".key."+name, "x")
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := n.Set(ctx, 7, []byte("y"), 0); err != nil {
		t.Fatal(err)
	}
	over := errors.New("over")
	var seen broker.Key
	watching, stop := context.WithCancelCause(ctx)
	err := n.Watch(watching, func(k broker.Key) {
		seen = k
		stop(over)
	})
	if !errors.Is(context.Cause(watching), over) || seen.Node != 7 || string(seen.Value) != "y" {
		t.Errorf("seen %+v, then %v", seen, err)
	}
}

// A record whose name is no token is passed over.
func TestForeignRecord(t *testing.T) {
	t.Parallel()
	s := serve(t, server.Options{Port: -1, StoreDir: t.TempDir()})
	n := mustOpenNodes(t, dialTest(t, s), "x")
	for _, name := range []string{"zzzz", "00", "0000000000000000000000000000000A"} {
		mustWrite(t, n, n.heldSubject(7, name), "x")
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := n.Hold(ctx, 7, broker.Token{1}, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	var held []broker.Token
	err := n.Held(ctx, 7, func(token broker.Token, _ []byte) error {
		held = append(held, token)
		return nil
	})
	if want := []broker.Token{{1}}; err != nil || !slices.Equal(held, want) {
		t.Errorf("%v are held, want %v; %v", held, want, err)
	}
}
