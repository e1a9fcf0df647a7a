package examples

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"ssegateway/e2e/harness"
	"ssegateway/e2e/harness/chromium"
)

var (
	binary    string // the gateway
	goExample string // a program, too
	browser   *chromium.Browser
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) (code int) {
	dir, err := os.MkdirTemp("", "examples")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary, err = harness.Build(dir)
	if err == nil {
		goExample = filepath.Join(dir, "backend")
		build := exec.Command("go", "build", "-o", goExample, "ssegateway/examples/go")
		var out []byte
		if out, err = build.CombinedOutput(); err != nil {
			err = fmt.Errorf("%s: %w\n%s", strings.Join(build.Args, " "), err, out)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if browser, err = chromium.Start(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() {
		if err := browser.Stop(); err != nil && code == 0 {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}()
	return m.Run()
}

// example is a program under examples/, and how it is run.
type example struct {
	name    string
	command []string // PORT, BACKEND and STREAMS stand for its port, the Go program and the gateway's base URL
	started string   // it prints this once it listens
	install string   // the package of its runtime
	first   []string // a command that has to end before
	env     []string // further variables
}

// site is a gateway with an example as its backend.
type site struct {
	gateway  *harness.Process
	settings []string // of the gateway
	port     int      // of the gateway
	runs     example
	example  *harness.Process
	files    string // where the example may keep some
	streams  string // base URL of the gateway
	app      string // base URL of the example
	client   *http.Client
}

// start runs both until the end of the test. In the settings APP and PORT stand for the base URL of the example and its port.
func (e example) start(t *testing.T, settings ...string) *site {
	t.Helper()
	s := e.prepare(t, settings...)
	s.startExample(t)
	return s
}

// prepare starts only the gateway.
func (e example) prepare(t *testing.T, settings ...string) *site {
	t.Helper()
	if _, err := exec.LookPath(e.command[0]); err != nil && e.install != "" {
		t.Fatalf("%s is not installed, and this example needs it: install %s, or run `make test-deps`", e.command[0], e.install)
	}
	port, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	s := &site{runs: e, files: t.TempDir(), app: "http://127.0.0.1:" + strconv.Itoa(port), client: harness.Local(port, nil).Client()}
	s.client.Transport = nil // not limited to one server
	for i := range settings {
		settings[i] = strings.NewReplacer("APP", s.app, "PORT", strconv.Itoa(port)).Replace(settings[i])
	}
	s.startGateway(t, append([]string{
		"CALLBACK_URL=" + s.app + "/callback", "CORS_ALLOWED_ORIGINS=" + s.app, "HEARTBEAT_INTERVAL_SECONDS=3600",
	}, settings...))
	s.streams = "http://127.0.0.1:" + strconv.Itoa(s.port)
	t.Cleanup(func() {
		s.stopGateway(t)
		if s.example != nil {
			s.example.Kill()
			if t.Failed() {
				t.Logf("output of the example:\n%s", s.example.Log.Text())
			}
		}
	})
	return s
}

// startExample starts the example, and waits until it listens.
func (s *site) startExample(t *testing.T) {
	t.Helper()
	if s.runs.first != nil {
		s.run(t, s.runs.first)
	}
	s.example = s.command(t, s.runs.command)
	// Java compiles first, beside the other tests.
	if _, ok := s.example.Log.Find(3*harness.Patience, regexp.MustCompile(s.runs.started)); !ok {
		t.Fatalf("the example does not listen:\n%s", s.example.Log.Text())
	}
}

// command runs a command beside the gateway.
func (s *site) command(t *testing.T, command []string) *harness.Process {
	t.Helper()
	_, port, _ := strings.Cut(strings.TrimPrefix(s.app, "http://"), ":")
	var args []string
	for _, arg := range command {
		args = append(args, strings.NewReplacer("PORT", port, "BACKEND", goExample, "STREAMS", s.streams).Replace(arg))
	}
	p, err := harness.Run(harness.Command{Args: args, Dir: s.files, All: true, Env: append([]string{
		"PORT=" + port, "GATEWAY=" + s.streams, "TMPDIR=" + s.files, "STEP_MS=20",
	}, s.runs.env...)})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// run runs a command to its end, and returns what it prints.
func (s *site) run(t *testing.T, command []string) string {
	t.Helper()
	p := s.command(t, command)
	defer p.Kill()
	if code, err := p.Exit(harness.Patience); code != 0 || err != nil {
		t.Fatalf("%v: %d %v\n%s", command, code, err, p.Log.Text())
	}
	return p.Log.Text()
}

func (s *site) startGateway(t *testing.T, settings []string) {
	t.Helper()
	var err error
	s.settings = settings
	s.gateway, err = harness.Start(harness.Command{Args: []string{binary}, Env: settings}, func(port int) harness.Endpoint {
		if s.port > 0 {
			port = s.port
		}
		return harness.Local(port, nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	if s.port == 0 { // at a restart the settings have the port
		s.port = s.gateway.Port
	}
}

func (s *site) stopGateway(t *testing.T) {
	t.Helper()
	if code, err := s.gateway.Stop(harness.Patience); code != 0 || err != nil {
		t.Errorf("the gateway exited with code %d: %v", code, err)
	}
	if text := s.gateway.Log.Text(); strings.Contains(text, "WARNING: DATA RACE") || t.Failed() {
		t.Errorf("log of the gateway:\n%s", text)
	}
}

// restartGateway restarts the gateway on the same port. Its state is lost.
func (s *site) restartGateway(t *testing.T) {
	t.Helper()
	s.stopGateway(t)
	s.startGateway(t, append(s.settings, "PORT="+strconv.Itoa(s.port))) // the last of two counts
}

// path returns the absolute path of a file of the examples.
func path(name ...string) string {
	path, err := filepath.Abs(filepath.Join(append([]string{"..", "..", "examples"}, name...)...))
	if err != nil {
		panic(err)
	}
	return path
}

// do makes a request to the example, and decodes the answer, which must have that status.
func (s *site) do(t *testing.T, method, target, body string, status int, into any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.app+target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && into != nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil || resp.StatusCode != status {
		t.Fatalf("%s %s: %d %s (%v), want %d", method, target, resp.StatusCode, text, err, status)
	}
}

// stream is a client's stream.
type stream struct {
	*harness.Exchange
	name string
}

// open opens a stream, whose answer must have that status.
func (s *site) open(t *testing.T, target string, status int, header ...harness.Field) *stream {
	t.Helper()
	return s.request(t, harness.Request{Target: target, Header: header}, status)
}

// request opens a stream by any request.
func (s *site) request(t *testing.T, r harness.Request, status int) *stream {
	t.Helper()
	x, err := harness.Local(s.port, nil).Do(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(x.Leave)
	head, err := x.Head(harness.Patience)
	if err != nil || head.Status != status {
		t.Fatalf("%s: %+v %v, want %d", r.Target, head, err, status)
	}
	return &stream{x, r.Target}
}

// event is an event of a stream.
type event struct{ name, id, data string }

// next waits for the next event. It ignores blocks without data.
func (s *stream) next(t *testing.T) event {
	t.Helper()
	for {
		var block bytes.Buffer
		for !bytes.HasSuffix(block.Bytes(), []byte("\n\n")) {
			b, err := s.Next(1, harness.Patience)
			if err != nil {
				t.Fatalf("%s: no event but %q: %v", s.name, block.String(), err)
			}
			block.WriteString(b)
		}
		var e event
		var data []string
		for line := range strings.Lines(block.String()) {
			field, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
			switch field {
			case "event":
				e.name = value
			case "id":
				e.id = value
			case "data":
				data = append(data, value)
			}
		}
		if data != nil {
			e.data = strings.Join(data, "\n")
			return e
		}
	}
}

// want waits for the next event, which must be this one, and returns its id.
func (s *stream) want(t *testing.T, name, data string) (id string) {
	t.Helper()
	e := s.next(t)
	if e.name != name || e.data != data {
		t.Fatalf("%s got %q %q, want %q %q", s.name, e.name, e.data, name, data)
	}
	return e.id
}

// token returns the token of the only stream that the query selects.
func (s *site) token(t *testing.T, query string) string {
	t.Helper()
	tokens := s.tokens(t, query)
	if len(tokens) != 1 {
		t.Fatalf("%d streams of %s, want one", len(tokens), query)
	}
	return tokens[0]
}

// tokens returns the tokens of the streams that the query selects.
func (s *site) tokens(t *testing.T, query string) (tokens []string) {
	t.Helper()
	resp, err := s.client.Get(s.streams + "/internal/connections?" + query)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var page struct{ Connections []struct{ Token string } }
	if err := json.NewDecoder(resp.Body).Decode(&page); err != nil {
		t.Fatal(err)
	}
	for _, c := range page.Connections {
		tokens = append(tokens, c.Token)
	}
	return tokens
}

// closeStreams asks the gateway to close all streams that the query selects.
func (s *site) closeStreams(t *testing.T, query string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, s.streams+"/internal/connections?"+query, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("close: %s", resp.Status)
	}
}

// wantDisconnect waits until the example has processed the disconnect of a stream.
func (s *site) wantDisconnect(t *testing.T, token, reason string) {
	t.Helper()
	// The gateway logs the disconnect after the example's answer.
	line, ok := s.gateway.Log.Find(harness.Patience, regexp.MustCompile("callback action=disconnect token="+token+" .*result=delivered"))
	if !ok || !strings.Contains(line, " reason="+reason) {
		t.Fatalf("disconnect of %s: %q, want reason %s", token, line, reason)
	}
}
