package contract

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"ssegateway/e2e/harness"
)

// T is a running case on one kind.
type T struct {
	*testing.T
	kind   kind
	shared *sharedSite
	exact  bool // see contractCase
}

// http1 reports whether the kind speaks HTTP/1.1.
func (t *T) http1() bool {
	return t.kind.Protocol == harness.HTTP1 || t.kind.Protocol == harness.HTTP1TLS
}

// Site is a running gateway with its backend, as used by one case.
type Site struct {
	t        *T
	gw       *harness.Process
	backend  *harness.Backend
	endpoint harness.Endpoint
	client   *http.Client // of the backend, for requests to the gateway
	wantExit int          // the exit code when it is stopped; -1: any

	signalled bool // the case has already asked the gateway to end
}

// quietHeartbeat makes heartbeats so rare that they do not disturb other cases.
const quietHeartbeat = "HEARTBEAT_INTERVAL_SECONDS=3600"

// run starts a gateway, and waits until it serves. settings are NAME=value, or only NAME for
// a variable that must not be set.
func (k kind) run(settings []string, backend *harness.Backend) (*harness.Process, error) {
	starts <- struct{}{}
	defer func() { <-starts }()
	p, err := harness.Start(harness.Command{Args: k.Command, Env: k.environment(settings, backend)}, k.endpoint)
	if err != nil {
		return nil, err
	}
	if err := k.awaitStarted(p); err != nil {
		p.Kill()
		return nil, err
	}
	return p, nil
}

// awaitStarted waits until /readyz no longer says that the gateway is starting, which it may for a moment after /healthz
// is answered. Whether it is ready then is for the cases to say.
func (k kind) awaitStarted(p *harness.Process) error {
	e := k.endpoint(p.Port)
	client := e.Client()
	defer client.CloseIdleConnections()
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for begin := time.Now(); time.Since(begin) < patience; <-poll.C {
		resp, err := client.Get(e.Scheme() + "://" + e.Addr + "/readyz")
		if err != nil {
			return err
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !bytes.Contains(body, []byte(`"starting"`)) {
			return err
		}
	}
	return errors.New("the gateway is starting for ever")
}

func (k kind) environment(settings []string, backend *harness.Backend) []string {
	env := append([]string{quietHeartbeat, "LOG_LEVEL=debug"}, k.Settings...)
	if backend != nil {
		env = append(env, "CALLBACK_URL="+backend.URL("/callback?key="+canaryCallback))
		canaries.send(canaryCallback)
	}
	for _, s := range settings {
		if name, _, set := strings.Cut(s, "="); !set {
			for i := range env {
				if strings.HasPrefix(env[i], name+"=") {
					env[i] = "UNUSED_" + env[i]
				}
			}
			continue
		}
		env = append(env, s)
		canaries.setting(s)
	}
	return env
}

func (k kind) endpoint(port int) harness.Endpoint { return k.At("127.0.0.1", port) }

// sharedSite is the gateway of a kind with default settings, for all cases that need no
// others. It starts at its first use.
type sharedSite struct {
	kind kind
	once sync.Once
	site Site
	err  error
}

// Shared returns the gateway that the cases of this kind share. It has default settings and a
// backend without faults. A case recognises its own connections by their keys and tokens.
func (t *T) Shared() *Site {
	t.Helper()
	s := t.shared
	s.once.Do(func() {
		if s.site.backend, s.err = harness.NewBackend(); s.err != nil {
			return
		}
		if s.site.gw, s.err = s.kind.run(nil, s.site.backend); s.err != nil {
			s.site.backend.Close()
			return
		}
		s.site.endpoint = s.kind.endpoint(s.site.gw.Port)
		s.site.client = s.site.endpoint.Client()
	})
	if s.err != nil {
		t.Fatal(s.err)
	}
	site := s.site
	site.t = t
	before := len(site.gw.Log.Lines(0))
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of the shared gateway since the start of this case:\n%s", tail(site.gw.Log.Lines(before)))
		}
	})
	return &site
}

