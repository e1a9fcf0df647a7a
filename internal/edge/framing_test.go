package edge

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

func TestFraming(t *testing.T) {
	const (
		post, end = "POST / HTTP/1.1\r\n", "\r\n"
		two       = post + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n" + end
		sized     = post + "Content-Length: 22\r\n" + end + "Content-Length: 1\r\n\r\nx" // a body like a head
		chunked   = post + "Transfer-Encoding: chunked\r\n" + end + "16;a=b\r\nContent-Length: 1\r\n\r\nx\r\n0\r\nContent-Length: 7\r\n\r\n"
	)
	for text, want := range map[string]uint32{
		two: 1,
		post + "TRANSFER-encoding:chunked\r\nHost: x\r\ncontent-LENGTH:1\r\n" + end:              1,
		"POST / HTTP/1.1\nTransfer-Encoding: chunked\nContent-Length: 1\n\n":                     1,
		"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n" + end:                                1,
		"POST / HTTP/1.0\r\nContent-Length: 1\r\n" + end + "x":                                   0,
		post + "X-Content-Length: 1\r\nTransfer-Encoding: chunked\r\nContent-Lengths: 1\r\n\r\n": 0,
		post + "X: Content-Length: 1\r\nTransfer-Encoding: chunked\r\n" + end:                    0,
		sized: 0, chunked: 0,
		sized + chunked + sized:                                                             0,
		sized + chunked + two:                                                               3,
		chunked + sized + end + end + two + chunked:                                         3,
		post + "Content-Length:\r\n 5\r\n" + end + "\n\r\n\r\n" + two:                       2, // a folded value
		post + "Content-Length: 99999999999999999999\r\n" + end + two + two:                 0,
		post + "Transfer-Encoding: chunked\r\n" + end + "fffffffffffffffff\r\n" + two + two: 0,
	} {
		for _, size := range []int{1, 7, 1000} {
			var f framing
			for rest := []byte(text); len(rest) > 0; {
				n := min(size, len(rest))
				f.scan(rest[:n])
				rest = rest[n:]
			}
			if got := f.uncertain.Load(); got != want {
				t.Errorf("%q in pieces of %d: %d, want %d", text, size, got, want)
			}
		}
	}
}

func TestOriginSeen(t *testing.T) {
	long := strings.Repeat("o", maxOrigin)
	for text, want := range map[string]string{
		"GET / HTTP/1.1\r\nHost: x\r\nOrigin: https://a\r\n\r\n":               "https://a",
		"OPTIONS / HTTP/1.1\nORIGIN:https://a \nX: y\n\n":                      "https://a",
		"GET / HTTP/1.1\r\nX-Origin: a\r\nOrigins: b\r\nX: Origin: c\r\n\r\n":  "",
		"GET / HTTP/1.1\r\nOrigin: a\r\n\r\nGET / HTTP/1.1\r\nOrigin: b\r\n":   "b",
		"GET / HTTP/1.1\r\nOrigin: a\r\nOrigin:\r\n":                           "",
		"GET / HTTP/1.1\r\nOrigin:" + long + "\r\nX: y\r\n":                    long,
		"GET / HTTP/1.1\r\nOrigin:" + long + "o\r\nX: y\r\n":                   "",
		"GET / HTTP/1.1\r\nOrigin:" + long + long + long + "\r\nOrigin: a\r\n": "a",
	} {
		for _, size := range []int{1, 7, 10_000} {
			var f framing
			for rest := []byte(text); len(rest) > 0; {
				n := min(size, len(rest))
				f.scan(rest[:n])
				if rest = rest[n:]; len(f.origin) > maxOrigin+1 {
					t.Fatalf("%d bytes are kept", len(f.origin))
				}
			}
			if string(f.origin) != want {
				t.Errorf("%.99q in pieces of %d: %.99q", text, size, f.origin)
			}
		}
	}
}

// Behind a request whose length a proxy may have read differently the connection is closed, and only behind that one.
func TestUncertainFraming(t *testing.T) {
	for _, test := range []struct {
		proto, fields, body string
		want                bool
	}{
		{"1.1", "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", "1\r\nx\r\n0\r\n\r\n", true},
		{"1.1", "Transfer-Encoding: chunked\r\n", "1\r\nx\r\n0\r\n\r\n", false},
		{"1.0", "Content-Length: 1\r\nConnection: keep-alive\r\n", "x", false},
		{"1.0", "Content-Length: 1\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n", "x", true},
	} {
		handler := func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			if HasTwoLengths(r) {
				w.Header().Set("X-Two", "yes")
			}
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
			_, _ = w.Write(body)
		}
		serve(t, handler, func(_ *world, dial func() net.Conn) {
			nc := dial()
			const before = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 22\r\n\r\nContent-Length: 1\r\n\r\nx"
			go func() {
				_, _ = io.WriteString(nc, before+"POST / HTTP/"+test.proto+"\r\nHost: x\r\n"+test.fields+"\r\n"+test.body)
			}()
			r := bufio.NewReader(nc)
			for i, body := range []string{"Content-Length: 1\r\n\r\nx", "x"} {
				resp, err := http.ReadResponse(r, nil)
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(resp.Body)
				want := test.want && i == 1
				if err != nil || string(got) != body || resp.Close != want || (resp.Header.Get("X-Two") != "") != want {
					t.Errorf("%+v: answer %d: %q, close %t, %v, %v", test, i, got, resp.Close, resp.Header, err)
				}
				_ = resp.Body.Close()
			}
			_ = nc.Close()
		})
	}
}

func BenchmarkFraming(b *testing.B) {
	head := []byte("GET /orders/7?locale=en HTTP/1.1\r\nHost: events.example.com\r\nAccept: text/event-stream\r\n" +
		"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36\r\nAccept-Language: en\r\nCookie: session=" + strings.Repeat("x", 100) + "\r\n\r\n")
	var f framing
	for b.Loop() {
		f.scan(head)
	}
}
