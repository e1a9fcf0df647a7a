package storm

import (
	"context"
	"flag"
	"maps"
	"net/http"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"ssegateway/e2e/harness"
)

// The size of a run. The defaults are for tests of every change.
var (
	strict  = flag.Bool("strict", false, "hold the bounds that an otherwise idle machine has to hold, with a gateway that is built without the race detector")
	seed    = flag.Uint64("seed", uint64(time.Now().UnixNano()), "decides what happens when; printed")
	churned = flag.Int("churned", 1000, "connections that TestChurn has the backend asked about")
	streams = flag.Int("streams", 400, "streams that are open or asked for at a time")
	away    = flag.Duration("away", 3*time.Second, "how long the backend is down; more than 2 s")
	rate    = flag.Int("rate", 200, "sends a second of TestHang")
	span    = flag.Duration("span", time.Second, "how long the backend hangs in TestHang, and is well, in turns")
	drain   = flag.Int("drain", 6, "DRAIN_SECONDS of TestDrainWindow")

	program string // the gateway
)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(harness.Main(m, func(dir string) (err error) {
		program, err = harness.Build(dir, "-race="+strconv.FormatBool(!*strict))
		return err
	}))
}

// site is a gateway with its backend.
type site struct {
	*harness.Gateway

	t       *testing.T
	backend *backend
	http    *http.Client // of the backend, with many connections
}

func start(t *testing.T, settings ...string) *site {
	t.Helper()
	t.Logf("seed %d", *seed)
	g := harness.StartGateway(t, program, nil, append([]string{"LOG_LEVEL=warn"}, settings...)...)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: guests}, Timeout: harness.Patience}
	t.Cleanup(client.CloseIdleConnections)
	return &site{g, t, newBackend(g.Backend, *seed), client}
}

// post makes a request of the backend.
func (s *site) post(path string, body any) (status int, answer map[string]any) {
	return harness.PostJSON(s.http, "http://"+s.Endpoint.Addr+path, body)
}

func (s *site) memory(line string) int64 {
	s.t.Helper()
	bytes, err := s.Memory(line)
	if err != nil {
		s.t.Fatal(err)
	}
	return bytes
}

// watch holds the backend's ledger against the list of connections, again and again until stop is called or the test ends.
func (s *site) watch() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	watching.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			begun := time.Now()
			listed, err := s.Connections()
			if err != nil {
				s.t.Error(err)
				return
			}
			s.backend.ledger.Hold(listed, begun)
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	})
	stop = func() {
		cancel()
		watching.Wait()
	}
	s.t.Cleanup(stop)
	return stop
}

// settles waits until the backend believes those streams open that their clients have, the gateway lists the same, and nothing is
// left to be told. It returns how long that took.
func (s *site) settles(patience time.Duration, streams []*stream) time.Duration {
	s.t.Helper()
	begun := time.Now()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for {
		truth, owed, waiting := opened(streams), s.backend.ledger.Owed(), s.Metric(s.t, "ssegateway_disconnects_pending")
		states, err := s.Connections()
		if err != nil {
			s.t.Fatal(err)
		}
		listed := map[string]bool{}
		for token := range states {
			listed[token] = true
		}
		if maps.Equal(truth, owed) && maps.Equal(truth, s.backend.ledger.Open()) && maps.Equal(truth, listed) && waiting == 0 {
			return time.Since(begun)
		}
		if time.Since(begun) > patience {
			s.t.Fatalf("after %v clients have %d streams, and the gateway lists %d; the backend waits for %d ends, of which the gateway has %.0f to tell; not told of: %.300v; told of, but open: %.300v",
				patience, len(truth), len(listed), len(owed), waiting, minus(owed, truth), minus(truth, owed))
		}
		<-poll.C
	}
}

// check reports what was wrong.
func (s *site) check() {
	s.t.Helper()
	for _, wrong := range s.backend.ledger.Wrong() {
		s.t.Error(wrong)
	}
}

func minus(a, b map[string]bool) (tokens []string) {
	for token := range a {
		if !b[token] {
			tokens = append(tokens, token)
		}
	}
	return tokens
}

// becomes waits until ready returns true, and returns how long that took. It polls, since that is up to another process.
func becomes(t *testing.T, patience time.Duration, what string, ready func() bool) time.Duration {
	t.Helper()
	begun := time.Now()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for !ready() {
		if time.Since(begun) > patience {
			t.Fatalf("%s: not within %v", what, patience)
		}
		<-poll.C
	}
	return time.Since(begun)
}
