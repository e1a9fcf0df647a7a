package server

import (
	"bufio"
	"bytes"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"ssegateway/internal/broker"
	"ssegateway/internal/callback"
)

// rawTarget returns the target of a request as its bytes have it.
func rawTarget(request []byte) string {
	line, _, _ := bytes.Cut(request, []byte("\n"))
	_, rest, _ := strings.Cut(string(line), " ")
	return rest[:strings.LastIndexByte(rest, ' ')]
}

// FuzzRoutes: whatever bytes net/http takes for a request, it goes where its target says, byte by byte:
// nothing of /internal is a stream, no stream is a request of /internal, and a path that is
// only similar is a stream.
func FuzzRoutes(f *testing.F) {
	for _, target := range []string{"/", "/internal/send", "/internal", "/internal/", "//internal/send", "/a/../internal/send", "/%69nternal/send", "/internal%2fsend", "/metrics", "/metrics/", "/healthz/", "/healthz?x", "*", "http://h/internal/send", "http://h", "HTTP://h/metrics?x", "/INTERNAL/send", "/internal/connections/0b8a2f7e-6d0c-4c53-9a57-2f1e3f0f8f11/stream?x", "http://h:1/metrics/a"} {
		f.Add([]byte("GET " + target + " HTTP/1.1\r\nHost: h\r\n\r\n"))
	}
	f.Add([]byte("POST /internal/send HTTP/1.0\nHost: h\nContent-Length: 2\n\n{}"))
	f.Add([]byte("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n"))
	f.Add([]byte("GET / HTTP/1.1\nHost:\"\n\n"))
	f.Add([]byte("GET HTTP://h? HTTP/0.0\n\n"))
	f.Add([]byte("PRI * HTTP/2.0\r\n\r\n"))
	f.Add([]byte("GET HTTP://h? HTTP/1.0\n\n"))
	var reached string
	s := &Server{withCORS: newCORS(nil)}
	s.clients = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { reached = r.RequestURI })
	public := s.admit(s.servePublic, true)
	f.Fuzz(func(t *testing.T, request []byte) {
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(request)))
		if err != nil || len(request) > 4<<10 {
			return
		}
		if preface := r.Method == "PRI" && r.RequestURI == "*" && r.Proto == "HTTP/2.0"; r.ProtoMajor != 1 && !preface {
			return // net/http's server refuses it itself
		}
		raw := rawTarget(request)
		r.RemoteAddr = "192.0.2.1:1" // a stranger, whom nothing of /internal answers
		w := httptest.NewRecorder()
		reached = ""
		public.ServeHTTP(w, r)

		want := raw
		if u, err := url.Parse(raw); err == nil && u.Host != "" && !strings.HasPrefix(raw, "/") {
			_, rest, _ := strings.Cut(raw, "://")
			want = "/"
			if i := strings.IndexAny(rest, "/?"); i >= 0 {
				want = "/" + strings.TrimPrefix(rest[i:], "/")
			}
		}
		path, _, _ := strings.Cut(want, "?")
		internal := strings.HasPrefix(path, "/internal/") || path == "/metrics"
		health := slices.Contains([]string{"/healthz", "/healthz/", "/readyz", "/readyz/"}, path)
		switch {
		case reached != "" && (internal || health):
			t.Errorf("%q is a stream", raw)
		case reached != "" && reached != want:
			t.Errorf("%q is a stream of %q", raw, reached)
		case reached == "" && internal && w.Code != http.StatusForbidden && w.Code != http.StatusBadRequest:
			t.Errorf("%q of a stranger is answered %d", raw, w.Code)
		case reached == "" && !internal && !health && w.Code != http.StatusBadRequest:
			t.Errorf("%q is answered %d", raw, w.Code)
		case reached == "" && !internal && !health && strings.HasPrefix(raw, "/") && isHost(r.Host):
			t.Errorf("%q is no stream: %d", raw, w.Code)
		}
	})
}

// FuzzLastEventID: the header counts before the query, and of the query only what net/url reads as
// a position under one of the three names.
func FuzzLastEventID(f *testing.F) {
	f.Add("", "", "a=b&lastEventId=K7WQ2M4XHD-17&last-event-id=K7WQ2M4XHD-18")
	f.Add("", "é", "lastEventID=K7WQ2M4XHD%2d17")
	f.Add("\xff", "x", "lastEventId=K7WQ2M4XHD-017&lastEventId=K7WQ2M4XHD-1;x")
	f.Add("", "", "last%45ventId=K7WQ2M4XHD-1&lastEventId=%zz&?lastEventId=K7WQ2M4XHD-1")
	f.Fuzz(func(t *testing.T, first, second, query string) {
		r := &http.Request{RequestURI: "/x?" + query, Header: http.Header{"Last-Event-Id": {first, second}}}
		got := lastEventID(r)
		for _, id := range []string{first, second} {
			if id != "" {
				if got != callback.Text(id) {
					t.Errorf("%q, %q give %q", first, second, got)
				}
				return
			}
		}
		if got != "" && !broker.IsPosition(got) {
			t.Fatalf("%q gives %q", query, got)
		}
		values, _ := url.ParseQuery(query)
		known := slices.Concat(values["lastEventId"], values["lastEventID"], values["last-event-id"])
		if got != "" && !slices.Contains(known, got) {
			t.Errorf("%q gives %q, and net/url has %q", query, got, known)
		}
		if got == "" && !strings.ContainsAny(query, "%+") && slices.ContainsFunc(known, broker.IsPosition) {
			t.Errorf("%q gives nothing, and net/url has %q", query, known)
		}
	})
}

// FuzzRetryAfter: a Retry-After is never more than an hour, and what is no time of HTTP is none.
func FuzzRetryAfter(f *testing.F) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, s := range []string{"0", "5", "-1", "+5", "5.5", " 5", "99999999999999999999", "18446744073709551615", now.Add(time.Minute).Format(http.TimeFormat), "Fri, 31 Dec 9999 23:59:59 GMT"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, field string) {
		got := retryAfter(field, now)
		at, err := http.ParseTime(field)
		digits := field != "" && strings.Trim(field, "0123456789") == ""
		switch {
		case digits && got > maxRetry:
			t.Errorf("%q is %d ms", field, got)
		case !digits && err != nil && got != 0:
			t.Errorf("%q is %d ms", field, got)
		case !digits && err == nil && at.After(now) && got != uint64(at.Sub(now)/time.Millisecond):
			t.Errorf("%q is %d ms", field, got)
		}
	})
}
