package nats

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"ssegateway/internal/broker"
	"ssegateway/internal/repeats"
)

func keyed(p broker.Publication, key string, digest byte) broker.Publication {
	p.IdempotencyKey, p.Digest = key, repeats.Digest{digest}
	return p
}

func plain(text string, store bool) broker.Publication {
	p := retained(text, "", "t")
	p.Store, p.Retain = store, false
	return p
}

func isRepeat(t testing.TB, what string, e *Engine, p broker.Publication, want broker.Position) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if at, err := e.Append(ctx, p); at != want || !errors.Is(err, broker.ErrRepeated) {
		t.Errorf("%s: %v, %v; want a repeat of %v", what, at, err, want)
	}
}

// A repeat does nothing on any node, and has the position of the first, also after a restart of NATS, when the log
// was renewed in place, and when the log has the first no more. The repeat has read the log up to the first.
func TestKeyOnAnyNode(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := serve(t, server.Options{Port: -1, StoreDir: dir})
	relay := newRelay(t, s)
	cfg := at(relay.url())
	a, b := running(t, cfg), running(t, cfg)
	append1(t, a, "x")
	if window := mustStream(t, a.session).CachedInfo().Config.Duplicates; window != duplicatesWindow {
		t.Errorf("without keys NATS remembers ids for %v", window)
	}
	type published struct {
		p  broker.Publication
		at broker.Position
	}
	var all []published
	for key, p := range map[string]broker.Publication{"1": plain("1", true), "2": plain("2", false), "3": retained("3", "k", "t", "u")} {
		p = keyed(p, key, 1)
		at := change(t, a, p)
		isRepeat(t, "at once, elsewhere", b, p, at)
		if stats := b.Log().Stats(); p.Store && stats.Last < at.Offset {
			t.Errorf("a repeat of %v was answered when the node had read up to %d", at, stats.Last)
		}
		if _, err := b.Append(t.Context(), keyed(p, key, 2)); !errors.Is(err, broker.ErrKeyReused) {
			t.Errorf("another event with the same key: %v", err)
		}
		all = append(all, published{p, at})
	}
	if window := mustStream(t, a.session).CachedInfo().Config.Duplicates; window != broker.KeyLife {
		t.Errorf("NATS remembers keys for %v", window)
	}
	count := mustStream(t, a.session).CachedInfo().State.LastSeq

	back := a.conn.back()
	shutdown(s)
	relay.to(serve(t, server.Options{Port: -1, StoreDir: dir}))
	<-back
	append1(t, a, "y")
	count++
	for _, p := range all {
		isRepeat(t, "behind a restart", a, p.p, p.at)
		isRepeat(t, "behind a restart, by a new node", running(t, cfg), p.p, p.at)
	}
	if last := mustStream(t, a.session).CachedInfo().State.LastSeq; last != count {
		t.Errorf("the log has come to %d, want %d", last, count)
	}

	if err := a.session.renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	late := running(t, cfg)
	for _, p := range all {
		if p.p.Store {
			isRepeat(t, "of the log before", late, p.p, p.at)
		}
	}
	emptyLog(t, late.session)
	for _, p := range all {
		if at, err := late.Append(t.Context(), p.p); !errors.Is(err, broker.ErrRepeated) || p.p.Store && at.Offset != p.at.Offset {
			t.Errorf("of what the log has no more: %v, %v", at, err)
		}
	}
}

// A repeat waits until its node has read the first event.
func TestKeyOfWhatWasNotRead(t *testing.T) {
	t.Parallel()
	s := serve(t, server.Options{Port: -1, StoreDir: t.TempDir()})
	a, b := running(t, at(s.ClientURL())), mustEngine(t, at(s.ClientURL()))
	p := keyed(plain("x", true), "k", 1)
	first := change(t, a, p)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if at, err := b.Append(ctx, p); !errors.Is(err, broker.ErrUnavailable) {
		t.Errorf("by a node that reads nothing: %v, %v", at, err)
	}
	runEngine(t, b)
	isRepeat(t, "when it reads", b, p, first)
}

// What a node takes for a repeat is its own event, if an attempt of its own was stored and its acknowledgement lost.
func TestKeyOfOwnAttempt(t *testing.T) {
	t.Parallel()
	s := serve(t, server.Options{Port: -1, StoreDir: t.TempDir()})
	e := running(t, at(s.ClientURL()))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	a := &appending{p: keyed(plain("x", true), "k", 1), mine: make(chan readBack, 1)}
	defer e.session.expect(a)()
	if err := e.session.prepare(ctx, a); err != nil {
		t.Fatal(err)
	}
	if _, err := e.session.attempt(ctx, a); err != nil {
		t.Fatal(err)
	}
	if p, err := e.session.send(ctx, a); err != nil || p.Offset != 1 {
		t.Errorf("at %v, %v", p, err)
	}
	isRepeat(t, "another one", e, a.p, broker.Position{Epoch: e.Log().Epoch(), Offset: 1})
}

// A repeat of an event that was retained is one also when there is no room any more. What was refused is not
// remembered.
func TestKeyOfRetained(t *testing.T) {
	t.Parallel()
	s := serve(t, server.Options{Port: -1, StoreDir: t.TempDir()})
	cfg := at(s.ClientURL())
	cfg.RetainedBytes = 3000
	e := running(t, cfg)
	large := func(key string) broker.Publication {
		return keyed(retained(strings.Repeat("x", 1000), key, "t"), key, 1)
	}
	first := change(t, e, large("a"))
	change(t, e, retained("", "a", "t"))
	change(t, e, large("b"))
	refusedIs := func(what string, p broker.Publication) {
		t.Helper()
		if _, err := e.Append(t.Context(), p); !errors.Is(err, broker.ErrRetainedFull) {
			t.Errorf("%s: %v", what, err)
		}
	}
	refusedIs("without room", large("c"))
	refusedIs("its repeat", large("c"))
	isRepeat(t, "what was retained", e, large("a"), first)
	if _, err := e.Append(t.Context(), keyed(large("c"), "a", 2)); !errors.Is(err, broker.ErrKeyReused) {
		t.Errorf("another event: %v", err)
	}
	change(t, e, removal("b", "t"))
	at := change(t, e, large("c"))
	isRepeat(t, "when there was room", e, large("c"), at)
}

// A key lives as long as the log keeps an event, at most.
func TestKeyOfShortLog(t *testing.T) {
	t.Parallel()
	s := serve(t, server.Options{Port: -1, StoreDir: t.TempDir()})
	cfg := at(s.ClientURL())
	cfg.MaxAge = 2 * time.Second
	e := running(t, cfg)
	p := keyed(plain("x", true), "k", 1)
	first := change(t, e, p)
	isRepeat(t, "at once", e, p, first)
	for end := time.Now().Add(patience); ; {
		at, err := e.Append(t.Context(), p)
		if err == nil && at.Offset > first.Offset {
			return
		}
		if !errors.Is(err, broker.ErrRepeated) || time.Now().After(end) {
			t.Fatal(at, err)
		}
		<-time.After(100 * time.Millisecond)
	}
}
