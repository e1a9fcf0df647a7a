package hostile

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"ssegateway/e2e/harness"
)

// flooders is how many connections the address that floods opens at a time.
const flooders = 16

// most is the bound on the streams of an address.
const most = 20

// An address that opens streams without end gets as many as it may have, and is refused beyond that.
// The backend is not asked about more, and other addresses connect meanwhile. The same holds for an
// address that a trusted proxy names, whatever the client has written in front of it.
func TestAddressFloods(t *testing.T) {
	for _, test := range []struct {
		name     string
		settings []string
		// The requests of one address.
		request func(address string) harness.Request
	}{
		{name: "an address", request: func(address string) harness.Request {
			return harness.Request{LocalAddr: address}
		}},
		{
			name:     "an address behind a proxy",
			settings: []string{"TRUSTED_PROXIES=127.0.0.1/32", "CLIENT_IP_HEADER=x-client"},
			request: func(address string) harness.Request {
				return harness.Request{Header: []harness.Field{{Name: "X-Client", Value: "192.0.2.1, " + address}, {Name: "X-Forwarded-For", Value: "192.0.2.2"}}}
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := newVisitorWith(t, plenty, false, append(test.settings, "LOG_LEVEL=warn", fmt.Sprintf("MAX_CONNECTIONS_PER_IP=%d", most))...)
			v.request = test.request("127.0.0.3")
			over, stop := context.WithTimeout(t.Context(), *lasting)
			defer stop()
			flooded := floodFrom(over, t, v.g, test.request("127.0.0.2"))
			v.connects(over, t, fmt.Sprintf("%s that floods, %d connections at a time", test.name, flooders))
			opened, refused := flooded()
			if asked := v.g.Backend.Calls(func(c *harness.Callback) bool { return c.Action == "connect" && c.URL == "/flood" }); len(asked) != most || opened != most {
				t.Errorf("the address that floods got %d streams, and the backend was asked about %d, want %d", opened, len(asked), most)
			}
			if refused < most {
				t.Errorf("only %d requests were refused, so this is no flood", refused)
			}
			harness.Figure(t, "%s that floods got %d of %d streams, and %d refusals in %v; the backend was asked about none of these", test.name, opened, most, refused, *lasting)
		})
	}
}

// floodFrom opens streams with that request until over is done, and keeps them. The function that it
// returns waits for the end.
func floodFrom(over context.Context, t *testing.T, g *harness.Gateway, r harness.Request) (ended func() (opened, refused int64)) {
	r.Target = "/flood"
	var opened, refused atomic.Int64
	var all sync.WaitGroup
	for range flooders {
		all.Go(func() {
			for over.Err() == nil {
				x, err := g.Endpoint.Do(context.Background(), r)
				if err != nil {
					t.Error(err)
					return
				}
				head, err := x.Head(harness.Patience)
				switch {
				case err != nil:
					t.Error(err)
				case head.Status == http.StatusOK:
					opened.Add(1)
					t.Cleanup(x.HangUp)
					continue
				case head.Status != http.StatusTooManyRequests || head.Get("Retry-After") == "":
					t.Errorf("status %d, Retry-After %q", head.Status, head.Get("Retry-After"))
				default:
					refused.Add(1)
				}
				x.HangUp()
			}
		})
	}
	return func() (int64, int64) {
		all.Wait()
		return opened.Load(), refused.Load()
	}
}
