package contract

import (
	"net/http"
	"regexp"
	"strings"
	"time"

	"ssegateway/e2e/harness"
)

var configuration = section{title: "1 configuration", core: true, cases: []contractCase{
	{name: "PORT outside 1 to 65535 or no number: a clear error and exit 1", run: func(t *T) {
		for _, port := range []string{"0", "65536", "-1", "abc", "80.5", "3000x"} {
			gw, err := harness.Run(harness.Command{
				Args: t.kind.Command,
				Env:  append(t.kind.environment(nil, nil), "PORT="+port),
			})
			if err != nil {
				t.Fatal(err)
			}
			code, err := gw.Exit(patience)
			if err != nil {
				gw.Kill()
			}
			if err != nil || code != 1 || !strings.Contains(gw.Log.Text(), "PORT") {
				t.Errorf("PORT=%s: exit code %d (%v), want 1 and an error that names PORT; output:\n%s", port, code, err, gw.Log.Text())
			}
		}
	}},

	// The port may be in use on this machine, for example by this case on another kind. Then the
	// error at the start names the port.
	{name: "PORT is 3000 by default", run: func(t *T) {
		gw, err := harness.Run(harness.Command{Args: t.kind.Command, Env: t.kind.environment(nil, nil)})
		if err != nil {
			t.Fatal(err)
		}
		defer gw.Kill()
		if line, ok := gw.Log.Find(patience, regexp.MustCompile(`\b3000\b`)); !ok {
			t.Errorf("no line with 3000 but %q in the log:\n%s", line, gw.Log.Text())
		}
	}},

	{name: "CALLBACK_URL absent: the process runs, readyz answers 503, streams are refused with 503", run: func(t *T) {
		s := t.StartWith(nil)
		s.WantJSON(s.Call(http.MethodGet, "/healthz", ""), http.StatusOK, object{"status": "ok"})
		ready := s.Readiness(http.StatusServiceUnavailable)
		if ready.Status != "not_ready" || ready.Configured == nil || *ready.Configured || len(ready.Reasons) == 0 {
			t.Errorf("readyz: %+v", ready)
		}
		s.WantError(reply(t, s.Do(harness.Request{Target: "/stream"})), http.StatusServiceUnavailable, "SERVICE_NOT_CONFIGURED", "Service not configured")
		s.WantError(s.SendObject(object{"token": "x"}), http.StatusNotFound, "TOKEN_NOT_FOUND", "Token not found")
	}},

	{name: "CALLBACK_URL keeps its query string as it is", run: func(t *T) {
		const target = "/a%2Fb/cb?key=s%2Fcr+t%20&&x=;y&key=%7E"
		backend := t.newBackend()
		s := t.StartWith(backend, "CALLBACK_URL="+backend.URL(target))
		x := s.Open("/stream")
		x.Leave()
		for _, c := range []*harness.Callback{x.Connect(), x.Disconnect()} {
			if c.Target != target {
				t.Errorf("%s was POSTed to %s, want %s", c.Action, c.Target, target)
			}
		}
	}},

	{name: "HEARTBEAT_INTERVAL_SECONDS invalid: logged as an error", run: func(t *T) {
		for _, value := range []string{"0", "-1", "abc", "1.5", "5s"} {
			s := t.Start("HEARTBEAT_INTERVAL_SECONDS=" + value)
			s.WantLog(`(?i)\berror\b`, `HEARTBEAT_INTERVAL_SECONDS`)
		}
	}},

	{name: "HEARTBEAT_INTERVAL_SECONDS is 15 by default", slow: true, run: func(t *T) {
		wantHeartbeats(t.Start("HEARTBEAT_INTERVAL_SECONDS").Open("/"), 15*time.Second, 2)
	}},

	{name: "HEARTBEAT_INTERVAL_SECONDS invalid: 15 is used", slow: true, run: func(t *T) {
		wantHeartbeats(t.Start("HEARTBEAT_INTERVAL_SECONDS=0").Open("/"), 15*time.Second, 2)
	}},

	{name: "these three alone give the core contract to a backend on the same host", run: func(t *T) {
		s := t.Start("HEARTBEAT_INTERVAL_SECONDS=20")
		x := s.Open("/stream")
		s.Event(x.token, "hello")
		x.Want("data: hello\n\n")
		s.CloseStream(x.token)
		x.WantEnd()
		x.WantDisconnect("server_closed")
	}},
}}

func (t *T) newBackend() *harness.Backend {
	t.Helper()
	backend, err := harness.NewBackend()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(backend.Close)
	return backend
}

// slack is how late a timed event may be observed on a loaded machine.
const slack = 900 * time.Millisecond

// wantHeartbeats waits for n heartbeats, and checks their bytes and times. The first comes
// after half to one interval, each later one an interval after the one before.
func wantHeartbeats(x *Stream, interval time.Duration, n int) {
	t := x.s.t
	t.Helper()
	opened := x.WantHead().At
	for range n {
		const heartbeat = ": heartbeat\n\n"
		got, err := x.Next(len(heartbeat), interval+patience)
		if got != heartbeat {
			t.Fatalf("the stream has %s (%v), want a heartbeat", quoted(got), err)
		}
	}
	pieces := x.Pieces()
	if len(pieces) == n+1 && pieces[0].Data == harness.Heartbeat {
		pieces = pieces[1:] // the beginning of the stream
	}
	for i, piece := range pieces {
		// A heartbeat may be observed late, which makes the time until the next one look short.
		since, least, most := piece.At.Sub(opened), interval/2, interval+slack
		if i > 0 {
			since, least, most = piece.At.Sub(pieces[i-1].At), interval-slack, interval+slack
		}
		if since < least-slack/2 || since > most {
			t.Errorf("heartbeat %d came after %v, want %v to %v", i+1, since, least, most)
		}
	}
	if len(pieces) != n {
		t.Errorf("%d heartbeats came in %d writes", n, len(pieces))
	}
}

// Readiness is the answer of /readyz.
type Readiness struct {
	Status     string
	Configured *bool
	Reasons    []string
}

// Readiness requests /readyz, which must answer with that status.
func (s *Site) Readiness(status int) Readiness {
	s.t.Helper()
	var r Readiness
	got := s.Call(http.MethodGet, "/readyz", "")
	if err := decode(got.Body, &r); err != nil || got.Status != status || got.notJSON() != "" {
		s.t.Fatalf("readyz answers %d %s, want %d; %v %s", got.Status, quoted(got.Body), status, err, got.notJSON())
	}
	return r
}
