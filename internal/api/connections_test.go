package api

import (
	"fmt"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"ssegateway/internal/gateway"
	"ssegateway/internal/outbox"
)

type page struct {
	Connections []connection `json:"connections"`
	Next        string       `json:"next_cursor"`
}

func TestShowConnection(t *testing.T) {
	a, gw := newAPI(t)
	s := &sink{}
	token := openWith(t, gw, s, gateway.Grant{Topics: []string{"b", "a"}, Subject: "u", Overflow: outbox.DropOldest})
	before := time.Now().Add(-time.Minute)
	w := do(t, a, http.MethodGet, "/internal/connections/"+token, "")
	got := answer[connection](t, w)
	since, err := time.Parse(time.RFC3339, got.Since)
	if err != nil || since.Before(before) || since.After(time.Now()) {
		t.Errorf("since %q", got.Since)
	}
	if q := got.Request; q == nil || q.Path != "/a/b" || len(q.Headers) > 0 {
		t.Errorf("request %+v", q)
	}
	got.Since, got.Request = "", nil
	opening := uint64(len("id: " + extentOf(a).Epoch + "-0\n\n"))
	shown := connection{
		Token: token, Node: "node-1", State: "open", Path: "/a/b", Subject: "u", Topics: []string{"a", "b"}, Overflow: "drop_oldest",
		Bytes: opening,
	}
	if w.Code != 200 || fmt.Sprint(got) != fmt.Sprint(shown) {
		t.Errorf("%d %+v, want %+v", w.Code, got, shown)
	}

	// What is written, what waits, what was dropped.
	want(t, post(t, a, `{"token":"`+token+`","event":{"data":"x"}}`), 200, "ok")
	s.setFull(true)
	for range 5 {
		want(t, post(t, a, `{"token":"`+token+`","event":{"data":"`+strings.Repeat("y", 300)+`"}}`), 200, "ok")
	}
	got = answer[connection](t, do(t, a, http.MethodGet, "/internal/connections/"+token, ""))
	if got.Events != 1 || got.Bytes != opening+uint64(len("data: x\n\n")) || got.Queued < 600 || got.Queued > 1000 || got.Drops != 3 {
		t.Errorf("%+v", got)
	}

	pending := open(t, gw, nil)
	want(t, do(t, a, http.MethodGet, "/internal/connections/"+pending, ""), 200, `"state":"pending"`)
	want(t, do(t, a, http.MethodGet, "/internal/connections/"+pending, ""), 200, `"topics":[]`)
	for _, unknown := range []string{"00000000-0000-4000-8000-000000000000", "x", "", "x/y/stream", strings.ToUpper(token)} {
		if unknown == "x/y/stream" {
			continue // a path of more parts is not described
		}
		want(t, do(t, a, http.MethodGet, "/internal/connections/"+unknown, ""), 404, "TOKEN_NOT_FOUND")
	}
	want(t, do(t, a, http.MethodPost, "/internal/connections/"+token, `{}`), 405, "METHOD_NOT_ALLOWED")
	want(t, do(t, a, http.MethodGet, "/internal/connections/"+token+"/x", ""), 404, "NOT_FOUND")
}

func TestListConnections(t *testing.T) {
	a, gw := newAPI(t)
	var tokens []string
	for i := range 7 {
		g := gateway.Grant{Subject: fmt.Sprint("u", i%2), Topics: []string{"all"}}
		if i%3 == 0 {
			g.Topics = append(g.Topics, "third")
		}
		tokens = append(tokens, openWith(t, gw, &sink{}, g))
	}
	tokens = append(tokens, open(t, gw, nil)) // pending
	gone := open(t, gw, &sink{})
	want(t, do(t, a, http.MethodDelete, "/internal/connections/"+gone, ""), 200, `{"status":"ok"}`)
	slices.Sort(tokens)

	list := func(query string) (found []string, pages int) {
		t.Helper()
		cursor := ""
		for {
			target := "/internal/connections?" + query + cursor
			w := do(t, a, http.MethodGet, target, "")
			if w.Code != 200 {
				t.Fatalf("%s: %d %s", target, w.Code, w.Body)
			}
			pages++
			p := answer[page](t, w)
			for _, c := range p.Connections {
				found = append(found, c.Token)
			}
			if p.Next == "" {
				return found, pages
			}
			cursor = "&cursor=" + p.Next
		}
	}
	if got, pages := list(""); !slices.Equal(got, tokens) || pages != 1 {
		t.Errorf("listed %v in %d pages, want %v", got, pages, tokens)
	}
	for limit, wantPages := range map[int]int{1: 8, 3: 3, 4: 2, 7: 2, 8: 1, 1000: 1} {
		if got, pages := list(fmt.Sprint("limit=", limit)); !slices.Equal(got, tokens) || pages != wantPages {
			t.Errorf("limit %d: %v in %d pages, want %d", limit, got, pages, wantPages)
		}
	}
	for query, n := range map[string]int{
		"topic=all": 7, "topic=third": 3, "subject=u0": 4, "subject=u1": 3, "subject=u0&topic=third": 2, "subject=u1&topic=third": 1,
		"topic=none": 0, "subject=": 8, "topic=All": 0, "other=1": 8, "topic=third&limit=1": 3, "subject=%75%30": 4,
	} {
		if got, _ := list(query); len(got) != n {
			t.Errorf("%s: %d, want %d", query, len(got), n)
		}
	}
	for query, code := range map[string]string{
		"limit=0": "INVALID_LIMIT", "limit=1001": "INVALID_LIMIT", "limit=x": "INVALID_LIMIT", "limit=-1": "INVALID_LIMIT", "limit=1.5": "INVALID_LIMIT",
		"cursor=x": "INVALID_CURSOR", "topic=%zz": "INVALID_QUERY", "a;b": "INVALID_QUERY",
	} {
		want(t, do(t, a, http.MethodGet, "/internal/connections?"+query, ""), 400, code)
	}
	want(t, do(t, a, http.MethodGet, "/internal/connections?topic=none", ""), 200, `{"connections":[]}`)
	want(t, do(t, a, http.MethodPost, "/internal/connections", `{}`), 405, "METHOD_NOT_ALLOWED")
}

