package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ssegateway/internal/config"
	"ssegateway/internal/logging"
	"ssegateway/internal/server"
	"ssegateway/sse"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// limit is how long anything of a test may take.
const limit = 20 * time.Second

// running is a demo that runs, and what it has written.
type running struct {
	t             *testing.T
	page, gateway string // origins
	out, log      *buffer
	client        *http.Client // a browser: it has cookies
	stop          func() error
}

// start runs a demo on free ports until the test ends.
func start(t *testing.T, settings ...string) *running {
	t.Helper()
	for range 10 {
		r, err := tryStart(t, settings)
		if err == nil {
			return r
		}
		if !strings.Contains(err.Error(), "cannot have port") {
			t.Fatal(err)
		}
	}
	t.Fatal("no free ports")
	return nil
}

func tryStart(t *testing.T, settings []string) (*running, error) {
	t.Helper()
	port, pagePort := freePort(t), freePort(t)
	cfg, _, err := config.Load(nil, append([]string{"PORT=" + strconv.Itoa(port)}, settings...), 0)
	if err != nil {
		t.Fatal(err)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	r := &running{
		t: t, out: newBuffer(), log: newBuffer(),
		page: "http://localhost:" + strconv.Itoa(pagePort), gateway: "http://localhost:" + strconv.Itoa(port),
		client: &http.Client{Jar: jar, Transport: &http.Transport{}},
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		err = Run(ctx, cfg, Port{pagePort, true}, Port{port, true}, "test", r.out, logging.New(r.log, cfg.LogLevel, cfg.LogFormat), run)
	}()
	r.stop = func() error { cancel(); <-ended; return err }
	if !r.log.waitFor("ssegateway started", ended) {
		return nil, r.stop()
	}
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		r.client.CloseIdleConnections()
	})
	return r, nil
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// do performs a request, and returns its answer's status and body.
func (r *running) do(method, target, body string, header ...string) (status int, text string) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), limit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, target, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := r.client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// press is a button of the page.
func (r *running) press(path string, form url.Values, want string) {
	r.t.Helper()
	status, text := r.do(http.MethodPost, r.page+path, form.Encode(),
		"Content-Type", "application/x-www-form-urlencoded", "Origin", r.page, "Sec-Fetch-Site", "same-origin")
	if status != http.StatusOK || text != want {
		r.t.Errorf("POST %s: %d %q, want 200 %q", path, status, text, want)
	}
}

// events is an open stream.
type events struct {
	t    *testing.T
	head *http.Response
	dec  *sse.Decoder
}

// open opens a stream as the page does.
func (r *running) open(target string) *events {
	r.t.Helper()
	return r.stream(http.MethodGet, target)
}

// stream makes a request whose answer is a stream.
func (r *running) stream(method, target string, header ...string) *events {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), limit)
	r.t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, method, target, http.NoBody)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Origin", r.page)
	for i := 0; i < len(header); i += 2 {
		if header[i+1] != "" {
			req.Header.Set(header[i], header[i+1])
		}
	}
	resp, err := r.client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		r.t.Fatalf("%s %s: %s", method, target, resp.Status)
	}
	return &events{t: r.t, head: resp, dec: sse.NewDecoder(resp.Body)}
}

// want reads up to the next event of a name.
func (e *events) want(name string) string {
	e.t.Helper()
	for {
		event, err := e.dec.Next()
		if err != nil {
			e.t.Fatalf("waiting for %q: %v", name, err)
		}
		if event.Name.String() == name {
			return event.Data
		}
	}
}

// wantCallback reads until the page was shown a callback.
func (e *events) wantCallback(match func(record) bool) record {
	e.t.Helper()
	for {
		var records []record
		if err := json.Unmarshal([]byte(e.want("callbacks")), &records); err != nil {
			e.t.Fatal(err)
		}
		if i := slices.IndexFunc(records, match); i >= 0 {
			return records[i]
		}
	}
}

