package api

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ssegateway/internal/bubble"
	"ssegateway/internal/frame"
	"ssegateway/internal/gateway"
	"ssegateway/internal/guard"
	"ssegateway/internal/outbox"
)

const (
	eventStream = "text/event-stream"
	ndjson      = "application/x-ndjson"
)

func stream(t testing.TB, a *API, token, query, contentType, body string) *httptest.ResponseRecorder {
	t.Helper()
	return do(t, a, http.MethodPost, "/internal/connections/"+token+"/stream"+query, body, "Content-Type", contentType)
}

func TestStream(t *testing.T) {
	const around = `{"data":""}` // of the 500 bytes that newAPI allows
	most := `{"data":"` + strings.Repeat("x", 500-len(around)) + `"}`
	mostReceived := "data: " + strings.Repeat("x", 500-len(around)) + "\n\n"
	for title, c := range map[string]struct {
		contentType, body string
		events            int
		received          string
	}{
		"event stream": {
			eventStream, "data: a\n\nevent: n\nid: 1\nretry: 5\ndata: b\ndata: c\n\n", 2,
			"data: a\n\nevent: n\nid: 1\nretry: 5\ndata: b\ndata: c\n\n",
		},
		"charset":                      {eventStream + "; charset=utf-8", "data: a\n\n", 1, "data: a\n\n"},
		"CR LF, comments, only an id":  {eventStream, ": hi\r\n\r\ndata: a\r\n\r\nid: 3\r\n\r\n: bye\r\n\r\n", 1, "data: a\n\nid: 3\n\n"},
		"only a retry":                 {eventStream, "retry: 5\n\ndata: a\n\nretry: 0\nid: 7\n\nretry: x\n\nevent: n\n\n", 1, "retry: 5\n\ndata: a\n\nretry: 0\nid: 7\n\n"},
		"largest retry":                {eventStream, "retry: 9007199254740991\ndata: a\n\n", 1, "retry: 9007199254740991\ndata: a\n\n"},
		"an empty id is none":          {eventStream, "id: 1\ndata: a\n\nid\ndata: b\n\ndata: c\n\nid:\n\nid: 1\ndata: d\n\n", 4, "id: 1\ndata: a\n\ndata: b\n\ndata: c\n\nid: 1\ndata: d\n\n"},
		"lines, an empty id, no block": {ndjson, `{"data":"a","id":"","bare":true}`, 1, "data: a\n\n"},
		"an id is not repeated":        {eventStream, "id: 1\ndata: a\n\ndata: b\n\nid: 2\ndata: c\n\n", 3, "id: 1\ndata: a\n\ndata: b\n\nid: 2\ndata: c\n\n"},
		"byte order mark":              {eventStream, "\ufeffdata: a\n\n", 1, "data: a\n\n"},
		"nothing":                      {eventStream, "", 0, ""},
		"lines":                        {ndjson, `{"data":"a"}` + "\n" + `{"name":"n","id":"1","retry":5,"data":"b\nc"}` + "\n", 2, "data: a\n\nevent: n\nid: 1\nretry: 5\ndata: b\ndata: c\n\n"},
		"lines, CR LF, empty, no end":  {ndjson, "\n{\"data\":\"a\"}\r\n  \r\n{\"data\":\"b\",\"x\":1}", 2, "data: a\n\ndata: b\n\n"},
		"no lines":                     {ndjson, "", 0, ""},
		"one event of nearly the most": {ndjson, `{"data":"` + strings.Repeat("x", 480) + `"}`, 1, "data: " + strings.Repeat("x", 480) + "\n\n"},
		"the most, LF":                 {ndjson, most + "\n", 1, mostReceived},
		"the most, CR LF":              {ndjson, most + "\r\n", 1, mostReceived},
		"the most, no end":             {ndjson, most, 1, mostReceived},
	} {
		a, gw := newAPI(t)
		s := &sink{}
		w := stream(t, a, open(t, gw, s), "", c.contentType, c.body)
		want(t, w, 200, fmt.Sprintf(`{"status":"ok","events":%d}`, c.events))
		if text, _, closed := s.got(); text != c.received || closed {
			t.Errorf("%s: received %q, want %q, closed %v", title, text, c.received, closed)
		}
	}
}

