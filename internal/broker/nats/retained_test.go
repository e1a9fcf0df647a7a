package nats

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"ssegateway/internal/broker"
	"ssegateway/sse"
)

// change appends p, as soon as that is possible.
func change(t testing.TB, e *Engine, p broker.Publication) broker.Position {
	t.Helper()
	for end := time.Now().Add(patience); ; {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		at, err := e.Append(ctx, p)
		cancel()
		if err == nil {
			return at
		}
		if !errors.Is(err, broker.ErrUnavailable) || time.Now().After(end) {
			t.Fatal(err)
		}
		<-time.After(50 * time.Millisecond)
	}
}

func retained(text, key string, topics ...string) broker.Publication {
	return broker.Publication{Topics: topics, Event: sse.Event{Data: text}, Store: true, Retain: true, Key: key}
}

func removal(key string, topics ...string) broker.Publication {
	return broker.Publication{Topics: topics, Remove: true, Key: key}
}

// kept returns what a log retains, each as topic, key, id and text.
func kept(log *broker.Log) (all []string) {
	list, _, _ := log.Retained("", broker.RetainedCursor{}, 10_000, 1<<30)
	for _, r := range list {
		e, _ := sse.NewDecoder(strings.NewReader(string(r.Record.Frame.Wire(false)))).Next()
		all = append(all, fmt.Sprintf("%s/%s %s %s", r.Topic, r.Key, e.ID.String(), e.Data))
	}
	return all
}

func keeps(t testing.TB, what string, log *broker.Log, want ...string) {
	t.Helper()
	if got := kept(log); !slices.Equal(got, want) {
		t.Errorf("%s retains %q, want %q", what, got, want)
	}
}

// emptyLog removes all messages from the log's stream, as its bounds do.
func emptyLog(t testing.TB, e *session) {
	t.Helper()
	if err := mustStream(t, e).Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func running(t testing.TB, cfg place) *Engine {
	t.Helper()
	e := mustEngine(t, cfg)
	runEngine(t, e)
	return e
}

// follower returns a function that waits until an engine has so many more records.
func follower(t testing.TB, e *Engine) func(n int) {
	tailer, _ := e.Log().Tail()
	return func(n int) {
		for range n {
			next(t, tailer)
		}
	}
}

// All nodes retain the same, also one that comes when the log has nothing of it any more, and
// after a restart of NATS.
func TestRetainedByAllNodes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := serve(t, server.Options{Port: -1, StoreDir: dir})
	cfg := at(s.ClientURL())
	a, b := running(t, cfg), running(t, cfg)
	read := follower(t, b)
	change(t, a, retained("1", "", "t"))
	two := change(t, a, retained("2", "k", "t", "u"))
	change(t, b, retained("3", "l", "u"))
	four := change(t, b, retained("4", "", "t"))
	change(t, a, removal("k", "u"))
	change(t, b, removal("l", "u"))
	change(t, a, retained("5", "", "v", "w"))
	change(t, a, removal("", "v"))
	six := change(t, b, retained("6", "k", "v"))
	w := broker.Position{Epoch: two.Epoch, Offset: 7}
	read(9)
	want := []string{"t/k " + two.String() + " 2", "t/ " + four.String() + " 4", "w/ " + w.String() + " 5", "v/k " + six.String() + " 6"}
	follow := func(what string, e *Engine) {
		t.Helper()
		keeps(t, what, e.Log(), want...)
	}
	follow("the one", b)
	follow("one that has the log", mustEngine(t, cfg))
	emptyLog(t, a.session)
	follow("one that comes later", mustEngine(t, cfg))
	shutdown(s)
	cfg.URL = serve(t, server.Options{Port: -1, StoreDir: dir}).ClientURL()
	late := mustEngine(t, cfg)
	follow("one behind the restart", late)
	if err := late.session.tidyStore(t.Context(), mustStore(t, late.session)); err != nil {
		t.Fatal(err)
	}
	follow("one behind a tidying", mustEngine(t, cfg))
	if n := mustStore(t, late.session).CachedInfo().State.Msgs; n != 6 { // two removals are needed by events of several topics
		t.Errorf("the store has %d messages, want 4 events and 2 removals", n)
	}
}

