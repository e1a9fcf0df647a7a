package callback

import (
	"bytes"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/go-json-experiment/json"

	"ssegateway/internal/gateway"
)

func TestAppendRequest(t *testing.T) {
	for _, test := range []struct {
		name string
		r    http.Request
		want string
	}{
		{"nothing", http.Request{RequestURI: "/"}, `{"url":"/","headers":{}}`},
		{
			"sorted, lower case, host among them",
			http.Request{RequestURI: "//a/../b?x=%00&y", Host: "h:1", Header: http.Header{"X-B": {"2"}, "Accept": {"text/event-stream"}}},
			`{"url":"//a/../b?x=%00&y","headers":{"accept":"text/event-stream","host":"h:1","x-b":"2"}}`,
		},
		{
			"repeated",
			http.Request{RequestURI: "/", Header: http.Header{"X-A": {"1", "2", ""}, "Cookie": {"a=b", "c=d"}, "Empty": {""}}},
			`{"url":"/","headers":{"cookie":"a=b; c=d","empty":"","x-a":"1, 2, "}}`,
		},
		{
			"escaped",
			http.Request{RequestURI: "/\"\\", Header: http.Header{"X-A": {"\t\x01\"\\\x7f</é\u2028"}}},
			"{\"url\":\"/\\\"\\\\\",\"headers\":{\"x-a\":\"\\t\\u0001\\\"\\\\\x7f</é\u2028\"}}",
		},
		{
			"Latin-1 where it is not UTF-8",
			http.Request{RequestURI: "/\xff", Header: http.Header{"X-A": {"caf\xe9 café \xed\xa0\x80 \xf0\x9f", "\x98\x80 \ufffd"}}},
			"{\"url\":\"/ÿ\",\"headers\":{\"x-a\":\"café café í\u00a0\u0080 ð\u009f, \u0098\u0080 \ufffd\"}}",
		},
		{
			"names that differ in case are one header",
			http.Request{RequestURI: "/", Host: "h", Header: http.Header{"X-A": {"1"}, "x-a": {"2"}, "host": {"other"}, "Gone": nil}},
			`{"url":"/","headers":{"host":"h","x-a":"1, 2"}}`,
		},
	} {
		got, ok := EncodeRequest(&test.r, netip.Addr{})
		if string(got) != test.want || !ok {
			t.Errorf("%s:\n got %s\nwant %s", test.name, got, test.want)
		}
		if cap(got) != len(got) {
			t.Errorf("%s: %d bytes in a slice of %d", test.name, len(got), cap(got))
		}
	}
}

// The address of the client is where the gateway finds it, and nothing that a client sends gets there.
func TestClientIP(t *testing.T) {
	forged := &http.Request{RequestURI: `/","client_ip":"192.0.2.1`, Header: http.Header{"Client_ip": {"192.0.2.1"}, "{\"client_ip\":\"192.0.2.1\"": {""}}}
	if text := AppendRequest(nil, forged, netip.Addr{}); gateway.ClientIP(text).IsValid() {
		t.Errorf("an address of %s", text)
	}
	for _, client := range []string{"192.0.2.7", "2001:db8::7", "2001:db8:1111:2222:3333:4444:5555:6666", "::"} {
		addr := netip.MustParseAddr(client)
		text, ok := EncodeRequest(forged, addr)
		var got struct {
			URL      string            `json:"url"`
			Headers  map[string]string `json:"headers"`
			ClientIP string            `json:"client_ip"`
		}
		if err := json.Unmarshal(text, &got, json.RejectUnknownMembers(true)); err != nil || !ok {
			t.Fatalf("%s: %v", text, err)
		}
		if got.ClientIP != client || gateway.ClientIP(text) != addr || got.URL != forged.RequestURI {
			t.Errorf("%s has the address %v", text, gateway.ClientIP(text))
		}
	}
}

// What a client makes of its request is kept for long, and so has a bound.
func TestRequestsBound(t *testing.T) {
	around := len(`{"url":"/","headers":{"x":""}}`)
	for value, fits := range map[string]bool{
		strings.Repeat("x", maxRequest-around):      true,
		strings.Repeat("x", maxRequest-around+1):    false,
		strings.Repeat("\t", (maxRequest-around)/2): true,
		strings.Repeat("\x01", maxRequest/6):        false,
		strings.Repeat("\"", maxRequest/2):          false,
	} {
		got, ok := EncodeRequest(&http.Request{RequestURI: "/", Header: http.Header{"X": {value}}}, netip.Addr{})
		if ok != fits || ok == (got == nil) || len(got) > maxRequest {
			t.Errorf("%d bytes of %q: %d bytes, %v", len(value), value[:1], len(got), ok)
		}
	}
}

// latin1 returns what the rule makes of a string, written without regard to speed.
func latin1(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && n == 1 {
			r = rune(s[0])
		}
		b.WriteRune(r)
		s = s[n:]
	}
	return b.String()
}

// A single header is read as the callback's are.
func TestText(t *testing.T) {
	for value, want := range map[string]string{"": "", "é": "é", "\x85\xff": "\u0085ÿ", "a\xc3(é": "aÃ(é", "\xed\xa0\x80": "í\u00a0\u0080", "\ufffd": "\ufffd"} {
		if got := Text(value); got != want || got != latin1(value) {
			t.Errorf("%q: %q, want %q", value, got, want)
		}
	}
}

func FuzzAppendRequest(f *testing.F) {
	f.Add("/a?b", "example.org", "Cookie", "a=b", "c=d", "X-\xff", "\x00\"")
	f.Add("/\xff", "", "HOST", "\xe9", "\xc3\xa9", "host", "\u2028")
	f.Fuzz(func(t *testing.T, target, host, name1, value1, value2, name2, value3 string) {
		r := &http.Request{RequestURI: target, Host: host, Header: http.Header{name1: {value1, value2}}}
		r.Header[name2] = append(r.Header[name2], value3)

		lowered := func(s string) string {
			b := []byte(s)
			for i := range b {
				b[i] = lower(b[i])
			}
			return string(b)
		}
		// Two names that are not UTF-8 may read as the same text as one that is.
		if a, b := lowered(name1), lowered(name2); a != b && latin1(a) == latin1(b) {
			t.Skip()
		}
		var got struct {
			URL     string            `json:"url"`
			Headers map[string]string `json:"headers"`
		}
		text := AppendRequest(nil, r, netip.Addr{})
		if err := json.Unmarshal(text, &got, json.RejectUnknownMembers(true)); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		want := map[string]string{}
		for _, name := range []string{min(name1, name2), max(name1, name2)} {
			key := latin1(lowered(name))
			separator := ", "
			if key == "cookie" {
				separator = "; "
			}
			value := latin1(strings.Join(r.Header[name], separator))
			if before, ok := want[key]; ok && name1 != name2 {
				value = before + separator + value
			}
			want[key] = value
		}
		if host != "" {
			want["host"] = latin1(host)
		}
		if got.URL != latin1(target) {
			t.Errorf("url %q of %q", got.URL, target)
		}
		if len(got.Headers) != len(want) {
			t.Errorf("headers %q, want %q", got.Headers, want)
		}
		for name, value := range want {
			if got.Headers[name] != value {
				t.Errorf("header %q is %q, want %q", name, got.Headers[name], value)
			}
		}
		if again := AppendRequest(nil, r, netip.Addr{}); !bytes.Equal(again, text) {
			t.Errorf("not the same twice: %q, %q", text, again)
		}
	})
}
