package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

// server is the server that is measured.
type server struct {
	requests
	pids    []int
	backend *backend     // answers its callbacks; nil: it has none
	stop    func() error // stops it, if it was started here
}

// startServer starts the gateway with a backend of its own, or returns the server that
// the options name.
func startServer(ctx context.Context, o *Options, scenario string, streams int) (s *server, err error) {
	answer := "{}"
	if common(scenario) && publishes(scenario) || scenario == "mixed" {
		answer = `{"topics":["` + commonChannel + `"]}`
	}
	if !o.starts() {
		s = &server{requests: o.profile(o.Server, o.publishBase()), pids: o.PIDs, stop: func() error { return nil }}
		if o.Backend != "" {
			l, err := net.Listen("tcp", o.Backend)
			if err != nil {
				return nil, fmt.Errorf("--backend: %w", err)
			}
			s.backend = startBackend(l, streams, answer)
		}
		return s, nil
	}
	l, err := listenOutside()
	if err != nil {
		return nil, err
	}
	b := startBackend(l, streams, answer)
	// Another process can take the port between its choice and its use.
	for attempt := 1; ; attempt++ {
		s, err := startGateway(ctx, o, scenario, b)
		if err == nil {
			return s, nil
		}
		if attempt == 3 || ctx.Err() != nil {
			b.close()
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
	if hasBeats(scenario) {
		args = append(args, "--heartbeat-interval-seconds="+strconv.Itoa(o.Heartbeat))
	}
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
		_ = cmd.Process.Kill() // it may have ended
		return nil, fmt.Errorf("the gateway did not start: %w\n%s", err, log.String())
	}
	s := &server{requests: o.profile(base, ""), pids: []int{cmd.Process.Pid}, backend: b}
	s.stop = func() error {
		_ = cmd.Process.Signal(syscall.SIGTERM) // if it has ended, Wait returns why
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

// ready waits until the URL is answered 200.
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

// listenOutside listens on a port outside the range of outgoing connections.
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
