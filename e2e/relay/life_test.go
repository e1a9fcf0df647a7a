package relay

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"ssegateway/e2e/harness"
)

// In the window of a drain a relayed stream may finish, and until 5 s before its end go on; who comes is asked to come back.
func TestDrainWindow(t *testing.T) {
	each(t, func(t *testing.T, k harness.Kind) {
		finish := make(chan struct{})
		a := startApp(t, func(c *call) bool {
			c.say(stream + "data: a\n\n")
			if c.RequestURI == "/app/finishes" {
				<-finish
				c.say("data: b\n\n")
				return false
			}
			c.gone(t)
			return false
		})
		s := start(t, k, a, "DRAIN_SECONDS=8")
		begin := func(target string) *harness.Exchange {
			x, _ := s.status(harness.Request{Method: "POST", Target: target, Body: []byte("q")}, http.StatusOK)
			next(t, x, "data: a\n\n")
			return x
		}
		finishes, stays := begin("/app/finishes"), begin("/app/stays")
		nc := s.dial() // is accepted before the drain
		began := time.Now()
		if err := s.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if _, ok := s.Log.Find(harness.Patience, regexp.MustCompile("draining")); !ok {
			t.Fatal("no drain")
		}
		if k.Protocol == harness.HTTP1 || k.Protocol == harness.HTTP1TLS {
			fmt.Fprintf(nc, "POST /app HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx")
			text, _ := io.ReadAll(nc)
			if got := string(text); !strings.HasPrefix(got, "HTTP/1.1 503 ") || !strings.Contains(got, "\r\nRetry-After: ") || !strings.Contains(got, "NOT_READY") {
				t.Errorf("a request during the drain: %q", got)
			}
		}
		close(finish)
		end(t, finishes, "data: b\n\n", harness.Clean)
		if took := time.Since(began); took > 2500*time.Millisecond {
			t.Errorf("finished after %v", took)
		}
		end(t, stays, "", harness.Cut)
		if took := time.Since(began); took < 2500*time.Millisecond || took > 6*time.Second {
			t.Errorf("cut after %v, want 3 s", took)
		}
		if code, err := s.Exit(harness.Patience); code != 0 || err != nil { // a second signal would have another meaning
			t.Errorf("exit code %d, %v", code, err)
		}
	})
}

// The fields of a proxy are continued if the peer is a trusted one, and else set anew, which is said once.
func TestForwardedFields(t *testing.T) {
	each(t, func(t *testing.T, k harness.Kind) {
		a := startApp(t, func(c *call) bool { c.say(plain("x")); return true })
		proto := map[bool]string{true: "https", false: "http"}[k.Cert != nil]
		request := harness.Request{Target: "/app", Host: "app.example", Header: fields("X-Forwarded-For", "203.0.113.7", "x-forwarded-for", "10.0.0.1, 10.0.0.2", "X-Forwarded-Host", "public.example", "X-Forwarded-Proto", "gopher", "Forwarded", "for=9.9.9.9")}
		for trusted, want := range map[string]string{
			"": "For: 127.0.0.1 Host: app.example Proto: " + proto, "127.0.0.0/8": "For: 203.0.113.7, 10.0.0.1, 10.0.0.2, 127.0.0.1 Host: public.example Proto: gopher",
		} {
			var settings []string
			if trusted != "" {
				settings = append(settings, "TRUSTED_PROXIES="+trusted)
			}
			s := start(t, k, a, settings...)
			for range 2 {
				s.status(request, http.StatusOK)
				got := a.next(t)
				if text := fmt.Sprintf("For: %s Host: %s Proto: %s", strings.Join(got.Header.Values("X-Forwarded-For"), "|"), strings.Join(got.Header.Values("X-Forwarded-Host"), "|"),
					strings.Join(got.Header.Values("X-Forwarded-Proto"), "|")); text != want || got.Header.Get("Forwarded") != "" || got.Host != "app.example" {
					t.Errorf("trusted %q: %s, want %s; %q", trusted, text, want, got.head)
				}
			}
			warning := regexp.MustCompile("sends the fields of a proxy")
			if trusted == "" && s.Log.Count(harness.Patience, warning) != 1 || trusted != "" && warning.MatchString(s.Log.Text()) {
				t.Errorf("trusted %q: want one warning only of a peer that is not:\n%s", trusted, s.Log.Text())
			}
		}
	})
}

