package load

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"ssegateway/e2e/harness"
)

// plainProxyFor is the environment variable with the URL of an application. If it is set, this binary is a plain
// httputil.ReverseProxy in front of it instead of running tests.
const plainProxyFor = "LOAD_PLAIN_PROXY_FOR"

// servePlainProxy serves on the port of the environment.
func servePlainProxy() error {
	u, err := url.Parse(os.Getenv(plainProxyFor))
	if err != nil {
		return err
	}
	server := &http.Server{Addr: "127.0.0.1:" + os.Getenv("PORT"), ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" {
			return
		}
		proxy.ServeHTTP(w, r)
	})}
	proxy.Rewrite = func(p *httputil.ProxyRequest) { p.SetURL(u) }
	return server.ListenAndServe()
}

var proxy = httputil.ReverseProxy{FlushInterval: -1}

// streamer is an application of which each request gets a stream.
type streamer struct {
	net.Listener

	mu    sync.Mutex
	conns []net.Conn
}

func newStreamer(t *testing.T) *streamer {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := &streamer{Listener: l}
	t.Cleanup(func() { l.Close(); a.drop() })
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				in := bufio.NewReaderSize(nc, 1<<10)
				r, err := http.ReadRequest(in)
				if err != nil {
					nc.Close()
					return
				}
				_, _ = io.Copy(io.Discard, r.Body)
				if r.URL.Path == "/healthz" { // of a proxy's start
					_, _ = io.WriteString(nc, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
					nc.Close()
					return
				}
				_, _ = io.WriteString(nc, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
				a.mu.Lock()
				a.conns = append(a.conns, nc)
				a.mu.Unlock()
			}()
		}
	}()
	return a
}

// open waits until there are that many streams.
func (a *streamer) open(t *testing.T, n int) []net.Conn {
	t.Helper()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for begin := time.Now(); ; <-look.C {
		a.mu.Lock()
		conns := slices.Clone(a.conns)
		a.mu.Unlock()
		if len(conns) >= n {
			return conns
		}
		if time.Since(begin) > harness.Patience {
			t.Fatalf("only %d of %d streams", len(conns), n)
		}
	}
}

func (a *streamer) drop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, nc := range a.conns {
		nc.Close()
	}
	a.conns = nil
}

// tick writes an event to each stream, spread over a second.
func tick(conns []net.Conn) (events int) {
	const slots = 50
	text := "data: " + strings.Repeat("x", 90) + "\n\n"
	chunk := []byte(fmt.Sprintf("%x\r\n%s\r\n", len(text), text))
	clock := time.NewTicker(time.Second / slots)
	defer clock.Stop()
	for i := range slots {
		<-clock.C
		for _, nc := range conns[i*len(conns)/slots : (i+1)*len(conns)/slots] {
			if _, err := nc.Write(chunk); err == nil {
				events++
			}
		}
	}
	return events
}

// cpuOf returns the CPU time of all threads of a process that are there.
func cpuOf(t *testing.T, pid int) (total time.Duration) {
	t.Helper()
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // a thread that has ended
		}
		n, err := strconv.ParseInt(strings.Fields(string(text))[0], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		total += time.Duration(n)
	}
	return total
}

