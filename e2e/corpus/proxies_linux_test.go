package corpus

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ssegateway/e2e/harness"
)

// idField is a field that each proxy sets anew, with another value for each request that it passes on. So a request without
// it, or with that of another one, is one that the proxy does not know of.
const idField = "x-proxy-id"

// lastTime bounds how long a client waits for its own answers, behind those of a neighbour.
const lastTime = 50 * time.Millisecond

// fronts are configurations that keep one connection to each listener, and use it for all clients. They say where they listen for
// the public listener and for that of /internal, and where these are.
var fronts = map[string]struct {
	config  func(front, gateway [2]string, dir string) string
	command func(file, dir string) []string
}{
	"nginx": {
		config: func(front, gateway [2]string, dir string) string {
			text := "worker_processes 1;\nevents {}\nhttp {\naccess_log off;\nkeepalive_requests 100000;\nlarge_client_header_buffers 4 256k;\n"
			for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
				text += fmt.Sprintf("%s_temp_path %s;\n", kind, filepath.Join(dir, kind))
			}
			for i := range front {
				text += fmt.Sprintf("upstream gateway%d { server %s; keepalive 1; }\n"+
					"server { listen %s; location / { proxy_pass http://gateway%d; proxy_http_version 1.1; proxy_set_header Connection \"\"; "+
					"proxy_set_header Host localhost; proxy_set_header %s $request_id; proxy_next_upstream off; } }\n", i, gateway[i], front[i], i, idField)
			}
			return text + "}\n"
		},
		command: func(file, dir string) []string {
			return []string{"nginx", "-p", dir, "-c", file, "-e", "stderr", "-g", "daemon off; master_process off; error_log stderr crit; pid " + filepath.Join(dir, "pid") + ";"}
		},
	},
	"haproxy": {
		config: func(front, gateway [2]string, _ string) string {
			text := "global\n nbthread 1\ndefaults\n mode http\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n http-reuse always\n retries 0\n"
			for i := range front {
				text += fmt.Sprintf("frontend f%d\n bind %s\n http-request set-header %s %%[uuid()]\n http-request set-header host localhost\n default_backend b%d\n"+
					"backend b%d\n server s %s pool-max-conn 1\n", i, front[i], idField, i, i, gateway[i])
			}
			return text
		},
		command: func(file, _ string) []string { return []string{"haproxy", "-db", "-f", file} },
	},
	"caddy": {
		config: func(front, gateway [2]string, _ string) string {
			text := "{\nadmin off\nauto_https off\n}\n"
			for i := range front {
				text += fmt.Sprintf("http://%s {\nreverse_proxy %s {\nheader_up Host localhost\nheader_up %s {http.request.uuid}\n"+
					"transport http {\nkeepalive_idle_conns_per_host 1\n}\n}\n}\n", front[i][strings.IndexByte(front[i], ':'):], gateway[i], idField)
			}
			return text
		},
		command: func(file, _ string) []string {
			return []string{"caddy", "run", "--adapter", "caddyfile", "--config", file}
		},
	},
}

// startFront runs a proxy in front of both listeners until the end of the test. It returns where it listens.
func startFront(t *testing.T, name string, gateway [2]string) (front [2]string) {
	t.Helper()
	dir := t.TempDir()
	for i := range front {
		port, err := harness.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		front[i] = "127.0.0.1:" + strconv.Itoa(port)
	}
	file := filepath.Join(dir, "config")
	if err := os.WriteFile(file, []byte(fronts[name].config(front, gateway, dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	command := fronts[name].command(file, dir)
	for _, where := range []string{"/usr/sbin/", "/usr/bin/"} {
		if _, err := os.Stat(where + command[0]); err == nil {
			command[0] = where + command[0]
			break
		}
	}
	p, err := harness.Run(harness.Command{Args: command, Dir: dir, Env: []string{"XDG_DATA_HOME=" + dir, "XDG_CONFIG_HOME=" + dir}})
	if err != nil {
		t.Fatalf("%v: `make test-deps` installs it", err)
	}
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("log of %s:\n%.3000s", name, p.Log.Text())
		}
	})
	for _, addr := range front {
		if err := p.AwaitHealth(harness.Endpoint{Addr: addr}); err != nil {
			t.Fatalf("%v\n%s", err, p.Log.Text())
		}
	}
	return front
}

// mark is a request whose answer is its own, at the public listener and at that of /internal.
func mark(listener string, n int) (raw, answer string) {
	if listener == "internal" {
		return get("/internal/retained?topic=mark." + strconv.Itoa(n)), strconv.Itoa(n)
	}
	return get("/mark/" + strconv.Itoa(n)), strconv.Itoa(n)
}

