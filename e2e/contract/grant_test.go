package contract

import (
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"

	"ssegateway/e2e/harness"
)

// grants has the cases about the backend's answer to a connect.
var grants = section{title: "11 the answer to a connect", cases: []contractCase{
	{name: "WWW-Authenticate, Retry-After and Set-Cookie of the backend's answer reach the client, with a refusal and with a stream", run: func(t *T) {
		s := t.Shared()
		header := http.Header{
			"Www-Authenticate": {`Bearer realm="a"`}, "Retry-After": {"7"}, "Set-Cookie": {"a=b; HttpOnly", "c=d"},
			"X-Other": {"x"}, "Location": {"/x"}, "Cache-Control": {"max-age=60"},
		}
		for _, status := range []int{200, 401, 403, 429, 503} {
			x := s.Begin(harness.Request{Target: "/"}, harness.Script{Connect: answerAlways(harness.Answer{Status: status, Header: header})})
			head := x.WantHead()
			if head.Status != status {
				t.Errorf("status %d, want %d", head.Status, status)
			}
			for _, name := range []string{"WWW-Authenticate", "Retry-After", "Set-Cookie"} {
				if got := head.Values(name); !slices.Equal(got, header[http.CanonicalHeaderKey(name)]) {
					t.Errorf("%d: %s: %q", status, name, got)
				}
			}
			if head.Get("X-Other")+head.Get("Location") != "" || strings.Contains(head.Get("Cache-Control"), "max-age") {
				t.Errorf("%d: further header fields: %v", status, head.Header)
			}
		}
	}},
	{name: "topics: what this connection receives", run: func(t *T) {
		s := t.Shared()
		a, b := NewTopic(), NewTopic()
		x := s.OpenWith(harness.Request{Target: "/"}, granting(encode(object{"topics": []string{b, a, b}})))
		if got, want := s.Connection(x.token).Topics, []string{a, b}; !cmp.Equal(sorted(want), got) {
			t.Errorf("topics %q, want %q", got, want)
		}
		s.Publish(object{"topic": b, "event": object{"data": "hello"}}, 1)
		s.Publish(object{"topic": NewTopic(), "event": object{"data": "for nobody"}}, 0)
		s.Publish(object{"topic": a, "event": object{"data": "again"}}, 1)
		x.WantEvents("hello", "again")
	}},
	{name: "subject: whose connection it is", run: func(t *T) {
		s := t.Shared()
		subject := "user " + NewTopic() + " é"
		x := s.OpenWith(harness.Request{Target: "/"}, granting(encode(object{"subject": subject})))
		if got := s.Connection(x.token).Subject; got != subject {
			t.Errorf("subject %q, want %q", got, subject)
		}
	}},
	{name: "events are written first, before anything buffered", run: func(t *T) {
		s := t.Shared()
		x, accept := s.pendingWith(`{"events":[{"name":"hello","data":"one"},{"data":"two\nlines","id":"7","retry":10}]}`)
		s.WantStatusOK(s.SendObject(object{"token": x.token, "event": object{"data": "buffered"}}), "buffered")
		accept()
		x.Want("event: hello\ndata: one\n\nid: 7\nretry: 10\ndata: two\ndata: lines\n\ndata: buffered\n\n")
	}},
	{name: "retry_ms: the retry the client gets at the start", run: func(t *T) {
		s := t.Shared()
		for _, ms := range []string{"0", "3000", "9007199254740991"} {
			x := s.OpenWith(harness.Request{Target: "/"}, granting(`{"events":[{"data":"x"}],"retry_ms":`+ms+`}`))
			x.Want("retry: " + ms + "\n\ndata: x\n\n")
		}
	}},
	{name: "a stream begins with: retry, position, events, what was missed, what was buffered, live", run: func(t *T) {
		s := t.Shared()
		topic := NewTopic()
		first := s.Publish(object{"topic": topic, "event": object{"data": "had"}}, 0)
		missed := s.Publish(object{"topic": topic, "event": object{"data": "missed"}}, 0)
		release := make(chan struct{})
		answer := harness.Answer{Body: encode(object{"topics": []string{topic}, "retry_ms": 50, "events": []object{{"data": "granted"}}})}
		x := s.Begin(comingBack(first), harness.Script{Connect: answerAfter(release, answer)})
		x.token = x.Connect().Token
		s.WantStatusOK(s.SendObject(object{"token": x.token, "event": object{"data": "buffered"}}), "buffered")
		close(release)
		x.Want("retry: 50\nid: " + first + "\n\ndata: granted\n\nid: " + missed + "\ndata: missed\n\ndata: buffered\n\n")
		live := s.Publish(object{"topic": topic, "event": object{"data": "live"}}, 1)
		s.Event(x.token, "sent")
		x.Want("id: " + live + "\ndata: live\n\ndata: sent\n\n")
	}},
	{name: "a stream that has nothing else to begin with begins with a heartbeat", run: func(t *T) {
		s := t.Shared()
		for _, x := range []*Stream{s.Open("/"), s.OpenWith(harness.Request{Target: "/"}, granting(`{"subject":"a","overflow":"latest","max_age_seconds":3600}`))} {
			if got := x.Begin(len(harness.Heartbeat), patience); got != harness.Heartbeat {
				t.Errorf("the stream begins with %s", quoted(got))
			}
		}
		x, accept := s.pending()
		s.WantStatusOK(s.SendObject(object{"token": x.token, "event": object{"data": "buffered"}}), "buffered")
		accept()
		granted := s.OpenWith(harness.Request{Target: "/"}, granting(`{"retry_ms":5,"topics":["a"]}`))
		closed, accept := s.pending()
		s.WantStatusOK(s.SendObject(object{"token": closed.token, "close": true}), "buffered")
		accept()
		for x, want := range map[*Stream]string{x: "data: buffered\n\n", granted: "retry: 5\nid: ", closed: ""} {
			if got := x.Begin(max(1, len(want)), patience); got != want {
				t.Errorf("the stream begins with %s, want %s", quoted(got), quoted(want))
			}
		}
	}},
	{name: "max_age_seconds: the stream is closed after so long: server_closed, max_age", slow: true, run: func(t *T) {
		s := t.Shared()
		x := s.OpenWith(harness.Request{Target: "/"}, granting(`{"max_age_seconds":1,"events":[{"data":"x"}]}`))
		x.Want("data: x\n\n")
		x.WantEnd()
		if c := x.WantDisconnect("server_closed"); c.Detail != "max_age" {
			t.Errorf("detail %q", c.Detail)
		}
		s.wantGone(x.token)
	}},
	{name: "overflow: the connection's overflow policy", run: func(t *T) {
		s := t.Shared()
		for _, policy := range []string{"disconnect", "drop_oldest", "latest"} {
			x := s.OpenWith(harness.Request{Target: "/"}, granting(encode(object{"overflow": policy})))
			if got := s.Connection(x.token).Overflow; got != policy {
				t.Errorf("overflow %q, want %q", got, policy)
			}
		}
		if got := s.Connection(s.Open("/").token).Overflow; got != "disconnect" {
			t.Errorf("overflow %q by default, want disconnect", got)
		}
	}},
	{name: "unknown fields are ignored, an empty object says nothing", run: func(t *T) {
		s := t.Shared()
		for _, body := range []string{`{}`, ` {} `, `{"topic":"x","Topics":1,"other":{"a":[1]},"Events":[{"data":"x"}]}`} {
			x := s.OpenWith(harness.Request{Target: "/"}, granting(body))
			if topics := s.Connection(x.token).Topics; len(topics) != 0 {
				t.Errorf("topics %q after %s", topics, body)
			}
			s.Event(x.token, "first")
			x.Want("data: first\n\n")
		}
	}},
	{name: "a body that is not such an object counts as {} with a warning in the log", run: func(t *T) {
		s := t.Start() // a gateway of its own, because warnings are counted
		bodies := []string{
			`OK`, `null`, `[]`, `"topics"`, `1`, `{`, `{} {}`, "\xff", `{"subject":"a","subject":"a"}`,
			`{"topics":"x","subject":"a"}`, `{"topics":[1]}`, `{"topics":[""]}`, `{"topics":["a\nb"]}`, `{"topics":["` + strings.Repeat("x", 257) + `"]}`,
			`{"topics":null}`, `{"subject":1}`, `{"events":{}}`, `{"events":[{"data":"x"},{}]}`, `{"events":[{"data":"x","name":"a\nb"}]}`, `{"events":[{"data":"x"},null]}`,
			`{"events":[{"data":"x","id":"a\tb"}]}`, `{"events":[{"data":"x","id":" a"}]}`, `{"events":[{"data":"x","retry":9007199254740992}]}`,
			`{"retry_ms":9007199254740992}`, `{"retry_ms":-1,"events":[{"data":"x"}]}`, `{"retry_ms":1.5}`, `{"retry_ms":"1"}`, `{"max_age_seconds":0}`, `{"max_age_seconds":"1"}`,
			`{"overflow":"none"}`, `{"overflow":""}`, `{"overflow":1}`,
		}
		for _, body := range bodies {
			x := s.OpenWith(harness.Request{Target: "/"}, granting(body))
			c := s.Connection(x.token)
			if len(c.Topics) != 0 || c.Subject != "" || c.Overflow != "disconnect" {
				t.Errorf("topics %q, subject %q, overflow %q after %s", c.Topics, c.Subject, c.Overflow, body)
			}
			s.Event(x.token, "first")
			x.Want("data: first\n\n")
		}
		s.wantWarnings("the answer to the connect callback is ignored", len(bodies))
	}},
	{name: "more topics than MAX_TOPICS count as {} as a whole, with a warning in the log", run: func(t *T) {
		s := t.Start("MAX_TOPICS=2")
		if got := s.Connection(s.OpenTopics("a", "b").token).Topics; len(got) != 2 {
			t.Errorf("topics %q", got)
		}
		x := s.OpenWith(harness.Request{Target: "/"}, granting(`{"topics":["a","b","c"],"subject":"u"}`))
		if c := s.Connection(x.token); len(c.Topics) != 0 || c.Subject != "" {
			t.Errorf("topics %q, subject %q", c.Topics, c.Subject)
		}
		s.WantLog("WARN", x.token)
		s.Event(x.token, "first")
		x.Want("data: first\n\n")
	}},
	{name: "a body of up to 1 MiB counts; a larger one counts as {} with a warning in the log", run: func(t *T) {
		s := t.Shared()
		topic := NewTopic()
		for pad, granted := range map[int]bool{70_000: true, 1<<20 - 1000: true, 1 << 20: false} {
			x := s.OpenWith(harness.Request{Target: "/"}, granting(encode(object{"topics": []string{topic}, "pad": strings.Repeat("x", pad)})))
			if n := len(s.Connection(x.token).Topics); (n == 1) != granted {
				t.Errorf("%d topics by a body with %d bytes of padding", n, pad)
			}
			if !granted {
				s.WantLog("WARN", x.token, "larger than 1 MiB")
			}
		}
	}},
	{name: "a body that broke off: 503, and the disconnect connect_unanswered", run: func(t *T) {
		s := t.Shared()
		for _, answer := range []string{
			"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n{\"topics\":",
			"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
		} {
			x := s.Begin(harness.Request{Target: "/"}, harness.Script{Connect: answerAlways(harness.Answer{Write: func(w http.ResponseWriter) {
				if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
					_, _ = conn.Write([]byte(answer))
					_ = conn.Close()
				}
			}})})
			x.Refusal(http.StatusServiceUnavailable, "BACKEND_UNAVAILABLE", "Backend unavailable")
			if c := x.WantDisconnect("error"); c.Detail != "connect_unanswered" {
				t.Errorf("detail %q", c.Detail)
			}
		}
	}},
	{name: "only a 2xx grants anything", run: func(t *T) {
		s := t.Shared()
		topic := NewTopic()
		body := encode(object{"topics": []string{topic}, "events": []object{{"data": "secret"}}})
		x := s.Begin(harness.Request{Target: "/"}, harness.Script{Connect: answerAlways(harness.Answer{Status: http.StatusForbidden, Body: body})})
		x.Refusal(http.StatusForbidden, "BACKEND_FORBIDDEN", "")
		s.Publish(object{"topic": topic, "event": object{"data": "x"}}, 0)
		accepted := s.OpenWith(harness.Request{Target: "/"}, harness.Script{Connect: answerAlways(harness.Answer{Status: http.StatusAccepted, Body: body})})
		s.Publish(object{"topic": topic, "event": object{"data": "x"}}, 1)
		accepted.WantEvents("secret", "x")
	}},
}}