func TestStreamMalformed(t *testing.T) {
	const first, firstLine = "data: a\n\n", `{"data":"a"}` + "\n"
	long := strings.Repeat("x", 600)
	for body, c := range map[string]struct {
		contentType string
		status      int
		part        string
	}{
		first + "data: b\n":                                   {eventStream, 400, "line 3: the last event has no empty line"},
		first + "data: b":                                     {eventStream, 400, "the last event has no empty line"},
		first + "event: \x01\ndata: b\n\n":                    {eventStream, 400, "line 5: the event's name"},
		first + "id: " + long[:129] + "\ndata: b\n\n":         {eventStream, 400, "line 5: the event's id"},
		first + "id: a\fb\ndata: b\n\n":                       {eventStream, 400, "line 5: the event's id"},
		first + "id:  a\ndata: b\n\n":                         {eventStream, 400, "line 5: the event's id"},
		first + "id: a \n\n":                                  {eventStream, 400, "line 4: the event's id"},
		first + "retry: 9007199254740992\n\n":                 {eventStream, 400, "line 4: the retry"},
		first + "retry: 99999999999999999999999\ndata: b\n\n": {eventStream, 400, "line 5: the retry"},
		firstLine + `{"data":"b","retry":9007199254740992}`:   {ndjson, 400, "line 2: event.retry"},
		firstLine + `{"data":"b","id":"a\u0001"}`:             {ndjson, 400, "line 2: event.id"},
		firstLine + `{"retry":5}`:                             {ndjson, 400, "line 2: event.data"},
		first + "data: " + long + "\n\n":                      {eventStream, 413, `"one event is larger than MAX_BODY_BYTES, `},
		firstLine + "x\n":                                     {ndjson, 400, "line 2: not one JSON value"},
		firstLine + "\n" + `{"data":"b"} {"data":"c"}`:        {ndjson, 400, "line 3: not one JSON value"},
		firstLine + `{"data":"b","data":"c"}`:                 {ndjson, 400, "line 2: not one JSON value"},
		firstLine + `{"data":`:                                {ndjson, 400, "line 2: not one JSON value"},
		firstLine + "{\"data\":\"\xff\"}":                     {ndjson, 400, "line 2: not one JSON value"},
		firstLine + `[]`:                                      {ndjson, 400, "line 2: event must be an object"},
		firstLine + `"b"`:                                     {ndjson, 400, "line 2: event must be an object"},
		firstLine + `{}`:                                      {ndjson, 400, "line 2: event.data is required"},
		firstLine + `{"data":"b","name":"\n"}`:                {ndjson, 400, "line 2: event.name"},
		firstLine + `{"data":"b","id":1}`:                     {ndjson, 400, "line 2: event.id"},
		firstLine + `{"data":"b","retry":0.5}`:                {ndjson, 400, "line 2: event.retry"},
		firstLine + `{"data":"` + long + `"}`:                 {ndjson, 413, `"one event is larger than MAX_BODY_BYTES, `},
		firstLine + `{"data":"` + long[:490] + `"}` + "\n":    {ndjson, 413, `"one event is larger than MAX_BODY_BYTES, `},
		firstLine + `{"data":"` + long[:490] + `"}`:           {ndjson, 413, `"one event is larger than MAX_BODY_BYTES, `},
		firstLine + `{"data":"b","id":"` + long[:129] + `"}`:  {ndjson, 400, "line 2: event.id"},
	} {
		for _, query := range []string{"?close=true", "?coalesce_ms=1000&close=true"} {
			a, gw := newAPI(t)
			s := &sink{}
			w := stream(t, a, open(t, gw, s), query, c.contentType, body)
			want(t, w, c.status, c.part)
			if c.status == 400 {
				want(t, w, 400, `"code":"INVALID_STREAM"`)
			}
			// What came before is delivered, and the stream goes on.
			if text, _, closed := s.got(); text != first || closed || w.Header().Get("Connection") != "close" {
				t.Errorf("%q: received %q, closed %v, headers %v", body, text, closed, w.Header())
			}
		}
	}
}