// The page comes with all that it refers to, names the two origins, and shows what its user does with both.
func TestPage(t *testing.T) {
	r := start(t)
	status, html := r.do(http.MethodGet, r.page, "")
	for _, want := range []string{
		"<title>SSE Gateway demo</title>", `data-gateway-port="` + r.gateway[len("http://localhost:"):] + `"`, "<code>" + r.page + "</code>", "<code>" + r.gateway + "</code>",
		"<code>CORS_ALLOWED_ORIGINS=" + r.page + "</code>", "<code>curl -N " + r.gateway + "/events/terminal</code>",
	} {
		if status != http.StatusOK || !strings.Contains(html, want) || strings.Contains(html, "{{") {
			t.Fatalf("no %s, or a place that was not filled: %d %s", want, status, html)
		}
	}
	for _, reference := range regexp.MustCompile(`(?:src|href)="([^"]*)"`).FindAllStringSubmatch(html, -1) {
		if strings.HasPrefix(reference[1], "data:") {
			continue
		}
		if status, _ := r.do(http.MethodGet, r.page+"/"+reference[1], ""); status != http.StatusOK {
			t.Errorf("%s: %d", reference[1], status)
		}
	}

	mine := r.open(r.gateway + "/events/")
	if h := mine.head.Header; h.Get("Access-Control-Allow-Origin") != r.page || h.Get("Access-Control-Allow-Credentials") != "true" {
		t.Errorf("no CORS headers for the page: %v", h)
	}
	first := mine.wantCallback(func(c record) bool { return c.Action == "connect" })
	if first.Status != http.StatusOK || first.Request.URL != "/events/" || first.Request.Headers["origin"] != r.page || strings.Contains(first.Request.Headers["cookie"], "=") {
		t.Errorf("connect was shown as %+v", first)
	}
	guest := r.open(r.gateway + "/events/guest")
	if data := guest.want("welcome"); !strings.Contains(data, "You are guest.") {
		t.Errorf("welcome: %q", data)
	}

	r.press("/send", url.Values{"to": {"me"}, "name": {"news"}, "data": {"one\r\n\r\nthree"}}, "Sent to 1 stream.")
	if data := mine.want("news"); data != "one\n\nthree" {
		t.Errorf("data %q", data)
	}
	r.press("/send", url.Values{"to": {"everyone"}, "name": {""}, "data": {"all"}}, "Sent to 2 streams.")
	if a, b := mine.want(""), guest.want(""); a != "all" || b != "all" {
		t.Errorf("data %q, %q", a, b)
	}
	mine.want("clock")

	r.press("/close", nil, "Closed 1 stream.")
	mine.want("goodbye")
	if _, err := mine.dec.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("after a close: %v, want the end", err)
	}
	// The page comes back, and is shown what happened meanwhile.
	again := r.open(r.gateway + "/events/")
	end := again.wantCallback(func(c record) bool { return c.Action == "disconnect" })
	if end.Reason != "server_closed" || end.Token != first.Token || end.User != first.User || end.Status != http.StatusNoContent {
		t.Errorf("disconnect was shown as %+v", end)
	}

	// Ctrl-C: both streams end, and the backend is told before it ends itself.
	err := r.stop()
	if err != nil {
		t.Fatal(err)
	}
	for err = nil; err == nil; {
		_, err = guest.dec.Next()
	}
	if !errors.Is(err, io.EOF) {
		t.Errorf("a stream ended with %v", err)
	}
	if n := strings.Count(r.log.String(), "result=delivered"); n != 3 {
		t.Errorf("the backend was told of %d ends, want 3:\n%s", n, r.log)
	}
}

