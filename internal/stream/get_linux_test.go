//go:build linux && !portable

package stream

import (
	"bufio"
	"net/http"
	"reflect"
	"strings"
	"testing"
)

// FuzzGet holds the parser against net/http: a plain GET is the same request there, with nothing behind it.
func FuzzGet(f *testing.F) {
	for _, fields := range []string{
		"Host: a\r\n", "host:a:80\r\nAccept: text/event-stream\r\nCookie: a=b; c=d\r\nCookie: e=f\r\n", "Host: a\r\nPragma: no-cache\r\n",
		"Host: a\r\nPragma: no-cache\r\nCache-Control: max-age=0\r\n", "Host: a\r\nConnection: keep-alive\r\nLast-Event-ID: \xe9\r\n", "Host: a\r\nConnection: close\r\n",
		"Host: a\r\nContent-Length: 0\r\n", "Host: a\r\nX:\r\n", "Host: a\r\nX : b\r\n", "Host: a\r\n X: folded\r\n", "Host: a\r\nHost: b\r\n", "Host: a\nX: b\r\n", "X: b\r\n", "Host: a\r\nX: \x00\r\n",
		"Host: [::1]:80\r\n", "Host:\r\n", "Host: a\r\nTransfer-Encoding: chunked\r\n", "Host: a\r\nx-forwarded-for:\t1.2.3.4 \r\n", "Host: a\r\nÜ: b\r\n", "Host: a\r\nX: a\rb\r\n",
	} {
		f.Add("GET /a/../b//%41?x=y HTTP/1.1\r\n" + fields + "\r\n")
	}
	for _, line := range []string{
		"GET / HTTP/1.1", "GET /%zz HTTP/1.1", "GET /a b HTTP/1.1", "GET /\x01 HTTP/1.1", "GET //a HTTP/1.1", "GET /#f HTTP/1.1", "GET /a HTTP/1.0", "GET /a  HTTP/1.1", "GET /? HTTP/1.1", "GET /é HTTP/1.1", "GET http://a/ HTTP/1.1",
	} {
		f.Add(line + "\r\nHost: a\r\n\r\n")
	}
	f.Fuzz(func(t *testing.T, head string) {
		if judge([]byte(head), 0) != plain {
			return
		}
		got, ok := readGet(t.Context(), head)
		if !ok {
			return
		}
		in := bufio.NewReader(strings.NewReader(head))
		want, err := http.ReadRequest(in)
		if err != nil {
			t.Fatalf("net/http refuses it: %v", err)
		}
		if left := in.Buffered(); left > 0 {
			t.Fatalf("net/http leaves %d bytes", left)
		}
		if want.ContentLength != 0 || want.Close || len(want.TransferEncoding) > 0 || want.Trailer != nil {
			t.Fatalf("net/http reads a body, or an end: %+v", want)
		}
		want.Body, got.Body = nil, nil
		want = want.WithContext(got.Context())
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v\nnet/http %+v", got, want)
		}
	})
}

// What can be no plain GET any more is known at its first byte that says so, in whatever pieces it comes.
func TestJudge(t *testing.T) {
	long := "GET /a HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", maxGet)
	for _, test := range []struct {
		head string
		at   int // as many bytes have this verdict, and fewer are unfinished
		want verdict
	}{
		{"GET /a HTTP/1.1\r\nHost: a\r\n\r\n", 28, plain},
		{"GET /a HTTP/1.1\r\nHost: a\r\n\r\nG", 28, plain},
		{"POST /", 1, foreign},
		{"GET http://a/", 5, foreign},
		{"\n", 1, foreign},
		{"GET /\r\n", 7, foreign},
		{"GET /a HTTP/1.0\r\n", 17, foreign},
		{"GET /a HTTP/1.1\n", 16, foreign},
		{"GET /a HTTP/1.1\r\nHost: a\n\n", 25, foreign},
		{"GET /a HTTP/1.1\r\nHost: a\r\n\n", 27, foreign},
		{long, maxGet, foreign},
	} {
		for n := range test.at + 1 {
			want := unfinished
			if n == test.at {
				want = test.want
			}
			for _, seen := range []int{0, n / 2, max(0, n-1)} {
				if got := judge([]byte(test.head[:n]), seen); got != want {
					t.Fatalf("%d bytes of %.40q, %d of them seen before: %d, want %d", n, test.head, seen, got, want)
				}
			}
		}
	}
	if got := judge([]byte("GET /a HTTP/1.1\r\nHost: a\r\n\r\nG"), 20); got != foreign {
		t.Errorf("more behind a plain GET: %d", got)
	}
}