// wantWarnings waits for this number of warnings. It includes those that the log only counts as left out.
func (s *Site) wantWarnings(text string, want int) {
	s.t.Helper()
	line := regexp.MustCompile(`^\[WARN\] ` + regexp.QuoteMeta(text) + ` (?:token=|left_out=(\d+)$)`)
	poll := time.NewTicker(50 * time.Millisecond) // the number of left-out warnings is logged within a second
	defer poll.Stop()
	got := 0
	for end := time.Now().Add(patience); time.Now().Before(end); <-poll.C {
		got = 0
		for _, l := range s.gw.Log.Lines(0) {
			for _, m := range line.FindAllStringSubmatch(l, 1) {
				n, err := strconv.Atoi(m[1])
				if err != nil {
					n = 1
				}
				got += n
			}
		}
		if got == want {
			return
		}
	}
	s.t.Errorf("%d warnings, want %d", got, want)
}

// granting returns a script that accepts the connect with this body.
func granting(body string) harness.Script {
	return harness.Script{Connect: answerAlways(harness.Answer{Body: body})}
}

// pendingWith is like pending, and sets the body of the answer to the connect.
func (s *Site) pendingWith(grant string) (x *Stream, accept func()) {
	s.t.Helper()
	release := make(chan struct{})
	x = s.Begin(harness.Request{Target: "/pending"}, harness.Script{Connect: answerAfter(release, harness.Answer{Body: grant})})
	x.token = x.Connect().Token
	return x, func() { close(release) }
}

// NewTopic returns a topic, or a subject, that no other case uses.
func NewTopic() string { return "topic." + NewKey() }

func sorted(list []string) []string { slices.Sort(list); return list }

func contains(list []int, n int) bool { return slices.Contains(list, n) }

func atoi(t *T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
