package gateway_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ssegateway/internal/gateway"
)

// Of a request only what is on the list is shown, and of that no query.
func TestRequestShown(t *testing.T) {
	s := newSite(nil)
	long := strings.Repeat("é", 600)
	for request, want := range map[string]*gateway.RequestInfo{
		`{"url":"/a/b?token=secret","headers":{"accept":"text/event-stream","authorization":"Bearer secret","cookie":"s=secret","host":"app.example.org",` +
			`"last-event-id":"secret","origin":"https://app.example.org","proxy-authorization":"secret","referer":"https://ada:secret@app.example.org/p?q=secret#secret",` +
			`"user-agent":"\"curl\"","x-api-key":"secret","x-forwarded-access-token":"secret","x-forwarded-for":"192.0.2.1, 192.0.2.2","x-forwarded-uri":"/?secret"}}`: {
			Path: "/a/b", Headers: map[string]string{
				"accept": "text/event-stream", "host": "app.example.org", "origin": "https://app.example.org", "referer": "https://app.example.org/p",
				"user-agent": `"curl"`, "x-forwarded-for": "192.0.2.1, 192.0.2.2",
			},
		},
		`{"client_ip":"192.0.2.1","url":"/","headers":{"host":"a"}}`:                    {Path: "/", Headers: map[string]string{"host": "a"}},
		`{"url":"/","headers":{"x":"host","referer":"https://a/%zz?secret","via":"x"}}`: {Path: "/", Headers: map[string]string{"referer": "", "via": "x"}},
		`{"url":"/","headers":{"user-agent":"` + long + `"}}`:                           {Path: "/", Headers: map[string]string{"user-agent": long[:1024] + "…"}},
		`{"url":"/","headers":{"referer":"https://a?secret","x":"y","host":"host"}}`:    {Path: "/", Headers: map[string]string{"referer": "https://a", "host": "host"}},

		`{"url":"/","headers":{}}`: {Path: "/", Headers: map[string]string{}},

		``: nil,
	} {
		c, _, err := s.gw.Connect(context.Background(), []byte(request))
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Request(); cmp.Diff(got, want) != "" {
			t.Errorf("%.60s: %s", request, cmp.Diff(want, got))
		}
	}
}
