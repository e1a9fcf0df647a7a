package edge

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

func TestFraming(t *testing.T) {
	const post, end = "POST / HTTP/1.1\r\n", "\r\n"
	for text, want := range map[string]bool{
		post + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n" + end:                                     true,
		post + "TRANSFER-encoding:chunked\r\nHost: x\r\ncontent-LENGTH:1\r\n" + end:                            true,
		"POST / HTTP/1.1\nTransfer-Encoding: chunked\nContent-Length: 1\n\n":                                   true,
		post + "Content-Length: 1\r\n" + end:                                                                   false,
		post + "Transfer-Encoding: chunked\r\n" + end:                                                          false,
		post + "X-Content-Length: 1\r\nTransfer-Encoding: chunked\r\nContent-Lengths: 1\r\n" + end:             false,
		post + "X: Content-Length: 1\r\nTransfer-Encoding: chunked\r\n" + end:                                  false,
		post + "Content-Length: 2\r\n" + end + "{}" + end + post + "Transfer-Encoding: chunked\r\n" + end:      true, // of the connection
		post + "Transfer-Encoding: chunked\r\n" + end + "1\r\nc\r\n0\r\n\r\nGET /c HTTP/1.1\r\nC: x\r\n" + end: false,
	} {
		for _, size := range []int{1, 7, 1000} {
			var f framing
			for rest := []byte(text); len(rest) > 0; {
				n := min(size, len(rest))
				f.scan(rest[:n])
				rest = rest[n:]
			}
			if f.conflicts() != want {
				t.Errorf("%q in pieces of %d: %t", text, size, !want)
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

// A request with both fields is answered, and its connection closed behind it.
func TestConflictingFraming(t *testing.T) {
	for fields, want := range map[string]bool{
		"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n": true,
		"Transfer-Encoding: chunked\r\n":                      false,
	} {
		handler := func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }
		serve(t, handler, func(_ *world, dial func() net.Conn) {
			nc := dial()
			go func() {
				_, _ = io.WriteString(nc, "POST / HTTP/1.1\r\nHost: x\r\n"+fields+"\r\n1\r\nx\r\n0\r\n\r\n")
			}()
			resp, err := http.ReadResponse(bufio.NewReader(nc), nil)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			if err != nil || string(body) != "x" || resp.Close != want {
				t.Errorf("%q: %q, close %t, %v", fields, body, resp.Close, err)
			}
			_ = resp.Body.Close()
			_ = nc.Close()
		})
	}
}

// HTTP/1.0 has no Transfer-Encoding.
func TestUncertainFraming(t *testing.T) {
	chunked := []string{"chunked"}
	for _, test := range []struct {
		r    http.Request
		head string
		want bool
	}{
		{r: http.Request{ProtoMajor: 1, ProtoMinor: 0}, head: "Transfer-Encoding: chunked\r\n", want: true},
		{r: http.Request{ProtoMajor: 1, ProtoMinor: 0}, head: "Content-Length: 1\r\n"},
		{r: http.Request{ProtoMajor: 1, ProtoMinor: 1, TransferEncoding: chunked}, head: "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", want: true},
		{r: http.Request{ProtoMajor: 1, ProtoMinor: 1, TransferEncoding: chunked}, head: "Transfer-Encoding: chunked\r\n"},
	} {
		c := new(Conn)
		c.framing.scan([]byte(test.head))
		if got := c.isUncertain(&test.r); got != test.want {
			t.Errorf("%+v: %t", test, got)
		}
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
