package load

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ssegateway/e2e/harness"
)

var (
	program     = flag.String("gateway", "", "the binary to measure; built from the sources if empty")
	streams     = flag.Int("streams", 400, "streams of a test")
	connections = flag.Int("connections", 4000, "how many connections come and go in TestManyConnections")
	duration    = flag.Duration("duration", 2*time.Second, "how long a measurement takes")
	flat        = flag.Duration("flat", time.Second, "from when on TestSoak wants flat memory")
	rate        = flag.Int("rate", 50, "events a second of TestRelayedFanout")
	strict      = flag.Bool("strict", false, "also assert what depends on the machine and on the number of streams")
)

// readersAt is the environment variable with the address of a gateway. If it is set, this
// binary reads streams from there instead of running tests, so that the readers' CPU time
// counts for another process.
const readersAt = "LOAD_READERS_AT"

func TestMain(m *testing.M) {
	if addr := os.Getenv(readersAt); addr != "" {
		if err := readAll(addr, os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if addr := os.Getenv(timedAt); addr != "" {
		if err := readTimed(addr, os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if os.Getenv(plainProxyFor) != "" {
		if err := servePlainProxy(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	flag.Parse()
	os.Exit(harness.Main(m, build))
}

// build builds the binary as users get it, without the race detector, which would need the
// memory that is measured.
func build(dir string) error {
	if *program != "" {
		return nil
	}
	*program = filepath.Join(dir, "ssegateway")
	if out, err := exec.Command("go", "build", "-o", *program, "ssegateway/cmd/ssegateway").CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

// site is a gateway process with its backend.
type site struct {
	t       *testing.T
	gateway *harness.Process
	backend *backend
	addr    string
	http    *http.Client
}

func start(t *testing.T, env ...string) *site {
	t.Helper()
	return startAs(t, nil, env...)
}

// startAs is start, by a command that runs its arguments.
func startAs(t *testing.T, command []string, env ...string) *site {
	t.Helper()
	s := &site{t: t, backend: newBackend(t)}
	var err error
	env = append([]string{"CALLBACK_URL=http://" + s.backend.addr + "/callback", "LOG_LEVEL=warn"}, env...)
	s.gateway, err = harness.Start(harness.Command{Args: append(command, *program), Env: env}, func(port int) harness.Endpoint {
		return harness.Endpoint{Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port))}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.gateway.Kill)
	s.addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(s.gateway.Port))
	s.http = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}, Timeout: 30 * time.Second}
	t.Cleanup(s.http.CloseIdleConnections)
	return s
}

// residentBytes returns the gateway's resident memory.
func (s *site) residentBytes() int64 {
	s.t.Helper()
	n, err := s.gateway.Memory("VmRSS")
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

// kernelTCPBytes returns the kernel memory of all TCP sockets of the machine.
func kernelTCPBytes(t *testing.T) int64 {
	b, err := os.ReadFile("/proc/net/sockstat")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); f[0] == "TCP:" {
			pages, err := strconv.ParseInt(f[len(f)-1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return pages * int64(os.Getpagesize())
		}
	}
	return 0
}

// metric returns the value of one sample of /metrics.
func (s *site) metric(name string) float64 {
	s.t.Helper()
	for line := range strings.Lines(s.get("/metrics")) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			if err != nil {
				s.t.Fatal(err)
			}
			return v
		}
	}
	s.t.Fatalf("no metric %s", name)
	return 0
}

// get returns the body of an answer of the gateway.
func (s *site) get(target string) string {
	s.t.Helper()
	resp, err := s.http.Get("http://" + s.addr + target)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		s.t.Fatal(target, resp.Status, err)
	}
	return string(text)
}

// client is an open stream. Its head was read.
type client struct {
	conn  net.Conn
	rest  *bufio.Reader
	token string
}

// request returns a request with 200 bytes of headers, like a simple browser's.
func request(host string, n int) []byte { return requestOf("/stream", host, n) }

// requestOf is request with another beginning of its path.
func requestOf(path, host string, n int) []byte {
	head := fmt.Sprintf("GET %s/%d HTTP/1.1\r\n", path, n)
	headers := "Host: " + host + "\r\nAccept: text/event-stream\r\nX-Client: " + strconv.Itoa(n) + "\r\nUser-Agent: "
	headers += strings.Repeat("u", 200-len(headers)-len("\r\n")) + "\r\n"
	return []byte(head + headers + "\r\n")
}

// open opens n streams, a few at a time. receiveBuffer is the size of their receive buffers; 0 is the system's choice.
func (s *site) open(n, receiveBuffer int) []*client {
	s.t.Helper()
	clients := make([]*client, n)
	var next atomic.Int64
	var failed atomic.Pointer[error] // not atomic.Value: the errors have different types
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n || failed.Load() != nil {
					return
				}
				c, err := s.openOne(i, receiveBuffer)
				if err != nil {
					failed.Store(&err)
					return
				}
				clients[i] = c
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		s.t.Fatal(*err)
	}
	s.t.Cleanup(func() {
		for _, c := range clients {
			c.conn.Close()
		}
	})
	// Only the backend knows the tokens.
	for i, c := range clients {
		c.token = s.backend.token(i)
	}
	s.backend.forget()
	return clients
}

