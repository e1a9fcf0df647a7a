package api

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
)

func init() { // an event stream is text
	openapi3filter.RegisterBodyDecoder("text/event-stream", func(body io.Reader, _ http.Header, _ *openapi3.SchemaRef, _ openapi3filter.EncodingFn) (any, error) {
		text, err := io.ReadAll(body)
		return string(text), err
	})
}

// A tail has 1 to 100 topics, each a valid name, from the query; anything else is an error that says so.
func TestTail(t *testing.T) {
	a, _ := newAPI(t)
	want(t, do(t, a, http.MethodGet, "/internal/tail?topic=room.7&topic=caf%C3%A9&x=y", ""), 200, "data: room.7|café\n\n")
	want(t, do(t, a, http.MethodGet, "/internal/tail?topic=a"+strings.Repeat("&topic=a", 99), ""), 200, "data: a|a")
	for query, code := range map[string]string{
		"": "INVALID_TOPICS", "?x=y": "INVALID_TOPICS", "?topic=": "INVALID_TOPICS", "?topic=a&topic=%0A": "INVALID_TOPICS",
		"?topic=" + strings.Repeat("x", 257): "INVALID_TOPICS", "?topic=a" + strings.Repeat("&topic=a", 100): "TOO_MANY_TOPICS", "?topic=a;b": "INVALID_QUERY",
	} {
		want(t, do(t, a, http.MethodGet, "/internal/tail"+query, ""), 400, code)
	}
	want(t, do(t, a, http.MethodGet, "/internal/tail?topic=full", ""), 429, "TOO_MANY_TAILS")
	want(t, do(t, a, http.MethodHead, "/internal/tail?topic=a", ""), 200, "")
	want(t, do(t, a, http.MethodPost, "/internal/tail?topic=a", ""), 405, "METHOD_NOT_ALLOWED")
}
