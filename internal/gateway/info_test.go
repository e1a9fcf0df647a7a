package gateway_test

import (
	"context"
	"testing"
)

// The path is what the client asked for, however it is escaped in JSON.
func TestPath(t *testing.T) {
	s := newSite(nil)
	for request, want := range map[string]string{
		`{"url":"/a/b?c=d","headers":{}}`:                  "/a/b",
		`{"url":"/","headers":{"cookie":"a=\"?\""}}`:       "/",
		`{"url":"/\u00e9\ud83d\ude00\/\"?x","headers":{}}`: "/é😀/\"",
		`{"url":"/\t%00\\u0041","headers":{}}`:             "/\t%00\\u0041",
		`{"url":7}`:                                        "",
		`{`:                                                "",
		``:                                                 "",
	} {
		c, _, err := s.gw.Connect(context.Background(), []byte(request))
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Path(); got != want {
			t.Errorf("%s: the path is %q, want %q", request, got, want)
		}
	}
}

func BenchmarkPath(b *testing.B) {
	s := newSite(nil)
	c, _, err := s.gw.Connect(b.Context(), []byte(`{"url":"/rooms/7/events?token=0123456789abcdef","headers":{"accept":"text/event-stream","cookie":"session=0123456789abcdef","host":"app.example.org"}}`))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		_ = c.Path()
	}
}
