package programs

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"ssegateway/e2e/harness"
	"ssegateway/e2e/harness/chromium"
)

var (
	binary  string // the gateway
	cert    *harness.Certificate
	browser *chromium.Browser
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m, prepare)) }

func prepare(dir string) (err error) {
	binary, cert, err = harness.BuildWithCertificate(dir)
	return err
}

// way is how a client reaches the application.
type way struct {
	name  string
	base  string // the scheme and the address
	query string // what the application is to know
}

// site is the applications, which one program serves, and the ways to them.
type site struct {
	direct, relayed way
	http2           way // relayed, and over TLS
	// Each answer is kept for 30 s, as the gateway is set.
	resuming way
	// The same, as the application asks for it.
	askingHTTP2 way
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
	gateway := func(cert *harness.Certificate, settings ...string) string {
		e := harness.StartGateway(t, binary, cert, append(settings,
			fmt.Sprintf("RELAY_URL=http://127.0.0.1:%d", app.Port), "RELAY_PATHS=/", "HEARTBEAT_INTERVAL_SECONDS=1")...).Endpoint
		return e.Scheme() + "://" + e.Addr
	}
	plain, secured := gateway(nil), gateway(cert)
	s := &site{
		direct:      way{name: "direct", base: fmt.Sprintf("http://127.0.0.1:%d", app.Port)},
		relayed:     way{name: "relayed", base: plain},
		http2:       way{name: "HTTP 2", base: secured},
		resuming:    way{name: "resuming", base: gateway(nil, "RELAY_RESUME_SECONDS=30")},
		askingHTTP2: way{name: "asking, HTTP 2", base: secured, query: "&seconds=30"},
	}
	if browser, err = chromium.Start(t.TempDir(), chromedp.Flag("ignore-certificate-errors-spki-list", cert.KeyHash())); err != nil {
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
	resp, err := http.Get(fmt.Sprintf("%s/control?run=%s&allow=%d&until=%s", s.app, s.run, allow, until))
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&c); err != nil || resp.StatusCode != http.StatusOK {
		s.t.Fatalf("the application waits for %s: %+v %v", until, c, err)
	}
	return c
}
