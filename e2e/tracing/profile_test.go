package tracing

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ssegateway/e2e/harness"
)

// TestProfilesAreOff: nobody gets a profile who did not ask for them.
func TestProfilesAreOff(t *testing.T) {
	g := harness.StartGateway(t, binary, nil)
	for _, name := range []string{"", "heap", "profile?seconds=1"} {
		if status, answer := call(t, http.DefaultClient, http.MethodGet, urlOf(g, "/internal/debug/pprof/"+name), ""); status != http.StatusNotFound {
			t.Errorf("%q: %d %.200q", name, status, answer)
		}
	}
}

// TestProfiles: go tool pprof reads what PPROF=true serves, for those who may call /internal only,
// and the command line, which may hold secrets, is not served.
func TestProfiles(t *testing.T) {
	g := harness.StartGateway(t, binary, nil, "PPROF=true", "INTERNAL_TOKEN=opensesame")
	const name, value = "Authorization", "Bearer opensesame"
	for path, want := range map[string]int{
		"": 200, "heap": 200, "goroutine?debug=2": 200, "trace?seconds=1": 200, "cmdline": 404, "nothing": 404,
	} {
		url := urlOf(g, "/internal/debug/pprof/"+path)
		if status, answer := call(t, http.DefaultClient, http.MethodGet, url, "", name, value); status != want {
			t.Errorf("%q: %d %.200q", path, status, answer)
		}
		if status, answer := call(t, http.DefaultClient, http.MethodGet, url, ""); status != http.StatusUnauthorized {
			t.Errorf("%q without the token: %d %.200q", path, status, answer)
		}
	}
	if status, answer := call(t, http.DefaultClient, http.MethodPost, urlOf(g, "/internal/debug/pprof/heap"), "", name, value); status != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d %.200q", status, answer)
	}
	for path, part := range map[string]string{"heap": "Type: inuse_space", "allocs": "Type: alloc_space"} {
		_, profile := call(t, http.DefaultClient, http.MethodGet, urlOf(g, "/internal/debug/pprof/"+path), "", name, value)
		if top := read(t, profile); !strings.Contains(top, part) || !strings.Contains(top, "ssegateway") {
			t.Errorf("%s:\n%s", path, top)
		}
	}
}

// TestLongProfile: a profile of 30 s comes whole, over HTTP/1.1 and HTTP/2, though it is the only
// thing that its connection does.
func TestLongProfile(t *testing.T) {
	const length = 30 * time.Second
	for protocol, secured := range map[string]*harness.Certificate{"HTTP1": nil, "HTTP2": cert} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			g := harness.StartGateway(t, binary, secured, "PPROF=true")
			client := g.Endpoint.Client()
			client.Timeout = 2 * length
			defer client.CloseIdleConnections()
			begin := time.Now()
			status, profile := call(t, client, http.MethodGet, urlOf(g, "/internal/debug/pprof/profile?seconds=30"), "")
			if took := time.Since(begin); status != http.StatusOK || took < length {
				t.Fatalf("%d after %v: %.200q", status, took, profile)
			}
			if top := read(t, profile); !strings.Contains(top, "Type: cpu") || !strings.Contains(top, "Duration: 30") {
				t.Error(top)
			}
		})
	}
}

// read returns what go tool pprof says of a profile.
func read(t *testing.T, profile string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "profile")
	if err := os.WriteFile(file, []byte(profile), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "go", "tool", "pprof", "-top", file).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}
