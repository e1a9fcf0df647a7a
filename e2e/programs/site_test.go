package programs

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"ssegateway/e2e/harness"
	"ssegateway/e2e/harness/chromium"
)

var (
	binary  string // the gateway
	browser *chromium.Browser
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m, prepare)) }

func prepare(dir string) (err error) {
	binary, err = harness.Build(dir)
	return err
}

// way is how a client reaches the application.
type way struct {
	name  string
	addr  string
	query string // what the application is to know
}

// site is the applications, which one program serves, and the ways to them.
type site struct {
	direct   way
	relayed  way
	resuming way // and each answer is kept for 30 s
	asking   way // relayed, and the application asks to have its answer kept
}

func startSite(t *testing.T) *site {
	t.Helper()
	wantCommand(t, "node", "nodejs")
	if _, err := os.Stat("npm/node_modules"); err != nil {
		t.Fatalf("the npm packages are not installed: run `make test-deps` (%v)", err)
	}
	app, err := harness.Start(harness.Command{Args: []string{"node", "npm/app/app.mjs"}}, func(port int) harness.Endpoint { return harness.Local(port, nil) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		app.Kill()
		if text := app.Log.Text(); strings.TrimSpace(text) != "" {
			t.Logf("output of the applications:\n%.5000s", text)
		}
	})
	s := &site{direct: way{name: "direct", addr: "127.0.0.1:" + strconv.Itoa(app.Port)}}
	relay := []string{"RELAY_URL=http://" + s.direct.addr, "RELAY_PATHS=/", "HEARTBEAT_INTERVAL_SECONDS=1"}
	s.relayed = way{name: "relayed", addr: harness.StartGateway(t, binary, nil, relay...).Endpoint.Addr}
	s.resuming = way{name: "resuming", addr: harness.StartGateway(t, binary, nil, append(relay, "RELAY_RESUME_SECONDS=30")...).Endpoint.Addr}
	s.asking = way{name: "asking", addr: s.relayed.addr, query: "&seconds=30"}
	if browser, err = chromium.Start(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := browser.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func wantCommand(t *testing.T, name, install string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Fatalf("%s is not installed, and this program needs it: install %s, or run `make test-deps`", name, install)
	}
}

// counts is what the application says of a run.
type counts struct {
	Asked  int   // requests
	Taken  int   // steps
	Gone   int   // answers whose reader left before the end
	GoneAt int64 // when the last of them did; Unix time in milliseconds
}

// control allows the application steps of a run, and waits until it has counted something, as "taken:4".
func (s *session) control(allow int, until string) (c counts) {
	s.t.Helper()
	resp, err := http.Get(fmt.Sprintf("http://%s/control?run=%s&allow=%d&until=%s", s.app, s.run, allow, until))
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&c); err != nil || resp.StatusCode != http.StatusOK {
		s.t.Fatalf("the application waits for %s: %+v %v", until, c, err)
	}
	return c
}