func (s *sharedSite) close(t *testing.T) {
	if s.site.gw == nil {
		return
	}
	s.site.backend.CalmDown()
	canaries.scanMetrics(t, &s.site)
	stop(t, s.site.gw, 0)
	s.site.client.CloseIdleConnections()
	s.site.backend.Close()
}

// Start runs a gateway for this case alone, with a backend.
func (t *T) Start(settings ...string) *Site {
	t.Helper()
	backend, err := harness.NewBackend()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(backend.Close)
	return t.StartWith(backend, settings...)
}

// StartWith runs a gateway for this case alone, with that backend, or without one if it is nil.
func (t *T) StartWith(backend *harness.Backend, settings ...string) *Site {
	t.Helper()
	gw, err := t.kind.run(settings, backend)
	if err != nil {
		t.Fatal(err)
	}
	s := &Site{t: t, gw: gw, backend: backend, endpoint: t.kind.endpoint(gw.Port)}
	s.client = s.endpoint.Client()
	t.Cleanup(func() {
		if backend != nil {
			backend.CalmDown()
		}
		canaries.scanMetrics(t.T, s)
		if s.signalled {
			_, _ = gw.Exit(stopPatience) // do not send a second signal, which has another meaning
		}
		stop(t.T, gw, s.wantExit)
		s.client.CloseIdleConnections()
		if t.Failed() {
			t.Logf("log of the gateway:\n%s", tail(gw.Log.Lines(0)))
		}
	})
	return s
}

// stopPatience is the 4.5 s that a drain may take, plus a reserve for a loaded machine.
const stopPatience = 15 * time.Second

// stop ends a gateway, which may have ended already.
func stop(t *testing.T, gw *harness.Process, want int) {
	t.Helper()
	code, err := gw.Stop(stopPatience)
	canaries.scanLog(t, gw)
	if err != nil {
		t.Errorf("SIGTERM: %v", err)
	} else if code != want && want >= 0 {
		t.Errorf("exit code %d, want %d; log:\n%s", code, want, tail(gw.Log.Lines(0)))
	}
	if text := gw.Log.Text(); strings.Contains(text, "WARNING: DATA RACE") || strings.Contains(text, "\npanic: ") ||
		strings.Contains(text, "goroutine 1 [") {
		t.Errorf("the gateway reported a race or a panic:\n%s", text)
	}
}

func tail(lines []string) string {
	const most = 150
	if len(lines) > most {
		lines = append([]string{fmt.Sprintf("(%d lines before)", len(lines)-most)}, lines[len(lines)-most:]...)
	}
	for i, line := range lines {
		if len(line) > 600 {
			lines[i] = line[:600] + "…"
		}
	}
	return strings.Join(lines, "\n")
}

// WantLog waits for a line of the log that matches all patterns.
func (s *Site) WantLog(patterns ...string) string {
	s.t.Helper()
	var compiled []*regexp.Regexp
	for _, p := range patterns {
		compiled = append(compiled, regexp.MustCompile(p))
	}
	line, ok := s.gw.Log.Find(patience, compiled...)
	if !ok {
		s.t.Fatalf("no line of the log matches all of %q", patterns)
	}
	return line
}

// acceptAfter answers 200 once release is closed.
func acceptAfter(release <-chan struct{}) func(*harness.Callback) harness.Answer {
	return answerAfter(release, harness.Answer{})
}

func answerAfter(release <-chan struct{}, a harness.Answer) func(*harness.Callback) harness.Answer {
	return func(c *harness.Callback) harness.Answer {
		select {
		case <-release:
		case <-c.Context.Done():
		}
		return a
	}
}

// hang never answers.
func hang(c *harness.Callback) harness.Answer {
	<-c.Context.Done()
	return harness.Answer{}
}

// answerAlways gives the same answer to every callback.
func answerAlways(a harness.Answer) func(*harness.Callback) harness.Answer {
	return func(*harness.Callback) harness.Answer { return a }
}

// connectAnswer returns a script that answers the connect with that status.
func connectAnswer(status int) harness.Script {
	return harness.Script{Connect: answerAlways(harness.Answer{Status: status})}
}

// pause waits for d, where there is no event to wait for.
func pause(d time.Duration) { <-time.After(d) }

func timed(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}
