package harness

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Patience is how long tests wait for something that must happen, on a loaded machine.
const Patience = 20 * time.Second

// Build compiles the gateway into dir, with the race detector if the tests have it. Flags are go build's.
func Build(dir string, flags ...string) (binary string, err error) {
	binary = filepath.Join(dir, "ssegateway")
	build := exec.Command("go", slices.Concat([]string{"build", fmt.Sprintf("-race=%t", raceDetector)}, flags, []string{"-o", binary, "ssegateway/cmd/ssegateway"})...)
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(build.Args, " "), err, out)
	}
	return binary, nil
}

// Gateway is a running gateway together with its backend.
type Gateway struct {
	*Process
	Backend  *Backend
	Endpoint Endpoint // of the public listener

	command Command
	client  *http.Client // of the backend, for requests to the gateway
	killed  bool
}

// StartGateway runs a gateway until the end of the test, with heartbeats so rare that none
// comes. With a certificate it serves HTTP/2 over TLS. In the end it must exit with code 0
// and without a report of a race.
func StartGateway(t testing.TB, binary string, cert *Certificate, settings ...string) *Gateway {
	t.Helper()
	backend, err := NewBackend()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(backend.Close)
	g := &Gateway{Backend: backend, command: Command{Args: []string{binary}}}
	g.command.Env = []string{"HEARTBEAT_INTERVAL_SECONDS=3600", "CALLBACK_URL=" + backend.URL("/callback")}
	if cert != nil {
		g.command.Env = append(g.command.Env, "TLS_CERT_FILE="+cert.CertFile, "TLS_KEY_FILE="+cert.KeyFile)
	}
	g.command.Env = append(g.command.Env, settings...)
	g.Process, err = Start(g.command, func(port int) Endpoint {
		g.Endpoint = Local(port, cert)
		return g.Endpoint
	})
	if err != nil {
		t.Fatal(err)
	}
	g.client = g.Endpoint.Client()
	t.Cleanup(func() {
		g.client.CloseIdleConnections()
		backend.CalmDown()
		g.finish(t)
		if t.Failed() {
			t.Logf("log of the gateway:\n%s", g.Log.Text())
		}
	})
	return g
}

// Local returns the endpoint of a port of this machine: HTTP/1.1, or with a certificate HTTP/2 over TLS.
func Local(port int, cert *Certificate) Endpoint {
	e := Endpoint{Addr: "127.0.0.1:" + strconv.Itoa(port)}
	if cert != nil {
		e.Protocol, e.TLS = HTTP2TLS, &tls.Config{RootCAs: cert.Roots, MinVersion: tls.VersionTLS12}
	}
	return e
}

func (g *Gateway) finish(t testing.TB) {
	t.Helper()
	code, err := g.Stop(Patience)
	if !g.killed && (err != nil || code != 0) {
		t.Errorf("the gateway exited with code %d: %v", code, err)
	}
	if text := g.Log.Text(); strings.Contains(text, "WARNING: DATA RACE") || strings.Contains(text, "panic: ") {
		t.Errorf("the gateway reported a race or a panic:\n%s", text)
	}
}

// Kill kills the gateway. Its exit code is not checked any more.
func (g *Gateway) Kill() {
	g.killed = true
	g.Process.Kill()
}

// Restart waits until the gateway has exited, and starts it again on the same port.
func (g *Gateway) Restart(t testing.TB) {
	t.Helper()
	g.finish(t)
	g.client.CloseIdleConnections()
	again := g.command
	again.Env = append(again.Env[:len(again.Env):len(again.Env)], "PORT="+strconv.Itoa(g.Port)) // the last of two counts
	next, err := Start(again, func(int) Endpoint { return g.Endpoint })
	if err != nil {
		t.Fatal(err)
	}
	next.Port = g.Port
	g.Process, g.killed = next, false
}

// Send posts the operation to /internal/send, and requires that status in the answer.
func (g *Gateway) Send(t testing.TB, body map[string]any, status string) {
	t.Helper()
	g.post(t, "send", body, status)
}

