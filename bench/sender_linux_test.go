package bench

import (
	"strings"
	"testing"
)

// An answer in any form is parsed when it is complete, and not before.
func TestParseReply(t *testing.T) {
	for _, test := range []struct {
		name, text string
		status     int
		body       string
		closes     bool
		toEnd      bool // the answer ends with the connection
	}{
		{"kept alive", "HTTP/1.1 200 OK\r\nContent-Type: a\r\ncontent-length: 5\r\n\r\nhello", 200, "hello", false, false},
		{"said so", "HTTP/1.1 202 Accepted\r\nConnection: keep-alive\r\nContent-Length:0\r\n\r\n", 202, "", false, false},
		{"an error", "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}", 404, "{}", false, false},
		{"closing", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", 200, "ok", true, false},
		{"chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n1\r\n!\r\n0\r\n\r\n", 200, "ok!", false, false},
		{"nothing", "HTTP/1.1 204 No Content\r\n\r\n", 204, "", false, false},
		{"up to the end", "HTTP/1.1 200 OK\r\n\r\nok", 200, "ok", true, true},
		{"HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "ok", true, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			for n := range len(test.text) {
				if a, done, err := parseReply([]byte(test.text[:n]), false); done || err != nil {
					t.Fatalf("%q: %+v, done %t, %v", test.text[:n], a, done, err)
				}
			}
			a, done, err := parseReply([]byte(test.text), test.toEnd)
			if !done || err != nil || a.status != test.status || string(a.body) != test.body || a.closes != test.closes {
				t.Errorf("%+v, done %t, %v", a, done, err)
			}
			if (a.err() != nil) != (test.status >= 300) {
				t.Errorf("%d: %v", a.status, a.err())
			}
		})
	}
	for name, text := range map[string]string{
		"more than was asked for": "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1",
		"no HTTP":                 "hello\r\n\r\n",
		"status 000":              "HTTP/1.0 000 \nContent-Length:00\r\n\r\n00",
		"no final answer":         "HTTP/1.0 100 Continue\r\n\r\n",
		"no status":               "HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n",
	} {
		if a, done, err := parseReply([]byte(text), false); err == nil {
			t.Errorf("%s: %+v, done %t", name, a, done)
		}
	}
	usual := []byte("HTTP/1.1 200 OK\r\nContent-Type: a\r\nContent-Length: 15\r\n\r\n" + `{"status":"ok"}`)
	if n := testing.AllocsPerRun(100, func() { _, _, _ = parseReply(usual, false) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzParseReply: nothing panics, and a complete answer stays complete.
func FuzzParseReply(f *testing.F) {
	f.Add("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	f.Add("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		a, done, err := parseReply([]byte(text), false)
		if done && (err != nil || a.status < 100 || !strings.HasPrefix(text, "HTTP/")) {
			t.Errorf("%+v, %v", a, err)
		}
	})
}