// TestRelay has many streams relayed, each with an event a second: by the gateway, by nginx without buffers, and by a
// plain httputil.ReverseProxy, in turn. Of each it takes the CPU time for an event, and the memory for a stream.
func TestRelay(t *testing.T) {
	a := newStreamer(t)
	relays := []struct {
		name  string
		start func() *harness.Process
	}{
		{"gateway", func() *harness.Process {
			return start(t, "RELAY_URL=http://"+a.Addr().String(), "RELAY_PATHS=/app", "HEARTBEAT_INTERVAL_SECONDS=3600").gateway
		}},
		{"nginx", func() *harness.Process {
			return harness.StartNginxAs(t, fmt.Sprintf("worker_connections %d;", 2**streams+200), func(port int) string {
				return fmt.Sprintf("server { listen 127.0.0.1:%d backlog=4096; location / { proxy_pass http://%s; proxy_http_version 1.1; proxy_buffering off; proxy_read_timeout 1h; } }", port, a.Addr())
			}).Process
		}},
		{"ReverseProxy", func() *harness.Process {
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			p, err := harness.Start(harness.Command{Args: []string{self}, Env: []string{plainProxyFor + "=http://" + a.Addr().String()}}, func(port int) harness.Endpoint { return harness.Local(port, nil) })
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(p.Kill)
			return p
		}},
	}
	cpu, memory := map[string][]time.Duration{}, map[string][]int64{}
	seconds := max(1, int(duration.Seconds()))
	rounds, settle := 1, 1
	if *strict {
		rounds, settle = 2, 5 // the gateway gives memory back when it has been calm for some seconds
	}
	for range rounds {
		for _, relay := range relays {
			p := relay.start()
			addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(p.Port))
			readers := []net.Conn{}
			read := func(n int) {
				for range n {
					nc := postFor(t, addr)
					readers = append(readers, nc)
				}
				a.open(t, len(readers))
			}
			const first = 100
			read(first)
			before := residentOf(t, p)
			read(*streams - first)
			conns := a.open(t, *streams)
			for range settle {
				tick(conns)
			}
			memory[relay.name] = append(memory[relay.name], (residentOf(t, p)-before)/int64(*streams-first))
			used, events := cpuOf(t, p.Pid()), 0
			for range seconds {
				events += tick(conns)
			}
			if want := seconds * *streams; events != want && relay.name != "ReverseProxy" { // of which some streams break off
				t.Errorf("%s: %d events, want %d", relay.name, events, want)
			}
			cpu[relay.name] = append(cpu[relay.name], (cpuOf(t, p.Pid())-used)/time.Duration(events))
			for _, nc := range readers {
				nc.Close()
			}
			a.drop()
			p.Kill()
		}
	}
	best := func(name string) (time.Duration, int64) { return slices.Min(cpu[name]), slices.Min(memory[name]) }
	ours, bytes := best("gateway")
	nginx, nginxBytes := best("nginx")
	plain, plainBytes := best("ReverseProxy")
	harness.Figure(t, "%d relayed streams at an event a second: CPU for an event %v, nginx %v (bound twice that), httputil.ReverseProxy %v; memory for a stream %d bytes, nginx %d, httputil.ReverseProxy %d (bound a third)",
		*streams, ours, nginx, plain, bytes, nginxBytes, plainBytes)
	t.Logf("CPU %v, memory %v", cpu, memory)
	if *strict && ours > 2*nginx {
		t.Errorf("an event costs %v, and nginx %v", ours, nginx)
	}
	if *strict && 3*bytes > plainBytes {
		t.Errorf("a stream takes %d bytes, and a plain proxy's %d", bytes, plainBytes)
	}
}

// postFor sends a question, and has the answer read in the background. It returns when the head has come.
func postFor(t *testing.T, addr string) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(nc, "POST /app/chat HTTP/1.1\r\nHost: app.example\r\nAccept: text/event-stream\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{\"question\":\"?\"}")
	in := bufio.NewReaderSize(nc, 512)
	head := make(chan string, 1)
	go func() {
		line, _ := in.ReadString('\n')
		head <- line
		_, _ = io.Copy(io.Discard, nc)
	}()
	select {
	case line := <-head:
		if !strings.Contains(line, " 200 ") {
			t.Fatalf("answered %q", line)
		}
	case <-time.After(harness.Patience):
		t.Fatal("no answer")
	}
	return nc
}

func residentOf(t *testing.T, p *harness.Process) int64 {
	t.Helper()
	n, err := p.Memory("VmRSS")
	if err != nil {
		t.Fatal(err)
	}
	return n
}
