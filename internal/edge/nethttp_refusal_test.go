package edge

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// shown returns a Refusal that answers with its arguments.
func shown(status int, words, origin string) []byte {
	return fmt.Appendf(nil, "HTTP/1.1 %d \r\nConnection: close\r\n\r\n%s|%s", status, words, origin)
}

// What net/http refuses by itself is answered by the listener's Refusal.
func TestRefusal(t *testing.T) {
	const good = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
	for head, want := range map[string]string{
		"GET / HTTP/1.1\r\nOrigin: https://a\r\n\r\n": "400 400 Bad Request: missing required Host header|https://a",
		"GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n":        "400 400 Bad Request|",
		"nonsense\r\n\r\n":                            "400 400 Bad Request|",
		"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\nOrigin: o\r\n\r\nbody":       "501 Unsupported transfer encoding|o",
		"GET / HTTP/3.0\r\nHost: x\r\n\r\n":                                                    "505 505 HTTP Version Not Supported: unsupported protocol version|",
		"GET / HTTP/1.1\r\nHost: x\r\nExpect: wonders\r\nOrigin: o\r\n\r\n":                    "417 |o",
		"GET / HTTP/1.1\r\nHost: x\r\nOrigin: o\r\nX: " + strings.Repeat("x", 80<<10) + "\r\n": "431 431 Request Header Fields Too Large|o",
	} {
		for _, before := range []string{"", good} {
			serve(t, func(http.ResponseWriter, *http.Request) {}, func(_ *world, dial func() net.Conn) {
				nc := dial()
				go func() { _, _ = io.WriteString(nc, before+head) }()
				in := bufio.NewReader(nc)
				if before != "" {
					resp, err := http.ReadResponse(in, nil)
					if err != nil || resp.StatusCode != http.StatusOK {
						t.Fatalf("%v, %v", resp, err)
					}
					_ = resp.Body.Close()
				}
				text, err := io.ReadAll(in)
				status, words, _ := strings.Cut(strings.TrimPrefix(string(text), "HTTP/1.1 "), " \r\nConnection: close\r\n\r\n")
				if got := status + " " + words; err != nil || got != want {
					t.Errorf("%.99q behind %q: %q, %v, want %q", head, before, text, err, want)
				}
				_ = nc.Close()
			})
		}
	}
}

// What a handler says goes out as it is, even where it looks like an answer of net/http's own.
func TestRefusalOfHandler(t *testing.T) {
	const own = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n400 Bad Request"
	handler := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(2*len(own)))
		w.WriteHeader(http.StatusNotFound)
		_ = http.NewResponseController(w).Flush()
		_, _ = io.WriteString(w, own)
		_ = http.NewResponseController(w).Flush()
		_, _ = io.WriteString(w, own) // goes out when the handler has returned
	}
	serve(t, handler, func(_ *world, dial func() net.Conn) {
		nc := dial()
		in := bufio.NewReader(nc)
		for range 2 {
			go func() { _, _ = io.WriteString(nc, "GET / HTTP/1.1\r\nHost: x\r\n\r\n") }()
			resp, err := http.ReadResponse(in, nil)
			if err != nil || resp.StatusCode != http.StatusNotFound {
				t.Fatalf("%v, %v", resp, err)
			}
			if body, err := io.ReadAll(resp.Body); err != nil || string(body) != own+own {
				t.Errorf("%q, %v", body, err)
			}
			_ = resp.Body.Close()
		}
		_ = nc.Close()
	})
}
