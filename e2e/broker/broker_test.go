package broker

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"ssegateway/e2e/harness"
)

var binary string // the gateway

func TestMain(m *testing.M) { os.Exit(harness.Main(m, prepare)) }

func prepare(dir string) (err error) {
	binary, err = harness.Build(dir)
	return err
}

// site is a gateway whose backend grants the topic t to every stream.
type site struct {
	*harness.Gateway

	t *testing.T
}

func start(t *testing.T, settings ...string) *site {
	t.Helper()
	s := &site{harness.StartGateway(t, binary, nil, settings...), t}
	s.Backend.On("", harness.Script{Connect: func(*harness.Callback) harness.Answer {
		return harness.Answer{Status: http.StatusOK, Body: `{"topics":["t"]}`}
	}})
	return s
}

// open opens a stream, with a Last-Event-ID if the id is not empty.
func (s *site) open(lastEventID string) *stream {
	s.t.Helper()
	return &stream{s.Open(s.t, lastEventID), s.t}
}

type stream struct {
	*harness.Stream

	t *testing.T
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

// becomes waits until /readyz answers with that status.
func (s *site) becomes(status int) (answer string) {
	s.t.Helper()
	return s.Becomes(s.t, status, http.MethodGet, "/readyz", "")
}

func event(id, data string) string { return "id: " + id + "\ndata: " + data + "\n\n" }

// position returns an id's epoch, and the id that many events after it.
func position(t *testing.T, id string, behind int) (epoch, other string) {
	t.Helper()
	epoch, digits, _ := strings.Cut(id, "-")
	var n int
	if _, err := fmt.Sscan(digits, &n); err != nil {
		t.Fatal(err)
	}
	return epoch, fmt.Sprintf("%s-%d", epoch, n+behind)
}

// serveNATS runs a NATS server until it is stopped, or the test has ended.
func serveNATS(t *testing.T, port int, dir string) (stop func()) {
	t.Helper()
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: port, NoSigs: true, NoLog: true, JetStream: true, StoreDir: dir,
		Username: "gateway", Password: password, MaxPayload: 4096,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	stop = func() {
		s.Shutdown()
		s.WaitForShutdown()
	}
	t.Cleanup(stop)
	if !s.ReadyForConnections(harness.Patience) {
		t.Fatal("the NATS server is not ready")
	}
	return stop
}

const password = "canary-password-5e1f"

// NATS is down when the gateway starts. Then it comes, goes, comes back, and loses the log.
func TestNATSComesAndGoes(t *testing.T) {
	port, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	url, dir := fmt.Sprintf("nats://gateway:%s@127.0.0.1:%d", password, port), t.TempDir()
	s := start(t, "NATS_URL="+url, "LOG_LEVEL=debug")
	fails := func(path, body string, status int, words ...string) {
		t.Helper()
		got, answer := s.call(http.MethodPost, path, body)
		if got != status || slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(answer, w) }) {
			t.Errorf("%s: %d %s, want %d with %q", path, got, answer, status, words)
		}
	}

	// The log is not known yet, so clients get a retry.
	if answer := s.becomes(http.StatusServiceUnavailable); !strings.Contains(answer, `"broker not reachable"`) {
		t.Error(answer)
	}
	if rest, end, err := s.open("").Rest(harness.Patience); !strings.HasPrefix(rest, "retry: ") || end != harness.Clean {
		t.Errorf("%q, %v, %v", rest, end, err)
	}
	fails("/internal/publish", publication("x"), http.StatusServiceUnavailable, "BROKER_UNAVAILABLE")
	fails("/internal/send", `{"token":"x"}`, http.StatusServiceUnavailable, "BROKER_UNAVAILABLE")
	if calls := s.Backend.Calls(func(*harness.Callback) bool { return true }); len(calls) > 0 {
		t.Errorf("the backend was asked %d times", len(calls))
	}

	stop := serveNATS(t, port, dir)
	s.becomes(http.StatusOK)
	x := s.open("")
	id := s.publish("1")
	_, begin := position(t, id, -1)
	x.Wants("id: " + begin + "\n\n" + event(id, "1"))
	fails("/internal/publish", publication(strings.Repeat("x", 5000)), http.StatusRequestEntityTooLarge, "PAYLOAD_TOO_LARGE", "takes 5", "at most 4096")
	token := s.Await(t, 1, "connect", func(*harness.Callback) bool { return true })[0].Token

	// Everything that does not need NATS works without it.
	stop()
	fails("/internal/publish", publication("x"), http.StatusServiceUnavailable, "BROKER_UNAVAILABLE")
	s.becomes(http.StatusOK)
	s.Event(t, token, map[string]any{"data": "direct"})
	x.Wants("data: direct\n\n")
	if answer := s.becomes(http.StatusServiceUnavailable); !strings.Contains(answer, `"broker not reachable"`) {
		t.Error(answer)
	}
	serveNATS(t, port, dir)
	s.becomes(http.StatusOK)
	next := s.publish("2")
	if _, want := position(t, id, 1); next != want {
		t.Errorf("the id %s comes after %s", next, id)
	}
	x.Wants(event(next, "2"))

	// The log is lost. The stream continues with the new log, after a gap event.
	conn, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteStream(t.Context(), "ssegateway_log"); err != nil {
		t.Fatal(err)
	}
	const gap, name = "event: gap\nid: ", "XXXXXXXXXX"
	got, err := x.Next(len(gap+name), harness.Patience)
	if !strings.HasPrefix(got, gap) {
		t.Fatalf("%q, %v", got, err)
	}
	x.Wants(`-0` + "\n" + `data: {"last_event_id":"` + next + `"}` + "\n\n")
	if id = s.publish("3"); id != got[len(gap):]+"-1" {
		t.Errorf("the id is %s after %q", id, got)
	}
	x.Wants(event(id, "3"))

	if text := s.Log.Text(); strings.Contains(text, password) {
		t.Errorf("the log has the password:\n%s", text)
	}
	// The stream ends while NATS runs: otherwise the gateway could not confirm that it owns the stream.
	x.HangUp()
	s.Await(t, 1, "disconnect", func(*harness.Callback) bool { return true })
}

// An error that lasts ends the gateway at its start. The log does not show the password.
func TestNATSRefused(t *testing.T) {
	port, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	serveNATS(t, port, t.TempDir())
	p, err := harness.Run(harness.Command{Args: []string{binary}, Env: []string{
		fmt.Sprintf("NATS_URL=nats://gateway:%s-wrong@127.0.0.1:%d", password, port),
	}})
	if err != nil {
		t.Fatal(err)
	}
	code, err := p.Exit(harness.Patience)
	if text := p.Log.Text(); err != nil || code != 1 || !strings.Contains(text, "Authorization Violation") || strings.Contains(text, password) {
		t.Errorf("exit code %d, %v:\n%s", code, err, text)
	}
}
