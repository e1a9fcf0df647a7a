package process

import (
	"bufio"
	"fmt"
	"net"
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

// manager is what systemd is to a service: it gets its notifications, and has its socket.
type manager struct {
	t       *testing.T
	notices chan string
	env     []string
	socket  *os.File
	port    int
}

func newManager(t *testing.T) *manager {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	m := &manager{t: t, notices: make(chan string, 1000), env: []string{"NOTIFY_SOCKET=" + path}}
	over := make(chan struct{})
	go func() {
		defer close(over)
		for b := make([]byte, 4<<10); ; {
			n, err := notify.Read(b)
			if err != nil {
				return
			}
			m.notices <- string(b[:n])
		}
	}()
	t.Cleanup(func() {
		_ = notify.Close()
		<-over
	})
	var lc net.ListenConfig
	lc.SetMultipathTCP(false) // as systemd's sockets are
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m.port = l.Addr().(*net.TCPAddr).Port
	if m.socket, err = l.(*net.TCPListener).File(); err != nil {
		t.Fatal(err)
	}
	_ = l.Close() // the file is a copy, which goes on listening
	t.Cleanup(func() { _ = m.socket.Close() })
	return m
}

// command returns the program as systemd runs it, with its socket so many times.
func (m *manager) command(sockets int, settings ...string) *exec.Cmd {
	// LISTEN_PID has to be the number of the process that serves.
	cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0"`, binary)
	cmd.Env = append(append([]string{"HEARTBEAT_INTERVAL_SECONDS=1", fmt.Sprintf("LISTEN_FDS=%d", sockets)}, m.env...), settings...)
	for range sockets {
		cmd.ExtraFiles = append(cmd.ExtraFiles, m.socket)
	}
	return cmd
}

// start starts the program as systemd does. It does not wait for it to serve.
func (m *manager) start(settings ...string) (*exec.Cmd, <-chan error) {
	m.t.Helper()
	cmd := m.command(1, settings...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	m.t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd, exited
}

// await waits for a notification with these words.
func (m *manager) await(words string) {
	m.t.Helper()
	for end := time.After(harness.Patience); ; {
		select {
		case notice := <-m.notices:
			if strings.Contains(notice, words) {
				return
			}
		case <-end:
			m.t.Fatalf("no notification %s", words)
		}
	}
}

// systemd learns when the gateway serves, that it is not stuck, and when it stops. A restart refuses
// nobody, since the socket is systemd's: a client that comes meanwhile is served afterwards.
func TestSystemd(t *testing.T) {
	backend, err := harness.NewBackend()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(backend.Close)
	m := newManager(t)
	settings := []string{"PORT=" + strconv.Itoa(m.port), "CALLBACK_URL=" + backend.URL("/callback"), "WATCHDOG_USEC=300000"}
	first, exited := m.start(settings...)
	m.await("READY=1")
	for range 3 {
		m.await("WATCHDOG=1")
	}
	url := fmt.Sprintf("http://127.0.0.1:%d", m.port)
	openStream(t, url)
	if err := first.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	m.await("STOPPING=1")
	if err := <-exited; err != nil {
		t.Fatal(err)
	}
	waiting, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatalf("refused while the gateway restarts: %v", err)
	}
	defer waiting.Close()
	_ = waiting.SetDeadline(time.Now().Add(harness.Patience))
	if _, err := fmt.Fprint(waiting, "GET /events HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	second, exited := m.start(settings...)
	m.await("READY=1")
	resp, err := http.ReadResponse(bufio.NewReader(waiting), nil) //nolint:bodyclose // that would wait for the stream's end
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("the client that waited: %v, %v", resp, err)
	}
	_ = waiting.Close()
	if err := second.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-exited; err != nil {
		t.Error(err)
	}
}

func openStream(t *testing.T, url string) {
	t.Helper()
	resp, err := http.Get(url + "/events")
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp, err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
}

// The unit that is shipped gives the service little that it does not need: below 2 of 10.
func TestUnitIsHardened(t *testing.T) {
	out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--threshold=19", "../../deploy/systemd/ssegateway.service").CombinedOutput() //nolint:misspell // a program
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// A socket that does not fit is an error that says what to change.
func TestWrongSocket(t *testing.T) {
	for _, test := range []struct {
		name    string
		sockets int
		port    int
		want    string
	}{
		{"another port", 1, 1, "make them the same"},
		{"two sockets", 2, 0, "systemd passes 2 sockets"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newManager(t)
			port := m.port
			if test.port != 0 {
				port = test.port
			}
			out, err := m.command(test.sockets, "PORT="+strconv.Itoa(port)).CombinedOutput()
			if err == nil || !strings.Contains(string(out), test.want) {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

// A port that is taken is named by its setting.
func TestPortTaken(t *testing.T) {
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	if out, ok := command([]string{"PORT=" + taken}); ok || !strings.Contains(out, "PORT: ") || !strings.Contains(out, "address already in use") {
		t.Errorf("%t: %s", ok, out)
	}
	free, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	if out, ok := command([]string{"PORT=" + strconv.Itoa(free), "INTERNAL_ADDR=:" + taken}); ok || !strings.Contains(out, "INTERNAL_ADDR: ") {
		t.Errorf("%t: %s", ok, out)
	}
}
