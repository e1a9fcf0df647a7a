package connections

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"ssegateway/internal/broker"
	"ssegateway/internal/gateway"
	"ssegateway/internal/outbox"
	"ssegateway/internal/repeats"
	"ssegateway/sse"
)

func once(conn *gateway.Conn, key, data string) Send {
	return Send{Token: conn.Token(), Event: sse.Event{Data: data}, HasEvent: true, IdempotencyKey: key}
}

func waited(s Send) Send {
	s.Wait = true
	return s
}

func ended(s Send) Send {
	s.Close = true
	return s
}

// want sends and compares the result. err is one of the package's, or nil.
func (s *alone) want(send Send, outcome Outcome, err error) {
	s.t.Helper()
	if got, gotErr := s.Send(s.t.Context(), send); got != outcome || !errors.Is(gotErr, err) {
		s.t.Errorf("%q: %d, %v; want %d, %v", send.Event.Data, got, gotErr, outcome, err)
	}
}

func (s *alone) wantTimes(c *client, data string, n int) {
	s.t.Helper()
	synctest.Wait()
	if got := c.times(data); got != n {
		s.t.Errorf("the client got %q %d times, want %d", data, got, n)
	}
}

// For two minutes a repeat does nothing, and gets the first answer.
func TestRepeatedSend(t *testing.T) {
	within(t, func(s *alone) {
		conn, open := s.connect()
		s.want(once(conn, "early", "0"), Buffered, nil)
		s.want(once(conn, "early", "0"), Buffered|Duplicate, nil)
		c := open(gateway.Grant{})
		s.want(once(conn, "early", "0"), Buffered|Duplicate, nil)
		s.want(once(conn, "k", "1"), Sent, nil)
		time.Sleep(time.Minute) // fake clock
		s.want(once(conn, "k", "1"), Sent|Duplicate, nil)
		s.want(waited(once(conn, "k", "1")), Sent|Duplicate, nil) // the first one's answer
		s.want(waited(once(conn, "w", "2")), Written, nil)
		s.want(waited(once(conn, "w", "2")), Written|Duplicate, nil)
		s.want(once(conn, "w", "2"), Written|Duplicate, nil)
		time.Sleep(time.Minute - 1) // fake clock
		s.want(once(conn, "k", "1"), Sent|Duplicate, nil)
		for n, data := range []string{"0", "1", "2"} {
			if s.wantTimes(c, data, 1); t.Failed() {
				t.Fatal(n)
			}
		}
		time.Sleep(time.Nanosecond) // fake clock
		s.want(once(conn, "k", "1"), Sent, nil)
		s.wantTimes(c, "1", 2)
		if n := s.sends[countDuplicate].Load(); n != 7 {
			t.Errorf("%d duplicates counted", n)
		}
	})
}

// A key belongs to its token, and to what was asked first.
func TestKeyOfSend(t *testing.T) {
	within(t, func(s *alone) {
		conn, open := s.connect()
		other, openOther := s.connect()
		c, d := open(gateway.Grant{}), openOther(gateway.Grant{})
		s.want(once(conn, "k", "1"), Sent, nil)
		s.want(once(other, "k", "2"), Sent, nil)
		s.want(once(conn, "k", "2"), 0, ErrKeyReused)
		s.want(ended(once(conn, "k", "1")), 0, ErrKeyReused)
		s.want(once(conn, "k", "1"), Sent|Duplicate, nil)
		s.want(Send{IdempotencyKey: "k"}, 0, ErrNotFound)
		s.wantTimes(c, "1", 1)
		s.wantTimes(c, "2", 0)
		s.wantTimes(d, "2", 1)
	})
}