func TestStreamRefused(t *testing.T) {
	a, gw := newAPI(t)
	s := &sink{}
	token := open(t, gw, s)
	for _, c := range []struct {
		token, query, contentType string
		status                    int
		code                      string
	}{
		{token, "", "application/json", 415, "UNSUPPORTED_MEDIA_TYPE"},
		{token, "", "", 415, "UNSUPPORTED_MEDIA_TYPE"},
		{token, "?coalesce_ms=-1", ndjson, 400, "INVALID_COALESCE"},
		{token, "?coalesce_ms=1001", ndjson, 400, "INVALID_COALESCE"},
		{token, "?coalesce_ms=x", ndjson, 400, "INVALID_COALESCE"},
		{token, "?close=2", ndjson, 400, "INVALID_CLOSE_TYPE"},
		{token, "?close=yes", ndjson, 400, "INVALID_CLOSE_TYPE"},
		{token, "?%", ndjson, 400, "INVALID_QUERY"},
		{"x", "", ndjson, 404, "TOKEN_NOT_FOUND"},
		{"00000000-0000-4000-8000-000000000000", "", ndjson, 404, "TOKEN_NOT_FOUND"},
		{"x", "", "text/plain", 415, "UNSUPPORTED_MEDIA_TYPE"},
	} {
		want(t, stream(t, a, c.token, c.query, c.contentType, `{"data":"a"}`), c.status, c.code)
	}
	want(t, do(t, a, http.MethodGet, "/internal/connections/"+token+"/stream", ""), 405, "METHOD_NOT_ALLOWED")
	if text, _, closed := s.got(); text != "" || closed {
		t.Errorf("received %q, closed %v", text, closed)
	}
}

func TestStreamClose(t *testing.T) {
	for query, want := range map[string]bool{"?close=true": true, "?close=false": false, "": false} {
		for _, body := range []string{"data: a\n\n", ""} {
			a, gw := newAPI(t)
			s := &sink{}
			w := stream(t, a, open(t, gw, s), query, eventStream, body)
			if text, _, closed := s.got(); w.Code != 200 || text != body || closed != want {
				t.Errorf("%q %q: %d, received %q, closed %v", query, body, w.Code, text, closed)
			}
		}
	}
}

// streaming is a streaming request under way, whose body is written by the test.
type flow struct {
	body   *io.PipeWriter
	answer chan *httptest.ResponseRecorder
}

func start(t testing.TB, a *API, token, query, contentType string) *flow {
	t.Helper()
	reader, writer := io.Pipe()
	t.Cleanup(func() { _ = writer.Close() })
	r := httptest.NewRequest(http.MethodPost, "/internal/connections/"+token+"/stream"+query, reader)
	r.Header.Set("Content-Type", contentType)
	f := &flow{writer, make(chan *httptest.ResponseRecorder, 1)}
	go func() {
		w := httptest.NewRecorder()
		described(t, a).ServeHTTP(&impatient{w, reader}, r)
		_ = reader.Close()
		f.answer <- w
	}()
	return f
}

// impatient has no patience with what is left of a body: it breaks off at any deadline.
type impatient struct {
	*httptest.ResponseRecorder
	body *io.PipeReader
}

func (w *impatient) SetReadDeadline(t time.Time) error {
	if t.IsZero() {
		return nil
	}
	return w.body.CloseWithError(os.ErrDeadlineExceeded)
}

func (f *flow) write(t testing.TB, s string) {
	t.Helper()
	if _, err := io.WriteString(f.body, s); err != nil {
		t.Fatal(err)
	}
}

func (f *flow) wait(t testing.TB) *httptest.ResponseRecorder {
	t.Helper()
	select {
	case w := <-f.answer:
		return w
	case <-time.After(10 * time.Second):
		t.Fatal("no answer")
		return nil
	}
}

