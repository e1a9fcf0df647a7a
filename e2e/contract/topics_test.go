package contract

import (
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/google/go-cmp/cmp"

	"ssegateway/e2e/harness"
	"ssegateway/sse"
)

const publishPath = "/internal/publish"

// topics has the cases about publishing, and about which streams get an event.
var topics = section{title: "12 topics", cases: []contractCase{
	{name: "publish: status, id and receivers, and the event with its id", run: func(t *T) {
		s := t.Shared()
		topic := NewTopic()
		x, y, other := s.OpenTopics(topic), s.OpenTopics(topic), s.OpenTopics(NewTopic())
		id := s.Publish(object{"topic": topic, "event": object{"name": "message", "data": "a\nb", "retry": 7}}, 2)
		for _, stream := range []*Stream{x, y} {
			stream.wantPosition()
			stream.Want("event: message\nid: " + id + "\nretry: 7\ndata: a\ndata: b\n\n")
		}
		s.Event(other.token, "nothing before this")
		other.WantEvents("nothing before this")
	}},
	{name: "zero receivers is a success, and said", run: func(t *T) {
		s := t.Shared()
		topic := NewTopic()
		s.Publish(object{"topics": []string{topic}, "event": object{"data": "x"}}, 0)
		x := s.OpenTopics(topic)
		x.Leave()
		x.Disconnect()
		s.Publish(object{"topic": topic, "event": object{"data": "x"}}, 0)
	}},
	{name: "a connection that has several of the topics gets it once", run: func(t *T) {
		s := t.Shared()
		a, b, c := NewTopic(), NewTopic(), NewTopic()
		all, one := s.OpenTopics(a, b, c), s.OpenTopics(b)
		s.Publish(object{"topics": []string{a, b, c, a}, "event": object{"data": "once"}}, 2)
		s.Publish(object{"topics": []string{c, a}, "event": object{"data": "next"}}, 1)
		s.Publish(object{"topic": b, "event": object{"data": "last"}}, 2)
		all.WantEvents("once", "next", "last")
		one.WantEvents("once", "last")
	}},
	{name: "a topic is 1 to 256 bytes, exact match, no wildcards", run: func(t *T) {
		s := t.Shared()
		base := NewTopic()
		long := base + strings.Repeat("é", (256-len(base))/2)
		long += strings.Repeat("x", 256-len(long))
		for _, topic := range []string{base + ".*", base + " a/b?c#d%e", long} {
			x := s.OpenTopics(topic)
			for _, other := range []string{base + ".x", base + ".", strings.ToUpper(topic), " " + base, long[:254]} {
				s.Publish(object{"topic": other, "event": object{"data": "for nobody"}}, 0)
			}
			s.Publish(object{"topic": topic, "event": object{"data": "exact"}}, 1)
			x.WantEvents("exact")
		}
	}},
	{name: "a publish that is not valid is refused, and nobody gets anything", run: func(t *T) {
		s := t.Shared()
		topic := NewTopic()
		x := s.OpenTopics(topic)
		for code, bodies := range map[string][]string{
			"INVALID_JSON":               {``, `[]`, `{`, `{"topic":"T","topic":"T","event":{"data":"x"}}`, `{"topic":"T","event":{"data":"x"}} x`},
			"INVALID_TOPICS":             {`{"event":{"data":"x"}}`, `{"topic":"T","topics":["T"],"event":{"data":"x"}}`, `{"topics":[],"event":{"data":"x"}}`, `{"topics":"T","event":{"data":"x"}}`, `{"topic":["T"],"event":{"data":"x"}}`, `{"topics":["T",1],"event":{"data":"x"}}`, `{"topics":["T",""],"event":{"data":"x"}}`, `{"topic":"a\nb","event":{"data":"x"}}`, `{"topic":"` + strings.Repeat("x", 257) + `","event":{"data":"x"}}`, `{"topic":null,"event":{"data":"x"}}`, `{"TOPIC":"T","event":{"data":"x"}}`},
			"INVALID_EVENT_TYPE":         {`{"topic":"T","event":null}`, `{"topic":"T","event":[]}`},
			"INVALID_EVENT_DATA_MISSING": {`{"topic":"T","event":{}}`, `{"topic":"T","event":{"data":1}}`},
			"INVALID_EVENT_NAME_TYPE":    {`{"topic":"T","event":{"data":"x","name":1}}`},
			"INVALID_EVENT_NAME":         {`{"topic":"T","event":{"data":"x","name":"a\nb"}}`},
			"INVALID_EVENT_ID":           {`{"topic":"T","event":{"data":"x","id":"7"}}`},
			"INVALID_EVENT_RETRY":        {`{"topic":"T","event":{"data":"x","retry":-1}}`},
			"INVALID_STORE_TYPE":         {`{"topic":"T","event":{"data":"x"},"store":"no"}`, `{"topic":"T","event":{"data":"x"},"store":null}`},
			"INVALID_COUNT":              {`{"topic":"T","event":{"data":"x"},"count":"some"}`, `{"topic":"T","event":{"data":"x"},"count":1}`},
		} {
			for _, body := range bodies {
				body = strings.ReplaceAll(body, `"T"`, `"`+topic+`"`)
				got := s.Call(http.MethodPost, publishPath, body, "Content-Type", "application/json")
				if problem := got.notError(http.StatusBadRequest, code, ""); problem != "" {
					t.Errorf("%.200s: %s", body, problem)
				}
			}
		}
		valid := encode(object{"topic": topic, "event": object{"data": "wrong"}})
		s.WantError(s.Call(http.MethodPost, publishPath, valid, "Content-Type", "text/plain"), http.StatusUnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE", "")
		s.WantError(s.Call(http.MethodGet, publishPath, ""), http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED", "")
		s.Publish(object{"topic": topic, "event": object{"data": "right"}}, 1)
		x.WantEvents("right")
	}},
	{name: "count all waits for every node's", run: func(t *T) {
		s := t.Shared()
		topic := NewTopic()
		x := s.OpenTopics(topic)
		s.Publish(object{"topic": topic, "event": object{"data": "a"}, "count": "all"}, 1)
		s.Publish(object{"topic": topic, "event": object{"data": "b"}, "count": "node"}, 1)
		x.WantEvents("a", "b")
	}},
	{name: "store false: no id, its place in the live order, not replayed", run: func(t *T) {
		s := t.Shared()
		topic := NewTopic()
		x := s.OpenTopics(topic)
		x.wantPosition()
		a := s.Publish(object{"topic": topic, "event": object{"data": "a"}, "store": true}, 1)
		s.publishUnstored(object{"topic": topic, "event": object{"data": "b"}}, 1)
		c := s.Publish(object{"topic": topic, "event": object{"data": "c"}}, 1)
		s.publishUnstored(object{"topic": topic, "event": object{"data": "d"}}, 1)
		x.Want("id: " + a + "\ndata: a\n\ndata: b\n\nid: " + c + "\ndata: c\n\ndata: d\n\n")
		back := s.ComeBack(a, topic)
		back.Want("id: " + a + "\n\nid: " + c + "\ndata: c\n\n")
		s.publishUnstored(object{"topic": topic, "event": object{"data": "e"}}, 2)
		back.Want("data: e\n\n")
	}},
	{name: "one publisher's events on one topic arrive in its order at every client", run: func(t *T) {
		s := t.Shared()
		topic := NewTopic()
		const publishers, each = 3, 40
		clients := []*Stream{s.OpenTopics(topic), s.OpenTopics(topic, NewTopic()), s.OpenTopics(topic)}
		var wg sync.WaitGroup
		problems := make(chan string, publishers)
		for p := range publishers {
			wg.Go(func() {
				for i := range each {
					body := object{"topic": topic, "event": object{"name": itoa(p), "data": itoa(i)}, "store": i%4 != 3}
					got, err := s.call(http.MethodPost, publishPath, jsonBody(body), "Content-Type", "application/json")
					if err != nil || got.Status != http.StatusOK {
						problems <- fmt.Sprintf("status %d with %s (%v)", got.Status, quoted(got.Body), err)
						return
					}
				}
			})
		}
		wg.Wait()
		close(problems)
		for p := range problems {
			t.Fatal(p)
		}
		var first []string
		for n, x := range clients {
			next := map[string]int{}
			var all []string
			for range publishers * each {
				e := x.NextEvent()
				all = append(all, e.Name.String()+" "+e.Data)
				if e.Data != itoa(next[e.Name.String()]) {
					t.Fatalf("client %d got number %s of publisher %s, want number %d", n, e.Data, e.Name, next[e.Name.String()])
				}
				next[e.Name.String()]++
			}
			if first == nil {
				first = all
			}
			if diff := cmp.Diff(first, all); diff != "" {
				t.Errorf("client %d got another order than the first:\n%s", n, diff)
			}
		}
	}},
	{name: "what was answered ok before a publish arrives before it, and behind it what came after", run: func(t *T) {
		s := t.Shared()
		topic := NewTopic()
		x := s.OpenTopics(topic)
		var want []string
		for i := range 30 {
			s.Event(x.token, "sent "+itoa(i))
			s.Publish(object{"topic": topic, "event": object{"data": "published " + itoa(i)}}, 1)
			want = append(want, "sent "+itoa(i), "published "+itoa(i))
		}
		x.WantEvents(want...)
	}},
}}

// Publish publishes an event, which must have that many receivers, and returns its id.
func (s *Site) Publish(body object, receivers int) (id string) {
	s.t.Helper()
	var answer struct{ ID string }
	got := s.Call(http.MethodPost, publishPath, encode(body), "Content-Type", "application/json")
	_ = decode(got.Body, &answer)
	if answer.ID == "" {
		s.t.Fatalf("status %d with %s, want an id", got.Status, quoted(got.Body))
	}
	s.WantJSON(got, http.StatusOK, object{"status": "ok", "id": answer.ID, "receivers": float64(receivers)})
	return answer.ID
}

func (s *Site) publishUnstored(body object, receivers int) {
	s.t.Helper()
	body["store"] = false
	got := s.Call(http.MethodPost, publishPath, encode(body), "Content-Type", "application/json")
	s.WantJSON(got, http.StatusOK, object{"status": "ok", "receivers": float64(receivers)})
}

// OpenTopics opens a stream with these topics.
func (s *Site) OpenTopics(topics ...string) *Stream {
	s.t.Helper()
	return s.OpenWith(harness.Request{Target: "/"}, granting(encode(object{"topics": topics})))
}

// ComeBack opens a stream with that Last-Event-ID.
func (s *Site) ComeBack(lastEventID string, topics ...string) *Stream {
	s.t.Helper()
	return s.OpenWith(comingBack(lastEventID), granting(encode(object{"topics": topics})))
}

func comingBack(lastEventID string) harness.Request {
	return harness.Request{Target: "/", Header: []harness.Field{{Name: "last-event-id", Value: lastEventID}}}
}

// wantPosition reads the block with only an id, with which a stream with topics begins, and
// returns the id.
func (x *Stream) wantPosition() string {
	x.s.t.Helper()
	block := ""
	for !strings.HasSuffix(block, "\n\n") {
		b, err := x.Next(1, patience)
		if err != nil {
			x.s.t.Fatalf("%v after %s", err, quoted(block))
		}
		block += b
	}
	id, ok := strings.CutPrefix(strings.TrimSuffix(block, "\n\n"), "id: ")
	if !ok || id == "" || strings.Contains(id, "\n") {
		x.s.t.Fatalf("the stream has %s, want a block of only id", quoted(block))
	}
	return id
}

// Read makes the stream the reader of a decoder.
func (x *Stream) Read(b []byte) (int, error) {
	got, err := x.Next(1, patience)
	return copy(b, got), err
}

// NextEvent waits for the next event. Like a browser, it ignores blocks without data.
func (x *Stream) NextEvent() sse.Event {
	x.s.t.Helper()
	if x.decoder == nil {
		x.decoder = sse.NewDecoder(x)
	}
	e, err := x.decoder.Next()
	if err != nil {
		x.s.t.Fatalf("no further event: %v", err)
	}
	return e
}

// WantEvents waits for the next events, which must have these data.
func (x *Stream) WantEvents(data ...string) {
	x.s.t.Helper()
	for _, want := range data {
		if e := x.NextEvent(); e.Data != want {
			x.s.t.Fatalf("event %q with data %s, want %s", e.Name, quoted(e.Data), quoted(want))
		}
	}
}