func TestCloseConnections(t *testing.T) {
	a, gw := newAPI(t)
	var sinks []*sink
	for i := range 6 {
		s := &sink{}
		sinks = append(sinks, s)
		openWith(t, gw, s, gateway.Grant{Subject: fmt.Sprint("u", i%3), Topics: []string{fmt.Sprint("t", i%2)}})
	}
	closed := func() (n int) {
		for _, s := range sinks {
			if _, _, closed := s.got(); closed {
				n++
			}
		}
		return n
	}
	for _, query := range []string{"", "?", "?subject=", "?topic=&subject=", "?subjects=u1"} {
		want(t, do(t, a, http.MethodDelete, "/internal/connections"+query, ""), 400, "INVALID_FILTER")
	}
	want(t, do(t, a, http.MethodDelete, "/internal/connections?subject=%", ""), 400, "INVALID_QUERY")
	if closed() != 0 {
		t.Fatal("closed all the same")
	}
	for _, c := range []struct {
		query  string
		closed int
	}{
		{"subject=nobody", 0}, {"subject=u0&topic=t0", 1}, {"subject=u0", 1}, {"subject=u0", 0}, {"topic=t1", 2}, {"topic=t0", 2},
	} {
		want(t, do(t, a, http.MethodDelete, "/internal/connections?"+c.query, ""), 200, fmt.Sprintf(`{"closed":%d}`, c.closed))
	}
	if closed() != len(sinks) {
		t.Errorf("%d of %d are closed", closed(), len(sinks))
	}
}

func TestCloseConnection(t *testing.T) {
	a, gw := newAPI(t)
	s := &sink{}
	token := open(t, gw, s)
	s.setFull(true)
	want(t, post(t, a, `{"token":"`+token+`","event":{"data":"last"}}`), 200, "ok")
	want(t, do(t, a, http.MethodDelete, "/internal/connections/"+token, ""), 200, `{"status":"ok"}`)
	// Closed for everybody, while what waited is still written.
	want(t, do(t, a, http.MethodDelete, "/internal/connections/"+token, ""), 404, "TOKEN_NOT_FOUND")
	want(t, do(t, a, http.MethodGet, "/internal/connections/"+token, ""), 404, "TOKEN_NOT_FOUND")
	want(t, do(t, a, http.MethodPatch, "/internal/connections/"+token, `{"topics":{}}`), 404, "TOKEN_NOT_FOUND")
	want(t, do(t, a, http.MethodGet, "/internal/connections", ""), 200, `{"connections":[]}`)
	s.setFull(false)
	conn(t, gw, token).Ready(s, false, true)
	if text, _, closed := s.got(); text != "data: last\n\n" || !closed {
		t.Errorf("%q, closed %v", text, closed)
	}
	want(t, do(t, a, http.MethodDelete, "/internal/connections/"+open(t, gw, nil), ""), 200, `{"status":"buffered"}`)
	want(t, do(t, a, http.MethodDelete, "/internal/connections/x", ""), 404, "TOKEN_NOT_FOUND")
}