// Where the connection has closed since, a repeat of what was carried out still gets its answer.
func TestRepeatAfterClose(t *testing.T) {
	within(t, func(s *alone) {
		conn, open := s.connect()
		c := open(gateway.Grant{})
		s.want(once(conn, "k", "1"), Sent, nil)
		s.want(ended(once(conn, "last", "2")), Sent, nil)
		synctest.Wait()
		if s.Holds(conn.Token()) {
			t.Fatal("it is still there")
		}
		s.want(once(conn, "k", "1"), Sent|Duplicate, nil)
		s.want(ended(once(conn, "last", "2")), Sent|Duplicate, nil)
		s.want(once(conn, "new", "3"), 0, ErrNotFound)
		s.want(once(conn, "new", "4"), 0, ErrNotFound) // a refusal takes no key
		s.want(once(conn, "k", "2"), 0, ErrKeyReused)
		s.wantTimes(c, "1", 1)
	})
}

// What was refused is not remembered: the repeat is tried.
func TestRefusedSend(t *testing.T) {
	within(t, func(s *alone) {
		conn, open := s.connect()
		ahead := once(conn, "ahead", "1")
		ahead.Event.ID, _ = sse.NewID(s.engine.Log().Epoch() + "-1")
		s.want(ahead, 0, ErrAhead)
		large := strings.Repeat("x", 700)
		s.want(once(conn, "a", large), Buffered, nil)
		s.want(once(conn, "full", large+"y"), 0, ErrBufferFull)
		c := open(gateway.Grant{})
		s.want(once(conn, "full", large+"y"), Sent, nil)
		s.want(once(conn, "full", large+"y"), Sent|Duplicate, nil)
		if _, err := s.engine.Append(s.t.Context(), broker.Publication{Topics: []string{"t"}, Store: true}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		s.want(ahead, Sent, nil)
		s.wantTimes(c, large+"y", 1)
	})
}

// After WRITE_TIMEOUT a repeat waits for the fate of the first's event again, and then gets it.
func TestRepeatAfterTimeout(t *testing.T) {
	within(t, func(s *alone) {
		conn, open := s.connect()
		send := waited(once(conn, "k", "1"))
		s.want(send, 0, ErrWriteTimeout)
		s.want(send, 0, ErrWriteTimeout)
		s.want(once(conn, "k", "1"), Buffered|Duplicate, nil) // one that does not wait for it gets what is known
		results := make(chan string, 3)
		for range 3 {
			go func() {
				outcome, err := s.Send(s.t.Context(), send)
				results <- fmt.Sprint(outcome, err)
			}()
		}
		synctest.Wait()
		c := open(gateway.Grant{})
		for range 3 {
			if got, want := <-results, fmt.Sprint(Written|Duplicate, error(nil)); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		}
		s.want(once(conn, "k", "1"), Written|Duplicate, nil)
		s.wantTimes(c, "1", 1)

		c.set(true, false)
		s.want(Send{Token: conn.Token(), Event: sse.Event{Data: "waits"}, HasEvent: true}, Sent, nil)
		ctx, cancel := context.WithTimeout(s.t.Context(), time.Second)
		defer cancel()
		send = waited(once(conn, "l", "2"))
		if _, err := s.Send(ctx, send); !errors.Is(err, ErrWriteTimeout) {
			t.Error(err)
		}
		c.set(false, true)
		conn.Abort(gateway.ClientClosed, 0)
		s.want(send, 0, ErrNotFound) // the first had no effect
		s.want(send, 0, ErrNotFound)
		s.wantTimes(c, "2", 0)
	})
}

// A repeat of an event that the overflow policy dropped is told so.
func TestRepeatOfDropped(t *testing.T) {
	within(t, func(s *alone) {
		conn, open := s.connect()
		c := open(gateway.Grant{Overflow: outbox.DropOldest})
		c.set(true, false)
		large := strings.Repeat("x", 400)
		for range 2 { // the first is on its way
			s.want(Send{Token: conn.Token(), Event: sse.Event{Data: large}, HasEvent: true}, Sent, nil)
		}
		result := make(chan Outcome, 1)
		go func() {
			outcome, _ := s.Send(s.t.Context(), waited(once(conn, "k", large)))
			result <- outcome
		}()
		synctest.Wait()
		for range 3 {
			s.want(Send{Token: conn.Token(), Event: sse.Event{Data: large}, HasEvent: true}, Sent, nil)
		}
		if outcome := <-result; outcome != Dropped {
			t.Error(outcome)
		}
		s.want(waited(once(conn, "k", large)), Dropped|Duplicate, nil)
	})
}

// A send that must not wait never does, not even for the first.
func TestRepeatNow(t *testing.T) {
	within(t, func(s *alone) {
		conn, open := s.connect()
		open(gateway.Grant{})
		send := once(conn, "k", "1")
		claim, _, _, err := s.sent.Begin(sendKey{conn.Token(), "k"}, send.digest())
		if err != nil || claim == nil {
			t.Fatal("no claim", err)
		}
		if _, err := s.SendNow(s.t.Context(), send); !errors.Is(err, ErrWouldWait) {
			t.Error(err)
		}
		result := make(chan Outcome, 1)
		go func() {
			outcome, _ := s.Send(s.t.Context(), send)
			result <- outcome
		}()
		synctest.Wait()
		claim.Drop()
		if outcome := <-result; outcome != Sent {
			t.Error(outcome)
		}
		if outcome, err := s.SendNow(s.t.Context(), send); outcome != Sent|Duplicate || err != nil {
			t.Error(outcome, err)
		}
		if _, err := s.SendNow(s.t.Context(), waited(send)); !errors.Is(err, ErrWouldWait) {
			t.Error(err)
		}
	})
}

func published(key, data string) Publication {
	return Publication{Topics: []string{"b", "a", "b"}, Event: sse.Event{Data: data}, Store: true, IdempotencyKey: key}
}

// A repeat of a publish gets the first position, and the first count of receivers where that is
// known.
func TestRepeatedPublish(t *testing.T) {
	within(t, func(s *alone) {
		conn, open := s.connect()
		c := open(gateway.Grant{Topics: []string{"a"}})
		synctest.Wait()
		elsewhere := NewOwn(s.gw, s.topics, s.name, s.log) // as a node that shares the log
		first, err := s.Publish(s.t.Context(), published("k", "1"))
		if err != nil || first.Receivers != 1 || first.Duplicate || first.Uncounted {
			t.Fatalf("%+v, %v", first, err)
		}
		want := first
		want.Duplicate = true
		p := published("k", "1")
		p.Topics = []string{"a", "b"}
		if again, err := s.Publish(s.t.Context(), p); err != nil || !reflect.DeepEqual(again, want) {
			t.Errorf("%+v, %v", again, err)
		}
		for range 2 {
			if again, err := elsewhere.Publish(s.t.Context(), p); err != nil || again.Position != first.Position || !again.Duplicate || !again.Uncounted {
				t.Errorf("%+v, %v", again, err)
			}
		}
		for _, own := range []*Own{s.Own, elsewhere} {
			if _, err := own.Publish(s.t.Context(), published("k", "2")); !errors.Is(err, ErrKeyReused) {
				t.Error(err)
			}
		}
		s.want(once(conn, "k", "3"), Sent, nil) // a send's key is another one
		s.wantTimes(c, "3", 1)
		if n := s.engine.Log().Stats().Last; n != 1 {
			t.Errorf("%d events in the log", n)
		}
		time.Sleep(repeats.Life) // fake clock
		if again, err := elsewhere.Publish(s.t.Context(), p); err != nil || again.Position.Offset != 2 || again.Duplicate {
			t.Errorf("%+v, %v", again, err)
		}
		if ok, failed, duplicate := s.Publishes(); ok != 1 || failed != 0 || duplicate != 1 {
			t.Errorf("counted %d, %d, %d", ok, failed, duplicate)
		}
	})
}

// Every field that decides what a request does is in its digest.
func TestDigestFields(t *testing.T) {
	name, _ := sse.NewName("n")
	differ := func(zero, changed func() repeats.Digest, field string, want bool) {
		if (zero() != changed()) != want {
			t.Errorf("%s: in the digest is %v, want %v", field, !want, want)
		}
	}
	sends := map[string]Send{
		"Event": {Event: sse.Event{Name: name}}, "HasEvent": {HasEvent: true}, "Close": {Close: true},
		"Token": {Token: gateway.Token{1}}, "Wait": {Wait: true}, "IdempotencyKey": {IdempotencyKey: "k"},
	}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Send]()) {
		s, known := sends[f.Name]
		if !known {
			t.Errorf("Send.%s: does it belong to the digest?", f.Name)
		}
		differ((&Send{}).digest, s.digest, "Send."+f.Name, f.Name == "Event" || f.Name == "HasEvent" || f.Name == "Close")
	}
	publications := map[string]Publication{
		"Topics": {Topics: []string{"a"}}, "Event": {Event: sse.Event{Name: name}}, "Store": {Store: true},
		"Retain": {Retain: true}, "Key": {Key: "k"}, "All": {All: true}, "IdempotencyKey": {IdempotencyKey: "k"},
	}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Publication]()) {
		p, known := publications[f.Name]
		if !known {
			t.Errorf("Publication.%s: does it belong to the digest?", f.Name)
		}
		differ((&Publication{}).digest, p.digest, "Publication."+f.Name, f.Name != "All" && f.Name != "IdempotencyKey")
	}
}

