package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// server is what is measured.
type server struct {
	url, publishURL, publishBody string // templates
	pids                         []int
	token                        func(stream int) string // for {token}
	stop                         func() error
}

// startServer starts the gateway with a backend of our own, or takes the server
// that the options name.
func startServer(ctx context.Context, o *Options, scenario string) (*server, error) {
	if o.URL != "" {
		return &server{
			url: o.URL, publishURL: o.PublishURL, publishBody: o.PublishBody, pids: o.PIDs,
			token: func(int) string { return "" }, stop: func() error { return nil },
		}, nil
	}
	answer := "{}"
	if scenario == "fanout" {
		answer = `{"topics":["bench"]}`
	}
	b, err := startBackend(o.Streams, answer)
	if err != nil {
		return nil, err
	}
	// A port can be lost between choice and use.
	for attempt := 1; ; attempt++ {
		s, err := startGateway(ctx, o, scenario, b)
		if err == nil {
			return s, nil
		}
		if attempt == 3 || ctx.Err() != nil {
			b.server.Close() //nolint:errcheck // the error that matters is there
			return nil, err
		}
	}
}

func startGateway(ctx context.Context, o *Options, scenario string, b *backend) (*server, error) {
	l, err := listenOutside()
	if err != nil {
		return nil, err
	}
	port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	if err := l.Close(); err != nil {
		return nil, err
	}
	args := append(o.Gateway[1:len(o.Gateway):len(o.Gateway)],
		"--port="+port, "--callback-url=http://"+b.addr+"/", "--log-level=error")
	cmd := exec.Command(o.Gateway[0], args...) // stopped by a signal, so that it drains
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	base := "http://127.0.0.1:" + port
	if err := ready(ctx, base+"/readyz", exited); err != nil {
		_ = cmd.Process.Kill() // it may be gone
		return nil, fmt.Errorf("the gateway did not start: %w\n%s", err, log.String())
	}
	s := &server{url: base + "/bench/{n}", pids: []int{cmd.Process.Pid}, token: b.token}
	if scenario == "fanout" {
		s.publishURL, s.publishBody = base+"/internal/publish", `{"topic":"bench","event":{"data":"{data}"}}`
	} else {
		s.publishURL, s.publishBody = base+"/internal/send", `{"token":"{token}","event":{"data":"{data}"}}`
	}
	s.stop = func() error {
		defer b.server.Close()                  //nolint:errcheck // it has nothing more to say
		_ = cmd.Process.Signal(syscall.SIGTERM) // if it is gone, Wait says why
		select {
		case err := <-exited:
			if err != nil {
				return fmt.Errorf("the gateway: %w\n%s", err, log.String())
			}
			return nil
		case <-time.After(patience):
			_ = cmd.Process.Kill()
			err := <-exited
			return fmt.Errorf("the gateway did not end within %v: %w\n%s", patience, err, log.String())
		}
	}
	return s, nil
}

// ready waits for the answer 200.
func ready(ctx context.Context, url string, exited chan error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			return err
		}
		if resp, err := client.Do(req); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case err := <-exited:
			return fmt.Errorf("it exited: %w", err)
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}

// backend answers callbacks, and knows the token of each stream.
type backend struct {
	addr   string
	server *http.Server
	answer string

	mu     sync.Mutex
	tokens []string
}

func startBackend(streams int, answer string) (*backend, error) {
	l, err := listenOutside()
	if err != nil {
		return nil, err
	}
	b := &backend{addr: l.Addr().String(), answer: answer, tokens: make([]string, streams)}
	b.server = &http.Server{Handler: b, ReadHeaderTimeout: patience}
	go b.server.Serve(l) //nolint:errcheck // ends by Close
	return b, nil
}

func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var call struct {
		Action, Token string
		Request       struct{ URL string }
	}
	if err := json.NewDecoder(r.Body).Decode(&call); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if call.Action != "connect" {
		return
	}
	n, err := strconv.Atoi(strings.TrimPrefix(call.Request.URL, "/bench/"))
	if err != nil || n < 0 || n >= len(b.tokens) {
		http.Error(w, "no stream of this run", http.StatusForbidden)
		return
	}
	b.mu.Lock()
	b.tokens[n] = call.Token
	b.mu.Unlock()
	_, _ = w.Write([]byte(b.answer)) // a gateway that is gone shows elsewhere
}

func (b *backend) token(stream int) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.tokens[stream]
}

// listenOutside listens on a port of this host that no outgoing connection takes.
func listenOutside() (net.Listener, error) {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return nil, err
	}
	var low, high int
	if _, err := fmt.Sscan(string(text), &low, &high); err != nil {
		return nil, fmt.Errorf("ip_local_port_range: %w", err)
	}
	from, to := 11_000, low
	if low <= from {
		from, to = high+1, 65_536
	}
	if from >= to {
		return nil, errors.New("ip_local_port_range leaves no port outside")
	}
	for range 100 {
		l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(from+rand.IntN(to-from)))
		if err == nil {
			return l, nil
		}
	}
	return nil, errors.New("found no free port")
}