func TestStrangers(t *testing.T) {
	r := start(t)
	for _, c := range []struct {
		method, target string
		header         []string
		want           int
	}{
		{"GET", r.gateway + "/events/", nil, http.StatusUnauthorized}, // no cookie
		{"GET", r.gateway + "/elsewhere", nil, http.StatusNotFound},
		{"GET", r.gateway + "/events/Not.A.Name", nil, http.StatusNotFound},
		{"POST", r.page + "/callback", nil, http.StatusForbidden},
		{"POST", r.page + "/callback?secret=guessed", nil, http.StatusForbidden},
		{"POST", r.page + "/send", nil, http.StatusUnauthorized},
		{"POST", r.page + "/close", []string{"Sec-Fetch-Site", "cross-site"}, http.StatusForbidden},
		{"GET", r.page + "/token/nobody", nil, http.StatusNotFound},
		{"POST", r.page + "/events/answers", nil, http.StatusUnauthorized},
		{"POST", r.gateway + "/events/answers", nil, http.StatusUnauthorized},
		{"POST", r.page + "/cut", nil, http.StatusUnauthorized},
		{"GET", r.page + "/site.go", nil, http.StatusNotFound},
	} {
		if status, body := r.do(c.method, c.target, "", c.header...); status != c.want {
			t.Errorf("%s %s: %d %s, want %d", c.method, c.target, status, body, c.want)
		}
	}
	if strings.Contains(r.log.String()+r.out.String(), "secret") {
		t.Error("the callback's secret was written")
	}
}

// TestIntroduction pastes the lines that the demo prints into a shell, where
// there are one and curl, and performs them itself where not.
func TestIntroduction(t *testing.T) {
	for _, c := range []struct {
		name     string
		settings []string
		env      []string
	}{
		{name: "plain"},
		{name: "token", settings: []string{"INTERNAL_TOKEN=a-token"}, env: []string{"INTERNAL_TOKEN=a-token"}},
		{name: "listener", settings: []string{"INTERNAL_ADDR=:" + strconv.Itoa(freePort(t))}},
		{name: "socket", settings: []string{"INTERNAL_ADDR=unix:" + t.TempDir() + "/internal.sock"}},
		{name: "origins", settings: []string{"CORS_ALLOWED_ORIGINS=*", "CALLBACK_URL=http://192.0.2.1/"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := start(t, c.settings...)
			out := r.out.String()
			if first := strings.TrimSpace(strings.SplitN(strings.TrimSpace(out), "\n", 2)[0]); first != "Open this page in a browser:  "+r.page {
				t.Errorf("first line %q", first)
			}
			lines := regexp.MustCompile(`(?m)^    (curl .*)$`).FindAllStringSubmatch(out, -1)
			if len(lines) != 2 {
				t.Fatalf("not two lines with curl in:\n%s", out)
			}
			open, send := lines[0][1], lines[1][1]
			target, ok := strings.CutPrefix(open, "curl -N ")
			if !ok || target != r.gateway+"/events/terminal" {
				t.Fatalf("line to open: %q", open)
			}

			stream := r.open(target)
			welcome := stream.want("welcome")
			r.paste(send, c.env)
			if data := stream.want("hello"); data != "Hello from the terminal" {
				t.Errorf("data %q", data)
			}
			r.paste(regexp.MustCompile(`(?m)^curl .*$`).FindString(welcome), c.env)
			stream.want("hello")
			pasted := newBuffer()
			if run, stop := r.shell(open, c.env, pasted); run != nil {
				defer stop()
				if !pasted.waitFor("event: welcome", run) {
					t.Errorf("%s: %s", open, pasted)
				}
			}
		})
	}
}

// shell runs a line until stop is called; ended is closed when it ended before. nil: there is no shell, or no curl.
func (r *running) shell(line string, env []string, out io.Writer) (ended <-chan struct{}, stop func()) {
	if _, err := exec.LookPath("curl"); err != nil {
		return nil, nil
	}
	sh, err := exec.LookPath("sh")
	if err != nil {
		return nil, nil
	}
	cmd := exec.Command(sh, "-c", "exec "+line)
	cmd.Env = append(cmd.Environ(), append(env, "no_proxy=localhost")...)
	cmd.Stdout = out
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }()
	return done, func() { _ = cmd.Process.Kill(); <-done }
}

