package contract

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"ssegateway/e2e/harness"
)

const (
	eventStream = "text/event-stream"
	ndjson      = "application/x-ndjson"
)

// streaming has the cases about requests whose body is passed to the client as it arrives.
var streaming = section{title: "15 streaming into a stream", cases: []contractCase{
	{name: "the body is passed on as it arrives, in order: text/event-stream", run: func(t *T) {
		s := t.Shared()
		x := s.Open("/")
		r := s.stream(x.token, "", eventStream)
		r.write("data: one\n\n")
		x.Want("data: one\n\n") // while the body is still being sent
		r.write("event: token\r\nda")
		r.write("ta: two\rdata:  lines\nid: 7\nretry: 10\n\n: comment\n\n")
		x.Want("event: token\nid: 7\nretry: 10\ndata: two\ndata:  lines\n\n")
		s.Event(x.token, "in between")
		x.Want("data: in between\n\n")
		r.write("data\n\n")
		x.Want("data: \n\n")
		s.wantStreamed(r.end(), 3)
		s.Event(x.token, "still open")
		x.Want("data: still open\n\n")
	}},
	{name: "the body is passed on as it arrives, in order: application/x-ndjson", run: func(t *T) {
		s := t.Shared()
		x := s.Open("/")
		r := s.stream(x.token, "", ndjson)
		r.write(`{"data":"one"}` + "\n")
		x.Want("data: one\n\n")
		r.write(`{"name":"token","da`)
		r.write(`ta":"two\nlines","id":"7","retry":10,"other":1}` + "\r\n\n")
		x.Want("event: token\nid: 7\nretry: 10\ndata: two\ndata: lines\n\n")
		r.write(`{"data":"no line end behind it"}`)
		s.wantStreamed(r.end(), 3)
		x.Want("data: no line end behind it\n\n")
	}},
	{name: "a block of only retry or id is passed on, and is no event", run: func(t *T) {
		s := t.Shared()
		x := s.Open("/")
		s.wantStreamed(s.Stream(x.token, "?close=true", eventStream, "retry: 10\n\ndata: one\n\nid: 7\n\nretry: 86400000\nid: 8\n\n"), 1)
		x.Want("retry: 10\n\ndata: one\n\nid: 7\n\nretry: 86400000\nid: 8\n\n")
		x.WantEnd()
	}},
	{name: "an id is passed on where it is given, also the one that was given before, and nowhere else", run: func(t *T) {
		s := t.Shared()
		x := s.Open("/")
		r := s.stream(x.token, "", eventStream)
		r.write("id: 7\ndata: one\n\n")
		x.Want("id: 7\ndata: one\n\n")
		s.WantStatusOK(s.SendObject(object{"token": x.token, "event": object{"id": "8", "data": "in between"}}), "ok")
		x.Want("id: 8\ndata: in between\n\n")
		r.write("data: two\n\nid: 7\ndata: three\n\nid: 7\n\n")
		x.Want("data: two\n\nid: 7\ndata: three\n\nid: 7\n\n")
		s.wantStreamed(r.end(), 3)
	}},
	{name: "an empty body is 200 with no event", run: func(t *T) {
		s := t.Shared()
		x := s.Open("/")
		s.wantStreamed(s.Stream(x.token, "", eventStream, ""), 0)
		s.wantStreamed(s.Stream(x.token, "", ndjson, "\n\n"), 0)
	}},
	{name: "many events in one request arrive in order, whatever joins the writes", run: func(t *T) {
		s := t.Shared()
		for _, query := range []string{"", "?coalesce_ms=0", "?coalesce_ms=5", "?coalesce_ms=1000"} {
			x := s.Open("/")
			var body, want strings.Builder
			for i := range 500 {
				fmt.Fprintf(&body, "{\"data\":\"%d\"}\n", i)
				fmt.Fprintf(&want, "data: %d\n\n", i)
			}
			s.wantStreamed(s.Stream(x.token, query, ndjson, body.String()), 500)
			x.Want(want.String())
		}
	}},
	{name: "close=true ends the stream after the body", run: func(t *T) {
		s := t.Shared()
		for _, body := range []string{"data: last\n\n", ""} {
			x := s.Open("/")
			got := s.Stream(x.token, "?close=true", eventStream, body)
			s.wantStreamed(got, strings.Count(body, "data"))
			x.Want(body)
			x.WantEnd()
			x.WantDisconnect("server_closed")
			s.wantGone(x.token)
		}
	}},
	{name: "when the client leaves: 410 CONNECTION_GONE at once, while the body is still coming", run: func(t *T) {
		s := t.Shared()
		for _, contentType := range []string{eventStream, ndjson} {
			x := s.Open("/")
			r := s.stream(x.token, "", contentType)
			r.write(map[string]string{eventStream: "data: one\n\n", ndjson: `{"data":"one"}` + "\n"}[contentType])
			x.Want("data: one\n\n")
			x.Leave()
			s.WantError(r.answer(), http.StatusGone, "CONNECTION_GONE", "") // the body has not ended
			x.WantDisconnect("client_closed")
		}
	}},
	{name: "when the connection is closed otherwise: 410, too", run: func(t *T) {
		s := t.Shared()
		x := s.Open("/")
		r := s.stream(x.token, "", eventStream)
		r.write("data: one\n\n")
		x.Want("data: one\n\n")
		s.CloseStream(x.token)
		s.WantError(r.answer(), http.StatusGone, "CONNECTION_GONE", "")
		x.WantEnd()
	}},
	{name: "a malformed body is a 400 that names the line, and what came before was delivered", run: func(t *T) {
		s := t.Shared()
		for _, c := range []struct {
			contentType, body string
			line              int
		}{
			{ndjson, "{\"data\":\"before\"}\n\nnonsense\n{\"data\":\"behind\"}\n", 3},
			{ndjson, "{\"data\":\"before\"}\n{\"data\":1}\n", 2},
			{ndjson, "{\"data\":\"before\"}\n{\"data\":\"x\",\"name\":\"a\\nb\"}\n", 2},
			{ndjson, "{\"data\":\"before\"}\n{\"data\":\"x\"} {}\n", 2},
			{ndjson, "{\"data\":\"before\"}\n[]\n", 2},
			{ndjson, "{\"data\":\"before\"}\n{\"data\":\"\xff\"}\n", 2},
			{eventStream, "data: before\n\ndata: unfinished\n", 0},
			{eventStream, "data: before\n\nevent: a\x01b\ndata: x\n\ndata: behind\n\n", 5},
			{eventStream, "data: before\n\nid: a\tb\ndata: x\n\ndata: behind\n\n", 5},
			{eventStream, "data: before\n\nid: a \ndata: x\n\ndata: behind\n\n", 5},
			{eventStream, "data: before\n\nretry: 18446744073709551616\n\ndata: behind\n\n", 4},
			{ndjson, "{\"data\":\"before\"}\n{\"data\":\"x\",\"id\":\"a\\fb\"}\n", 2},
			{ndjson, "{\"data\":\"before\"}\n{\"data\":\"x\",\"retry\":9007199254740992}\n", 2},
		} {
			x := s.Open("/")
			got := s.Stream(x.token, "?close=true", c.contentType, c.body)
			s.WantError(got, http.StatusBadRequest, "INVALID_STREAM", "")
			if c.line > 0 && !strings.Contains(got.Body, "line "+itoa(c.line)+":") {
				t.Errorf("%q: %s does not name line %d", c.body, got.Body, c.line)
			}
			x.Want("data: before\n\n")
			s.Event(x.token, "not closed")
			x.Want("data: not closed\n\n")
		}
	}},
	{name: "a body that breaks off does not close the connection, what came before was delivered", run: func(t *T) {
		s := t.Shared()
		x := s.Open("/")
		r := s.stream(x.token, "?close=true", eventStream)
		r.write("data: one\n\ndata: half")
		x.Want("data: one\n\n")
		r.abort()
		s.Event(x.token, "not closed")
		x.Want("data: not closed\n\n")
	}},
	{name: "back-pressure: a slow client slows the sender down, and nothing piles up", run: func(t *T) {
		s := t.Start()
		x := s.openStopped()
		r := s.stream(x.token, "?close=true", ndjson)
		const events = 200 // of 64 KiB: more than a socket and twelve queues hold
		data := strings.Repeat("x", 64<<10)
		go func() {
			for i := range events {
				if !r.offer(`{"data":"` + itoa(i) + " " + data + "\"}\n") {
					return
				}
			}
			r.close()
		}()
		s.Barrier() // gives the sender time to send as much as it may
		if queued := s.Connection(x.token).Queued; queued > 1<<20 {
			t.Errorf("%d bytes are queued", queued)
		}
		x.Resume()
		s.wantStreamed(r.answer(), events)
		text, end, err := x.Rest(patience)
		if end != harness.Clean {
			t.Fatalf("%v (%v), want the end of the stream", end, err)
		}
		all := decodeEvents(t, text)
		for i, e := range all {
			if e.Data != itoa(i)+" "+data {
				t.Fatalf("event %d is %s", i, quoted(e.Data))
			}
		}
		if len(all) != events {
			t.Errorf("%d events, want %d", len(all), events)
		}
	}},
	{name: "the streaming request of a pending connection waits until that opens", run: func(t *T) {
		s := t.Shared()
		x, accept := s.pending()
		r := s.stream(x.token, "", eventStream)
		r.write("data: one\n\n")
		accept()
		x.Want("data: one\n\n")
		r.write("data: two\n\n")
		x.Want("data: two\n\n")
		s.wantStreamed(r.end(), 2)
	}},
	{name: "a connection that is refused while a request streams to it: 410", run: func(t *T) {
		s := t.Shared()
		release := make(chan struct{})
		x := s.Begin(harness.Request{Target: "/"}, harness.Script{Connect: answerAfter(release, harness.Answer{Status: http.StatusForbidden})})
		r := s.stream(x.Connect().Token, "", eventStream)
		r.write("data: secret\n\n")
		close(release)
		x.Refusal(http.StatusForbidden, "BACKEND_FORBIDDEN", "")
		got := r.answer()
		if got.Status == http.StatusNotFound { // the connection was gone before the request began
			s.WantError(got, http.StatusNotFound, "TOKEN_NOT_FOUND", "")
			return
		}
		s.WantError(got, http.StatusGone, "CONNECTION_GONE", "")
	}},
	{name: "refused before the body: 404, 415, a parameter that is wrong", run: func(t *T) {
		s := t.Shared()
		x, closed := s.Open("/"), s.Open("/")
		s.CloseStream(closed.token)
		for _, c := range []struct {
			token, query, contentType string
			status                    int
			code                      string
		}{
			{closed.token, "", eventStream, http.StatusNotFound, "TOKEN_NOT_FOUND"},
			{"no-such-token", "", ndjson, http.StatusNotFound, "TOKEN_NOT_FOUND"},
			{x.token, "", "application/json", http.StatusUnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE"},
			{x.token, "", "text/plain", http.StatusUnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE"},
			{x.token, "?close=yes", eventStream, http.StatusBadRequest, "INVALID_CLOSE_TYPE"},
			{x.token, "?coalesce_ms=-1", eventStream, http.StatusBadRequest, "INVALID_COALESCE"},
			{x.token, "?coalesce_ms=1001", eventStream, http.StatusBadRequest, "INVALID_COALESCE"},
			{x.token, "?close=%zz", eventStream, http.StatusBadRequest, "INVALID_QUERY"},
		} {
			s.WantError(s.Stream(c.token, c.query, c.contentType, "data: wrong\n\n"), c.status, c.code, "")
		}
		s.Event(x.token, "right")
		x.Want("data: right\n\n")
	}},
	{name: "413: one event over the limit, what came before was delivered", run: func(t *T) {
		s := t.Start("MAX_BODY_BYTES=10000")
		data := strings.Repeat("x", 20_000)
		for contentType, body := range map[string]string{eventStream: "data: before\n\ndata: " + data + "\n\n", ndjson: `{"data":"before"}` + "\n" + `{"data":"` + data + `"}` + "\n"} {
			x := s.Open("/")
			s.WantError(s.Stream(x.token, "", contentType, body), http.StatusRequestEntityTooLarge, "PAYLOAD_TOO_LARGE", "")
			x.Want("data: before\n\n")
			s.Event(x.token, "unharmed")
			x.Want("data: unharmed\n\n")
		}
		// The whole body may be longer than the limit of an event.
		x := s.Open("/")
		s.wantStreamed(s.Stream(x.token, "", ndjson, strings.Repeat(`{"data":"`+data[:5000]+`"}`+"\n", 10)), 10)
		x.Want(strings.Repeat("data: "+data[:5000]+"\n\n", 10))
	}},
}}

// Stream makes a streaming request with the whole body.
func (s *Site) Stream(token, query, contentType, body string) Reply {
	s.t.Helper()
	return s.Call(http.MethodPost, connectionsPath+"/"+token+"/stream"+query, body, "Content-Type", contentType)
}

func (s *Site) wantStreamed(got Reply, events int) {
	s.t.Helper()
	s.WantJSON(got, http.StatusOK, object{"status": "ok", "events": float64(events)})
}

// streamingRequest is a streaming request under way.
type streamingRequest struct {
	s       *Site
	body    *io.PipeWriter
	replies chan Reply
}

// stream begins a streaming request.
func (s *Site) stream(token, query, contentType string) *streamingRequest {
	body, w := io.Pipe()
	r := &streamingRequest{s: s, body: w, replies: make(chan Reply, 1)}
	s.t.Cleanup(r.close)
	go func() {
		got, err := s.call(http.MethodPost, connectionsPath+"/"+token+"/stream"+query, body, "Content-Type", contentType)
		if err != nil {
			got.Body = err.Error()
		}
		body.CloseWithError(io.ErrClosedPipe) // do not block the writer
		r.replies <- got
	}()
	return r
}

// write sends a part of the body.
func (r *streamingRequest) write(part string) {
	r.s.t.Helper()
	if !r.offer(part) {
		r.s.t.Fatalf("%s was not accepted: %+v", quoted(part), r.answer())
	}
}

// offer is like write, for goroutines, which must not end the test.
func (r *streamingRequest) offer(part string) bool {
	_, err := io.WriteString(r.body, part)
	return err == nil
}

func (r *streamingRequest) close() { _ = r.body.Close() }

// abort aborts the body.
func (r *streamingRequest) abort() {
	_ = r.body.CloseWithError(io.ErrUnexpectedEOF)
	<-r.replies
}

// end ends the body, and waits for the answer.
func (r *streamingRequest) end() Reply {
	r.s.t.Helper()
	r.close()
	return r.answer()
}

func (r *streamingRequest) answer() Reply {
	r.s.t.Helper()
	select {
	case got := <-r.replies:
		return got
	case <-time.After(patience):
		r.s.t.Fatal("no answer")
		return Reply{}
	}
}