// Events reach the client as they arrive, not at the end of the body.
func TestStreamIsNotHeldBack(t *testing.T) {
	for contentType, event := range map[string]string{eventStream: "data: %d\n\n", ndjson: "{\"data\":\"%d\"}\n"} {
		a, gw := newAPI(t)
		s := &sink{}
		f := start(t, a, open(t, gw, s), "", contentType)
		sent := ""
		for i := range 5 {
			f.write(t, fmt.Sprintf(event, i))
			sent += fmt.Sprintf("data: %d\n\n", i)
			s.await(t, contentType, func(text string, _ int, _ bool) bool { return text == sent })
		}
		_ = f.body.Close()
		want(t, f.wait(t), 200, `"events":5`)
	}
}

func TestStreamCoalesces(t *testing.T) {
	for query, most := range map[string]int{"?coalesce_ms=1000": 1, "?coalesce_ms=0": 30, "": 30} {
		a, gw := newAPI(t)
		s := &sink{}
		f := start(t, a, open(t, gw, s), query, eventStream)
		sent := ""
		for i := range 30 {
			event := fmt.Sprintf("data: %d\n\n", i)
			f.write(t, event)
			sent += event
		}
		if most == 1 { // the window is over while the body still comes
			s.await(t, query, func(text string, writes int, _ bool) bool { return text == sent && writes <= 3 })
		}
		_ = f.body.Close()
		want(t, f.wait(t), 200, `"events":30`)
		if text, writes, _ := s.got(); text != sent || most == 30 && writes != 30 {
			t.Errorf("%s: %d writes, received %q", query, writes, text)
		}
	}
}

// A client that takes nothing slows the sender down.
func TestStreamBackPressure(t *testing.T) {
	a, gw := newAPI(t)
	s := &sink{full: true}
	token := open(t, gw, s)
	f := start(t, a, token, "", ndjson)
	const events = 100
	event := `{"data":"` + strings.Repeat("x", 300) + "\"}\n"
	written := make(chan int)
	go func() {
		defer close(written)
		for i := range events {
			if _, err := io.WriteString(f.body, event); err != nil {
				return
			}
			written <- i + 1
		}
		_ = f.body.Close()
	}()
	taken := 0
	for quiet := false; !quiet; {
		select {
		case taken = <-written:
		case <-time.After(300 * time.Millisecond):
			quiet = true
		}
	}
	if queued := conn(t, gw, token).Info().Queued; taken > 10 || queued > 1000 {
		t.Errorf("%d events taken, %d bytes queued for a client that takes nothing", taken, queued)
	}
	s.setFull(false)
	conn(t, gw, token).Ready(s, false, true)
	for range written { // until all is written
	}
	want(t, f.wait(t), 200, fmt.Sprintf(`"events":%d`, events))
	if text, _, _ := s.got(); strings.Count(text, "data: ") != events {
		t.Errorf("received %d events", strings.Count(text, "data: "))
	}
}

// A streaming request goes on behind an event that the overflow policy dropped, and its
// answer tells of it.
func TestStreamDropped(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		a, gw := newAPI(t)
		x, token, body := slow(t, gw, outbox.DropOldest)
		f := start(t, a, token, "?coalesce_ms=10", ndjson)
		event := `{"data":"` + strings.Repeat("y", 150) + "\"}\n"
		f.write(t, event+event)
		time.Sleep(time.Second) // fake clock
		for range 3 {           // the first two drop what was joined
			want(t, post(t, a, body+`}`), 200, `{"status":"ok"}`)
		}
		synctest.Wait()
		f.write(t, `{"data":"z"}`+"\n")
		_ = f.body.Close()
		synctest.Wait()
		x.setFull(false)
		conn(t, gw, token).Ready(x, false, true)
		want(t, f.wait(t), 200, `{"status":"ok","events":1,"dropped":2}`)
		if text, _, _ := x.got(); strings.Contains(text, "y") || !strings.Contains(text, "data: z") {
			t.Errorf("received %q", text)
		}
	})
}