// Sends with few keys, at once and one after the other, to a connection that opens and may leave at any
// time. Every key acts at most once, and exactly once if it was last answered as carried out and the
// client is there to take it.
func TestModelOfSends(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		rapid.SyncTest(rt, func(rt *rapid.T) { live(rt, func(s *alone) { modelOfSends(rt, s) }) })
	})
}

func modelOfSends(rt *rapid.T, s *alone) {
	conn, open := s.connect()
	var c *client
	accepted, left := map[string]bool{}, false
	var mu sync.Mutex
	for range rapid.IntRange(1, 8).Draw(rt, "steps") {
		switch rapid.SampledFrom([]string{"send", "send", "send", "open", "leave", "stop", "go on"}).Draw(rt, "step") {
		case "open":
			if c == nil {
				c = open(gateway.Grant{})
			}
		case "leave":
			if c != nil && rapid.Bool().Draw(rt, "really") {
				c.set(false, true)
				conn.Abort(gateway.ClientClosed, 0)
				left = true
			}
		case "stop":
			if c != nil {
				c.set(true, left)
			}
		case "go on":
			if c != nil {
				c.set(false, left)
				conn.Ready(c, false, true)
			}
		case "send":
			key := rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "key")
			send := once(conn, key, key)
			if send.Wait = rapid.Bool().Draw(rt, "wait"); rapid.Bool().Draw(rt, "large") {
				send.Event.Data += strings.Repeat("x", 600)
			}
			patience := time.Duration(rapid.IntRange(1, 14).Draw(rt, "patience")) * time.Second
			ctx, cancel := context.WithTimeout(s.t.Context(), patience)
			var sending sync.WaitGroup
			for range rapid.IntRange(1, 3).Draw(rt, "at once") {
				sending.Go(func() {
					switch _, err := s.Send(ctx, send); {
					case err == nil:
						mu.Lock()
						accepted[send.Event.Data] = true
						mu.Unlock()
					case !errors.Is(err, ErrWriteTimeout) && !errors.Is(err, ErrKeyReused) && !errors.Is(err, ErrBufferFull) && conn.State() != gateway.Closed:
						rt.Errorf("%v", err)
					}
				})
			}
			sending.Wait()
			cancel()
		}
	}
	if c == nil {
		c = open(gateway.Grant{})
	}
	c.set(false, left)
	conn.Ready(c, false, true)
	synctest.Wait()
	for _, key := range []string{"a", "b"} {
		small, large := key, key+strings.Repeat("x", 600)
		if n := c.times(small) + c.times(large); n > 1 {
			rt.Errorf("%s: %d times", key, n)
		}
		for _, data := range []string{small, large} {
			if accepted[data] && conn.State() == gateway.Open && c.times(data) != 1 {
				rt.Errorf("%.3q was answered as carried out, and did not arrive", data)
			}
		}
	}
}
