//go:build !portable

package server

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// What net/http would answer by itself, without the edge, is refused like other methods.
func TestOptionsOfServer(t *testing.T) {
	r := start(t, nil)
	c := r.dial()
	began := time.Now()
	c.write("OPTIONS * HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n")
	if status, body := c.answer(); status != http.StatusMethodNotAllowed || !strings.Contains(body, "METHOD_NOT_ALLOWED") {
		t.Errorf("%d %q", status, body)
	}
	if took := time.Since(began); took > 5*time.Second { // net/http waits 20 s for the body
		t.Errorf("answered after %v", took)
	}
}
