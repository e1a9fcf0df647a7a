package browser

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"ssegateway/e2e/harness"
)

// Through each proxy in deploy/, pages come back by themselves after the proxy's certificate was
// renewed, the backend was away for 8 s, and the gateway was killed and started again, also if they
// had no answer from it yet. They get what they missed, once and in order, or a gap.
func TestPagesComeBack(t *testing.T) {
	t.Parallel()
	for _, name := range harness.Fronts() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			backend := startBackend(t)
			gw := harness.StartGateway(t, binary, nil, "EVENTSOURCE_ERRORS=retry", "CALLBACK_URL="+backend.url(), "HEARTBEAT_INTERVAL_SECONDS=5")
			application := httptest.NewServer(http.HandlerFunc(servePage))
			t.Cleanup(application.Close)
			mine := &harness.Certificate{CertFile: filepath.Join(t.TempDir(), "cert.pem"), Roots: cert.Roots}
			mine.KeyFile = filepath.Join(filepath.Dir(mine.CertFile), "key.pem")
			copyCertificate(t, mine, cert)
			front := harness.StartFront(t, name, mine, gw.Port, portOf(t, application.URL))
			site := "https://" + front.Endpoint.Addr

			var sources []source
			for range 2 {
				page := newPage(t, site)
				for i := range 2 {
					s := source{page, "source" + strconv.Itoa(i)}
					page.open(t, s.name, site+path(s.name))
					page.wantOpen(t, s.name)
					sources = append(sources, s)
				}
			}
			published := 0
			publish := func() {
				published++
				gw.Publish(t, "news", object{"data": strconv.Itoa(published)})
			}
			// all waits until each page has what was published, and each event once, but for those before a gap.
			all := func(gap bool) {
				t.Helper()
				for _, s := range sources {
					s.wantNext(t, published, gap)
				}
			}
			publish()
			all(false)

			copyCertificate(t, mine, renewed)
			front.Reload(t)
			wantCertificate(t, front.Endpoint.Addr, renewed)
			publish()
			all(false)

			backend.stop(t)
			for _, token := range backend.take() {
				gw.CloseStream(t, token)
			}
			away := time.After(8 * time.Second)
			publish()
			<-away
			backend.start(t)
			all(false)

			// One page has asked for a stream, and has no answer yet.
			waiting := source{sources[0].page, "waiting"}
			waiting.page.open(t, waiting.name, site+path(waiting.name))
			select {
			case <-backend.held:
			case <-time.After(harness.Patience):
				t.Fatal("no connect callback for the page that waits")
			}
			gw.Kill()
			gw.Restart(t)
			if r := waiting.next(t); r.Data != "welcome" {
				t.Errorf("%s got %s %q, want what its connect is answered with", waiting.name, r.Type, r.Data)
			}
			for _, s := range sources {
				s.wantGap(t)
			}
			publish()
			all(true)
		})
	}
}

// source is an EventSource of a page.
type source struct {
	page *page
	name string
}

// next waits for the next event, whatever errors come before it. The source must not give up.
func (s source) next(t *testing.T) report {
	t.Helper()
	for {
		switch r := s.page.next(t, s.name); {
		case r.State == closed:
			t.Fatalf("%s has given up", s.name)
		case r.Type == "message" || r.Type == "gap":
			return r
		}
	}
}

// wantNext waits for the nth event. After a restart some pages may see another gap before it.
func (s source) wantNext(t *testing.T, n int, gap bool) {
	t.Helper()
	r := s.next(t)
	for gap && r.Type == "gap" {
		r = s.next(t)
	}
	if r.Type != "message" || r.Data != strconv.Itoa(n) {
		t.Errorf("%s got %s %q, want event %d", s.name, r.Type, r.Data, n)
	}
}

func (s source) wantGap(t *testing.T) {
	t.Helper()
	if r := s.next(t); r.Type != "gap" {
		t.Errorf("%s got %s %q, want a gap", s.name, r.Type, r.Data)
	}
}

// copyCertificate puts a certificate in the place of another.
func copyCertificate(t *testing.T, to, from *harness.Certificate) {
	t.Helper()
	for target, origin := range map[string]string{to.CertFile: from.CertFile, to.KeyFile: from.KeyFile} {
		text, err := os.ReadFile(origin)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(target, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// wantCertificate waits until new connections get a certificate.
func wantCertificate(t *testing.T, addr string, c *harness.Certificate) {
	t.Helper()
	port, err := strconv.Atoi(addr[len("127.0.0.1:"):])
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(harness.Patience); ; {
		conn, err := harness.Local(port, c).Dial(t.Context(), 0, "")
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// backend accepts every stream, with the topic of the news. It can be away, and does not answer the
// first connect of the source "waiting".
type backend struct {
	addr   string
	server *http.Server
	held   chan struct{} // closed when that connect is here

	mu      sync.Mutex
	tokens  []string
	waiting int // connects of that source
}

func startBackend(t *testing.T) *backend {
	t.Helper()
	b := &backend{addr: "127.0.0.1:0", held: make(chan struct{})}
	b.start(t)
	t.Cleanup(func() { b.stop(t) })
	return b
}

func (b *backend) url() string { return "http://" + b.addr + "/callback" }

func (b *backend) start(t *testing.T) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", b.addr)
	if err != nil {
		t.Fatal(err)
	}
	b.addr = l.Addr().String()
	b.server = &http.Server{Handler: b, ReadHeaderTimeout: time.Minute}
	go func(s *http.Server) { _ = s.Serve(l) }(b.server)
}

func (b *backend) stop(t *testing.T) {
	t.Helper()
	if err := b.server.Close(); err != nil {
		t.Error(err)
	}
}

func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var call struct {
		Action, Token string
		Request       struct{ URL string }
	}
	if err := json.NewDecoder(r.Body).Decode(&call); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if call.Action != "connect" {
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if call.Request.URL == path("waiting") {
		b.mu.Lock()
		b.waiting++
		first := b.waiting == 1
		b.mu.Unlock()
		if first {
			close(b.held)
			<-r.Context().Done() // the gateway has gone away
			return
		}
		_, _ = w.Write([]byte(`{"events":[{"data":"welcome"}]}`))
		return
	}
	b.mu.Lock()
	b.tokens = append(b.tokens, call.Token)
	b.mu.Unlock()
	_, _ = w.Write([]byte(`{"topics":["news"]}`))
}

// take returns the tokens of the streams since the last call.
func (b *backend) take() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	tokens := b.tokens
	b.tokens = nil
	return tokens
}
