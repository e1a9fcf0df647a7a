package clients

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"ssegateway/e2e/harness"
)

type object = map[string]any

var binary string // the gateway

func TestMain(m *testing.M) { os.Exit(harness.Main(m, prepare)) }

func prepare(dir string) (err error) {
	binary, err = harness.Build(dir)
	return err
}

// site is one client's stream through a network to a gateway whose backend grants it
// a topic of its own.
type site struct {
	gw      *harness.Gateway
	network *harness.Network
	path    string
	topic   string
	next    func() (report, error) // next report of the client
	seen    int                    // connects that were seen
	token   string                 // of the last connect
	reports []report
	admit   chan struct{} // admits one connect
}

// report is something that a client reports.
type report struct {
	Type  string // open or event; of a watched source also error or rejected
	Name  string // of the event, or the path of a watched source
	Data  string
	ID    string // of the event; with EventSource the last one
	State int    // readyState of a watched source
}

// connected waits for the next connect callback, and returns its Last-Event-ID. The callback
// is answered only after open.
func (s *site) connected(t *testing.T) (lastEventID string) {
	t.Helper()
	s.seen++
	c := s.gw.Await(t, s.seen, "connect", func(c *harness.Callback) bool { return c.URL == s.path })[s.seen-1]
	s.token = c.Token
	return c.Headers["last-event-id"]
}

// backend returns the script of all connections of the path.
func (s *site) backend(c *harness.Callback) harness.Answer {
	select {
	case <-s.admit:
	case <-c.Context.Done():
	}
	text, _ := json.Marshal(object{"topics": []string{s.topic}, "retry_ms": 10})
	return harness.Answer{Body: string(text)}
}

// open admits the client, and waits until it is open.
func (s *site) open(t *testing.T) {
	t.Helper()
	s.admit <- struct{}{}
	if r := s.want(t); r.Type != "open" {
		t.Fatalf("got %+v, want it to open", r)
	}
}

func (s *site) want(t *testing.T) report {
	t.Helper()
	r, err := s.next()
	if err != nil {
		t.Fatalf("%v; the reports before were %+v", err, s.reports[max(0, len(s.reports)-3):])
	}
	s.reports = append(s.reports, r)
	return r
}

// wantEvent waits for the next event, which must be this.
func (s *site) wantEvent(t *testing.T, name, data, id string) {
	t.Helper()
	if r, want := s.want(t), (report{Type: "event", Name: name, Data: data, ID: id}); r != want {
		t.Fatalf("got %+v, want %+v", r, want)
	}
}

// publish publishes to the client's topic and returns the event's id.
func (s *site) publish(t *testing.T, data string) (id string) {
	t.Helper()
	text, err := json.Marshal(object{"topic": s.topic, "event": object{"data": data}})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post("http://"+s.gw.Endpoint.Addr+"/internal/publish", "application/json", bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct{ ID string }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || resp.StatusCode != http.StatusOK || answer.ID == "" {
		t.Fatalf("publish: %d %+v %v", resp.StatusCode, answer, err)
	}
	return answer.ID
}

// byPath finds the site of a callback by its path.
type byPath struct {
	mu    sync.Mutex
	sites map[string]*site
}

func (b *byPath) add(s *site) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sites[s.path] = s
}

func (b *byPath) connect(c *harness.Callback) harness.Answer {
	b.mu.Lock()
	s := b.sites[c.URL]
	b.mu.Unlock()
	if s == nil {
		return harness.Answer{Status: http.StatusNotFound}
	}
	return s.backend(c)
}

func slug(s string) string { return strings.ReplaceAll(s, " ", "-") }
