package process

import (
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
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

// drainLimit is the longest a drain may take by default. slack is added for a loaded machine.
const (
	drainLimit = 4500 * time.Millisecond
	slack      = 1500 * time.Millisecond
)

// gateway is a gateway whose standard error the test chooses.
type gateway struct {
	t       *testing.T
	cmd     *exec.Cmd
	backend *harness.Backend
	url     string
	exited  chan struct{}
}

// start runs a gateway that logs to stderr, until the end of the test.
func start(t *testing.T, stderr *os.File, settings ...string) *gateway {
	t.Helper()
	backend, err := harness.NewBackend()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(backend.Close)
	port, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	g := &gateway{t: t, cmd: exec.Command(binary), backend: backend, url: "http://127.0.0.1:" + strconv.Itoa(port), exited: make(chan struct{})}
	g.cmd.Env = append([]string{harness.ExitSoon, "PORT=" + strconv.Itoa(port), "CALLBACK_URL=" + backend.URL("/callback"), "HEARTBEAT_INTERVAL_SECONDS=3600"}, settings...)
	g.cmd.Stderr = stderr
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = g.cmd.Wait()
		close(g.exited)
	}()
	t.Cleanup(func() {
		_ = g.cmd.Process.Kill()
		<-g.exited
	})
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for end := time.Now().Add(harness.Patience); g.get("/healthz") == ""; <-poll.C {
		if time.Now().After(end) {
			t.Fatal("the gateway does not serve")
		}
	}
	return g
}

// get returns the body of the answer, or nothing if there is no answer.
func (g *gateway) get(path string) string {
	client := http.Client{Timeout: 5 * time.Second}
	resp, err := client.Get(g.url + path)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return string(body)
}

// metric returns the value of a metric without labels.
func (g *gateway) metric(name string) float64 {
	g.t.Helper()
	for line := range strings.Lines(g.get("/metrics")) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				g.t.Fatal(err)
			}
			return v
		}
	}
	g.t.Fatalf("no metric %s", name)
	return 0
}

// open opens a stream.
func (g *gateway) open() io.Reader {
	g.t.Helper()
	resp, err := http.Get(g.url + "/events")
	if err != nil || resp.StatusCode != http.StatusOK {
		g.t.Fatal(resp, err)
	}
	g.t.Cleanup(func() { _ = resp.Body.Close() })
	return resp.Body
}

// chatter makes the gateway log 1.5 MB: that many debug lines, of at least 200 bytes.
func (g *gateway) chatter() {
	g.t.Helper()
	client := http.Client{Timeout: 5 * time.Second}
	body := `{"topic":"t","event":{"name":"` + strings.Repeat("n", 150) + `","data":"x"}}`
	for range 7500 {
		resp, err := client.Post(g.url+"/internal/publish", "application/json", strings.NewReader(body))
		if err != nil {
			g.t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		if _ = resp.Body.Close(); resp.StatusCode != http.StatusOK {
			g.t.Fatal(resp.Status)
		}
	}
}

// expectExit ends the gateway with SIGTERM. An open stream must end cleanly, and the exit must
// come in time although nobody reads the log.
func (g *gateway) expectExit(stream io.Reader) {
	g.t.Helper()
	g.expectExitWithin(time.Second, stream)
}

func (g *gateway) expectExitWithin(limit time.Duration, stream io.Reader) {
	g.t.Helper()
	begin := time.Now()
	if err := g.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		g.t.Fatal(err)
	}
	if rest, err := io.ReadAll(stream); err != nil || !strings.Contains(string(rest), "retry: ") {
		g.t.Errorf("the client got %q, %v", rest, err)
	}
	g.expectExitCode(0)
	if took := time.Since(begin); took > limit+slack {
		g.t.Errorf("the exit took %v", took)
	}
	if _, err := g.backend.Await(time.Second, 1, func(c *harness.Callback) bool { return c.Action == "disconnect" && c.Detail == "draining" }); err != nil {
		g.t.Error(err)
	}
}

func (g *gateway) expectExitCode(want int) {
	g.t.Helper()
	select {
	case <-g.exited:
	case <-time.After(harness.Patience):
		g.t.Fatal("the gateway does not exit")
	}
	if got := g.cmd.ProcessState.ExitCode(); got != want {
		g.t.Errorf("exit code %d, want %d", got, want)
	}
}

// file returns the path of a temporary file with this content.
func file(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	write(t, path, content)
	return path
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// startCommand runs the program, and returns a function that waits for the exit code.
func startCommand(t *testing.T, env []string, stderr *os.File, args ...string) func() int {
	t.Helper()
	c := exec.Command(binary, args...)
	c.Env, c.Stderr = env, stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	return func() int {
		_ = c.Wait()
		return c.ProcessState.ExitCode()
	}
}