func TestChangeConnection(t *testing.T) {
	a, gw := newAPI(t)
	s := &sink{}
	token := open(t, gw, s) // without topics
	target := "/internal/connections/" + token
	patch := func(body string) string {
		t.Helper()
		w := do(t, a, http.MethodPatch, target, body)
		if w.Code != 200 {
			t.Errorf("%s: %d %s", body, w.Code, w.Body)
		}
		return strings.TrimSuffix(strings.TrimPrefix(w.Body.String(), `{"status":"ok","topics":`), "}")
	}
	for _, c := range []struct{ body, topics string }{
		{`{"topics":{}}`, `[]`},
		{`{"topics":{"remove":["a"]}}`, `[]`},
		{`{"topics":{"add":["b","a","b"]}}`, `["a","b"]`},
		{`{"topics":{"add":["a"],"x":1},"y":2}`, `["a","b"]`},
		{`{"topics":{"remove":["a","a","none"],"add":["c"]}}`, `["b","c"]`},
		{`{"topics":{"remove":["d"],"add":["d"]}}`, `["b","c"]`},
		{`{"topics":{"add":[],"remove":["b"]}}`, `["c"]`},
	} {
		if got := patch(c.body); got != c.topics {
			t.Errorf("%s: %s, want %s", c.body, got, c.topics)
		}
	}
	want(t, do(t, a, http.MethodGet, target, ""), 200, `"topics":["c"]`)
	for topic, receivers := range map[string]string{"a": `"receivers":0`, "b": `"receivers":0`, "c": `"receivers":1`} {
		want(t, publish(t, a, `{"topic":"`+topic+`","event":{"data":"`+topic+`"}}`), 200, receivers)
	}
	if text, _, _ := s.got(); !strings.HasSuffix(text, "data: c\n\n") || strings.Contains(text, "data: a") {
		t.Errorf("received %q", text)
	}
	for body, problem := range map[string]*Error{
		``: errJSON, `[]`: errJSON, `{"topics":{"add":["a"]}} x`: errJSON, `{"topics":{"add":[],"add":[]}}`: errJSON, `{"topics":{"add":["a"`: errJSON,
		`{}`: errPatch, `{"topics":["a"]}`: errPatch, `{"topics":null}`: errPatch, `{"topics":{"add":"a"}}`: errPatch, `{"topics":{"add":null}}`: errPatch,
		`{"topics":{"add":["x"],"remove":[1]}}`: errPatch, `{"topics":{"add":[""]}}`: errPatch, `{"topics":{"remove":["a\n"]}}`: errPatch,
		`{"topics":{"add":["` + strings.Repeat("x", 257) + `"]}}`: errPatch,
		`{"x":"` + strings.Repeat("x", 500) + `"}`:                tooLarge("the body", 500),
	} {
		want(t, do(t, a, http.MethodPatch, target, body), problem.Status, string(problem.body()))
	}
	if got := patch(`{"topics":{}}`); got != `["c"]` {
		t.Errorf("changed all the same: %s", got)
	}
	want(t, do(t, a, http.MethodPatch, target, `{"topics":{}}`, "Content-Type", "text/plain"), 415, "UNSUPPORTED_MEDIA_TYPE")
	want(t, do(t, a, http.MethodPatch, "/internal/connections/"+open(t, gw, nil), `{"topics":{"add":["a"]}}`), 409, "CONNECTION_PENDING")
	want(t, do(t, a, http.MethodPatch, "/internal/connections/x", `{"topics":{"add":["a"]}}`), 404, "TOKEN_NOT_FOUND")
	want(t, do(t, a, http.MethodPatch, "/internal/connections/x", `{`), 400, "INVALID_JSON") // the request is looked at first
}

func TestStats(t *testing.T) {
	a, gw := newAPI(t)
	openWith(t, gw, &sink{}, gateway.Grant{Topics: []string{"a"}})
	open(t, gw, nil)
	want(t, publish(t, a, `{"topic":"a","event":{"data":"x"}}`), 200, `"receivers":1`)
	epoch := extentOf(a).Epoch
	for _, part := range []string{
		`"node":"node-1"`, `"connections":{"pending":1,"open":1}`, `"streams_opened":1`, `"events_written":1`, `"bytes_queued":0`, `"events_dropped":0`,
		`"log":{"epoch":"` + epoch + `","oldest":1,"last":1,"bytes":`, `"events":1}}`,
	} {
		want(t, do(t, a, http.MethodGet, "/internal/stats", ""), 200, part)
	}
	want(t, do(t, a, http.MethodPost, "/internal/stats", `{}`), 405, "METHOD_NOT_ALLOWED")
}

