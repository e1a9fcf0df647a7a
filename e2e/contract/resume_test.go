package contract

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"ssegateway/e2e/harness"
)

// resumable is an application of many answers: each request gets the next appStream.
type resumable struct {
	mu      sync.Mutex
	streams []*appStream
	asked   int
	field   string // Sse-Gateway-Resume
}

func newResumable(field string, n int) (*resumable, []*appStream) {
	r := &resumable{field: field}
	for range n {
		r.streams = append(r.streams, newAppStream())
	}
	return r, r.streams
}

func (a *resumable) serve(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	n := a.asked
	a.asked++
	a.mu.Unlock()
	if n >= len(a.streams) {
		http.Error(w, "asked too often", http.StatusTeapot)
		return
	}
	if a.field != "" {
		w.Header().Set("Sse-Gateway-Resume", a.field)
	}
	w.Header().Set("Set-Cookie", "s=1")
	w.Header().Set("Access-Control-Allow-Origin", "https://page.example")
	a.streams[n].serve(w, r)
}

var answerKey = regexp.MustCompile(`^[0-9a-f]{32}$`)

// ask makes the request that gets an answer, and returns the key of that.
func (s *Site) ask(header ...harness.Field) (x *harness.Exchange, key string) {
	s.t.Helper()
	x, head := s.relay(harness.Request{Method: "POST", Target: "/app/chat", Body: []byte("question"), Header: header}, http.StatusOK)
	key, found := strings.CutSuffix(head.Get("Sse-Gateway-Resume"), ".0")
	if !found || !answerKey.MatchString(key) || head.Get("Set-Cookie") != "s=1" {
		s.t.Fatalf("%+v", head)
	}
	return x, key
}

// back comes back behind the n-th event.
func (s *Site) back(key string, n int, header ...harness.Field) *harness.Exchange {
	s.t.Helper()
	x, head := s.relay(returning("GET", key, n, header...), http.StatusOK)
	if head.Get("Set-Cookie") != "" || head.Get("X-App") != "yes" || head.Get("Content-Type") != "text/event-stream; charset=utf-8" || head.Get("Sse-Gateway-Resume") != key+".0" {
		s.t.Fatalf("%+v", head)
	}
	return x
}

func returning(method, key string, n int, header ...harness.Field) harness.Request {
	return harness.Request{Method: method, Target: "/app/chat", Header: append([]harness.Field{{Name: "last-event-id", Value: fmt.Sprint(key, ".", n)}}, header...)}
}

// wantRefused wants this refusal of a return.
func (s *Site) wantRefused(r harness.Request, status int, code string) {
	s.t.Helper()
	x, _ := s.relay(r, status)
	if got, _, _ := x.Rest(patience); !strings.Contains(got, code) {
		s.t.Errorf("%s, want %s", got, code)
	}
}

// wantRest wants the rest of an answer, and its end.
func (t *T) wantRest(x *harness.Exchange, text string, end harness.End) {
	t.Helper()
	if rest, got, err := x.Rest(patience); rest != text || got != end {
		t.Errorf("%q %v %v, want %q %v", rest, got, err, text, end)
	}
}

// numbered is an event as a client gets it.
func numbered(key string, n int, data string) string {
	return fmt.Sprintf("data: %s\nid: %s.%d\n\n", data, key, n)
}

