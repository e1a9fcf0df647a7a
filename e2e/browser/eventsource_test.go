package browser

import (
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"ssegateway/e2e/harness"
)

// With EVENTSOURCE_ERRORS a 503 of the backend silences no page: each comes back by itself, with its
// position. Without it an EventSource gives up for ever.
func TestBackendAway(t *testing.T) {
	t.Parallel()
	for _, s := range []setup{{name: "direct"}, {name: "shipped nginx, TLS and HTTP 2", nginx: true, tls: true, shipped: true}} {
		t.Run(s.name, func(t *testing.T) {
			x := s.start(t, "EVENTSOURCE_ERRORS=retry")
			var connects sync.Map // how many of a source there have been
			x.gw.Backend.On("", harness.Script{Connect: func(c *harness.Callback) harness.Answer {
				n, _ := connects.LoadOrStore(c.URL, new(atomic.Int32))
				if n.(*atomic.Int32).Add(1) == 2 {
					return harness.Answer{Status: http.StatusServiceUnavailable}
				}
				return harness.Answer{}
			}})
			var sources []string
			for i := range 5 {
				sources = append(sources, "page"+strconv.Itoa(i))
			}
			for _, source := range sources {
				token := x.open(t, source)
				x.gw.Event(t, token, object{"data": "x", "id": "last of " + source, "retry": 100})
				x.page.want(t, source, "message", 1)
				x.gw.CloseStream(t, token)
			}
			for _, source := range sources {
				x.page.want(t, source, "error", connecting)
				x.page.want(t, source, "open", 1) // the refusal, which only has it come back
				x.page.want(t, source, "error", connecting)
				x.wantOpen(t, source, 3)
				if id := x.connects(t, source, 3)[2].Headers["last-event-id"]; id != "last of "+source {
					t.Errorf("%s reconnected with Last-Event-ID %q", source, id)
				}
			}
		})
	}
}
