package contract

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"

	"ssegateway/e2e/harness"
)

const connectionsPath = "/internal/connections"

// steering has the cases about listing, changing and closing connections.
var steering = section{title: "14 looking at and steering connections", cases: []contractCase{
	{name: "GET one: token, node, state, path without query, subject, topics, since, written, queued, drops", run: func(t *T) {
		s := t.Shared()
		topic, subject := NewTopic(), NewTopic()
		grant := encode(object{"topics": []string{topic}, "subject": subject})
		x := s.OpenWith(harness.Request{Target: "/rooms//7?secret=1"}, granting(grant))
		s.WantStatusOK(s.SendObject(object{"token": x.token, "event": object{"data": "hello"}, "wait": "written"}), "written")
		x.WantEvents("hello")
		got := s.Connection(x.token)
		since, err := time.Parse(time.RFC3339, got.Since)
		if err != nil || since.After(time.Now()) {
			t.Errorf("since %q", got.Since)
		}
		if got.Node == "" {
			t.Error("no node")
		}
		if got.Bytes < len("data: hello\n\n") {
			t.Errorf("%d bytes written", got.Bytes)
		}
		want := Connection{
			Token: x.token, Node: got.Node, State: "open", Path: "/rooms//7", Subject: subject, Topics: []string{topic},
			Overflow: "disconnect", Since: got.Since, Events: 1, Bytes: got.Bytes, Request: got.Request,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}},
	{name: "GET one: of its request the path and the headers that are on the list, nothing secret, and no query", run: func(t *T) {
		s := t.Shared()
		x := s.OpenWith(harness.Request{Target: "/rooms/8?secret=1", Header: []harness.Field{
			{Name: "accept", Value: "text/event-stream"},
			{Name: "authorization", Value: "Bearer secret"},
			{Name: "cookie", Value: "secret=1"},
			{Name: "last-event-id", Value: "secret"},
			{Name: "x-api-key", Value: "secret"},
			{Name: "x-forwarded-access-token", Value: "secret"},
			{Name: "referer", Value: "http://ada:secret@app.test/chat?secret#secret"},
			{Name: "user-agent", Value: strings.Repeat("u", 1025)},
			{Name: "x-forwarded-for", Value: "192.0.2.1"},
		}}, granting(`{}`))
		got := s.Connection(x.token).Request
		if got == nil {
			t.Fatal("no request")
		}
		delete(got.Headers, "host")
		want := &Request{Path: "/rooms/8", Headers: map[string]string{
			"accept": "text/event-stream", "referer": "http://app.test/chat", "user-agent": strings.Repeat("u", 1024) + "…", "x-forwarded-for": "192.0.2.1",
		}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		if list := s.Call(http.MethodGet, connectionsPath+"?limit=1000", ""); strings.Contains(list.Body, `"request"`) {
			t.Errorf("the list has requests: %s", list.Body)
		}
	}},
	{name: "GET one: a pending connection is one", run: func(t *T) {
		s := t.Shared()
		x, accept := s.pendingWith(`{"subject":"x"}`)
		if got := s.Connection(x.token); got.State != "pending" || got.Subject != "" {
			t.Errorf("state %q, subject %q", got.State, got.Subject)
		}
		accept()
		x.WantHead()
		if got := s.Connection(x.token); got.State != "open" || got.Subject != "x" {
			t.Errorf("state %q, subject %q", got.State, got.Subject)
		}
	}},
	{name: "GET and DELETE one, PATCH: 404 where there is none", run: func(t *T) {
		s := t.Shared()
		x := s.Open("/")
		s.CloseStream(x.token)
		for _, token := range []string{x.token, "00000000-0000-4000-8000-000000000000", "x", x.token + "x", "%2e%2e", "a%20b"} {
			s.WantError(s.Call(http.MethodGet, connectionsPath+"/"+token, ""), http.StatusNotFound, "TOKEN_NOT_FOUND", "Token not found")
			s.WantError(s.Call(http.MethodDelete, connectionsPath+"/"+token, ""), http.StatusNotFound, "TOKEN_NOT_FOUND", "Token not found")
			s.WantError(s.Patch(token, `{"topics":{"add":["a"]}}`), http.StatusNotFound, "TOKEN_NOT_FOUND", "Token not found")
		}
	}},
	{name: "GET the list: those that fit all filters, exactly", run: func(t *T) {
		s := t.Shared()
		a, b, ada, bob := NewTopic(), NewTopic(), NewTopic()+"?&=é", NewTopic()
		open := func(subject string, topics ...string) string {
			return s.OpenWith(harness.Request{Target: "/"}, granting(encode(object{"topics": topics, "subject": subject}))).token
		}
		adaA, adaAB, bobB := open(ada, a), open(ada, a, b), open(bob, b)
		for _, c := range []struct {
			topic, subject string
			want           []string
		}{
			{a, "", []string{adaA, adaAB}},
			{b, "", []string{adaAB, bobB}},
			{"", ada, []string{adaA, adaAB}},
			{"", bob, []string{bobB}},
			{b, ada, []string{adaAB}},
			{a, bob, nil},
			{a + ".x", "", nil},
			{"", strings.ToUpper(bob), nil},
			{"topic.*", "", nil},
		} {
			got, next := s.List(filter(c.topic, c.subject))
			if diff := cmp.Diff(sorted(c.want), got); diff != "" || next != "" {
				t.Errorf("topic %q, subject %q: -want +got:\n%s\nnext_cursor %q", c.topic, c.subject, diff, next)
			}
		}
	}},
	{name: "GET the list: limit and cursor go through all of them, each once", run: func(t *T) {
		s := t.Start()
		want := []string{}
		for range 5 {
			want = append(want, s.Open("/").token)
		}
		all, next := s.List(url.Values{})
		if diff := cmp.Diff(sorted(want), all); diff != "" || next != "" {
			t.Errorf("without a limit: -want +got:\n%s\nnext_cursor %q", diff, next)
		}
		var got []string
		for _, size := range []int{2, 2, 1} {
			values := url.Values{"limit": {"2"}}
			if next != "" {
				values.Set("cursor", next)
			}
			var page []string
			page, next = s.List(values)
			if len(page) != size {
				t.Errorf("a page of %d, want %d", len(page), size)
			}
			got = append(got, page...)
		}
		if diff := cmp.Diff(want, got); diff != "" || next != "" {
			t.Errorf("by pages: -want +got:\n%s\nnext_cursor %q", diff, next)
		}
		if page, next := s.List(url.Values{"limit": {"5"}}); len(page) != 5 || next != "" {
			t.Errorf("a page of %d with next_cursor %q, although it is the last one", len(page), next)
		}
	}},
	{name: "GET the list: a bad limit, cursor or query is a 400", run: func(t *T) {
		s := t.Shared()
		for query, code := range map[string]string{
			"limit=0": "INVALID_LIMIT", "limit=-1": "INVALID_LIMIT", "limit=1001": "INVALID_LIMIT", "limit=x": "INVALID_LIMIT", "limit=1.5": "INVALID_LIMIT",
			"cursor=x": "INVALID_CURSOR", "topic=%zz": "INVALID_QUERY",
		} {
			s.WantError(s.Call(http.MethodGet, connectionsPath+"?"+query, ""), http.StatusBadRequest, code, "")
		}
	}},
	{name: "DELETE one closes it, with server_closed", run: func(t *T) {
		s := t.Shared()
		x := s.Open("/")
		s.Event(x.token, "last")
		s.WantStatusOK(s.Call(http.MethodDelete, connectionsPath+"/"+x.token, ""), "ok")
		s.wantGone(x.token)
		x.Want("data: last\n\n")
		x.WantEnd()
		x.WantDisconnect("server_closed")
	}},
	{name: "DELETE one: a pending one is closed once it is open", run: func(t *T) {
		s := t.Shared()
		x, accept := s.pending()
		s.WantStatusOK(s.Call(http.MethodDelete, connectionsPath+"/"+x.token, ""), "buffered")
		accept()
		x.WantHead()
		x.WantEnd()
		x.WantDisconnect("server_closed")
	}},
	{name: "DELETE by subject, by topic, by both closes all that fit and answers how many", run: func(t *T) {
		s := t.Shared()
		topic, ada, bob := NewTopic(), NewTopic(), NewTopic()
		open := func(subject string, topics ...string) *Stream {
			topics = append([]string{}, topics...) // null is not an array
			return s.OpenWith(harness.Request{Target: "/"}, granting(encode(object{"topics": topics, "subject": subject})))
		}
		ada1, ada2, ada3 := open(ada, topic), open(ada), open(ada)
		bob1, bob2 := open(bob, topic), open(bob)
		for _, step := range []struct {
			topic, subject string
			closed         []*Stream
		}{
			{topic, ada, []*Stream{ada1}},
			{"", ada, []*Stream{ada2, ada3}},
			{"", ada, nil},
			{topic, "", []*Stream{bob1}},
			{topic + ".x", "", nil},
		} {
			got := s.Call(http.MethodDelete, connectionsPath+"?"+filter(step.topic, step.subject).Encode(), "")
			s.WantJSON(got, http.StatusOK, object{"closed": float64(len(step.closed))})
			for _, x := range step.closed {
				s.wantGone(x.token)
				if _, end, err := x.Rest(patience); end != harness.Clean {
					t.Errorf("%v (%v), want the end of the stream", end, err)
				}
				x.WantDisconnect("server_closed")
			}
		}
		s.Event(bob2.token, "unharmed")
		bob2.WantEvents("unharmed")
	}},
	{name: "DELETE without a filter is a 400: all connections are never closed at once", run: func(t *T) {
		s := t.Shared()
		x := s.Open("/")
		for _, query := range []string{"", "?", "?subject=", "?topic=&subject=", "?limit=1"} {
			s.WantError(s.Call(http.MethodDelete, connectionsPath+query, ""), http.StatusBadRequest, "INVALID_FILTER", "")
		}
		s.WantError(s.Call(http.MethodDelete, connectionsPath+"?topic=%zz", ""), http.StatusBadRequest, "INVALID_QUERY", "")
		s.Event(x.token, "unharmed")
		x.Want("data: unharmed\n\n")
	}},
	{name: "PATCH adds and removes topics, from then on", run: func(t *T) {
		s := t.Shared()
		a, b := NewTopic(), NewTopic()
		x := s.OpenTopics(a)
		s.Publish(object{"topic": b, "event": object{"data": "too early"}}, 0)
		s.wantTopics(s.Patch(x.token, encode(object{"topics": object{"add": []string{b, a}}})), a, b)
		s.Publish(object{"topic": b, "event": object{"data": "added"}}, 1)
		s.wantTopics(s.Patch(x.token, encode(object{"topics": object{"remove": []string{a, "not there"}}})), b)
		s.Publish(object{"topic": a, "event": object{"data": "too late"}}, 0)
		s.Publish(object{"topics": []string{a, b}, "event": object{"data": "still there"}}, 1)
		s.wantTopics(s.Patch(x.token, `{"topics":{}}`), b)
		if got := s.Connection(x.token).Topics; !cmp.Equal([]string{b}, got) {
			t.Errorf("topics %q", got)
		}
		s.wantTopics(s.Patch(x.token, encode(object{"topics": object{"remove": []string{b}}})))
		s.Publish(object{"topic": b, "event": object{"data": "too late"}}, 0)
		s.Event(x.token, "sent")
		x.WantEvents("added", "still there", "sent")
	}},
	{name: "PATCH removes a topic from a replay that waits, too", run: func(t *T) {
		s := t.Shared()
		a, b := NewTopic(), NewTopic()
		id := s.Publish(object{"topic": b, "event": object{"data": "first"}}, 0)
		const pairs = 2000 // far more than the socket buffers hold
		operations := make([]object, 0, 2*pairs)
		for range pairs {
			for _, topic := range []string{a, b} {
				operations = append(operations, object{"topic": topic, "event": object{"name": topic, "data": strings.Repeat("x", 4<<10)}})
			}
		}
		for some := range slices.Chunk(operations, 100) {
			got := s.Call(http.MethodPost, "/internal/batch", encode(object{"operations": some}), "Content-Type", "application/json")
			if got.Status != http.StatusOK {
				t.Fatalf("status %d with %.200s", got.Status, got.Body)
			}
		}
		back := comingBack(id)
		back.ReceiveBuffer, back.StopAfterHead = 4<<10, true
		x := s.OpenWith(back, granting(encode(object{"topics": []string{a, b}})))
		s.wantTopics(s.Patch(x.token, encode(object{"topics": object{"remove": []string{a}}})), b)
		s.CloseStream(x.token)
		x.Resume()
		text, _, _ := x.Rest(patience)
		if ofA, ofB := strings.Count(text, "event: "+a+"\n"), strings.Count(text, "event: "+b+"\n"); ofA >= pairs*3/4 || ofB != pairs {
			t.Errorf("%d events of the topic that was removed arrived, and %d of the other, of %d each", ofA, ofB, pairs)
		}
	}},
	{name: "PATCH gives a connection without topics its first, and an id to come back with", run: func(t *T) {
		s := t.Shared()
		topic := NewTopic()
		x := s.Open("/")
		s.wantTopics(s.Patch(x.token, encode(object{"topics": object{"add": []string{topic}}})), topic)
		id := x.wantPosition()
		x.Leave()
		x.Disconnect()
		s.Publish(object{"topic": topic, "event": object{"data": "missed"}}, 0)
		s.ComeBack(id, topic).WantEvents("missed")
	}},
	{name: "PATCH: 409 CONNECTION_PENDING before the connect callback is answered", run: func(t *T) {
		s := t.Shared()
		x, accept := s.pending()
		topic := NewTopic()
		body := encode(object{"topics": object{"add": []string{topic}}})
		s.WantError(s.Patch(x.token, body), http.StatusConflict, "CONNECTION_PENDING", "")
		accept()
		x.WantHead()
		s.wantTopics(s.Patch(x.token, body), topic)
	}},
	{name: "PATCH validates before any effect, and before the token is looked up", run: func(t *T) {
		s := t.Shared()
		topic := NewTopic()
		x := s.OpenTopics(topic)
		for body, code := range map[string]string{
			``: "INVALID_JSON", `[]`: "INVALID_JSON", `{"topics":{}} x`: "INVALID_JSON", `{"topics":{"add":[],"add":[]}}`: "INVALID_JSON",
			`{}`: "INVALID_TOPICS", `{"topics":["a"]}`: "INVALID_TOPICS", `{"topics":null}`: "INVALID_TOPICS", `{"topics":{"add":"a"}}`: "INVALID_TOPICS",
			`{"topics":{"add":["a"],"remove":[1]}}`: "INVALID_TOPICS", `{"topics":{"add":["a",""]}}`: "INVALID_TOPICS", `{"topics":{"add":["a\nb"]}}`: "INVALID_TOPICS",
		} {
			for _, token := range []string{x.token, "no-such-token"} {
				s.WantError(s.Patch(token, body), http.StatusBadRequest, code, "")
			}
		}
		if got := s.Connection(x.token).Topics; !cmp.Equal([]string{topic}, got) {
			t.Errorf("topics %q", got)
		}
		got := s.Call(http.MethodPatch, connectionsPath+"/"+x.token, `{"topics":{}}`, "Content-Type", "text/plain")
		s.WantError(got, http.StatusUnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE", "")
	}},
	{name: "PATCH: 400 TOO_MANY_TOPICS where the connection would have more than MAX_TOPICS, and nothing changes", run: func(t *T) {
		s := t.Start("MAX_TOPICS=3")
		x := s.OpenTopics("a", "b")
		for _, change := range []object{
			{"add": []string{"c", "d"}}, {"add": []string{"c", "d"}, "remove": []string{"x"}}, {"add": []string{"a", "a", "a", "a"}}, {"remove": []string{"a", "b", "c", "d"}},
		} {
			s.WantError(s.Patch(x.token, encode(object{"topics": change})), http.StatusBadRequest, "TOO_MANY_TOPICS", "")
		}
		if got := s.Connection(x.token).Topics; !cmp.Equal([]string{"a", "b"}, got) {
			t.Errorf("topics %q", got)
		}
		s.wantTopics(s.Patch(x.token, encode(object{"topics": object{"add": []string{"c", "d"}, "remove": []string{"a"}}})), "b", "c", "d")
	}},
	{name: "publish: 400 TOO_MANY_TOPICS for more than MAX_TOPICS", run: func(t *T) {
		s := t.Start("MAX_TOPICS=3")
		x := s.OpenTopics("a")
		event := object{"data": "x"}
		got := s.Call(http.MethodPost, publishPath, encode(object{"topics": []string{"a", "b", "c", "d"}, "event": event}), "Content-Type", "application/json")
		s.WantError(got, http.StatusBadRequest, "TOO_MANY_TOPICS", "")
		s.Publish(object{"topics": []string{"a", "b", "c"}, "event": event}, 1)
		x.WantEvents("x")
	}},
	{name: "batch: 400 TOO_MANY_OPERATIONS for more than 10,000, and nothing was tried", run: func(t *T) {
		s := t.Shared()
		x := s.Open("/")
		operation := encode(object{"token": x.token, "event": object{"data": "wrong"}})
		s.WantError(s.Batch(`{"operations":[`+operation+strings.Repeat(",1", 10_000)+`]}`), http.StatusBadRequest, "TOO_MANY_OPERATIONS", "")
		got := s.Batch(`{"operations":[` + strings.Repeat("1,", 9_999) + `1]}`)
		if n := strings.Count(got.Body, "INVALID_OPERATION"); got.Status != http.StatusOK || n != 10_000 {
			t.Errorf("status %d, %d results", got.Status, n)
		}
		s.Event(x.token, "right")
		x.Want("data: right\n\n")
	}},
	{name: "batch: in order, one result each, and one that fails does not keep the next from being tried", run: func(t *T) {
		s := t.Shared()
		topic := NewTopic()
		x := s.OpenTopics(topic)
		operations := []any{
			object{"token": x.token, "event": object{"data": "1"}},
			object{"topic": topic, "event": object{"data": "2"}},
			object{"token": "no-such-token", "event": object{"data": "lost"}},
			object{"topics": []string{}, "event": object{"data": "lost"}},
			"no object",
			object{"topic": topic, "event": object{"data": "3"}, "store": false},
			object{"token": x.token, "event": object{"data": "4"}, "close": true},
			object{"token": x.token, "event": object{"data": "lost"}},
			object{"topic": topic, "event": object{"data": "lost"}},
		}
		got := s.Batch(encode(object{"operations": operations}))
		var answer struct {
			Results []struct {
				Status, ID string
				Receivers  int
				Error      struct{ Code string }
			}
		}
		if err := decode(got.Body, &answer); got.Status != http.StatusOK || err != nil {
			t.Fatalf("status %d with %s", got.Status, got.Body)
		}
		var results []string
		for _, r := range answer.Results {
			result := r.Status + r.Error.Code
			if r.ID != "" {
				result += " with id"
			}
			results = append(results, result+" "+itoa(r.Receivers))
		}
		want := []string{
			"ok 0", "ok with id 1", "TOKEN_NOT_FOUND 0", "INVALID_TOPICS 0", "INVALID_OPERATION 0", "ok 1", "ok 0", "TOKEN_NOT_FOUND 0", "ok with id 0",
		}
		if diff := cmp.Diff(want, results); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		x.WantEvents("1", "2", "3", "4")
		x.WantEnd()
	}},
	{name: "batch: without operations nothing was tried", run: func(t *T) {
		s := t.Shared()
		x := s.Open("/")
		operation := encode(object{"token": x.token, "event": object{"data": "wrong"}})
		for body, code := range map[string]string{
			`{}`: "INVALID_OPERATIONS", `{"operations":null}`: "INVALID_OPERATIONS", `{"operations":` + operation + `}`: "INVALID_OPERATIONS",
			`[` + operation + `]`: "INVALID_JSON", `{"operations":[` + operation + `]} x`: "INVALID_JSON",
		} {
			s.WantError(s.Batch(body), http.StatusBadRequest, code, "")
		}
		s.WantJSON(s.Batch(`{"operations":[]}`), http.StatusOK, object{"results": []any{}})
		s.Event(x.token, "right")
		x.Want("data: right\n\n")
	}},
	{name: "stats: counts of this node", run: func(t *T) {
		s := t.Start()
		topic := NewTopic()
		x := s.OpenTopics(topic)
		s.Open("/")
		_, accept := s.pending()
		closed := s.Open("/")
		s.CloseStream(closed.token)
		closed.WantEnd()
		closed.Disconnect()
		s.Publish(object{"topic": topic, "event": object{"data": "kept"}}, 1)
		s.publishUnstored(object{"topic": topic, "event": object{"data": "not kept"}}, 1)
		s.WantStatusOK(s.SendObject(object{"token": x.token, "event": object{"data": "sent"}, "wait": "written"}), "written")
		got := s.Stats()
		want := Stats{Node: s.Connection(x.token).Node, Opened: 3, Events: 3, Bytes: got.Bytes}
		want.Connections.Pending, want.Connections.Open = 1, 2
		want.Log.Epoch, want.Log.Bytes = got.Log.Epoch, got.Log.Bytes
		want.Log.Oldest, want.Log.Last, want.Log.Events = 1, 1, 1
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		if got.Bytes == 0 || got.Log.Bytes == 0 || got.Log.Epoch == "" {
			t.Errorf("%d bytes written, %d bytes in the log, epoch %q", got.Bytes, got.Log.Bytes, got.Log.Epoch)
		}
		accept()
	}},
	{name: "the OpenAPI 3.1 document is served, and names every endpoint", run: func(t *T) {
		s := t.Shared()
		got := s.Call(http.MethodGet, "/internal/openapi.yaml", "")
		if got.Status != http.StatusOK || !strings.Contains(got.Header.Get("Content-Type"), "yaml") || !strings.HasPrefix(got.Body, "openapi: 3.1") {
			t.Fatalf("status %d, %q, %.100s", got.Status, got.Header.Get("Content-Type"), got.Body)
		}
		for _, path := range []string{
			sendPath, publishPath, connectionsPath, connectionsPath + "/{token}", connectionsPath + "/{token}/stream", "/internal/batch", "/internal/stats", retainedPath, tailPath,
		} {
			if !strings.Contains(got.Body, "\n  "+path+":\n") {
				t.Errorf("the document lacks %s", path)
			}
		}
	}},
	{name: "the same access rules: strangers get 403 everywhere, and nothing happens", run: func(t *T) {
		s := t.Shared()
		topic, subject := NewTopic(), NewTopic()
		x := s.OpenWith(harness.Request{Target: "/"}, granting(encode(object{"topics": []string{topic}, "subject": subject})))
		for _, c := range [][3]string{
			{http.MethodPost, publishPath, encode(object{"topic": topic, "event": object{"data": "wrong"}})},
			{http.MethodGet, connectionsPath, ""},
			{http.MethodDelete, connectionsPath + "?subject=" + subject, ""},
			{http.MethodGet, connectionsPath + "/" + x.token, ""},
			{http.MethodDelete, connectionsPath + "/" + x.token, ""},
			{http.MethodPatch, connectionsPath + "/" + x.token, `{"topics":{"remove":["` + topic + `"]}}`},
			{http.MethodPost, connectionsPath + "/" + x.token + "/stream", "data: wrong\n\n"},
			{http.MethodPost, "/internal/batch", encode(object{"operations": []object{{"token": x.token, "close": true}}})},
			{http.MethodGet, "/internal/stats", ""},
			{http.MethodGet, "/internal/openapi.yaml", ""},
		} {
			for _, header := range []string{"X-Forwarded-For", "Origin"} {
				got := s.Call(c[0], c[1], c[2], header, "http://192.0.2.1", "Content-Type", "application/json")
				s.WantError(got, http.StatusForbidden, "INTERNAL_FORBIDDEN", "")
			}
		}
		s.Publish(object{"topic": topic, "event": object{"data": "right"}}, 1)
		x.WantEvents("right")
	}},
	{name: "another method is a 405, another path a 404 that names no token", run: func(t *T) {
		s := t.Shared()
		token := s.Open("/").token
		for path, method := range map[string]string{
			connectionsPath: http.MethodPost, connectionsPath + "/" + token: http.MethodPost, connectionsPath + "/" + token + "/stream": http.MethodGet,
			"/internal/batch": http.MethodGet, "/internal/stats": http.MethodPost, "/internal/openapi.yaml": http.MethodPost,
		} {
			got := s.Call(method, path, "")
			s.WantError(got, http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED", "")
			allow := got.Header.Values("Allow")
			if len(allow) != 1 || allow[0] == "" || slices.Contains(strings.Split(allow[0], ", "), method) {
				t.Errorf("%s %s: Allow %q", method, path, allow)
			}
		}
		for _, path := range []string{"/internal/", "/internal/other", "/internal/connections/" + token + "/other"} {
			s.WantError(s.Call(http.MethodGet, path, ""), http.StatusNotFound, "NOT_FOUND", "")
		}
	}},
}}

// Connection is the gateway's description of a connection.
type Connection struct {
	Token    string   `json:"token"`
	Node     string   `json:"node"`
	State    string   `json:"state"`
	Path     string   `json:"path"`
	Subject  string   `json:"subject"`
	Topics   []string `json:"topics"`
	Overflow string   `json:"overflow"`
	Since    string   `json:"since"`
	Events   int      `json:"events_written"`
	Bytes    int      `json:"bytes_written"`
	Queued   int      `json:"bytes_queued"`
	Drops    int      `json:"drops"`
	Request  *Request `json:"request"`
}

// Request is what is shown of the request of a connection.
type Request struct {
	Path    string            `json:"path"`
	Headers map[string]string `json:"headers"`
}

// Connection requests one connection, which must exist.
func (s *Site) Connection(token string) (c Connection) {
	s.t.Helper()
	s.get(connectionsPath+"/"+token, &c)
	return c
}

// List requests a page of connections.
func (s *Site) List(values url.Values) (tokens []string, next string) {
	s.t.Helper()
	var page struct {
		Connections []Connection
		Next        string `json:"next_cursor"`
	}
	s.get(connectionsPath+"?"+values.Encode(), &page)
	for _, c := range page.Connections {
		tokens = append(tokens, c.Token)
	}
	return tokens, page.Next
}

func filter(topic, subject string) url.Values {
	return url.Values{"topic": {topic}, "subject": {subject}}
}

// Stats has the gateway's counts.
type Stats struct {
	Node        string
	Connections struct{ Pending, Open int }
	Opened      int `json:"streams_opened"`
	Events      int `json:"events_written"`
	Bytes       int `json:"bytes_written"`
	Queued      int `json:"bytes_queued"`
	Dropped     int `json:"events_dropped"`
	Log         struct {
		Epoch                       string
		Oldest, Last, Bytes, Events int
	}
}

// Stats requests the counts.
func (s *Site) Stats() (stats Stats) {
	s.t.Helper()
	s.get("/internal/stats", &stats)
	return stats
}

func (s *Site) get(path string, into any) {
	s.t.Helper()
	got := s.Call(http.MethodGet, path, "")
	if err := decode(got.Body, into); got.Status != http.StatusOK || err != nil || got.notJSON() != "" {
		s.t.Fatalf("%s: status %d with %s (%v)", path, got.Status, quoted(got.Body), err)
	}
}

// Patch changes a connection.
func (s *Site) Patch(token, body string) Reply {
	s.t.Helper()
	return s.Call(http.MethodPatch, connectionsPath+"/"+token, body, "Content-Type", "application/json")
}

func (s *Site) wantTopics(got Reply, topics ...string) {
	s.t.Helper()
	list := []any{}
	for _, topic := range sorted(topics) {
		list = append(list, topic)
	}
	s.WantJSON(got, http.StatusOK, object{"status": "ok", "topics": list})
}

// Batch posts a batch of operations.
func (s *Site) Batch(body string) Reply {
	s.t.Helper()
	return s.Call(http.MethodPost, "/internal/batch", body, "Content-Type", "application/json")
}