// Publish publishes an event to a topic, and returns its id.
func (g *Gateway) Publish(t testing.TB, topic string, event map[string]any) (id string) {
	t.Helper()
	if id = g.post(t, "publish", map[string]any{"topic": topic, "event": event}, "ok"); id == "" {
		t.Fatal("a published event has no id")
	}
	return id
}

// post posts an operation below /internal, requires that status in the answer, and returns the id in it.
func (g *Gateway) post(t testing.TB, operation string, body map[string]any, status string) (id string) {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	var answer struct{ Status, ID string }
	code, got := g.Call(t, http.MethodPost, "/internal/"+operation, string(text))
	if json.Unmarshal([]byte(got), &answer) != nil || code != http.StatusOK || answer.Status != status {
		t.Fatalf("%s of %.200s: %d %s, want %q", operation, text, code, got, status)
	}
	return answer.ID
}

// PostJSON posts a value as JSON, and returns the members of the answer, none if that is not JSON. The status is 0 if
// there was no answer.
func PostJSON(client *http.Client, url string, body any) (status int, answer map[string]any) {
	text, err := json.Marshal(body)
	if err != nil {
		panic(err) // the test's own fault
	}
	resp, err := client.Post(url, "application/json", bytes.NewReader(text))
	if err != nil {
		return 0, nil
	}
	defer func() { _ = resp.Body.Close() }()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, nil
	}
	_ = json.Unmarshal(got, &answer)
	return resp.StatusCode, answer
}

// Becomes waits until a request of the backend is answered with that status, and returns that answer.
func (g *Gateway) Becomes(t testing.TB, status int, method, path, body string) (answer string) {
	t.Helper()
	for end := time.Now().Add(Patience); ; {
		got, answer := g.Call(t, method, path, body)
		if got == status {
			return answer
		}
		if time.Now().After(end) {
			t.Fatalf("%s answers %d %s, want %d", path, got, answer, status)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// Stream is an event stream of a Gateway.
type Stream struct {
	*Exchange

	t testing.TB
}

// Open opens a stream until the end of the test, with a Last-Event-ID if the id is not empty.
func (g *Gateway) Open(t testing.TB, lastEventID string) *Stream {
	t.Helper()
	r := Request{Target: "/"}
	if lastEventID != "" {
		r.Header = append(r.Header, Field{Name: "Last-Event-ID", Value: lastEventID})
	}
	x, err := g.Endpoint.Do(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(x.HangUp)
	if head, err := x.Head(Patience); err != nil || head.Status != http.StatusOK {
		t.Fatal(head, err)
	}
	return &Stream{x, t}
}

// Wants waits for the next bytes, which must be these.
func (x *Stream) Wants(text string) {
	x.t.Helper()
	if got, err := x.Next(len(text), Patience); got != text {
		x.t.Fatalf("the stream has\n%q\nwant\n%q\n%v", got, text, err)
	}
}

// Call makes a request of the backend, with a body of JSON.
func (g *Gateway) Call(t testing.TB, method, path, body string) (status int, answer string) {
	t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), method, g.Endpoint.Scheme()+"://"+g.Endpoint.Addr+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := g.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// Event sends an event.
func (g *Gateway) Event(t testing.TB, token string, event map[string]any) {
	t.Helper()
	g.Send(t, map[string]any{"token": token, "event": event}, "ok")
}

// CloseStream closes a connection.
func (g *Gateway) CloseStream(t testing.TB, token string) {
	t.Helper()
	g.Send(t, map[string]any{"token": token, "close": true}, "ok")
}

// Await waits for n callbacks of this action for which match returns true.
func (g *Gateway) Await(t testing.TB, n int, action string, match func(*Callback) bool) []*Callback {
	t.Helper()
	calls, err := g.Backend.Await(Patience, n, func(c *Callback) bool { return c.Action == action && match(c) })
	if err != nil {
		t.Fatalf("%s: %v", action, err)
	}
	return calls
}
