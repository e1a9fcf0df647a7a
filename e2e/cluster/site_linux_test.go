package cluster

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ssegateway/e2e/harness"
	"ssegateway/e2e/harness/netns"
)

// site is the whole installation: NATS, the nodes, nginx, the backend, and the record.
type site struct {
	t      *testing.T
	record *record
	http   *http.Client
	nats   *server
	store  string // directory of NATS
	nodes  []*server
	nginx  *server

	clients []*client
	leave   context.CancelFunc // disconnects all clients, and stops replacing them
	present sync.WaitGroup
	mu      sync.Mutex // guards clients
}

// server is a process on a host. It can be started again after it has exited.
type server struct {
	t       *testing.T
	host    string
	command harness.Command
	log     string // file
	*harness.Process
}

const (
	publicPort   = "3000"
	internalPort = "9000"
	natsPort     = "4222"
	natsMonitor  = "8222"

	heartbeat   = 2 // seconds
	readTimeout = 5 // of nginx, seconds: a little more than two heartbeats, as in deploy/nginx-cluster.conf
)

// binaries are built once for all tests.
var binaries = sync.OnceValues(func() (dir string, err error) {
	dir, err = os.MkdirTemp("/run", "ssegateway") // removed with the namespaces
	if err != nil {
		return "", err
	}
	if _, err := buildSteppable(dir); err != nil {
		return "", err
	}
	return dir, harness.BuildNATS(filepath.Join(dir, "nats-server"))
})

// newSite starts everything, and waits until all nodes are ready.
func newSite(t *testing.T, settings ...string) *site {
	t.Helper()
	newNetwork(t)
	dir, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, record: newRecord(), http: &http.Client{
		Transport: &http.Transport{MaxIdleConnsPerHost: 16, IdleConnTimeout: 5 * time.Second},
		Timeout:   5 * time.Second,
	}, store: t.TempDir()}
	t.Cleanup(s.http.CloseIdleConnections)
	serveBackend(t, s.record)
	logs := t.ArtifactDir()
	start := func(host string, env []string, command ...string) *server {
		p := &server{t: t, host: host, log: filepath.Join(logs, host+".log")}
		// The log is a file, because it is too long to hold in memory.
		p.command = harness.Command{Env: env, Args: netns.On(t, host, "sh", "-c", `log=$1; shift; exec "$@" >>"$log" 2>&1`, "sh", p.log)}
		p.command.Args = append(p.command.Args, command...)
		p.start()
		t.Cleanup(p.finish)
		return p
	}
	s.nats = start(natsHost, nil, filepath.Join(dir, "nats-server"),
		"--addr", addresses[natsHost][back], "--port", natsPort, "--http_port", natsMonitor, "--jetstream", "--store_dir", s.store)
	for i := range nodeCount {
		at := addresses[nodeHost(i)][front]
		env := append([]string{
			"PORT=" + publicPort, "INTERNAL_ADDR=" + net.JoinHostPort(at, internalPort), "CALLBACK_URL=" + callbackURL,
			"NATS_URL=nats://" + net.JoinHostPort(addresses[natsHost][back], natsPort),
			"HEARTBEAT_INTERVAL_SECONDS=" + strconv.Itoa(heartbeat), "LOG_FORMAT=json",
			"NODE_LEASE_SECONDS=" + strconv.Itoa(*lease),
		}, settings...)
		if i < *own {
			env = append(env, "NATS_READ=own")
		}
		s.nodes = append(s.nodes, start(nodeHost(i), env, filepath.Join(dir, "ssegateway")))
	}
	s.nginx = start(nginxHost, nil, nginxCommand(t)...)
	s.awaitReady(harness.Patience)
	return s
}

func (p *server) start() {
	p.t.Helper()
	var err error
	if p.Process, err = harness.Run(p.command); err != nil {
		p.t.Fatal(err)
	}
}

