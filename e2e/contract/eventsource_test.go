package contract

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"ssegateway/e2e/harness"
)

// eventSource is a request like that of a browser's EventSource.
func eventSource(target string) harness.Request {
	return harness.Request{Target: target, Header: []harness.Field{{Name: "Accept", Value: "text/event-stream"}}}
}

// refusing returns a script that answers the connect with that status and header.
func refusing(status int, header ...string) harness.Script {
	h := http.Header{}
	for i := 0; i < len(header); i += 2 {
		h.Add(header[i], header[i+1])
	}
	return harness.Script{Connect: answerAlways(harness.Answer{Status: status, Header: h})}
}

var retryOf = regexp.MustCompile(`^retry: ([0-9]+)\n\n$`)

// wantComeBack checks that the stream has only a retry within these bounds, and ends.
func (x *Stream) wantComeBack(what string, low, high time.Duration) *harness.Head {
	x.s.t.Helper()
	head := x.WantHead()
	if head.Status != http.StatusOK {
		x.s.t.Errorf("%s: status %d, after which an EventSource gives up for good", what, head.Status)
		return head
	}
	wantField(x.s.t, head, "Content-Type", "text/event-stream")
	body, end, err := x.Rest(patience)
	m := retryOf.FindStringSubmatch(body)
	if end != harness.Clean || m == nil {
		x.s.t.Errorf("%s: %q and then %v (%v), want a retry and the end", what, body, end, err)
		return head
	}
	ms, err := strconv.Atoi(m[1])
	if retry := time.Duration(ms) * time.Millisecond; err != nil || retry < low || retry > high {
		x.s.t.Errorf("%s: retry %v, want %v to %v", what, retry, low, high)
	}
	return head
}

// wantRejected checks that the stream has only the event of a final refusal.
func (x *Stream) wantRejected(status int, code string) *harness.Head {
	x.s.t.Helper()
	head := x.WantHead()
	body, end, err := x.Rest(patience)
	if head.Status != http.StatusOK || end != harness.Clean {
		x.s.t.Errorf("%d: status %d, then %v (%v)", status, head.Status, end, err)
		return head
	}
	wantField(x.s.t, head, "Content-Type", "text/event-stream")
	var name, data, retry string
	for line := range strings.Lines(body) {
		field, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch field {
		case "event":
			name = value
		case "data":
			data += value
		case "retry":
			retry = value
		}
	}
	var said struct {
		Status  int
		Code    string
		Message string
	}
	if err := json.Unmarshal([]byte(data), &said); err != nil || name != "rejected" || retry != "3600000" ||
		said.Status != status || said.Code != code || said.Message == "" {
		x.s.t.Errorf("%q (%v), want the event rejected of %d %s and a retry of an hour", body, err, status, code)
	}
	return head
}

// firstRetry returns the reconnection time in milliseconds with which a new stream begins, or
// 0 if there is none.
func (x *Stream) firstRetry() uint64 {
	x.s.t.Helper()
	if head := x.WantHead(); head.Status != http.StatusOK {
		x.s.t.Fatalf("status %d", head.Status)
	}
	x.s.Event(x.Connect().Token, "x")
	x.WantEvents("x")
	return x.decoder.Retry().Millis()
}

