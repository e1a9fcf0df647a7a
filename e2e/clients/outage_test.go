package clients

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"

	"ssegateway/e2e/harness"
)

// outage is a gateway behind a front that counts requests, with a backend that can be away. The backend refuses
// /refused/<status> with that status, and accepts everything else.
type outage struct {
	mode    string // EVENTSOURCE_ERRORS
	gw      *harness.Gateway
	front   *httptest.Server
	addr    string // of the backend
	backend *harness.Backend
	targets []string // that are watched

	mu   sync.Mutex
	seen map[string]int // requests, by target
}

func startOutage(t *testing.T, mode, origin string) *outage {
	t.Helper()
	x := &outage{mode: mode, addr: "127.0.0.1:0", seen: map[string]int{}}
	x.startBackend(t)
	t.Cleanup(func() { x.backend.Close() })
	x.gw = harness.StartGateway(t, binary, nil, "CALLBACK_URL=http://"+x.addr+"/callback",
		"EVENTSOURCE_ERRORS="+mode, "CORS_ALLOWED_ORIGINS="+origin)
	to := &url.URL{Scheme: "http", Host: x.gw.Endpoint.Addr}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }}
	x.front = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x.mu.Lock()
		x.seen[r.URL.Path]++
		x.mu.Unlock()
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		x.front.CloseClientConnections()
		x.front.Close()
	})
	return x
}

func (x *outage) startBackend(t *testing.T) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", x.addr)
	if err != nil {
		t.Fatal(err)
	}
	x.addr = l.Addr().String()
	x.backend = harness.NewBackendAt(l)
	x.backend.On("", harness.Script{Connect: func(c *harness.Callback) harness.Answer {
		if status, found := strings.CutPrefix(c.URL, "/refused/"); found {
			n, _ := strconv.Atoi(status)
			return harness.Answer{Status: n}
		}
		return harness.Answer{Body: `{"retry_ms":500}`}
	}})
}

func (x *outage) stopBackend() { x.backend.Close() }

// requests returns how many requests for a target have come.
func (x *outage) requests(target string) int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.seen[target]
}

func connectOf(target string) func(*harness.Callback) bool {
	return func(c *harness.Callback) bool { return c.Action == "connect" && c.URL == target }
}

// connects waits for n connects of a target at the backend that runs.
func (x *outage) connects(t *testing.T, target string, n int) []*harness.Callback {
	t.Helper()
	calls, err := x.backend.Await(harness.Patience, n, connectOf(target))
	if err != nil {
		t.Fatalf("%s: %v", target, err)
	}
	return calls
}

// letReturn closes the stream of /clock so often, and waits each time until it is back.
func (x *outage) letReturn(t *testing.T, w *watched, times int) {
	t.Helper()
	for n := 1; n <= times; n++ {
		w.want(t, "/clock", "open")
		x.gw.CloseStream(t, x.connects(t, "/clock", n)[n-1].Token)
		w.want(t, "/clock", "error")
	}
	w.want(t, "/clock", "open")
}

// watch opens an EventSource for each target.
func (x *outage) watch(t *testing.T, start func(*testing.T, []string) func() (report, error), targets ...string) *watched {
	t.Helper()
	var urls []string
	for _, target := range targets {
		urls = append(urls, x.front.URL+target)
	}
	x.targets = append(x.targets, targets...)
	return &watched{next: start(t, urls), reports: map[string][]report{}}
}

// watched are the EventSources of a page or a program.
type watched struct {
	next    func() (report, error)
	reports map[string][]report // not looked at yet, by target
}

// want waits for the next report of a target, which must be of that type.
func (w *watched) want(t *testing.T, target, kind string) report {
	t.Helper()
	for len(w.reports[target]) == 0 {
		r, err := w.next()
		if err != nil {
			t.Fatalf("%s: no %s: %v", target, kind, err)
		}
		w.reports[r.Name] = append(w.reports[r.Name], r)
	}
	r := w.reports[target][0]
	w.reports[target] = w.reports[target][1:]
	if r.Type != kind {
		t.Fatalf("%s: got %+v, want %s", target, r, kind)
	}
	return r
}
