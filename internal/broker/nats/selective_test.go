package nats

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"ssegateway/internal/broker"
	"ssegateway/internal/broker/brokertest"
)

// roomy is at, with a log of which nothing is trimmed.
func roomy(url string) place {
	p := at(url)
	p.MaxBytes = 1 << 28
	return p
}

// Topics come to a node and go, while they are published on.
func TestComeAndGo(t *testing.T) {
	t.Parallel()
	s := serve(t, server.Options{Port: -1, StoreDir: t.TempDir()})
	all, some := mustEngine(t, roomy(s.ClientURL())), mustSelective(t, roomy(s.ClientURL()))
	runEngine(t, all)
	runEngine(t, some.Engine)
	brokertest.TestComeAndGo(t, all, some, 60, nil)
}

// The same, while the node's connection to NATS is cut.
func TestComeAndGoWhileCut(t *testing.T) {
	t.Parallel()
	s := serve(t, server.Options{Port: -1, StoreDir: t.TempDir()})
	relay := newRelay(t, s)
	all, some := mustEngine(t, roomy(s.ClientURL())), mustSelective(t, roomy(relay.url()))
	runEngine(t, all)
	runEngine(t, some.Engine)
	brokertest.TestComeAndGo(t, all, some, 25, relay.cut)
}

// visitor is a running Selective, with the log's stream.
func visitor(t *testing.T, url string) (some Selective, stream jetstream.Stream) {
	t.Helper()
	some = mustSelective(t, roomy(url))
	runEngine(t, some.Engine)
	js, err := jetstream.New(some.conn.nats)
	if err != nil {
		t.Fatal(err)
	}
	stream, err = js.Stream(t.Context(), "x_log")
	if err != nil {
		t.Fatal(err)
	}
	return some, stream
}

func mustFollow(t *testing.T, some Selective, topics ...string) (release func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	release, err := some.Follow(ctx, topics, 0)
	if err != nil {
		t.Fatal(err)
	}
	return release
}

func has(t *testing.T, e broker.Engine, topic string) (texts []string) {
	t.Helper()
	missed, _ := e.Log().Missed(0, e.Log().Position().Offset, []string{topic}, 1000)
	for _, r := range missed {
		texts = append(texts, strings.TrimSpace(string(r.Frame.Wire(false))))
	}
	return texts
}

// An event of a topic that nobody follows is added and answered, and does not come to the node. Who follows the topic later gets it.
func TestUnread(t *testing.T) {
	t.Parallel()
	s := serve(t, server.Options{Port: -1, StoreDir: t.TempDir()})
	some, _ := visitor(t, s.ClientURL())
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := some.End(ctx); err != nil { // so the node reads by its feed
		t.Fatal(err)
	}
	before, err := s.Varz(nil)
	if err != nil {
		t.Fatal(err)
	}
	var last broker.Position
	for range 100 {
		if last, err = some.Append(ctx, plain("x", true)); !errors.Is(err, broker.ErrUnread) {
			t.Fatalf("%v, %v", last, err)
		}
	}
	after, err := s.Varz(nil)
	if err != nil {
		t.Fatal(err)
	}
	if sent := after.OutMsgs - before.OutMsgs; sent > 150 { // 100 acknowledgements, and what runs beside
		t.Errorf("NATS sent %d messages for 100 events that nobody reads", sent)
	}
	if texts := has(t, some, "t"); len(texts) > 0 {
		t.Errorf("the log has %d events of a topic that is not followed", len(texts))
	}
	end, err := some.End(ctx)
	if err != nil || end.Offset < last.Offset {
		t.Errorf("the log ends at %v, %v, behind %v", end, err, last)
	}
	defer mustFollow(t, some, "t")()
	if texts := has(t, some, "t"); len(texts) != 100 || !strings.Contains(texts[99], "id: "+last.String()) {
		t.Errorf("who follows the topic has %d events of 100: %q", len(texts), texts)
	}
}