var eventSourceErrors = section{title: "2 what an EventSource does not give up on", cases: []contractCase{
	{name: "by default an EventSource gets the status, as every client", run: func(t *T) {
		s := t.Shared()
		for _, status := range []int{401, 429, 503} {
			x := s.Begin(eventSource("/"), refusing(status))
			if head := x.WantHead(); head.Status != status {
				t.Errorf("status %d, want %d", head.Status, status)
			}
		}
		if got := s.Begin(eventSource("/"), granting("")).firstRetry(); got != 0 {
			t.Errorf("a stream begins with retry %d", got)
		}
	}},
	{name: "retry: what is temporary has an EventSource come back, the rest is a status", run: func(t *T) {
		s := t.Start("EVENTSOURCE_ERRORS=retry")
		for _, status := range []int{408, 425, 429, 500, 502, 503, 504, 599} {
			s.Begin(eventSource("/"), refusing(status)).wantComeBack(strconv.Itoa(status), time.Second, 5*time.Second)
		}
		s.Begin(eventSource("/"), refusing(302)).wantComeBack("302 is a 502", time.Second, 5*time.Second)
		for _, status := range []int{400, 401, 403, 404, 410, 422} {
			if head := s.Begin(eventSource("/"), refusing(status)).WantHead(); head.Status != status {
				t.Errorf("status %d, want %d", head.Status, status)
			}
		}
		if got := s.Begin(eventSource("/"), granting("")).firstRetry(); got != 3000 {
			t.Errorf("a stream begins with retry %d, want 3000: a browser keeps that of the refusal", got)
		}
		if got := s.Begin(eventSource("/"), granting(`{"retry_ms":700}`)).firstRetry(); got != 700 {
			t.Errorf("retry %d, want the backend's 700", got)
		}
	}},
	{name: "event: what is final is an event too", run: func(t *T) {
		s := t.Start("EVENTSOURCE_ERRORS=event")
		s.Begin(eventSource("/"), refusing(503)).wantComeBack("503", time.Second, 5*time.Second)
		s.Begin(eventSource("/"), refusing(401)).wantRejected(401, "BACKEND_AUTH_FAILED")
		s.Begin(eventSource("/"), refusing(403)).wantRejected(403, "BACKEND_FORBIDDEN")
		s.Begin(eventSource("/"), refusing(404)).wantRejected(404, "BACKEND_ERROR")
		body := eventSource("/")
		body.Body = []byte("x")
		s.Begin(body, harness.Script{}).wantRejected(400, "BODY_NOT_ALLOWED")
		if got := s.Begin(eventSource("/"), granting("")).firstRetry(); got != 3000 {
			t.Errorf("a stream begins with retry %d, want 3000", got)
		}
	}},
	{name: "other clients always get the status", run: func(t *T) {
		s := t.Start("EVENTSOURCE_ERRORS=event")
		for _, accept := range []string{"", "*/*", "text/html, text/event-streams", "application/json"} {
			r := harness.Request{Target: "/"}
			if accept != "" {
				r.Header = []harness.Field{{Name: "Accept", Value: accept}}
			}
			for _, status := range []int{403, 503} {
				if head := s.Begin(r, refusing(status)).WantHead(); head.Status != status {
					t.Errorf("Accept %q: status %d, want %d", accept, head.Status, status)
				}
			}
		}
		if got := s.Begin(harness.Request{Target: "/"}, granting("")).firstRetry(); got != 0 {
			t.Errorf("a stream of another client begins with retry %d", got)
		}
		r := harness.Request{Target: "/", Header: []harness.Field{{Name: "Accept", Value: "application/json, Text/Event-Stream;q=0.5"}}}
		s.Begin(r, refusing(503)).wantComeBack("one of several media types", time.Second, 5*time.Second)
	}},
	{name: "Retry-After of the backend is kept, up to an hour, and its headers reach the client", run: func(t *T) {
		s := t.Start("EVENTSOURCE_ERRORS=event")
		head := s.Begin(eventSource("/"), refusing(429, "Retry-After", "30", "Set-Cookie", "a=b")).wantComeBack("30 s", 30*time.Second, 34*time.Second)
		wantField(t, head, "Retry-After", "30")
		wantField(t, head, "Set-Cookie", "a=b")
		s.Begin(eventSource("/"), refusing(503, "Retry-After", "86400")).wantComeBack("a day", time.Hour, time.Hour)
		s.Begin(eventSource("/"), refusing(503, "Retry-After", "99999999999999999999")).wantComeBack("too large a number", time.Second, 5*time.Second)
		s.Begin(eventSource("/"), refusing(503, "Retry-After", time.Now().Add(time.Minute).UTC().Format(http.TimeFormat))).wantComeBack("a date", 55*time.Second, 64*time.Second)
		s.Begin(eventSource("/"), refusing(503, "Retry-After", "soon")).wantComeBack("no time", time.Second, 5*time.Second)
		head = s.Begin(eventSource("/"), refusing(401, "WWW-Authenticate", "Bearer")).wantRejected(401, "BACKEND_AUTH_FAILED")
		wantField(t, head, "WWW-Authenticate", "Bearer")
	}},
	{name: "the gateway's own refusals: no backend, none that answers, too many streams", run: func(t *T) {
		s := t.StartWith(nil, "EVENTSOURCE_ERRORS=retry")
		(&Stream{s: s, Exchange: s.Do(eventSource("/"))}).wantComeBack("not configured", time.Second, 5*time.Second)
		s = t.Start("EVENTSOURCE_ERRORS=retry", "MAX_CONNECTIONS=1")
		s.Open("/")
		s.Begin(eventSource("/"), harness.Script{}).wantComeBack("too many", time.Second, 5*time.Second)
		backend, err := harness.NewBackend()
		if err != nil {
			t.Fatal(err)
		}
		s = t.StartWith(backend, "EVENTSOURCE_ERRORS=retry")
		backend.Close()
		(&Stream{s: s, Exchange: s.Do(eventSource("/"))}).wantComeBack("the backend is away", time.Second, 5*time.Second)
	}},
}}
