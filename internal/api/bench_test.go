package api

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"ssegateway/internal/gateway"
)

// BenchmarkPublish publishes to one connection, by the whole path outside net/http.
func BenchmarkPublish(b *testing.B) {
	a, gw := newAPI(b)
	openWith(b, gw, &sink{}, gateway.Grant{Topics: []string{"room.7"}})
	body := []byte(typicalPublish)
	r := httptest.NewRequest(http.MethodPost, "/internal/publish", nil)
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