// A topic that is given up is not subscribed to any more.
func TestPrune(t *testing.T) {
	t.Parallel()
	s := serve(t, server.Options{Port: -1, StoreDir: t.TempDir()})
	some, _ := visitor(t, s.ClientURL())
	subscribed := func(want ...string) {
		t.Helper()
		if err := some.conn.nats.Flush(); err != nil {
			t.Fatal(err)
		}
		all, err := s.Subsz(&server.SubszOptions{Subscriptions: true, Limit: 1000})
		if err != nil {
			t.Fatal(err)
		}
		var got, names []string
		for _, sub := range all.Subs {
			if strings.HasPrefix(sub.Subject, "x.live.") && strings.HasSuffix(sub.Subject, ".e") {
				got = append(got, sub.Subject)
			}
		}
		for _, topic := range want {
			names = append(names, some.session.live(some.session.eventSubject(digestOf(topic))))
		}
		slices.Sort(got)
		if slices.Sort(names); !slices.Equal(got, names) {
			t.Errorf("subscribed to %q, want %q", got, names)
		}
	}
	mustFollow(t, some, "a")()
	release := mustFollow(t, some, "t", "u")
	some.Prune(func(topic string) bool { return topic == "a" })
	subscribed("a", "t", "u")
	release()
	some.Prune(func(topic string) bool { return topic == "a" || topic == "u" })
	subscribed("a", "u")
}

// A message that NATS stores and does not deliver is noticed with the next one of its topic. Then the log is replaced by one that does not
// reach back to it, so that every client gets a gap.
func TestHole(t *testing.T) {
	t.Parallel()
	s := serve(t, server.Options{Port: -1, StoreDir: t.TempDir()})
	some, stream := visitor(t, s.ClientURL())
	other := mustEngine(t, roomy(s.ClientURL()))
	runEngine(t, other)
	defer mustFollow(t, some, "t")()
	before := some.Log()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	subject := some.session.eventSubject(digestOf("t"))
	add := func(text string, again bool) (sequence uint64) {
		t.Helper()
		info, err := stream.Info(ctx)
		if err != nil {
			t.Fatal(err)
		}
		cfg := info.Config
		cfg.RePublish = nil
		if again {
			cfg.RePublish = &jetstream.RePublish{Source: "x.log.>", Destination: "x.live.>"}
		}
		if _, err := some.session.js.UpdateStream(ctx, cfg); err != nil {
			t.Fatal(err)
		}
		data, err := encode(plain(text, true), author{"another", 1})
		if err != nil {
			t.Fatal(err)
		}
		ack, err := some.session.js.Publish(ctx, subject, data)
		if err != nil {
			t.Fatal(err)
		}
		return ack.Sequence
	}
	lost := add("lost", false)
	add("next", true)
	tailer, _ := before.Tail()
	for r := tailer.Next(ctx); r != nil; r = tailer.Next(ctx) {
		if r.Offset > lost {
			t.Errorf("%d was delivered, behind %d, which is missing", r.Offset, lost)
		}
	}
	if tailer.Replacement() == nil {
		t.Fatal("the log is not replaced")
	}
	if _, reaches := some.Log().Missed(lost-1, some.Log().Position().Offset, []string{"t"}, 10); reaches {
		t.Errorf("the log that replaces it reaches back to %d, which nobody got", lost)
	}
}

// Beside a node of a version that knows no subjects of topics, a node reads and writes as that one does. When it is gone, it selects.
func TestSelectiveBesideOldNode(t *testing.T) {
	t.Parallel()
	s := serve(t, server.Options{Port: -1, StoreDir: t.TempDir()})
	first := mustEngine(t, roomy(s.ClientURL())) // makes the stream
	js, err := jetstream.New(first.conn.nats)
	if err != nil {
		t.Fatal(err)
	}
	old, err := js.CreateConsumer(t.Context(), "x_log", jetstream.ConsumerConfig{
		DeliverPolicy: jetstream.DeliverAllPolicy, AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, Replicas: 1, InactiveThreshold: readerIdle,
	})
	if err != nil {
		t.Fatal(err)
	}
	some, stream := visitor(t, s.ClientURL())
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := some.Append(ctx, plain("1", true)); err != nil {
		t.Fatalf("beside an old node: %v", err)
	}
	if m, err := stream.GetMsg(ctx, 1); err != nil || m.Subject != some.session.subject {
		t.Errorf("an old node would not understand %v, %v", m, err)
	}
	if err := js.DeleteConsumer(ctx, "x_log", old.CachedInfo().Name); err != nil {
		t.Fatal(err)
	}
	tailer, _ := some.Log().Tail()
	for r := tailer.Next(ctx); r != nil; r = tailer.Next(ctx) { // until the log is opened anew
	}
	defer mustFollow(t, some, "t")()
	if _, err := some.Append(ctx, plain("2", true)); err != nil {
		t.Fatal(err)
	}
	if _, err := some.Append(ctx, broker.Publication{Topics: []string{"u"}, Store: true}); !errors.Is(err, broker.ErrUnread) {
		t.Errorf("it does not select: %v", err)
	}
	if texts := has(t, some, "t"); len(texts) != 2 {
		t.Errorf("%q", texts)
	}
}