// finish kills the process, and fails the test if its log has a data race or a crash.
func (p *server) finish() {
	_ = p.Signal(syscall.SIGCONT)
	p.Kill()
	text, err := os.ReadFile(p.log)
	if err != nil {
		p.t.Error(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, "DATA RACE") || strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") {
			p.t.Errorf("%s: %s", p.host, line)
		}
	}
}

// nginxCommand returns the command of nginx in the foreground with deploy/nginx-cluster.conf,
// in which only addresses, paths and times are replaced.
func nginxCommand(t *testing.T) []string {
	t.Helper()
	path := netns.Find(t, "nginx")
	text, err := os.ReadFile(filepath.Join("..", "..", "deploy", "nginx-cluster.conf"))
	if err != nil {
		t.Fatal(err)
	}
	config := string(text)
	replace := func(old, by string) {
		t.Helper()
		if !strings.Contains(config, old) {
			t.Fatalf("deploy/nginx-cluster.conf has no %q", old)
		}
		config = strings.ReplaceAll(config, old, by)
	}
	dir := t.TempDir()
	replace("10.0.0.", "198.18.0.")
	replace("listen 127.0.0.1:9000", "listen "+addresses[nginxHost][front]+":"+internalPort)
	replace("proxy_read_timeout 12s", fmt.Sprintf("proxy_read_timeout %ds", readTimeout))
	paths := "http {\n"
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		paths += kind + "_temp_path " + filepath.Join(dir, kind) + ";\n"
	}
	replace("http {\n", paths)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{
		path, "-p", dir, "-c", file, "-e", "stderr",
		"-g", "daemon off; master_process off; error_log stderr error; pid " + filepath.Join(dir, "pid") + ";",
	}
}

// internal returns the base URL of /internal of a node or, for nodeCount, of nginx.
func internal(node int) string {
	if node == nodeCount {
		return "http://" + addresses[nginxHost][front] + ":" + internalPort
	}
	return "http://" + addresses[nodeHost(node)][front] + ":" + internalPort
}

// post posts a JSON body, and returns the status and the fields of the answer. The status is
// 0 if there was no answer.
func (s *site) post(url string, body any) (status int, answer map[string]any) {
	return harness.PostJSON(s.http, url, body)
}

// publish publishes the next event of a publisher through a node. It reports whether the
// answer was 200.
func (s *site) publish(node, publisher, topic int) (*publication, bool) {
	number, p := s.record.publish(topic, publisher)
	status, answer := s.post(internal(node)+"/internal/publish", map[string]any{
		"topic": topicName(topic), "event": map[string]string{"name": "published", "data": strconv.Itoa(number)},
	})
	id, _ := answer["id"].(string)
	at, placed := s.record.position(id)
	if status != http.StatusOK {
		return p, false
	}
	if !placed {
		s.t.Errorf("publish was answered %v", answer)
		return p, false
	}
	p.at = at
	p.answered.Store(true)
	return p, true
}

// ready reports whether a node is ready.
func (s *site) ready(node int) bool {
	resp, err := s.http.Get("http://" + net.JoinHostPort(addresses[nodeHost(node)][front], publicPort) + "/readyz")
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

func (s *site) awaitReady(patience time.Duration) {
	s.t.Helper()
	for i := range nodeCount {
		if !within(patience, func() bool { return s.ready(i) }) {
			text, _ := os.ReadFile(s.nodes[i].log)
			s.t.Fatalf("node %d is not ready within %v\n%.5000s", i+1, patience, text)
		}
	}
}

// within waits until done returns true, and reports whether it did in time. It polls,
// because done depends on other processes.
func within(patience time.Duration, done func() bool) bool {
	timer, ticker := time.NewTimer(patience), time.NewTicker(20*time.Millisecond)
	defer timer.Stop()
	defer ticker.Stop()
	for !done() {
		select {
		case <-ticker.C:
		case <-timer.C:
			return done()
		}
	}
	return true
}