// retain publishes what the marks of /internal ask for.
func (s *site) retain(t *testing.T, n int) {
	t.Helper()
	var operations []map[string]any
	for i := range n {
		operations = append(operations, map[string]any{"topic": "mark." + strconv.Itoa(i), "event": map[string]any{"data": "x"}, "retain": true})
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	if status, answer := harness.PostJSON(client, "http://"+s.addrs["internal"]+"/internal/batch", map[string]any{"operations": operations}); status != http.StatusOK {
		t.Fatal(status, answer)
	}
}

var marked = regexp.MustCompile(`"topic":"mark\.([0-9]+)"|url="/mark/([0-9]+)"`)

// identity is whose answer this is; "" if it is no mark's.
func identity(resp *http.Response, body []byte) string {
	m := marked.FindSubmatch(append([]byte(resp.Header.Get("Www-Authenticate")), body...))
	if m == nil {
		return ""
	}
	return string(m[1]) + string(m[2])
}

// asked tells a mark's client its own URL, in a field of the backend's that the gateway passes on.
func asked(c *harness.Callback) harness.Answer {
	if strings.HasPrefix(c.URL, "/mark/") {
		return harness.Answer{Status: http.StatusUnauthorized, Header: http.Header{"Www-Authenticate": {`X url="` + c.URL + `"`}}}
	}
	return harness.Answer{Status: http.StatusForbidden}
}

// TestThroughProxies: behind each request of the corpus, on its connection and on a stranger's that shares the proxy's, everybody
// gets the answer to the own request, and nobody asks for what the proxy does not know of.
func TestThroughProxies(t *testing.T) {
	total := 0
	var mu sync.Mutex
	t.Run("fronts", func(t *testing.T) {
		for _, name := range []string{"nginx", "haproxy", "caddy"} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := start(t)
				s.Backend.On("", harness.Script{Connect: asked})
				s.retain(t, 2*count()+2)
				addrs := startFront(t, name, [2]string{s.addrs["public"], s.addrs["internal"]})
				var wg sync.WaitGroup
				var own atomic.Int64
				for i, listener := range listeners {
					wg.Go(func() {
						n := 0
						for _, sub := range subjects {
							for _, a := range sub.attempts {
								n++
								kept, problem := through(addrs[i], listener, a, 2*n)
								if problem != "" {
									t.Errorf("%s: %s at the %s listener: %s", sub.name, a.name, listener, problem)
								}
								if kept {
									own.Add(1)
								}
							}
						}
						mu.Lock()
						total += n
						mu.Unlock()
					})
				}
				wg.Wait()
				s.wantKnown(t)
				// Behind the others the proxy has closed, or waits for more.
				t.Logf("%d marks were answered on the connection of their case", own.Load())
				if own.Load() < int64(count()/5) {
					t.Errorf("%d marks were answered on the connection of their case, want %d at least", own.Load(), count()/5)
				}
			})
		}
	})
	if !t.Failed() {
		harness.Figure(t, "%d requests of HTTP/1, 4 ways, 0 desynchronisations (%d times through nginx, HAProxy and Caddy)", count(), total)
	}
}

// through sends a case to a proxy, with a mark behind it, and other clients' marks beside and behind that. It returns whether the case's
// own mark was answered, and what was wrong.
func through(addr, listener string, a attempt, n int) (answered bool, problem string) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return false, err.Error()
	}
	_ = conn.SetDeadline(time.Now().Add(harness.Patience))
	own, ownAnswer := mark(listener, n)
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = io.WriteString(conn, a.raw+own)
	}()
	defer func() { conn.Close(); <-sent }()

	stranger, want := mark(listener, n+1)
	if got, err := askOnce(addr, stranger); got != want {
		return false, fmt.Sprintf("beside it a stranger got %q (%v), want %q", got, err, want)
	}
	r := newReader(conn, a.raw+own)
	_ = conn.SetReadDeadline(time.Now().Add(lastTime))
	for !answered {
		resp, err := http.ReadResponse(r.b, &http.Request{Method: r.method()}) //nolint:bodyclose // the connection is
		if err != nil {
			break // the proxy waits for more of the request, or has closed
		}
		body, err := io.ReadAll(resp.Body)
		if got := identity(resp, body); got != "" && got != ownAnswer {
			return false, fmt.Sprintf("its mark got the answer %q, want %q", got, ownAnswer)
		} else if answered = got != ""; err != nil {
			break
		}
	}
	if got, err := askOnce(addr, stranger); got != want {
		return answered, fmt.Sprintf("behind it a stranger got %q (%v), want %q", got, err, want)
	}
	return answered, ""
}

// askOnce makes a request on a connection of its own, and returns whose answer came.
func askOnce(addr, raw string) (string, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(harness.Patience))
	if _, err := io.WriteString(conn, raw); err != nil {
		return "", err
	}
	resp, err := http.ReadResponse(newReader(conn, "").b, nil)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if got := identity(resp, body); got != "" || err != nil {
		return got, err
	}
	return fmt.Sprintf("%d %.200q", resp.StatusCode, bytes.TrimSpace(body)), nil
}

var oneID = regexp.MustCompile(`^[0-9a-fA-F-]{32,36}$`)

// wantKnown requires that the proxy knows of each request that the backend was asked about.
func (s *site) wantKnown(t *testing.T) {
	t.Helper()
	var ids []string
	for _, c := range s.Backend.Calls(func(c *harness.Callback) bool { return c.Action == "connect" }) {
		id := c.Headers[idField]
		if !oneID.MatchString(id) || slices.Contains(ids, id) {
			t.Errorf("the backend was asked about %.200q with the headers %.300q: the proxy did not pass that on as a request", c.URL, c.Headers)
		}
		ids = append(ids, id)
	}
	t.Logf("the backend was asked about %d requests", len(ids))
	if len(ids) < count() {
		t.Errorf("the backend was asked about %d requests, want each stranger's at least", len(ids))
	}
}
