package state

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"ssegateway/e2e/harness"
)

var binary string

func TestMain(m *testing.M) { os.Exit(harness.Main(m, prepare)) }

func prepare(dir string) (err error) {
	binary, err = harness.Build(dir)
	return err
}

// site is a gateway with a directory, whose backend grants the topic t to every stream.
type site struct {
	*harness.Gateway

	t     *testing.T
	begun time.Time // when the gateway was started again
}

// start starts a gateway with that directory.
func start(t *testing.T, dir string, settings ...string) *site {
	t.Helper()
	s := &site{harness.StartGateway(t, binary, nil, append([]string{"STATE_DIR=" + dir}, settings...)...), t, time.Time{}}
	s.Backend.On("", harness.Script{Connect: func(*harness.Callback) harness.Answer {
		return harness.Answer{Status: http.StatusOK, Body: `{"topics":["t"]}`}
	}})
	return s
}

// restart starts the gateway again. It must have ended.
func (s *site) restart() {
	s.t.Helper()
	s.begun = time.Now()
	s.Restart(s.t)
}

// told waits until the gateway, since it was started again, has told of a token's end.
func (s *site) told(token string) *harness.Callback {
	s.t.Helper()
	return s.Await(s.t, 1, "disconnect", func(c *harness.Callback) bool { return c.Token == token && c.At.After(s.begun) })[0]
}

// stream is an event stream of a site.
type stream struct {
	*harness.Stream

	token string
}

// open opens a stream, with a Last-Event-ID if the id is not empty.
func (s *site) open(lastEventID string) *stream {
	s.t.Helper()
	before := len(s.Backend.Calls(isConnect))
	x := s.Open(s.t, lastEventID)
	return &stream{x, s.Await(s.t, before+1, "connect", anyone)[before].Token}
}

func anyone(*harness.Callback) bool      { return true }
func isConnect(c *harness.Callback) bool { return c.Action == "connect" }
func of(token string) func(*harness.Callback) bool {
	return func(c *harness.Callback) bool { return c.Token == token }
}

func (s *site) call(method, path, body string) (status int, answer string) {
	s.t.Helper()
	return s.Call(s.t, method, path, body)
}

func publication(data string) string { return `{"topic":"t","event":{"data":"` + data + `"}}` }

// publish publishes an event, and returns its id.
func (s *site) publish(data string) string {
	s.t.Helper()
	return s.Publish(s.t, "t", map[string]any{"data": data})
}

// becomes waits until a request is answered with that status.
func (s *site) becomes(status int, method, path, body string) (answer string) {
	s.t.Helper()
	return s.Becomes(s.t, status, method, path, body)
}

func event(id, data string) string { return "id: " + id + "\ndata: " + data + "\n\n" }

// behind returns the id so many events after another.
func behind(t *testing.T, id string, events int) string {
	t.Helper()
	epoch, digits, _ := strings.Cut(id, "-")
	var n int
	if _, err := fmt.Sscan(digits, &n); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s-%d", epoch, n+events)
}