// The history is JSON, or a stream for who asks for one. The time is 5 s to 15 min.
func TestHistory(t *testing.T) {
	a, _ := newAPI(t)
	for !strings.Contains(do(t, a, http.MethodGet, "/internal/stats?history=15m", "").Body.String(), `"streams_opened":7`) {
		runtime.Gosched() // the first point comes at once
	}
	want(t, do(t, a, http.MethodGet, "/internal/stats?history=90s", ""), 200, `{"interval_seconds":5,"points":[{"time":"`)
	for _, accept := range []string{"text/event-stream", "application/json, Text/Event-Stream;q=1"} {
		want(t, do(t, a, http.MethodGet, "/internal/stats?history=15m", "", "Accept", accept), 200, "data: 15m0s\n\n")
		want(t, do(t, a, http.MethodGet, "/internal/stats?history=1m", "", "Accept", accept), 429, "TOO_MANY_TAILS")
		want(t, do(t, a, http.MethodGet, "/internal/stats?history=", "", "Accept", accept), 200, `{"node":"node-1"`)
	}
	for _, text := range []string{"1", "15", "4s", "901s", "16m", "-1m", "1h", "1.5m", "s", "m", "0m", "05s", "99999m", "+1m", "1m%20"} {
		want(t, do(t, a, http.MethodGet, "/internal/stats?history="+text, ""), 400, "INVALID_HISTORY")
	}
	want(t, do(t, a, http.MethodGet, "/internal/stats?history=%zz", ""), 400, "INVALID_QUERY")
	want(t, do(t, a, http.MethodHead, "/internal/stats?history=15m", ""), 200, "")
	want(t, do(t, a, http.MethodPost, "/internal/stats?history=15m", `{}`), 405, "METHOD_NOT_ALLOWED")
}

func TestServedDocument(t *testing.T) {
	a, _ := newAPI(t)
	want(t, do(t, a, http.MethodGet, "/internal/openapi.yaml", ""), 200, "openapi: 3.1.0\n")
	for _, target := range []string{"/internal/openapi.yaml", "/internal/stats", "/internal/connections"} {
		if got := do(t, a, http.MethodHead, target, ""); got.Code != http.StatusOK {
			t.Errorf("HEAD %s: %d", target, got.Code)
		}
	}
	want(t, do(t, a, http.MethodGet, "/internal/openapi.yaml?x="+url.QueryEscape("y z"), ""), 200, "openapi")
	want(t, do(t, a, http.MethodPost, "/internal/openapi.yaml", `{}`), 405, "METHOD_NOT_ALLOWED")
}

// What is refused because it is too much changes nothing.
func TestTooManyTopics(t *testing.T) {
	a, gw := newAPI(t)
	a.maxBody = 1 << 20
	names := func(n int) string {
		list := make([]string, n)
		for i := range list {
			list[i] = fmt.Sprint("t", i)
		}
		text, err := json.Marshal(list)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	most := gw.MaxTopics()
	token := open(t, gw, &sink{})
	target := "/internal/connections/" + token
	for _, body := range []string{
		`{"topics":{"add":` + names(most+1) + `}}`,
		`{"topics":{"remove":` + names(most+1) + `}}`,
	} {
		want(t, do(t, a, http.MethodPatch, target, body), 400, `"code":"TOO_MANY_TOPICS"`)
	}
	want(t, do(t, a, http.MethodPatch, target, `{"topics":{"add":`+names(most)+`}}`), 200, `"t9999"`)
	want(t, do(t, a, http.MethodPatch, target, `{"topics":{"add":["one more"]}}`), 400, `"code":"TOO_MANY_TOPICS"`)
	want(t, do(t, a, http.MethodPatch, target, `{"topics":{"add":["one more"],"remove":["t0"]}}`), 200, `"one more"`)
	want(t, publish(t, a, `{"topics":`+names(most+1)+`,"event":{"data":"x"}}`), 400, `"code":"TOO_MANY_TOPICS"`)
	want(t, publish(t, a, `{"topics":`+names(most)+`,"event":{"data":"x"}}`), 200, `"receivers":1`)
}

// A page ends where it becomes too large, with as few as one connection.
func TestLargePages(t *testing.T) {
	a, gw := newAPI(t)
	var topics []string
	for i := range 10_000 {
		topics = append(topics, fmt.Sprintf("%04d%s", i, strings.Repeat("x", 252)))
	}
	const conns = 5
	for range conns {
		openWith(t, gw, &sink{}, gateway.Grant{Topics: topics})
	}
	seen, pages, query := map[string]bool{}, 0, ""
	for {
		w := do(t, a, http.MethodGet, "/internal/connections?limit=1000"+query, "")
		if n := w.Body.Len(); w.Code != 200 || n > pageBytes+4<<20 {
			t.Errorf("status %d, %d bytes", w.Code, n)
		}
		p := answer[page](t, w)
		for _, c := range p.Connections {
			seen[c.Token] = true
		}
		if pages++; p.Next == "" {
			break
		}
		query = "&cursor=" + p.Next
	}
	if len(seen) != conns || pages < 3 {
		t.Errorf("%d connections on %d pages", len(seen), pages)
	}
}
