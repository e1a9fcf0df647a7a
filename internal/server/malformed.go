package server

import (
	"bytes"
	"io"
	"net/http"
	"time"

	"ssegateway/internal/api"
	"ssegateway/internal/edge"
)

// refusal makes the answers to requests that net/http refuses by itself, at the public listener
// or at one of /internal. They have the form of every other refusal.
func (s *Server) refusal(public bool) edge.Refusal {
	return func(status int, words, origin string) []byte {
		path := "/internal/"
		if public {
			path = "/"
		}
		r := &http.Request{Method: http.MethodGet, RequestURI: path, ProtoMajor: 1, Header: http.Header{}}
		if origin != "" {
			r.Header.Set("Origin", origin)
		}
		a := &answer{header: http.Header{}}
		s.admit(func(w http.ResponseWriter, r *http.Request) { s.refusePath(w, r, path, api.Malformed(status, words)) }, public).ServeHTTP(a, r)
		return a.bytes()
	}
}

// answer is a ResponseWriter that keeps the answer in memory.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(status int)      { a.status = status }
func (a *answer) Write(p []byte) (int, error) { return a.body.Write(p) }

// bytes returns the answer in the form of HTTP/1.1.
func (a *answer) bytes() []byte {
	a.header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	r := http.Response{StatusCode: a.status, ProtoMajor: 1, ProtoMinor: 1, Header: a.header, Body: io.NopCloser(&a.body), ContentLength: int64(a.body.Len())}
	var b bytes.Buffer
	_ = r.Write(&b) // to memory
	return b.Bytes()
}
