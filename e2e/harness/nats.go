package harness

import (
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// BuildNATS builds nats-server, of the version that go.mod names.
func BuildNATS(path string) error {
	if out, err := exec.Command("go", "build", "-o", path, "github.com/nats-io/nats-server/v2").CombinedOutput(); err != nil {
		return fmt.Errorf("building nats-server: %w\n%s", err, out)
	}
	return nil
}

// NATS is a NATS server with JetStream in a process of its own. There it can be killed, and the race
// detector of the test does not watch it: the server's own code has races that harm nobody.
type NATS struct {
	t       testing.TB
	args    []string
	port    int
	process *exec.Cmd
}

// StartNATS builds a NATS server and starts it. The end of the test kills it.
func StartNATS(t testing.TB) *NATS {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "nats-server")
	if err := BuildNATS(binary); err != nil {
		t.Fatal(err)
	}
	port, err := FreePort()
	if err != nil {
		t.Fatal(err)
	}
	n := &NATS{t: t, port: port}
	n.args = []string{binary, "--addr", "127.0.0.1", "--port", strconv.Itoa(port), "--jetstream", "--store_dir", t.TempDir()}
	t.Cleanup(n.Kill)
	n.Start()
	return n
}

// URL is where clients find it, the same after each Start.
func (n *NATS) URL() string { return fmt.Sprintf("nats://127.0.0.1:%d", n.port) }

// Start starts it again after Kill, with what it stored, and returns when it takes connections.
func (n *NATS) Start() {
	n.t.Helper()
	n.process = exec.Command(n.args[0], n.args[1:]...)
	if err := n.process.Start(); err != nil {
		n.t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); ; {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", n.port))
		if err == nil {
			_ = conn.Close()
			return
		}
		if time.Now().After(end) {
			n.t.Fatal(err)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// Kill ends it at once, as a power cut would.
func (n *NATS) Kill() {
	_ = n.process.Process.Kill()
	_ = n.process.Wait()
}