// paste performs a line that sends, and wants it to be taken.
func (r *running) paste(line string, env []string) {
	r.t.Helper()
	out := newBuffer()
	if ended, _ := r.shell(line, env, out); ended != nil {
		<-ended
		if out.String() != `{"status":"ok"}` {
			r.t.Errorf("%s\nanswered %s", line, out)
		}
	}
	if strings.Contains(line, "--unix-socket") || strings.Contains(line, "$INTERNAL_TOKEN") {
		return
	}
	m := regexp.MustCompile(`^curl (\S+) -H '(\S+): (\S+)' -d '([^']*)(?:'"\$\(curl -s (\S+)\)"'([^']*))?'$`).FindStringSubmatch(line)
	if m == nil {
		r.t.Fatalf("cannot read %s", line)
	}
	body := m[4]
	if m[5] != "" {
		_, token := r.do(http.MethodGet, m[5], "")
		body += token + m[6]
	}
	if status, text := r.do(http.MethodPost, m[1], body, m[2], m[3]); status != http.StatusOK {
		r.t.Errorf("%s\nanswered %d %s", line, status, text)
	}
}

// Ports that the user chose are not changed. What is wrong with both is said at once.
func TestBusyPorts(t *testing.T) {
	busy, free := busyPort(t), freePort(t)
	for _, c := range []struct {
		port, pagePort int
		want           []string
	}{
		{busy, free, []string{"choose another with PORT:"}},
		{free, busy, []string{"choose another with PAGE_PORT:"}},
		{busy, busy, []string{"choose another with PORT:", "choose another with PAGE_PORT:"}},
	} {
		out := newBuffer()
		cfg, _, err := config.Load(nil, []string{"PORT=" + strconv.Itoa(c.port)}, 0)
		if err != nil {
			t.Fatal(err)
		}
		err = Run(t.Context(), cfg, Port{c.pagePort, true}, Port{c.port, true}, "test", out, logging.New(out, cfg.LogLevel, cfg.LogFormat), run)
		for _, want := range append(c.want, strconv.Itoa(busy)) {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v, want one with %q", err, want)
			}
		}
		if out.String() != "" {
			t.Errorf("promised before it failed: %s", out)
		}
	}
}

// In place of a usual port that is taken, the demo takes one of the next ones, and says so.
func TestOtherPorts(t *testing.T) {
	busy := busyPort(t)
	out := newBuffer()
	listeners, port, err := listenPage(t.Context(), Port{Number: busy}, out)
	if err != nil {
		t.Fatal(err)
	}
	closeAll(listeners)
	gateway, err := gatewayPort(t.Context(), Port{Number: busy}, out)
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("  Port %[1]d is taken, so the page is on %[2]d.\n  Port %[1]d is taken, so the gateway is on %[3]d.\n", busy, port, gateway)
	if port <= busy || gateway <= busy || out.String() != want {
		t.Errorf("page %d, gateway %d, said %q, want %q", port, gateway, out, want)
	}
}

// busyPort returns a port that is taken until the end of the test, with a free one behind it.
func busyPort(t *testing.T) int {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", ":0")
		if err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).Port
		if next, err := net.Listen("tcp", ":"+strconv.Itoa(port+1)); err == nil {
			_ = next.Close()
			t.Cleanup(func() { _ = l.Close() })
			return port
		}
		_ = l.Close()
	}
	t.Fatal("no free ports")
	return 0
}

// buffer is written by one goroutine, and waited for by another.
type buffer struct {
	mu      sync.Mutex
	content bytes.Buffer
	changed chan struct{}
}

func newBuffer() *buffer { return &buffer{changed: make(chan struct{}, 1)} }

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case b.changed <- struct{}{}:
	default:
	}
	return b.content.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.content.String()
}

// waitFor reports whether a text was written before ended and the limit.
func (b *buffer) waitFor(text string, ended <-chan struct{}) bool {
	for late := time.After(limit); ; {
		if strings.Contains(b.String(), text) {
			return true
		}
		select {
		case <-b.changed:
		case <-ended:
			return strings.Contains(b.String(), text)
		case <-late:
			return false
		}
	}
}

func run(ctx context.Context, s *server.Server) error { return s.Run(ctx) }
