package contract

import (
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"ssegateway/e2e/harness"
)

const tailPath = "/internal/tail"

// tails has the cases about an operator who follows topics.
var tails = section{title: "16 tails", cases: []contractCase{
	{name: "a tail: the topics' events, each once, from now on, with the head of a stream", run: func(t *T) {
		s := t.Start() // others would move the position
		a, b := NewTopic(), NewTopic()
		before := s.Publish(object{"topic": a, "event": object{"data": "before"}}, 0)
		x := s.tail("", a, b)
		head := x.WantHead()
		for name, want := range map[string]string{"Content-Type": "text/event-stream", "X-Accel-Buffering": "no", "X-Content-Type-Options": "nosniff"} {
			if head.Get(name) != want {
				t.Errorf("%s: %q, want %q", name, head.Get(name), want)
			}
		}
		x.Want("id: " + before + "\n\n")
		first := s.Publish(object{"topics": []string{a, b}, "event": object{"name": "n", "data": "1"}}, 0)
		s.publishUnstored(object{"topic": b, "event": object{"data": "2"}}, 0)
		s.Publish(object{"topic": NewTopic(), "event": object{"data": "another"}}, 0)
		last := s.Publish(object{"topic": a, "event": object{"data": "3"}}, 0)
		x.Want("event: n\nid: " + first + "\ndata: 1\n\ndata: 2\n\nid: " + last + "\ndata: 3\n\n")
	}},
	{name: "a tail from Last-Event-ID: what was published since, then live; gap where that is not known", run: func(t *T) {
		s := t.Shared()
		topic := NewTopic()
		had := s.Publish(object{"topic": topic, "event": object{"data": "had"}}, 0)
		missed := s.Publish(object{"topic": topic, "event": object{"data": "missed"}}, 0)
		x := s.tail(had, topic)
		x.Want("id: " + had + "\n\nid: " + missed + "\ndata: missed\n\n")
		live := s.Publish(object{"topic": topic, "event": object{"data": "live"}}, 0)
		x.Want("id: " + live + "\ndata: live\n\n")
		s.tail("lost", topic).wantGap("lost")
	}},
	{name: "a tail is no connection: not listed, closed, counted, or told of, and takes no stream's place", run: func(t *T) {
		s := t.Start("MAX_CONNECTIONS=1", "HEARTBEAT_INTERVAL_SECONDS=1")
		x := s.tail("", "t")
		x.Want("id: " + s.Stats().Log.Epoch + "-0\n\n: heartbeat\n\n")
		own := s.OpenTopics("t")
		own.wantPosition()
		if listed, _ := s.List(filter("t", "")); len(listed) != 1 || listed[0] != own.token {
			t.Errorf("listed: %q", listed)
		}
		if listed, _ := s.List(nil); len(listed) != 1 {
			t.Errorf("listed: %q", listed)
		}
		if got := s.Stats(); got.Connections.Open != 1 || got.Connections.Pending != 0 || got.Opened != 1 {
			t.Errorf("counted: %+v", got)
		}
		id := s.Publish(object{"topic": "t", "event": object{"data": "x"}}, 1)
		s.WantJSON(s.Call(http.MethodDelete, connectionsPath+"?topic=t", ""), http.StatusOK, object{"closed": 1.0})
		own.WantDisconnect("server_closed")
		x.awaitText("id: " + id + "\ndata: x\n\n")
		s.Publish(object{"topic": "t", "event": object{"data": "the tail lives"}}, 0)
		x.awaitText("data: the tail lives\n\n")
		x.Leave()
		last := s.OpenTopics("t")
		last.Leave()
		last.Disconnect() // what the backend was to hear before, it has heard
		if calls := s.backend.Calls(action("", "connect")); len(calls) > 0 {
			t.Errorf("the backend was asked about the tail: %s", calls[0].Body)
		}
	}},
	{name: "a tail that is not as it must be: an error, and never a stream", run: func(t *T) {
		s := t.Shared()
		for query, code := range map[string]string{
			"": "INVALID_TOPICS", "?topic=": "INVALID_TOPICS", "?topic=a&topic=%00": "INVALID_TOPICS", "?topic=%ff": "INVALID_TOPICS",
			"?topic=a" + strings.Repeat("&topic=a", 100): "TOO_MANY_TOPICS", "?topic=%": "INVALID_QUERY",
		} {
			s.WantError(s.Call(http.MethodGet, tailPath+query, ""), http.StatusBadRequest, code, "")
		}
		s.WantError(s.Call(http.MethodGet, tailPath+"?topic=a", "body"), http.StatusBadRequest, "BODY_NOT_ALLOWED", "")
		s.WantError(s.Call(http.MethodPost, tailPath+"?topic=a", ""), http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED", "")
		for _, header := range []string{"X-Forwarded-For", "Origin"} {
			s.WantError(s.Call(http.MethodGet, tailPath+"?topic=a", "", header, "http://192.0.2.1"), http.StatusForbidden, "INTERNAL_FORBIDDEN", "")
		}
	}},
	{name: "32 tails at a time, or an eighth of the reserve of descriptors: another one is a 429, until one has left", run: func(t *T) {
		s := t.Start()
		_, reserve, _ := strings.Cut(s.WantLog("descriptors .*reserve="), "reserve=")
		var all []*Stream
		for range min(32, atoi(t, reserve)/8) {
			x := s.tail("", "t")
			x.wantPosition()
			all = append(all, x)
		}
		s.WantError(s.Call(http.MethodGet, tailPath+"?topic=t", ""), http.StatusTooManyRequests, "TOO_MANY_TAILS", "")
		all[0].Leave()
		for end := time.After(patience); ; pause(10 * time.Millisecond) {
			x := s.tail("", "t")
			if x.WantHead().Status == http.StatusOK {
				break
			}
			select {
			case <-end:
				t.Fatal("the place of a tail that has left is not free")
			default:
			}
		}
		s.Publish(object{"topic": "t", "event": object{"data": "x"}}, 0)
		for _, x := range all[1:] {
			x.awaitText("data: x\n\n")
		}
	}},
	{name: "a tail at the listener of INTERNAL_ADDR, of a port and of a socket", run: func(t *T) {
		port, err := harness.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		socket := filepath.Join(t.TempDir(), "s")
		for setting, e := range map[string]harness.Endpoint{
			"127.0.0.1:" + itoa(port): {Addr: "127.0.0.1:" + itoa(port)}, "unix:" + socket: {Addr: socket},
		} {
			s := t.Start("INTERNAL_ADDR=" + setting)
			x := s.tailAt(e, "", "t")
			x.wantPosition()
			client := e.Client()
			got, err := call(t, client, e, http.MethodPost, publishPath, jsonBody(object{"topic": "t", "event": object{"data": "x"}}), "Content-Type", "application/json")
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasSuffix(got.Body, `"receivers":0}`) {
				t.Errorf("%d %s", got.Status, got.Body)
			}
			x.awaitText("data: x\n\n")
			x.Leave()
			client.CloseIdleConnections()
			s.WantError(s.Call(http.MethodGet, tailPath+"?topic=t", ""), http.StatusForbidden, "INTERNAL_FORBIDDEN", "")
		}
	}},
	{name: "a drain ends a tail as it ends a stream: it is told when to come back", run: func(t *T) {
		s := t.Start()
		x := s.tail("", "t")
		x.wantPosition()
		s.signal(syscall.SIGTERM)
		rest, end, err := x.Rest(patience)
		if !strings.HasPrefix(rest, "retry: ") || end != harness.Clean {
			t.Errorf("%q, %v, %v", rest, end, err)
		}
	}},
}}

// tail opens a tail of these topics, behind an id if there is one.
func (s *Site) tail(lastEventID string, topics ...string) *Stream {
	s.t.Helper()
	return s.tailAt(s.endpoint, lastEventID, topics...)
}

func (s *Site) tailAt(e harness.Endpoint, lastEventID string, topics ...string) *Stream {
	s.t.Helper()
	r := harness.Request{Host: "127.0.0.1", Target: tailPath + "?topic=" + strings.Join(topics, "&topic=")}
	if lastEventID != "" {
		r.Header = append(r.Header, harness.Field{Name: "last-event-id", Value: lastEventID})
	}
	return &Stream{s: s, Exchange: do(s.t, e, r)}
}

// awaitText reads on until this has come.
func (x *Stream) awaitText(want string) {
	x.s.t.Helper()
	for got := ""; !strings.HasSuffix(got, want); {
		b, err := x.Next(1, patience)
		if err != nil {
			x.s.t.Fatalf("%s, want %s behind it: %v", quoted(got), quoted(want), err)
		}
		got += b
	}
}
