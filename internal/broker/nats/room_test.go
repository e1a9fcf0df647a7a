package nats

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"ssegateway/internal/broker"
)

const (
	bound      = 4 << 20 // of the storage in these tests
	recordSize = 4000
)

// bounded runs a test against each bound on storage that NATS has.
func bounded(t *testing.T, f func(t *testing.T, url string)) {
	t.Run("account", func(t *testing.T) {
		t.Parallel()
		s := serve(t, server.Options{Port: -1, StoreDir: t.TempDir()})
		if err := s.GlobalAccount().UpdateJetStreamLimits(map[string]server.JetStreamAccountLimits{
			"": {MaxMemory: -1, MaxStore: bound, MaxStreams: -1, MaxConsumers: -1},
		}); err != nil {
			t.Fatal(err)
		}
		f(t, s.ClientURL())
	})
	t.Run("server", func(t *testing.T) {
		t.Parallel()
		f(t, serve(t, server.Options{Port: -1, StoreDir: t.TempDir(), JetStreamMaxStore: bound}).ClientURL())
	})
	t.Run("stream", func(t *testing.T) {
		t.Parallel()
		s := serve(t, server.Options{Port: -1, StoreDir: t.TempDir()})
		n := mustOpenNodes(t, dialTest(t, s), "x")
		have := n.stream.CachedInfo().Config
		have.MaxBytes, have.Discard = bound, jetstream.DiscardNew
		if _, err := n.js.UpdateStream(t.Context(), have); err != nil {
			t.Fatal(err)
		}
		f(t, s.ClientURL())
	})
}

// tokenOf returns the i-th token that a node made.
func tokenOf(node uint32, i int) (token broker.Token) {
	binary.BigEndian.PutUint32(token[:], node)
	binary.BigEndian.PutUint32(token[4:], uint32(i))
	return token
}

// fillRecords writes records of a node until there is no room.
func fillRecords(ctx context.Context, t *testing.T, n *Nodes, node uint32) (written int) {
	t.Helper()
	for ; ; written++ {
		switch err := n.Hold(ctx, node, tokenOf(node, written), bytes.Repeat([]byte("x"), recordSize)); {
		case errors.Is(err, broker.ErrFull):
			return written
		case err != nil:
			t.Fatal(err)
		}
	}
}

// dialNodes opens the store by a connection of its own.
func dialNodes(t *testing.T, url string) *Nodes {
	t.Helper()
	cfg := at(url).Config
	conn, err := Dial(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return mustOpenNodes(t, conn, "x")
}

// Storage that is full of records has room for keys, of nodes that are new as well, and for
// taking over. When records go there is room again.
func TestRoomForKeys(t *testing.T) {
	bounded(t, func(t *testing.T, url string) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		value := bytes.Repeat([]byte("k"), 300)
		n := dialNodes(t, url)
		if err := n.Reserve(ctx); err != nil || n.Full() {
			t.Fatal(err)
		}
		revision, err := n.Set(ctx, 1, value, 0)
		if err != nil {
			t.Fatal(err)
		}
		written := fillRecords(ctx, t, n, 1)
		if err := n.Reserve(ctx); !errors.Is(err, broker.ErrFull) || !n.Full() {
			t.Errorf("with %d records: Reserve: %v, full: %v", written, err, n.Full())
		}
		for range 50 {
			if revision, err = n.Set(ctx, 1, value, revision); err != nil {
				t.Fatal(err)
			}
		}

		other := dialNodes(t, url)
		if err := other.Reserve(ctx); err != nil && !errors.Is(err, broker.ErrFull) {
			t.Error(err)
		}
		if _, err := other.Set(ctx, 2, value, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := other.Set(ctx, 1, slices.Concat(value, value), revision); err != nil { // the mark of a lost node
			t.Error(err)
		}
		taken := 0
		err = other.Held(ctx, 1, func(token broker.Token, request []byte) error {
			if err := other.Hold(ctx, 2, token, request); err != nil {
				return err
			}
			ok, _, err := other.TakeOver(ctx, 1, token, 2)
			if err != nil || !ok {
				t.Errorf("taken: %v, %v", ok, err)
			}
			taken++
			return errors.Join(err, other.Release(ctx, 2, token))
		})
		if err != nil || taken != written {
			t.Errorf("%d of %d records were taken over, %v", taken, written, err)
		}
		if err := other.Reserve(ctx); err != nil || other.Full() {
			t.Errorf("with room: Reserve: %v, full: %v", err, other.Full())
		}
		if there, err := other.reserve(ctx); err != nil || len(there) != reservePieces {
			t.Errorf("the reserve has %d pieces, %v", len(there), err)
		}
		if err := n.Reserve(ctx); err != nil || n.Full() {
			t.Errorf("with room: Reserve: %v, full: %v", err, n.Full())
		}
	})
}