// A compressed event stream, and one that is asked for by HEAD, is passed through as it comes, without heartbeats.
func TestCompressed(t *testing.T) {
	each(t, func(t *testing.T, k harness.Kind) {
		a := startApp(t, func(c *call) bool {
			encoding := strings.TrimPrefix(c.URL.Path, "/app/")
			c.say("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: " + strings.ReplaceAll(encoding, ";", "\r\nContent-Encoding: ") + "\r\nX-App: 1\r\n\r\n")
			c.say("half an ev")
			c.say("ent")
			return false
		})
		s := start(t, k, a, "HEARTBEAT_INTERVAL_SECONDS=1")
		for range 2 {
			for _, encoding := range []string{"gzip", "br", "identity", "Identity", "identity;gzip"} {
				x, head := s.status(harness.Request{Target: "/app/" + encoding, Header: fields("Accept-Encoding", encoding)}, http.StatusOK)
				want := "half an event"
				if strings.EqualFold(encoding, "identity") {
					want = "" // relayed, and no block
				}
				if got, end, err := x.Rest(harness.Patience); strings.ReplaceAll(got, harness.Heartbeat, "") != want || end != harness.Clean || want != "" && got != want {
					t.Errorf("%s: %q %v %v", encoding, got, end, err)
				}
				if head.Get("X-App") != "1" || strings.Join(head.Values("Content-Encoding"), ";") != encoding || (head.Get("X-Accel-Buffering") == "") != (want != "") {
					t.Errorf("%+v", head)
				}
				a.next(t)
			}
		}
		if n := s.Log.Count(harness.Patience, regexp.MustCompile("is compressed")); n != 1 {
			t.Errorf("%d warnings", n)
		}
	})
}

