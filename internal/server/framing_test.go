package server

import (
	"bufio"
	"bytes"
	"net/http"
	"testing"
)

func TestConflictingFraming(t *testing.T) {
	const begin = "POST /x HTTP/1.1\r\nHost: x\r\n"
	for head, want := range map[string]bool{
		begin + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n":                 true,
		begin + "transfer-encoding: chunked\r\nA: b\r\nCONTENT-LENGTH:5\r\n\r\n0\r\n\r\n": true,
		"POST / HTTP/1.1\nContent-Length: 1\nTransfer-Encoding: chunked\n\n":              true,
		begin + "Content-Length: 1\r\n\r\n":                                               false,
		begin + "Transfer-Encoding: chunked\r\n\r\nContent-Length: 1\r\n\r\n":             false,
		begin + "Content-Length: 1\r\nA: b\r\n Transfer-Encoding: chunked\r\n\r\n":        false,
		begin + "X-Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n":               false,
		"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n":                         false,
		"POST /Content-Length:1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n":           false,
		begin: false,
		"":    false,
	} {
		if got := conflictingFraming([]byte(head)); got != want {
			t.Errorf("%q: %v", head, got)
		}
	}
}

// FuzzConflictingFraming holds it against net/http, for what that takes.
func FuzzConflictingFraming(f *testing.F) {
	f.Add([]byte("POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"))
	f.Add([]byte("POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"))
	f.Add([]byte("POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, head []byte) {
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(head)))
		if err != nil || len(r.TransferEncoding) > 0 {
			return // with an encoding the length is hidden
		}
		if conflictingFraming(head) {
			t.Errorf("%q has no encoding for net/http", head)
		}
	})
}