func TestStreamToPending(t *testing.T) {
	a, gw := newAPI(t)
	token := open(t, gw, nil)
	f := start(t, a, token, "?close=true", eventStream)
	f.write(t, "data: a\n\n")
	s := &sink{}
	for conn(t, gw, token).Info().Queued == 0 { // buffered
		time.Sleep(time.Millisecond) //nolint:forbidigo // the connection tells nobody of its buffer
	}
	if !conn(t, gw, token).Open(s, frame.Frame{}, gateway.Grant{}) {
		t.Fatal("not open")
	}
	f.write(t, "data: b\n\n")
	_ = f.body.Close()
	want(t, f.wait(t), 200, `"events":2`)
	if text, _, closed := s.got(); text != "data: a\n\ndata: b\n\n" || !closed {
		t.Errorf("received %q, closed %v", text, closed)
	}

	token = open(t, gw, nil)
	f = start(t, a, token, "", eventStream)
	f.write(t, "data: a\n\n")
	conn(t, gw, token).Abort(gateway.ClientClosed, 0)
	want(t, f.wait(t), 410, "CONNECTION_GONE")

	token = open(t, gw, nil)
	for range 2 {
		want(t, post(t, a, `{"token":"`+token+`","event":{"data":"`+strings.Repeat("x", 350)+`"}}`), 200, "buffered")
	}
	want(t, stream(t, a, token, "", ndjson, `{"data":"`+strings.Repeat("x", 400)+`"}`), 503, "BUFFER_FULL")
}

func TestStreamGoneByItself(t *testing.T) {
	a, gw := newAPI(t)
	s := &sink{full: true}
	token := open(t, gw, s)
	f := start(t, a, token, "", eventStream)
	f.write(t, "data: waits\n\n")
	conn(t, gw, token).Abort(gateway.Error, gateway.Stalled)
	want(t, f.wait(t), 410, "CONNECTION_GONE")

	token = open(t, gw, &sink{})
	f = start(t, a, token, "?coalesce_ms=1000", eventStream)
	f.write(t, "data: held\n\n")
	conn(t, gw, token).Abort(gateway.ClientClosed, 0)
	want(t, f.wait(t), 410, "CONNECTION_GONE")
}

// A body that breaks off ends the request, and nothing is made up.
func TestStreamBrokenOff(t *testing.T) {
	for _, contentType := range []string{eventStream, ndjson} {
		for range 50 {
			a, gw := newAPI(t)
			s := &sink{}
			token := open(t, gw, s)
			ctx, cancel := context.WithCancel(t.Context())
			reader, writer := io.Pipe()
			r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/internal/connections/"+token+"/stream?close=true", reader)
			r.Header.Set("Content-Type", contentType)
			go func() {
				event := map[string]string{eventStream: "data: a\n\ndata: ", ndjson: "{\"data\":\"a\"}\n"}[contentType]
				_, _ = io.WriteString(writer, event)
				cancel() // as a server does, at the same time
				_ = writer.CloseWithError(errBroken)
			}()
			w := httptest.NewRecorder()
			ended := make(chan struct{})
			go func() {
				described(t, a).ServeHTTP(&impatient{w, reader}, r)
				close(ended)
			}()
			select {
			case <-ended:
			case <-time.After(5 * time.Second):
				conn(t, gw, token).Abort(gateway.ClientClosed, 0)
				t.Fatal("the request does not end")
			}
			want(t, w, 400, "REQUEST_ABORTED")
			if text, _, closed := s.got(); text != "data: a\n\n" || closed {
				t.Fatalf("received %q, closed %v", text, closed)
			}
		}
	}
}

// exchange is a streaming request over a real connection.
type exchange struct {
	net.Conn
	answers *bufio.Reader
}

func dial(t testing.TB, server *httptest.Server) *exchange {
	t.Helper()
	c, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return &exchange{c, bufio.NewReader(c)}
}

func (e *exchange) head(t testing.TB, token string) {
	t.Helper()
	e.send(t, "POST /internal/connections/"+token+"/stream HTTP/1.1\r\nHost: x\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
}

func (e *exchange) send(t testing.TB, s string) {
	t.Helper()
	if _, err := io.WriteString(e, s); err != nil {
		t.Fatal(err)
	}
}

func chunk(s string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(s), s) }

