package relay

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"ssegateway/internal/bubble"
	"ssegateway/internal/gateway"
)

// endless is an application whose object that holds does not come.
type endless struct{ ctx context.Context }

// Send implements Forwarder.
func (e endless) Send(r *http.Request, _ func(*http.Response)) (*http.Response, error) {
	h := http.Header{"Content-Type": {holdType}, tokenField: r.Header[tokenField]}
	return &http.Response{StatusCode: http.StatusOK, Header: h, Body: endless{r.Context()}, Request: r, ProtoMajor: 1, ProtoMinor: 1}, nil
}

func (e endless) Read([]byte) (int, error) {
	<-e.ctx.Done()
	return 0, e.ctx.Err()
}

func (e endless) Close() error { return nil }

// The object that holds is waited for as long as its client is there, and 10 s at most.
func TestHoldDoesNotCome(t *testing.T) {
	for _, leaves := range []bool{true, false} {
		bubble.Test(t, func(t *testing.T) {
			r := newPlain(t, endless{})
			held := false
			r.cfg.Hold = func(_ http.ResponseWriter, _ *http.Request, c *gateway.Conn, a gateway.Answer) {
				held = len(a.Body) == 0
				c.Pass()
			}
			client, leave := context.WithCancel(t.Context())
			defer leave()
			in, err := http.NewRequestWithContext(client, http.MethodGet, "http://h/a", http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			in.RequestURI = "/a"
			began := time.Now()
			over := make(chan any, 1)
			go func() {
				defer func() { over <- recover() }()
				r.ServeHTTP(&recorder{header: http.Header{}}, in)
			}()
			synctest.Wait()
			if leaves {
				leave()
			}
			var end, broken any
			want := 10 * time.Second
			if leaves {
				want, broken = 0, http.ErrAbortHandler
			}
			select {
			case end = <-over:
			case <-time.After(time.Minute):
				t.Fatal("it is waited for, for ever")
			}
			if took := time.Since(began); end != broken || took != want || held == leaves {
				t.Errorf("leaves %v: over after %v with %v, held %v", leaves, took, end, held)
			}
		})
	}
}
