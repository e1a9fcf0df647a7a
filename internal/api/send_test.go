package api

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"ssegateway/internal/bubble"
	"ssegateway/internal/gateway"
	"ssegateway/internal/outbox"
)

func TestSend(t *testing.T) {
	a, gw := newAPI(t)
	opened, slow, pending := open(t, gw, &sink{}), open(t, gw, &sink{full: true}), open(t, gw, nil)
	event := func(token, rest string) string { return `{"token":"` + token + `","event":{"data":"x"}` + rest + `}` }
	big := strings.Repeat("x", 400)
	for _, c := range []struct {
		name, body string
		status     int
		want       string
	}{
		{"open", event(opened, ""), 200, `{"status":"ok"}`},
		{"open, nothing to do", `{"token":"` + opened + `"}`, 200, `{"status":"ok"}`},
		{"open, written", event(opened, `,"wait":"written"`), 200, `{"status":"written"}`},
		{"pending", event(pending, ""), 200, `{"status":"buffered"}`},
		{"pending, large", event(pending, `,"x":"`+big+`"`), 200, `{"status":"buffered"}`},
		{"close", event(opened, `,"close":true`), 200, `{"status":"ok"}`},
		{"closed", event(opened, ""), 404, `{"error":{"message":"Token not found","code":"TOKEN_NOT_FOUND"}}`},
		{"no such token", event("00000000-0000-4000-8000-000000000000", ""), 404, `"code":"TOKEN_NOT_FOUND"`},
		{"no token at all", event("x", ""), 404, `"code":"TOKEN_NOT_FOUND"`},
		{"too large", event(slow, `,"x":"`+big+big+`"`), 413, `"the body is larger than MAX_BODY_BYTES, `},
		{"invalid", `[]`, 400, `"code":"INVALID_JSON"`},
		{"first to a slow one", `{"token":"` + slow + `","event":{"data":"` + big + `"}}`, 200, `{"status":"ok"}`},
		{"second", `{"token":"` + slow + `","event":{"data":"` + big + `"}}`, 200, `{"status":"ok"}`},
		{"beyond its queue", `{"token":"` + slow + `","event":{"data":"` + big + `"}}`, 500, `"code":"WRITE_FAILED"`},
		{"cut", event(slow, ""), 404, `"code":"TOKEN_NOT_FOUND"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := post(t, a, c.body)
			if body := w.Body.String(); w.Code != c.status || !strings.Contains(body, c.want) || w.Header().Get("Content-Type") != "application/json" {
				t.Errorf("%d %s, want %d %s", w.Code, body, c.status, c.want)
			}
		})
	}
	counted := sendCounts(a)
	want := map[string]uint64{"ok": 5, "written": 1, "buffered": 2, "not_found": 4, "invalid": 2, "write_failed": 1, "buffer_full": 0, "timeout": 0, "dropped": 0, "duplicate": 0}
	for result, n := range want {
		if counted[result] != n {
			t.Errorf("counted %d as %s, want %d", counted[result], result, n)
		}
	}
	if len(counted) != len(want) {
		t.Errorf("results %v, want %v", counted, want)
	}
}

func TestBufferFull(t *testing.T) {
	a, gw := newAPI(t)
	pending := open(t, gw, nil)
	body := `{"token":"` + pending + `","event":{"data":"` + strings.Repeat("x", 350) + `"}}`
	for i, want := range []int{200, 200, 503, 503} {
		if w := post(t, a, body); w.Code != want || want == 503 && !strings.Contains(w.Body.String(), "BUFFER_FULL") {
			t.Errorf("send %d: %d %s, want %d", i, w.Code, w.Body, want)
		}
	}
	if w := post(t, a, `{"token":"`+pending+`","event":{"data":"small"}}`); w.Code != 200 {
		t.Errorf("what still fits: %d", w.Code)
	}
}

// leaving is a stream whose client has left, which nobody has seen yet.
type leaving struct{ sink }

func (s *leaving) Write([]byte) (int, gateway.Detail) { return 0, gateway.WriteFailed }

func (s *leaving) Left() (gateway.Reason, gateway.Detail) { return gateway.ClientClosed, 0 }

// A client that has left is why an event is not written: its connection has closed, and
// nothing has failed.
func TestSendToWhoLeft(t *testing.T) {
	a, gw := newAPI(t)
	for _, rest := range []string{"", `,"wait":"written"`, `,"close":true`} {
		want(t, post(t, a, `{"token":"`+open(t, gw, &leaving{})+`","event":{"data":"x"}`+rest+`}`), 404, "TOKEN_NOT_FOUND")
	}
}

func TestMediaTypes(t *testing.T) {
	a, gw := newAPI(t)
	body := `{"token":"` + open(t, gw, &sink{}) + `"}`
	for contentType, want := range map[string]int{
		"application/json":                     200,
		"Application/JSON; charset=UTF-8":      200,
		"application/cloudevents+json":         200,
		"application/json; charset=iso-8859-1": 415,
		"text/plain":                           415,
		"application/x-www-form-urlencoded":    415,
		"":                                     415,
		"application/json; charset":            415,
	} {
		if w := post(t, a, body, "Content-Type", contentType); w.Code != want {
			t.Errorf("%q: %d, want %d", contentType, w.Code, want)
		}
	}
}

func TestMethodsAndPaths(t *testing.T) {
	a, _ := newAPI(t)
	for target, want := range map[string]int{
		"GET /internal/send": 405, "PUT /internal/send": 405, "POST /internal/nothing": 404, "POST /internal//send": 404,
	} {
		method, path, _ := strings.Cut(target, " ")
		w := do(t, a, method, path, "")
		if w.Code != want {
			t.Errorf("%s: %d, want %d", target, w.Code, want)
		}
		if want == 405 && w.Header().Get("Allow") != "POST" {
			t.Errorf("%s: Allow %q", target, w.Header().Get("Allow"))
		}
	}
}

// blank is a ResponseWriter that costs nothing.
type blank struct{ h http.Header }

func (b *blank) Header() http.Header         { return b.h }
func (b *blank) Write(p []byte) (int, error) { return len(p), nil }
func (b *blank) WriteHeader(int)             {}

// A whole send costs at most 25 allocations outside net/http.
func TestSendAllocations(t *testing.T) {
	a, gw := newAPI(t)
	body := []byte(`{"token":"` + open(t, gw, &sink{}) + `","event":{"name":"message","data":"{\"text\":\"hello\\nthere\"}","id":"7"}}`)
	r := httptest.NewRequest(http.MethodPost, "/internal/send", nil)
	r.Header.Set("Content-Type", "application/json")
	r.ContentLength = int64(len(body))
	w := &blank{h: http.Header{}}
	reader := bytes.NewReader(body)
	n := testing.AllocsPerRun(1000, func() {
		reader.Reset(body)
		r.Body = io.NopCloser(reader)
		a.ServeHTTP(w, r)
	})
	t.Logf("%v allocations", n)
	if n > 15 { // under the race detector the pool forgets at random
		t.Errorf("%v allocations, want at most 15", n)
	}
}

func BenchmarkSend(b *testing.B) {
	a, gw := newAPI(b)
	body := []byte(`{"token":"` + open(b, gw, &sink{}) + `","event":{"name":"message","data":"{\"text\":\"hello there\"}"}}`)
	benchmarkPost(b, a, "/internal/send", body)
}

// benchmarkPost makes the same request again and again.
func benchmarkPost(b *testing.B, a *API, target string, body []byte) {
	b.Helper()
	r := httptest.NewRequest(http.MethodPost, target, nil)
	r.Header.Set("Content-Type", "application/json")
	r.ContentLength = int64(len(body))
	w := &blank{h: http.Header{}}
	reader := bytes.NewReader(body)
	r.Body = io.NopCloser(reader)
	b.ReportAllocs()
	for b.Loop() {
		reader.Reset(body)
		a.ServeHTTP(w, r)
	}
}

// An id that looks like a position to which the log has not come would make its client miss
// what is published until then. One that a publish returned is as good as any.
func TestIDAhead(t *testing.T) {
	a, gw := newAPI(t)
	s := &sink{}
	token := open(t, gw, s)
	send := func(id string) string { return `{"token":"` + token + `","event":{"data":"x","id":"` + id + `"}}` }
	epoch := extentOf(a).Epoch
	for _, offset := range []string{"1", "17", "18446744073709551615"} {
		id := epoch + "-" + offset
		want(t, do(t, a, http.MethodPost, "/internal/send", send(id)), 400, "INVALID_EVENT_ID")
		want(t, do(t, a, http.MethodPost, "/internal/batch", `{"operations":[`+send(id)+`]}`), 200, "INVALID_EVENT_ID")
		want(t, stream(t, a, token, "", eventStream, "\nid: "+id+"\ndata: x\n\n"), 400, "line 4: event.id")
		want(t, stream(t, a, token, "", ndjson, `{"data":"x","id":"`+id+`"}`), 400, "INVALID_STREAM")
	}
	if text, _, _ := s.got(); text != "" {
		t.Errorf("received %q", text)
	}
	want(t, do(t, a, http.MethodPost, "/internal/publish", `{"topic":"x","event":{"data":"x"}}`), 200, epoch+"-1")
	wire := ""
	for _, id := range []string{epoch + "-1", epoch + "-0", "OTHER-17", epoch, epoch + "-", epoch + "-02", epoch + "-18446744073709551616"} {
		want(t, do(t, a, http.MethodPost, "/internal/send", send(id)), 200, "ok")
		wire += "id: " + id + "\ndata: x\n\n"
	}
	if text, _, _ := s.got(); text != wire {
		t.Errorf("received %q, want %q", text, wire)
	}
}

// slow returns an open connection of that policy whose client takes nothing, and the body of a
// send that fills most of its queue.
func slow(t *testing.T, gw *gateway.Gateway, o outbox.Overflow) (s *sink, token, body string) {
	t.Helper()
	s = &sink{full: true}
	token = openWith(t, gw, s, gateway.Grant{Overflow: o})
	return s, token, `{"token":"` + token + `","event":{"data":"` + strings.Repeat("x", 350) + `"}`
}

// Who waits for an event that the overflow policy drops is told so: neither has the client
// left, nor has anything failed.
func TestSendDropped(t *testing.T) {
	for _, policy := range []outbox.Overflow{outbox.DropOldest, outbox.Latest} {
		bubble.Test(t, func(t *testing.T) {
			a, gw := newAPI(t)
			_, token, body := slow(t, gw, policy)
			waiting := make(chan *httptest.ResponseRecorder, 1)
			go func() { waiting <- post(t, a, body+`,"wait":"written"}`) }()
			synctest.Wait()
			batch := make(chan *httptest.ResponseRecorder, 1)
			go func() {
				batch <- do(t, a, http.MethodPost, "/internal/batch", `{"operations":[`+body+`,"wait":"written"}]}`)
			}()
			synctest.Wait()
			for range 2 {
				want(t, post(t, a, body+`}`), 200, `{"status":"ok"}`)
			}
			want(t, <-waiting, 200, `{"status":"dropped"}`)
			want(t, <-batch, 200, `{"results":[{"status":"dropped"}]}`)
			if n := sendCounts(a)["dropped"]; n != 2 {
				t.Errorf("%d counted as dropped", n)
			}
			conn(t, gw, token).Abort(gateway.ClientClosed, 0)
		})
	}
}

// A client that leaves while its event waits is no longer there: that is a 404.
func TestSendToWhoLeaves(t *testing.T) {
	for _, test := range []struct {
		reason gateway.Reason
		detail gateway.Detail
		status int
		code   string
	}{
		{gateway.ClientClosed, 0, 404, "TOKEN_NOT_FOUND"},
		{gateway.Error, gateway.Stalled, 500, "WRITE_FAILED"},
	} {
		bubble.Test(t, func(t *testing.T) {
			a, gw := newAPI(t)
			_, token, body := slow(t, gw, outbox.Disconnect)
			waiting := make(chan *httptest.ResponseRecorder, 1)
			go func() { waiting <- post(t, a, body+`,"wait":"written"}`) }()
			synctest.Wait()
			conn(t, gw, token).Abort(test.reason, test.detail)
			want(t, <-waiting, test.status, test.code)
		})
	}
}