// awaitReaders waits until an answer has so many.
func (s *Site) awaitReaders(token string, n int) {
	s.t.Helper()
	want := fmt.Sprintf(`"readers":%d,`, n)
	deadline := time.After(patience)
	for {
		got := s.Call("GET", "/internal/connections/"+token, "")
		if strings.Contains(got.Body, want) {
			return
		}
		select {
		case <-deadline:
			s.t.Fatalf("%s, want %s", got.Body, want)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (a *appStream) wantGone(t *T, since time.Time, low, high time.Duration) {
	t.Helper()
	select {
	case at := <-a.gone:
		if took := at.Sub(since); took < low || took > high {
			t.Errorf("the application was cancelled after %v, want %v to %v", took, low, high)
		}
	case <-time.After(patience):
		t.Error("the application was not cancelled")
	}
}

var resuming = section{title: "20 resuming", cases: []contractCase{
	{name: "resume: each event gets an id, and who comes back gets what is behind it, what comes, and the same end", run: func(t *T) {
		app, streams := newResumable("60", 1)
		s := t.startRelay(app.serve)
		x, key := s.ask()
		streams[0].write <- "data: a\n\n: comment\n\nevent: e\r\ndata: b\r\n\r\nretry: 7\n\n"
		t.wantNext(x, numbered(key, 1, "a")+": comment\n\n"+"event: e\r\ndata: b\r\nid: "+key+".2\n\r\n"+"retry: 7\n\n")
		again, behind, last := s.back(key, 0), s.back(key, 1), s.back(key, 2)
		t.wantNext(again, numbered(key, 1, "a")+"event: e\r\ndata: b\r\nid: "+key+".2\n\r\n")
		t.wantNext(behind, "event: e\r\ndata: b\r\nid: "+key+".2\n\r\n")
		streams[0].write <- "data: c\n\n: all\n\n"
		for _, x := range []*harness.Exchange{x, again, behind, last} {
			t.wantNext(x, numbered(key, 3, "c")+": all\n\n")
		}
		streams[0].write <- "data: not whole\n"
		close(streams[0].write)
		for _, x := range []*harness.Exchange{x, again, behind, last} {
			t.wantRest(x, "", harness.Clean)
		}
		t.wantRest(s.back(key, 1), "event: e\r\ndata: b\r\nid: "+key+".2\n\r\n"+numbered(key, 3, "c"), harness.Clean)
		for _, method := range []string{"GET", "POST", "PUT"} {
			if _, head := s.relay(returning(method, key, 3), http.StatusNoContent); head.Get("Access-Control-Allow-Origin") != "https://page.example" || head.Get("Set-Cookie") != "" {
				t.Errorf("%+v", head)
			}
		}
		s.wantRefused(returning("GET", key, 4), http.StatusGone, "ANSWER_GONE")
		s.wantRefused(returning("GET", strings.Repeat("0", 31)+"1", 0), http.StatusGone, "ANSWER_GONE")
		s.wantMetrics("ssegateway_relay_returns_total 4", "ssegateway_relay_answers 1", "ssegateway_relay_answers_alone 0")
		s.wantNoCallback("")
	}},
	{name: "resume: a byte order mark, lines that end by CR, and pieces", run: func(t *T) {
		app, streams := newResumable("60", 1)
		s := t.startRelay(app.serve)
		x, key := s.ask()
		for _, piece := range []string{"\xef", "\xbb\xbfda", "ta: a\r", "\r", "\ndata: b\r\n", "\r", "\ndata: c\n\n"} {
			streams[0].write <- piece
		}
		close(streams[0].write)
		got, end, _ := x.Rest(patience)
		if got = strings.ReplaceAll(got, key, "K"); end != harness.Clean ||
			got != "data: a\rid: K.1\n\r\ndata: b\r\nid: K.2\n\r\ndata: c\nid: K.3\n\n" {
			t.Errorf("%q %v", got, end)
		}
	}},
	{name: "resume: the id may come in the query, behind a header that is empty; other ids are the application's", run: func(t *T) {
		app, streams := newResumable("60", 1)
		s := t.startRelay(app.serve)
		x, key := s.ask()
		streams[0].write <- "data: a\n\n"
		t.wantNext(x, numbered(key, 1, "a"))
		for _, target := range []string{"/app?lastEventId=" + key + ".0", "/app/x?a=b&lastEventID=mine&last-event-id=" + url.QueryEscape(key+".0") + "&c"} {
			x, _ := s.relay(harness.Request{Target: target}, http.StatusOK)
			t.wantNext(x, numbered(key, 1, "a"))
			x, _ = s.relay(harness.Request{Target: target, Header: []harness.Field{{Name: "last-event-id", Value: ""}}}, http.StatusOK)
			t.wantNext(x, numbered(key, 1, "a"))
			s.relay(harness.Request{Target: target, Header: []harness.Field{{Name: "last-event-id", Value: "7"}}}, http.StatusTeapot)
		}
		for _, id := range []string{"7", key, key + ".", key + ".x", key + ".01", key + ".-1", key + "1.1", strings.ToUpper(key) + ".1", key + ".99999999999999999999"} {
			if strings.ToUpper(key) == key && strings.HasPrefix(id, key) {
				continue
			}
			s.relay(harness.Request{Target: "/app", Header: []harness.Field{{Name: "last-event-id", Value: id}}}, http.StatusTeapot)
			s.relay(harness.Request{Target: "/app?lastEventId=" + id}, http.StatusTeapot)
		}
		s.relay(harness.Request{Method: "OPTIONS", Target: "/app?lastEventId=" + key + ".0", Header: []harness.Field{{Name: "origin", Value: "https://a"}, {Name: "access-control-request-method", Value: "GET"}}}, http.StatusTeapot)
	}},
	{name: "resume: the last reader leaves, the application is read on, and cancelled when the time is over", run: func(t *T) {
		app, streams := newResumable("1", 1)
		s := t.startRelay(app.serve)
		x, key := s.ask()
		streams[0].write <- "data: a\n\n"
		t.wantNext(x, numbered(key, 1, "a"))
		token := <-streams[0].token
		x.Leave()
		s.awaitMetric("ssegateway_relay_answers_alone 1")
		if got := s.Call("GET", "/internal/connections/"+token, ""); !strings.Contains(got.Body, `"state":"streaming"`) || !strings.Contains(got.Body, `"readers":0`) {
			t.Errorf("%s", got.Body)
		}
		streams[0].write <- "data: b\n\n"
		x = s.back(key, 0)
		t.wantNext(x, numbered(key, 1, "a")+numbered(key, 2, "b"))
		streams[0].write <- "data: c\n\n"
		t.wantNext(x, numbered(key, 3, "c"))
		x.Leave()
		left := time.Now()
		streams[0].wantGone(t, left, 900*time.Millisecond, 1500*time.Millisecond)
		s.wantRefused(returning("GET", key, 3), http.StatusGone, "ANSWER_GONE")
		s.wantMetrics("ssegateway_relay_answers 0", "ssegateway_relay_kept_bytes 0", `ssegateway_connections{state="open"} 0`)
		if got := s.Call("GET", "/internal/connections/"+token, ""); got.Status != http.StatusNotFound {
			t.Errorf("%d %s", got.Status, got.Body)
		}
	}},
	{name: "resume: an answer that has ended is there for as long", run: func(t *T) {
		app, streams := newResumable("1", 1)
		s := t.startRelay(app.serve)
		x, key := s.ask()
		token := <-streams[0].token
		x.Begin(1, patience)
		x.Leave()
		s.awaitMetric("ssegateway_relay_answers_alone 1")
		streams[0].write <- "data: a\n\n"
		close(streams[0].write)
		s.awaitMetric("ssegateway_relay_answers_alone 0")
		ended := time.Now()
		if got := s.Call("GET", "/internal/connections/"+token, ""); !strings.Contains(got.Body, `"state":"complete"`) || !strings.Contains(got.Body, `"kind":"relay"`) {
			t.Errorf("%s", got.Body)
		}
		t.wantRest(s.back(key, 0), numbered(key, 1, "a"), harness.Clean)
		s.awaitMetric("ssegateway_relay_answers 0")
		if took := time.Since(ended); took < 800*time.Millisecond {
			t.Errorf("gone after %v", took)
		}
		s.wantRefused(returning("GET", key, 0), http.StatusGone, "ANSWER_GONE")
		s.wantMetrics("ssegateway_relay_kept_bytes 0")
	}},
	{name: "resume: the application breaks off, and who comes back gets all of it, and the cut", run: func(t *T) {
		app, streams := newResumable("60", 1)
		s := t.startRelay(app.serve)
		x, key := s.ask()
		streams[0].write <- "data: a\n\ndata: b\n\n"
		t.wantNext(x, numbered(key, 1, "a")+numbered(key, 2, "b"))
		close(streams[0].cut)
		t.wantRest(x, "", harness.Cut)
		t.wantRest(s.back(key, 1), numbered(key, 2, "b"), harness.Cut)
		t.wantRest(s.back(key, 2), "", harness.Cut)
		if got := s.Call("GET", "/internal/connections/"+<-streams[0].token, ""); !strings.Contains(got.Body, `"state":"failed"`) {
			t.Errorf("%s", got.Body)
		}
	}},
	{name: "resume: the client stops it", run: func(t *T) {
		app, streams := newResumable("60", 1)
		s := t.startRelay(app.serve)
		x, key := s.ask()
		streams[0].write <- "data: a\n\n"
		other := s.back(key, 0)
		t.wantNext(x, numbered(key, 1, "a"))
		t.wantNext(other, numbered(key, 1, "a"))
		s.wantRefused(returning("DELETE", key, 2), http.StatusGone, "ANSWER_GONE")
		began := time.Now()
		s.relay(returning("DELETE", key, 1), http.StatusNoContent)
		streams[0].wantGone(t, began, 0, time.Second)
		t.wantRest(x, "", harness.Clean)
		t.wantRest(other, "", harness.Clean)
		t.wantRest(s.back(key, 0), numbered(key, 1, "a"), harness.Clean)
		s.relay(returning("GET", key, 1), http.StatusNoContent)
		s.relay(returning("DELETE", key, 1), http.StatusNoContent)
		if got := s.Call("GET", "/internal/connections/"+<-streams[0].token, ""); !strings.Contains(got.Body, `"state":"stopped"`) {
			t.Errorf("%s", got.Body)
		}
	}},
	{name: "resume: the application stops it, with or without a reader", run: func(t *T) {
		app, streams := newResumable("60", 2)
		s := t.startRelay(app.serve)
		for i := range streams {
			x, key := s.ask()
			streams[i].write <- "data: a\n\n"
			t.wantNext(x, numbered(key, 1, "a"))
			token := <-streams[i].token
			if i == 1 {
				x.Leave()
				s.awaitMetric("ssegateway_relay_answers_alone 1")
				other := s.back(key, 1)
				s.awaitMetric("ssegateway_relay_answers_alone 0")
				other.Leave()
				s.awaitMetric("ssegateway_relay_answers_alone 1")
				s.WantError(s.Send(encode(object{"token": token, "event": object{"data": "x"}})), 409, "CONNECTION_RELAYED", "")
				s.WantError(s.Patch(token, `{"topics":{"add":["a"]}}`), 409, "CONNECTION_RELAYED", "") // nobody reads it
			}
			began := time.Now()
			s.WantStatusOK(s.Call("DELETE", "/internal/connections/"+token, ""), "ok")
			streams[i].wantGone(t, began, 0, time.Second)
			if i == 0 {
				t.wantRest(x, "", harness.Clean)
			}
			s.relay(returning("GET", key, 1), http.StatusNoContent)
		}
		s.awaitMetric(`ssegateway_connections{state="open"} 0`)
	}},
	{name: "resume: an Authorization has to be brought again", run: func(t *T) {
		app, streams := newResumable("60", 2)
		s := t.startRelay(app.serve)
		_, key := s.ask(harness.Field{Name: "authorization", Value: "Bearer one"})
		streams[0].write <- "data: a\n\n"
		for _, method := range []string{"GET", "POST", "DELETE"} {
			s.wantRefused(returning(method, key, 0), http.StatusForbidden, "RESUME_FORBIDDEN")
			s.wantRefused(returning(method, key, 0, harness.Field{Name: "authorization", Value: "Bearer two"}), http.StatusForbidden, "RESUME_FORBIDDEN")
		}
		t.wantNext(s.back(key, 0, harness.Field{Name: "authorization", Value: "Bearer one"}), numbered(key, 1, "a"))
		_, key = s.ask()
		streams[1].write <- "data: a\n\n"
		t.wantNext(s.back(key, 0, harness.Field{Name: "authorization", Value: "Bearer other"}), numbered(key, 1, "a"))
	}},
	{name: "resume: the body of a return is dropped, up to MAX_BODY_BYTES", run: func(t *T) {
		app, streams := newResumable("60", 1)
		s := t.startRelay(app.serve, "MAX_BODY_BYTES=2000")
		_, key := s.ask()
		streams[0].write <- "data: a\n\n"
		r := returning("POST", key, 0)
		r.Body = []byte(strings.Repeat("x", 2000))
		x, _ := s.relay(r, http.StatusOK)
		t.wantNext(x, numbered(key, 1, "a"))
		r.Body = append(r.Body, 'x')
		s.wantRefused(r, http.StatusRequestEntityTooLarge, "PAYLOAD_TOO_LARGE")
	}},
	{name: "resume: an answer with ids of its own is not kept, and is as it came", run: func(t *T) {
		app, streams := newResumable("60", 1)
		s := t.startRelay(app.serve)
		x, key := s.ask()
		streams[0].write <- "data: a\n\n"
		t.wantNext(x, numbered(key, 1, "a"))
		streams[0].write <- "id: 7\ndata: b\n\ndata: c\n\n"
		t.wantNext(x, "id: 7\ndata: b\n\ndata: c\n\n")
		s.wantRefused(returning("GET", key, 1), http.StatusGone, "ANSWER_GONE")
		s.awaitMetric("ssegateway_relay_unkept_total 1")
		s.awaitMetric("ssegateway_relay_kept_bytes 0")
		left := time.Now()
		x.Leave()
		streams[0].wantGone(t, left, 0, time.Second)
	}},
	{name: "resume: 0 seconds of the application's is not at all, whatever the default", run: func(t *T) {
		app, streams := newResumable("0", 1)
		s := t.startRelay(app.serve, "RELAY_RESUME_SECONDS=60")
		x, head := s.relay(harness.Request{Target: "/app"}, http.StatusOK)
		streams[0].write <- "data: a\n\n"
		t.wantNext(x, "data: a\n\n")
		if head.Get("Sse-Gateway-Resume") != "" {
			t.Errorf("%+v", head)
		}
	}},
	{name: "resume: the default of RELAY_RESUME_SECONDS", run: func(t *T) {
		app, streams := newResumable("", 1)
		s := t.startRelay(app.serve, "RELAY_RESUME_SECONDS=60")
		_, key := s.ask()
		streams[0].write <- "data: a\n\n"
		t.wantNext(s.back(key, 0), numbered(key, 1, "a"))
	}},
	{name: "resume: an answer that outgrows its bound goes on for who reads it, at the slowest one's pace, and nobody comes back", slow: true, run: func(t *T) {
		app, streams := newResumable("60", 1)
		s := t.startRelay(app.serve, "RELAY_ANSWER_BYTES=100000", "MAX_BODY_BYTES=10000000")
		x, key := s.ask()
		token := <-streams[0].token
		other := s.back(key, 0)
		slow, err := s.endpoint.Do(t.Context(), harness.Request{Target: "/app/chat", Header: returning("GET", key, 0).Header, StopAfterHead: true, ReceiveBuffer: 4096})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(slow.HangUp)
		if _, err := slow.Head(patience); err != nil {
			t.Fatal(err)
		}
		want := ""
		data := strings.Repeat("x", 50_000)
		wrote := make(chan int, 1000)
		go func() {
			for n := range 200 {
				streams[0].write <- "data: " + data + "\n\n"
				wrote <- n
			}
			close(streams[0].write)
		}()
		for n := range 200 {
			want += numbered(key, n+1, data)
		}
		t.wantNext(x, numbered(key, 1, data))
		s.awaitMetric("ssegateway_relay_unkept_total 1")
		s.wantRefused(returning("GET", key, 1), http.StatusGone, "ANSWER_GONE")
		if got := s.Call("GET", "/internal/connections/"+token, ""); !strings.Contains(got.Body, `"resumable":false`) || !strings.Contains(got.Body, `"readers":3`) {
			t.Errorf("%s", got.Body)
		}
		<-time.After(time.Second) // only time can show it: the slow one stands still, and so does the application
		if n := len(wrote); n > 150 {
			t.Errorf("the application wrote %d of 200 blocks of 50 kB while a reader took none", n)
		}
		slow.Resume()
		t.wantRest(x, strings.TrimPrefix(want, numbered(key, 1, data)), harness.Clean)
		t.wantRest(other, want, harness.Clean)
		t.wantRest(slow, want, harness.Clean)
		s.awaitMetric("ssegateway_relay_kept_bytes 0")
	}},
	{name: "resume: a reader that stands still holds nobody up, and gets all", run: func(t *T) {
		app, streams := newResumable("60", 1)
		s := t.startRelay(app.serve)
		x, key := s.ask()
		slow, err := s.endpoint.Do(t.Context(), harness.Request{Target: "/app/chat", Header: returning("GET", key, 0).Header, StopAfterHead: true, ReceiveBuffer: 4096})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(slow.HangUp)
		if _, err := slow.Head(patience); err != nil {
			t.Fatal(err)
		}
		want, data := "", strings.Repeat("x", 10_000)
		for n := range 300 {
			streams[0].write <- "data: " + data + "\n\n"
			want += numbered(key, n+1, data)
		}
		t.wantNext(x, want)
		close(streams[0].write)
		t.wantRest(x, "", harness.Clean)
		slow.Resume()
		t.wantRest(slow, want, harness.Clean)
	}},
	{name: "resume: when there is no room complete answers go first, the oldest first", run: func(t *T) {
		app, streams := newResumable("60", 4)
		s := t.startRelay(app.serve, "RELAY_BUDGET_BYTES=120000")
		var keys []string
		big := "data: " + strings.Repeat("x", 30_000) + "\n\n"
		for i := range 3 {
			x, key := s.ask()
			keys = append(keys, key)
			streams[i].write <- big
			if i == 1 {
				t.Cleanup(func() { close(streams[1].write) })
				continue // goes on
			}
			close(streams[i].write)
			if _, end, _ := x.Rest(patience); end != harness.Clean {
				t.Fatal(end)
			}
		}
		s.awaitMetric("ssegateway_relay_answers 3")
		x, key := s.ask()
		streams[3].write <- big
		x.Begin(30_000, patience)
		s.wantRefused(returning("GET", keys[0], 0), http.StatusGone, "ANSWER_GONE")
		s.back(keys[2], 0).Leave()
		s.awaitReaders(<-streams[2].token, 0)
		streams[3].write <- big
		x.Begin(60_000, patience)
		s.wantRefused(returning("GET", keys[2], 0), http.StatusGone, "ANSWER_GONE")
		streams[3].write <- big
		x.Begin(90_000, patience)
		s.awaitMetric("ssegateway_relay_unkept_total 1")
		s.wantRefused(returning("GET", key, 0), http.StatusGone, "ANSWER_GONE")
		s.back(keys[1], 0)
	}},
	{name: "resume: an answer that nobody reads counts, and makes room", run: func(t *T) {
		app, streams := newResumable("60", 3)
		s := t.startRelay(app.serve, "MAX_CONNECTIONS=2")
		x, key := s.ask()
		x.Begin(1, patience)
		x.Leave()
		s.awaitMetric("ssegateway_relay_answers_alone 1")
		x, second := s.ask()
		x.Begin(1, patience)
		x.Leave()
		s.awaitMetric("ssegateway_relay_answers_alone 2")
		back := s.back(second, 0) // in the place of the answer itself
		s.awaitMetric("ssegateway_relay_answers_alone 1")
		began := time.Now()
		_, third := s.ask() // in that of the first
		streams[0].wantGone(t, began, 0, time.Second)
		s.wantRefused(returning("GET", key, 0), http.StatusGone, "ANSWER_GONE")
		s.wantRefused(harness.Request{Target: "/app"}, http.StatusServiceUnavailable, "TOO_MANY_CONNECTIONS")
		s.wantRefused(returning("GET", third, 0), http.StatusServiceUnavailable, "TOO_MANY_CONNECTIONS")
		streams[1].write <- "data: a\n\n"
		t.wantNext(back, numbered(second, 1, "a"))
	}},
	{name: "resume: an answer that nobody reads counts for the address that asked", run: func(t *T) {
		app, streams := newResumable("60", 2)
		s := t.startRelay(app.serve, "MAX_CONNECTIONS_PER_IP=1")
		x, key := s.ask()
		x.Begin(1, patience)
		x.Leave()
		s.awaitMetric("ssegateway_relay_answers_alone 1")
		x = s.back(key, 0)
		s.wantRefused(returning("GET", key, 0), http.StatusTooManyRequests, "TOO_MANY_FROM_ADDRESS")
		x.Begin(1, patience)
		x.Leave()
		s.awaitMetric("ssegateway_relay_answers_alone 1")
		began := time.Now()
		s.ask()
		streams[0].wantGone(t, began, 0, time.Second)
	}},
	{name: "resume: a drain gives readers what there is and cuts them, and gives up what nobody reads", run: func(t *T) {
		app, streams := newResumable("60", 2)
		s := t.startRelay(app.serve)
		x, _ := s.ask()
		x.Begin(1, patience)
		x.Leave()
		s.awaitMetric("ssegateway_relay_answers_alone 1")
		x, key := s.ask()
		streams[1].write <- "data: a\n\n"
		t.wantNext(x, numbered(key, 1, "a"))
		began := s.signal(syscall.SIGTERM)
		t.wantRest(x, "", harness.Cut)
		streams[0].wantGone(t, began, 0, 2*time.Second)
		streams[1].wantGone(t, began, 0, 2*time.Second)
		s.wantExitWithin(began, 10*time.Second, 0)
	}},
	{name: "resume: HEAD tells of an answer without reading it", run: func(t *T) {
		app, streams := newResumable("60", 1)
		s := t.startRelay(app.serve)
		x, key := s.ask()
		x.Begin(1, patience)
		head, end := s.relay(returning("HEAD", key, 0), http.StatusOK)
		if body, _, _ := head.Rest(patience); body != "" || end.Get("Sse-Gateway-Resume") != key+".0" {
			t.Errorf("%q %+v", body, end)
		}
		streams[0].write <- "data: a\n\n"
		t.wantNext(x, numbered(key, 1, "a"))
	}},
	{name: "resume: the key is in no log and in no list", run: func(t *T) {
		app, streams := newResumable("60", 1)
		s := t.startRelay(app.serve, "LOG_LEVEL=debug")
		x, key := s.ask()
		streams[0].write <- "data: a\n\n"
		t.wantNext(x, numbered(key, 1, "a"))
		x.Leave()
		s.awaitMetric("ssegateway_relay_answers_alone 1")
		s.back(key, 0).Leave()
		for _, path := range []string{"/internal/connections", "/internal/connections/" + <-streams[0].token, "/internal/stats", "/metrics"} {
			if got := s.Call("GET", path, ""); strings.Contains(got.Body, key) || got.Status != http.StatusOK {
				t.Errorf("%s: %d %s", path, got.Status, got.Body)
			}
		}
		s.relay(returning("DELETE", key, 0), http.StatusNoContent)
		began := s.signal(syscall.SIGTERM)
		s.wantExitWithin(began, 10*time.Second, 0)
		if strings.Contains(s.gw.Log.Text(), key) {
			t.Error("the key is in the log")
		}
	}},
}}