func (s *site) openOne(i, receiveBuffer int) (*client, error) {
	e := harness.Endpoint{Addr: s.addr}
	conn, err := e.Dial(s.t.Context(), receiveBuffer, "")
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(request(s.addr, i)); err != nil {
		return nil, err
	}
	// The reader is small, because there are many.
	c := &client{conn: conn, rest: bufio.NewReaderSize(conn, 512)}
	for first := true; ; first = false {
		line, err := c.rest.ReadSlice('\n')
		if err != nil {
			return nil, fmt.Errorf("head of stream %d: %w", i, err)
		}
		if first && !bytes.HasPrefix(line, []byte("HTTP/1.1 200 ")) {
			return nil, fmt.Errorf("stream %d: %s", i, line)
		}
		if len(line) == 2 {
			return c, nil
		}
	}
}

// send posts one event.
func (s *site) send(token, data string) (status int, err error) {
	body, err := json.Marshal(map[string]any{"token": token, "event": map[string]string{"data": data}})
	if err != nil {
		return 0, err
	}
	resp, err := s.http.Post("http://"+s.addr+"/internal/send", "application/json", bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// backend answers callbacks, and counts them.
type backend struct {
	addr string

	topic    string // granted to every connection, if not empty
	overflow string // policy for full queues; disconnect if empty

	mu          sync.Mutex
	accepted    int            // connects
	tokens      map[int]string // by X-Client, of the connects since the last forget
	disconnects map[string]int // by token
	reasons     map[string]int // by reason and detail
	last        time.Time      // when the last disconnect was told
}

func newBackend(t *testing.T) *backend {
	b := &backend{tokens: map[int]string{}, disconnects: map[string]int{}, reasons: map[string]int{}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b.addr = l.Addr().String()
	server := &http.Server{Handler: b, ReadHeaderTimeout: 10 * time.Second}
	go server.Serve(l) //nolint:errcheck // ends by Close
	t.Cleanup(func() { server.Close() })
	return b
}

func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var call struct {
		Action, Token, Reason, Detail string
		Request                       struct {
			URL     string
			Headers map[string]string
		}
	}
	if err := json.NewDecoder(r.Body).Decode(&call); err != nil {
		panic(err)
	}
	if call.Action == "connect" {
		if strings.HasPrefix(call.Request.URL, "/refused") {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		n, err := strconv.Atoi(call.Request.Headers["x-client"])
		if err != nil {
			panic(err)
		}
		b.mu.Lock()
		b.tokens[n] = call.Token
		b.accepted++
		b.mu.Unlock()
		if b.topic != "" {
			_ = json.NewEncoder(w).Encode(map[string]any{"topics": []string{b.topic}, "overflow": cmp.Or(b.overflow, "disconnect")})
		}
		return
	}
	b.mu.Lock()
	b.disconnects[call.Token]++
	b.last = time.Now()
	b.reasons[strings.TrimSuffix(call.Reason+"/"+call.Detail, "/")]++
	b.mu.Unlock()
}

func (b *backend) token(n int) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.tokens[n]
}

func (b *backend) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tokens = map[int]string{}
}

// told returns how many tokens have a reported disconnect, and the number of disconnects by reason.
func (b *backend) told() (tokens int, reasons map[string]int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	reasons = map[string]int{}
	for r, n := range b.reasons {
		reasons[r] = n
	}
	return len(b.disconnects), reasons
}

// asked returns how many connects were accepted.
func (b *backend) asked() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.accepted
}

// timesTold returns how often the end of a token was told.
func (b *backend) timesTold(token string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.disconnects[token]
}

// lastTold returns when the last disconnect was told.
func (b *backend) lastTold() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.last
}

// await waits until ready returns true, and returns how long that took. It polls, because
// ready depends on another process.
func await(t *testing.T, patience time.Duration, what string, ready func() bool) time.Duration {
	t.Helper()
	begin := time.Now()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !ready() {
		if time.Since(begin) > patience {
			t.Fatalf("%s: not within %v", what, patience)
		}
		<-ticker.C
	}
	return time.Since(begin)
}