func (e *exchange) answer(t testing.TB) (int, string) {
	t.Helper()
	response, err := http.ReadResponse(e.answers, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

// The moment the client goes the sender is told, while the body is still coming,
// whether the sender is silent then, or sends as fast as it can.
func TestStreamAnswersWhileTheBodyComes(t *testing.T) {
	a, gw := newAPI(t)
	server := httptest.NewServer(described(t, a))
	defer server.Close()
	for _, flood := range []bool{false, true} {
		fastest := time.Hour // a busy machine may delay one or another
		for range 5 {
			s := &sink{}
			token := open(t, gw, s)
			e := dial(t, server)
			e.head(t, token)
			e.send(t, chunk("data: first\n\n"))
			s.await(t, "the first event", func(text string, _ int, _ bool) bool { return strings.HasPrefix(text, "data: first\n\n") })
			flooded := make(chan struct{})
			go func() {
				defer close(flooded)
				for flood {
					if _, err := io.WriteString(e, chunk("data: more\n\n")); err != nil {
						return
					}
				}
			}()
			left := time.Now()
			conn(t, gw, token).Abort(gateway.ClientClosed, 0)
			status, body := e.answer(t)
			fastest = min(fastest, time.Since(left))
			if status != 410 || !strings.Contains(body, "CONNECTION_GONE") {
				t.Errorf("flood %v: %d %s", flood, status, body)
			}
			_ = e.Close()
			<-flooded
		}
		if fastest > 500*time.Millisecond {
			t.Errorf("flood %v: answered after %v", flood, fastest)
		}
	}
}

// A connection that carried a whole streaming request carries the next one too.
func TestStreamKeepsItsConnection(t *testing.T) {
	a, gw := newAPI(t)
	server := httptest.NewServer(described(t, a))
	defer server.Close()
	s := &sink{}
	token := open(t, gw, s)
	e := dial(t, server)
	for i := range 3 {
		e.head(t, token)
		event := fmt.Sprintf("data: %d\n\n", i)
		e.send(t, chunk(event))
		s.await(t, "an event", func(text string, _ int, _ bool) bool { return strings.HasSuffix(text, event) })
		e.send(t, "0\r\n\r\n")
		if status, body := e.answer(t); status != 200 || body != `{"status":"ok","events":1}` {
			t.Fatalf("request %d: %d %s", i, status, body)
		}
	}
	// A publish, which waits for its count, is not given up either.
	openWith(t, gw, &sink{}, gateway.Grant{Topics: []string{"a"}})
	for range 20 {
		const body = `{"topic":"a","event":{"data":"x"}}`
		e.send(t, fmt.Sprintf("POST /internal/publish HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
		if status, answer := e.answer(t); status != 200 || !strings.Contains(answer, `"receivers":1`) {
			t.Fatalf("%d %s", status, answer)
		}
	}
}

// A refused request is answered, though its body was not read.
func TestStreamRefusedOverTheWire(t *testing.T) {
	a, _ := newAPI(t)
	server := httptest.NewServer(described(t, a))
	defer server.Close()
	e := dial(t, server)
	e.head(t, "00000000-0000-4000-8000-000000000000")
	e.send(t, chunk("data: a\n\n"))
	if status, body := e.answer(t); status != 404 {
		t.Errorf("%d %s", status, body)
	}
}

type panickingBody struct{}

func (panickingBody) Read([]byte) (int, error) { panic("planted") }

// TestStreamPanic: a panic of the goroutine that reads the body is the request's, as any
// other panic of its handler.
func TestStreamPanic(t *testing.T) {
	a, gw := newAPI(t)
	defer func() {
		v := recover()
		if p, ok := v.(*guard.Panic); !ok || p.Value != "planted" || !strings.Contains(string(p.Stack), "panickingBody") {
			t.Errorf("the handler panicked with %v", v)
		}
	}()
	r := httptest.NewRequest(http.MethodPost, "/internal/connections/"+open(t, gw, &sink{})+"/stream", panickingBody{})
	r.Header.Set("Content-Type", eventStream)
	a.ServeHTTP(httptest.NewRecorder(), r)
}
