package callback

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
)

// FuzzPlainAnswer holds the short cut against net/http: a plain answer is the same there.
func FuzzPlainAnswer(f *testing.F) {
	for _, head := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", "HTTP/1.1 200\r\ncontent-length: 0\r\nConnection: Keep-Alive\r\nKeep-Alive: timeout=5\r\n", "HTTP/1.1 200 \r\nContent-Length: 3\r\n",
		"HTTP/1.1 403 Forbidden\r\nServer: x\r\nContent-Length: 0\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n",
		"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n", "HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 2\r\n", "HTTP/1.1 100 Continue\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n", "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n", "HTTP/1.1 200 OK\r\n folded: 2\r\n", "HTTP/1.1 200 OK\nContent-Length: 2\n", "HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n",
		"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n", "HTTP/1.1 999 x\r\nContent-Length: 2\r\n", "HTTP/1.1 200 OK\r\nX: \xff\r\nContent-Length: 2\r\n",
	} {
		f.Add(head + "\r\n{}")
	}
	f.Fuzz(func(t *testing.T, answer string) {
		in := bufio.NewReaderSize(strings.NewReader(answer), 1<<16)
		_, _ = in.Peek(1)
		got := plainAnswer(in) //nolint:bodyclose // there is nothing to close: a strings.Reader
		if got == nil {
			if in.Buffered() != min(len(answer), 1<<16) {
				t.Fatal("something was read")
			}
			return
		}
		other := bufio.NewReaderSize(strings.NewReader(answer), 1<<16)
		want, err := http.ReadResponse(other, posted) //nolint:bodyclose // the same
		if err != nil {
			t.Fatalf("net/http refuses it: %v", err)
		}
		if got.StatusCode != want.StatusCode || got.ContentLength != want.ContentLength || want.Close || len(want.TransferEncoding) > 0 {
			t.Fatalf("got %+v\nnet/http %+v", got, want)
		}
		for _, name := range append(passedOn[:], "Location") {
			if want.Header.Get(name) != "" {
				t.Fatalf("%s is left out", name)
			}
		}
		gotBody, gotErr := io.ReadAll(got.Body)
		wantBody, wantErr := io.ReadAll(want.Body)
		if !bytes.Equal(gotBody, wantBody) || !errors.Is(gotErr, wantErr) {
			t.Fatalf("body %q (%v), net/http %q (%v)", gotBody, gotErr, wantBody, wantErr)
		}
		gotRest, _ := io.ReadAll(in)
		wantRest, _ := io.ReadAll(other)
		if !bytes.Equal(gotRest, wantRest) {
			t.Fatalf("behind it %q, net/http %q", gotRest, wantRest)
		}
	})
}