// With RELAY_PATHS=/ and no CALLBACK_URL all works, and nobody is told of ends.
func TestWithoutCallbacks(t *testing.T) {
	each(t, func(t *testing.T, k harness.Kind) {
		a := startApp(t, func(c *call) bool {
			body := `{"topics":["news"],"subject":"u"}`
			c.say(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: %s\r\nSse-Gateway-Token: %s\r\nSet-Cookie: a=b\r\nContent-Length: %d\r\n\r\n%s", holdType, c.token, len(body), body))
			return true
		})
		s := start(t, k, a, "RELAY_PATHS=/", "CALLBACK_URL=")
		awaitReady(t, s.Gateway)
		begin := time.Now()
		x, head := s.status(harness.Request{Target: "/anything", Header: fields("Accept", "text/event-stream")}, http.StatusOK)
		if head.Get("Set-Cookie") != "a=b" || head.Get("Content-Type") != "text/event-stream" {
			t.Errorf("%+v", head)
		}
		x.Begin(1, harness.Patience)
		id := s.Publish(t, "news", map[string]any{"data": "x"})
		if got, err := x.Next(len("id: "+id), harness.Patience); err != nil || !strings.HasPrefix(got, "id: ") {
			t.Errorf("%q %v", got, err)
		}
		x.HangUp()
		for {
			states, err := s.Connections()
			if err == nil && len(states) == 0 {
				break
			}
			if time.Since(begin) > harness.Patience {
				t.Fatalf("%v %v", states, err)
			}
		}
		if a.asked() != 1 {
			t.Errorf("asked %d times", a.asked())
		}
	})
}

// An object of up to 1 MiB counts, as in the answer to a connect. A larger one counts as {}.
func TestLargeHold(t *testing.T) {
	each(t, func(t *testing.T, k harness.Kind) {
		a := startApp(t, func(c *call) bool {
			body := `{"topics":["news"],"pad":"` + strings.Repeat("x", map[string]int{"/small": 1<<20 - 1000, "/large": 1 << 20}[c.URL.Path]) + `"}`
			c.say(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: %s\r\nSse-Gateway-Token: %s\r\nContent-Length: %d\r\n\r\n%s", holdType, c.token, len(body), body))
			return true
		})
		s := start(t, k, a, "RELAY_PATHS=/", "CALLBACK_URL=")
		awaitReady(t, s.Gateway)
		for path, granted := range map[string]bool{"/small": true, "/large": false} {
			s.status(harness.Request{Target: path}, http.StatusOK)
			status, text := s.Call(t, http.MethodGet, "/internal/connections/"+a.next(t).token, "")
			if status != http.StatusOK || strings.Contains(text, `"topics":["news"]`) != granted {
				t.Errorf("%s: %d %s", path, status, text)
			}
		}
		if s.Log.Count(harness.Patience, regexp.MustCompile("larger than 1 MiB")) == 0 {
			t.Error("no warning")
		}
	}, harness.Detached)
}

// When the client has seen the head of a held stream, its record is kept: the end is told even if the gateway is killed
// at once.
func TestHoldSurvivesKill(t *testing.T) {
	each(t, func(t *testing.T, k harness.Kind) {
		a := startApp(t, func(c *call) bool {
			c.say("HTTP/1.1 200 OK\r\nContent-Type: " + holdType + "\r\nSse-Gateway-Token: " + c.token + "\r\nContent-Length: 2\r\n\r\n{}")
			return true
		})
		s := start(t, k, a, "STATE_DIR="+t.TempDir())
		s.status(harness.Request{Method: "POST", Target: "/app/7", Body: []byte("q")}, http.StatusOK)
		s.Kill()
		token := a.next(t).token
		s.Restart(t)
		ends, err := s.Backend.Await(harness.Patience, 1, func(c *harness.Callback) bool { return c.Token == token })
		if err != nil || ends[0].Action != "disconnect" || ends[0].Detail != "gateway_lost" || ends[0].URL != "/app/7" {
			t.Errorf("%+v %v", ends, err)
		}
	})
}

// The same in a cluster, where another node tells.
func TestHoldInCluster(t *testing.T) {
	t.Parallel()
	nats := harness.StartNATS(t)
	k := kinds[0]
	a := startApp(t, func(c *call) bool {
		c.say("HTTP/1.1 200 OK\r\nContent-Type: " + holdType + "\r\nSse-Gateway-Token: " + c.token + "\r\nContent-Length: 2\r\n\r\n{}")
		return true
	})
	cluster := []string{"NATS_URL=" + nats.URL(), "NODE_LEASE_SECONDS=2"}
	one := start(t, k, a, cluster...)
	other := harness.StartGateway(t, k.Command[0], nil, append([]string{"CALLBACK_URL=" + one.Backend.URL("/callback"), "RELAY_URL=http://" + a.Addr().String(), "RELAY_PATHS=/app"}, cluster...)...)
	awaitReady(t, one.Gateway)
	awaitReady(t, other)
	x, _ := one.status(harness.Request{Method: "POST", Target: "/app/7", Body: []byte("q")}, http.StatusOK)
	token := a.next(t).token
	other.Send(t, map[string]any{"token": token, "event": map[string]any{"data": "from the other"}}, "ok")
	next(t, x, "data: from the other\n\n")
	one.status(harness.Request{Method: "POST", Target: "/app/8", Body: []byte("q")}, http.StatusOK)
	last := a.next(t).token
	one.Kill()
	ends, err := one.Backend.Await(2*harness.Patience, 2, func(c *harness.Callback) bool { return c.Token == token || c.Token == last })
	if err != nil || ends[0].Action != "disconnect" || ends[0].Detail != "gateway_lost" || ends[1].Detail != "gateway_lost" {
		t.Errorf("%+v %v", ends, err)
	}
}

func awaitReady(t *testing.T, g *harness.Gateway) {
	t.Helper()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for begin := time.Now(); ; <-look.C {
		status, text := g.Call(t, http.MethodGet, "/readyz", "")
		if status == http.StatusOK {
			return
		}
		if time.Since(begin) > harness.Patience {
			t.Fatalf("%d %s", status, text)
		}
	}
}
