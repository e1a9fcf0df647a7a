package relay

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"ssegateway/e2e/harness"
)

// A client that leaves while it sends its body, to an application that has begun to answer already, ends its request and
// nothing else.
func TestLeavingInBody(t *testing.T) {
	each(t, func(t *testing.T, k harness.Kind) {
		answered, gone := make(chan struct{}, 100), make(chan struct{}, 100)
		l := harness.Listen(t, func(nc net.Conn) {
			if _, err := http.ReadRequest(bufio.NewReader(nc)); err != nil {
				return
			}
			_, _ = io.WriteString(nc, stream+"data: x\n\n")
			answered <- struct{}{}
			_, _ = io.Copy(io.Discard, nc)
			gone <- struct{}{}
		})
		s := start(t, k, &app{Listener: l})
		client := s.endpoint.Client()
		defer client.CloseIdleConnections()
		for range 20 {
			ctx, cancel := context.WithCancel(t.Context())
			body, more := io.Pipe()
			r, _ := http.NewRequestWithContext(ctx, http.MethodPost, s.url("/app"), body)
			over := make(chan struct{})
			go func() {
				defer close(over)
				if resp, err := client.Do(r); err == nil {
					_ = resp.Body.Close()
				}
			}()
			_, _ = io.WriteString(more, "begun")
			await(t, answered)
			cancel()
			_ = more.CloseWithError(context.Canceled)
			await(t, over)
			await(t, gone)
		}
		if status, text := s.Call(t, http.MethodGet, "/healthz", ""); status != http.StatusOK || strings.Contains(s.Log.Text(), "panic") {
			t.Errorf("%d %s\n%s", status, text, s.Log.Text())
		}
	})
}

// await waits until something has happened.
func await(t *testing.T, happened <-chan struct{}) {
	t.Helper()
	select {
	case <-happened:
	case <-time.After(harness.Patience):
		t.Fatal("nothing happens")
	}
}