func mustStore(t testing.TB, e *session) jetstream.Stream {
	t.Helper()
	store, err := e.js.Stream(t.Context(), e.storeName())
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// Retained events are the installation's: a log that is lost takes none along. Those of before keep
// their ids, and are before those of the new log.
func TestRetainedOutlivesTheLog(t *testing.T) {
	t.Parallel()
	s := serve(t, server.Options{Port: -1, StoreDir: t.TempDir()})
	cfg := at(s.ClientURL())
	e := running(t, cfg)
	for i := range 5 {
		change(t, e, retained(strconv.Itoa(i), strconv.Itoa(i), "t"))
	}
	before := kept(e.Log())
	for i := range 2 {
		log := e.Log()
		tailer, _ := log.Tail()
		if err := e.session.js.DeleteStream(t.Context(), e.session.name); err != nil {
			t.Fatal(err)
		}
		_, _, log = follow(t, tailer, log)
		keeps(t, "the new log", log, before...)
		if texts := log.State(0, log.Position().Offset, []string{"t"}, 0, 10); len(texts) != 5 {
			t.Errorf("who begins gets %d events, want 5", len(texts))
		}
		at := change(t, e, retained("new", strconv.Itoa(i), "t"))
		before = append(before[1:], fmt.Sprintf("t/%d %s new", i, at))
		keeps(t, "then it", log, before...)
		keeps(t, "another node", mustEngine(t, cfg).Log(), before...)
		emptyLog(t, e.session)
		keeps(t, "a later one", mustEngine(t, cfg).Log(), before...)
	}
}

// A log whose numbers are not behind those of what is retained is made anew: it lost its end, or a
// node of the version before made it.
func TestRetainedAheadOfTheLog(t *testing.T) {
	t.Parallel()
	for _, same := range []bool{true, false} {
		s := serve(t, server.Options{Port: -1, StoreDir: t.TempDir()})
		cfg := at(s.ClientURL())
		e := mustEngine(t, cfg)
		ctx, cancel := context.WithCancel(t.Context())
		over := make(chan error, 1)
		go func() { over <- e.Run(ctx) }()
		for i := range 4 {
			change(t, e, retained(strconv.Itoa(i), strconv.Itoa(i), "t"))
		}
		want, old := kept(e.Log()), e.session
		stream := mustStream(t, old).CachedInfo().Config
		cancel()
		if err := <-over; err != nil {
			t.Error(err)
		}
		if err := old.js.DeleteStream(t.Context(), old.name); err != nil {
			t.Fatal(err)
		}
		if !same {
			stream.Metadata[epochKey], stream.Subjects = "ABCDEFGHIJ", []string{cfg.Prefix + ".log.ABCDEFGHIJ"}
		}
		if _, err := old.js.CreateStream(t.Context(), stream); err != nil {
			t.Fatal(err)
		}
		data, err := encode(broker.Publication{Topics: []string{"t"}, Store: true}, author{"another", 1})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := old.js.Publish(t.Context(), stream.Subjects[0], data); err != nil {
			t.Fatal(err)
		}
		e = running(t, cfg)
		if epoch := e.Log().Epoch(); epoch == stream.Metadata[epochKey] {
			t.Error("the log goes on")
		}
		keeps(t, "the new log", e.Log(), want...)
		at := change(t, e, retained("new", "", "t"))
		if at.Offset < 5 {
			t.Errorf("the new log begins at %v", at)
		}
		want = append(want, "t/ "+at.String()+" new")
		keeps(t, "then it", e.Log(), want...)
		keeps(t, "another node", mustEngine(t, cfg).Log(), want...)
	}
}

// When the store is lost, every node goes on with what the log still has.
func TestRetainedStoreLost(t *testing.T) {
	t.Parallel()
	s := serve(t, server.Options{Port: -1, StoreDir: t.TempDir()})
	cfg := at(s.ClientURL())
	a, b := running(t, cfg), running(t, cfg)
	change(t, a, retained("gone", "k", "t"))
	emptyLog(t, a.session)
	read := follower(t, b)
	at := change(t, a, retained("kept", "", "t"))
	read(1)
	logs := map[*Engine]*broker.Log{a: a.Log(), b: b.Log()}
	tailers := map[*Engine]*broker.Tailer{}
	for e, log := range logs {
		tailers[e], _ = log.Tail()
	}
	if err := a.session.js.DeleteStream(t.Context(), a.session.storeName()); err != nil {
		t.Fatal(err)
	}
	for e, tailer := range tailers {
		_, _, log := follow(t, tailer, logs[e])
		keeps(t, "a node", log, "t/ "+at.String()+" kept")
	}
	next := change(t, a, retained("next", "k", "t"))
	emptyLog(t, a.session)
	keeps(t, "a later one", mustEngine(t, cfg).Log(), "t/ "+at.String()+" kept", "t/k "+next.String()+" next")
}

// Beside a node of the version before nothing is retained, and all else goes on. Should an event be
// retained in the moment in which such a node comes, that node opens its log anew.
func TestRetainedBesideAnOldNode(t *testing.T) {
	t.Parallel()
	s := serve(t, server.Options{Port: -1, StoreDir: t.TempDir()})
	e := running(t, at(s.ClientURL()))
	append1(t, e, "x")
	old, err := mustStream(t, e.session).CreateConsumer(t.Context(), jetstream.ConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: 1,
		AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, Replicas: 1, InactiveThreshold: readerIdle,
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []broker.Publication{retained("y", "", "t"), removal("", "t")} {
		if _, err := e.Append(t.Context(), p); !errors.Is(err, broker.ErrUnavailable) || !errors.Is(err, errOldNode) {
			t.Errorf("beside an old node: %v", err)
		}
	}
	append1(t, e, "x")
	stream := mustStream(t, e.session)
	if have := stream.CachedInfo().Config.Subjects; !slices.Equal(have, []string{e.session.subject}) {
		t.Errorf("the log has the subjects %q", have)
	}
	if err := stream.DeleteConsumer(t.Context(), old.CachedInfo().Name); err != nil {
		t.Fatal(err)
	}
	change(t, e, retained("y", "", "t"))

	old, err = stream.CreateConsumer(t.Context(), old.CachedInfo().Config)
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(patience); !errors.Is(err, errOldNode); {
		if _, err = e.Append(t.Context(), retained("z", "", "t")); time.Now().After(end) {
			t.Fatal(err)
		}
		<-time.After(100 * time.Millisecond)
	}
	if err := stream.DeleteConsumer(t.Context(), old.CachedInfo().Name); err != nil {
		t.Fatal(err)
	}
	change(t, e, retained("y", "", "t"))
}

// When JetStream does not copy, the log is enough, if it keeps events for long. If not, it is said.
func TestRetainedNotCopied(t *testing.T) {
	t.Parallel()
	for _, age := range []time.Duration{longestPause, longestPause - 1} {
		s := serve(t, server.Options{Port: -1, StoreDir: t.TempDir()})
		cfg := at(s.ClientURL())
		cfg.MaxAge = age
		e := running(t, cfg)
		change(t, e, retained("1", "", "t"))
		stop := func() {
			t.Helper()
			store := mustStore(t, e.session).CachedInfo().Config
			store.Sources = []*jetstream.StreamSource{{Name: "nothing"}}
			if _, err := e.session.js.UpdateStream(t.Context(), store); err != nil {
				t.Fatal(err)
			}
		}
		stop()
		at, err := e.Append(t.Context(), retained("2", "", "t"))
		switch {
		case age < longestPause:
			if !errors.Is(err, errNotCopied) || !errors.Is(err, broker.ErrUnavailable) {
				t.Errorf("with a log of %v: %v", age, err)
			}
			append1(t, e, "others are not refused for it")
		case err != nil:
			t.Errorf("with a log of %v: %v", age, err)
		default:
			keeps(t, "a node that comes then", mustEngine(t, cfg).Log(), "t/ "+at.String()+" 2")
		}
		// The next one has the store copy again, from where it was.
		last := change(t, e, retained("3", "k", "t"))
		list := kept(e.Log())
		for end := time.Now().Add(patience); ; {
			m, err := mustStore(t, e.session).GetLastMsgForSubject(t.Context(), e.session.storeSubject(e.session.subjectOf(retained("", "k", "t"))))
			if err == nil && m.Sequence > 0 {
				break
			}
			if time.Now().After(end) {
				t.Fatal(last, err)
			}
			<-time.After(10 * time.Millisecond)
		}
		emptyLog(t, e.session)
		keeps(t, "a later node", mustEngine(t, cfg).Log(), list...)
	}
}

// Events that a node publishes at the same time exceed the bound by nothing.
func TestRetainedFullAtOnce(t *testing.T) {
	t.Parallel()
	s := serve(t, server.Options{Port: -1, StoreDir: t.TempDir()})
	cfg := at(s.ClientURL())
	cfg.RetainedBytes = 20_000
	e := running(t, cfg)
	change(t, e, retained("first", "", "t"))
	var group sync.WaitGroup
	results := make(chan error, 100)
	for i := range cap(results) {
		group.Go(func() {
			_, err := e.Append(t.Context(), retained(strings.Repeat("x", 1000), strconv.Itoa(i), "t"))
			results <- err
		})
	}
	group.Wait()
	close(results)
	full := 0
	for err := range results {
		if errors.Is(err, broker.ErrRetainedFull) {
			full++
		} else if err != nil {
			t.Error(err)
		}
	}
	if stats := e.Log().Stats(); stats.RetainedBytes > cfg.RetainedBytes || stats.Retained != 101-full || full < 80 || full > 90 {
		t.Errorf("%d were refused, and %d are retained, of %d bytes", full, stats.Retained, stats.RetainedBytes)
	}
	// A node with a smaller bound has what the others have.
	cfg.RetainedBytes = 10
	keeps(t, "a node with a smaller bound", mustEngine(t, cfg).Log(), kept(e.Log())...)
}

// The store is tidied when it has much that does not count, and left alone before.
func TestRetainedTidied(t *testing.T) {
	t.Parallel()
	s := serve(t, server.Options{Port: -1, StoreDir: t.TempDir()})
	cfg := at(s.ClientURL())
	cfg.RetainedBytes, cfg.MaxBytes = 1<<20, 1<<16
	e := running(t, cfg)
	messages := func() uint64 {
		e.tidy(t.Context())
		return mustStore(t, e.session).CachedInfo().State.Msgs
	}
	const n = tidyMargin / (900 << 10)
	for range n {
		change(t, e, retained(strings.Repeat("x", 900<<10), "", "t"))
	}
	if got := messages(); got != n {
		t.Errorf("the store has %d messages, want all %d", got, n)
	}
	for range 4 {
		change(t, e, retained(strings.Repeat("x", 900<<10), "", "t"))
	}
	if got := messages(); got != 1 {
		t.Errorf("the store has %d messages, want 1", got)
	}
	emptyLog(t, e.session)
	keeps(t, "a later node", mustEngine(t, cfg).Log(), kept(e.Log())...)
}

// A message of somebody else in the store is passed over.
func TestRetainedForeign(t *testing.T) {
	t.Parallel()
	s := serve(t, server.Options{Port: -1, StoreDir: t.TempDir()})
	cfg := at(s.ClientURL())
	e := running(t, cfg)
	change(t, e, retained("1", "", "t"))
	if _, err := e.session.js.Publish(t.Context(), e.session.subject+".x.r.y", []byte("{}")); err != nil {
		t.Fatal(err)
	}
	at := change(t, e, retained("2", "", "t"))
	emptyLog(t, e.session)
	keeps(t, "a later node", mustEngine(t, cfg).Log(), "t/ "+at.String()+" 2")

	cfg.Prefix = "y"
	if _, err := e.session.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "y_retained", Subjects: []string{"theirs"}}); err != nil {
		t.Fatal(err)
	}
	refused(t, cfg, "is not this gateway's")
}
