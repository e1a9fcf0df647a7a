package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The servers that need only this repository are really measured.
func TestMeasure(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make the PID namespaces")
	}
	for _, scenario := range []string{"connect", "fanout", "readers", "storm"} {
		out := t.TempDir()
		var progress bytes.Buffer
		err := run(t.Context(), []string{"--servers=ssegateway,plain,floor", "--scenarios=" + scenario, "--runs=1", "--streams=50", "--out", out}, &progress)
		if err != nil {
			t.Fatalf("%v\n%s", err, progress.String())
		}
		r, err := readResults(filepath.Join(out, "benchmarks", "results.json"))
		if err != nil {
			t.Fatal(err)
		}
		want := map[string][]string{
			"connect": {ours, "plain"}, "fanout": {ours, "plain", "floor"}, "readers": {ours, "plain", "floor"}, "storm": {ours, "plain"},
		}[scenario]
		if len(r.Runs) != len(want) {
			t.Errorf("%s: %d runs, want those of %s", scenario, len(r.Runs), want)
		}
		for _, run := range r.Runs {
			if run.Error != "" || len(run.Result.Figures) == 0 {
				t.Errorf("%s, %s: %+v", scenario, run.Server, run)
			}
			for _, f := range run.Result.Figures {
				if (strings.HasPrefix(f.Name, "server CPU") || strings.HasPrefix(f.Name, "backend CPU")) && f.Value <= 0 {
					t.Errorf("%s, %s: %+v", scenario, run.Server, f)
				}
			}
			if c := run.Result.Check; scenario == "fanout" && (c.Events < 50 || c.Events%50 != 0) {
				t.Errorf("%s: %+v", run.Server, c)
			}
		}
		for _, s := range want {
			if reasons, runs := r.failures(scenario, s); runs != 1 || len(reasons) > 0 {
				t.Errorf("%s, %s: %d runs, failed: %q", scenario, s, runs, reasons)
			}
		}
	}
}

// A server that does not start, or with which bench fails, is reported, and the others are measured.
func TestFailure(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make the PID namespaces")
	}
	t.Setenv("TMPDIR", t.TempDir())
	broken := servers[len(servers)-1]
	broken.name, broken.command = "broken", []string{"sh", "-c", "echo cannot >&2; exit 1"}
	deaf := servers[len(servers)-1]
	deaf.name, deaf.target = "deaf", []string{"--profile=custom", "--url=http://127.0.0.1:{port}/", "--publish-url=http://127.0.0.1:{publish}/"}
	all := servers
	servers = append([]server{broken, deaf}, all...)
	t.Cleanup(func() { servers = all })
	o := options{servers: []string{"broken", "deaf", "floor"}, scenarios: []string{"fanout"}, runs: 1, streams: 20}
	var progress bytes.Buffer
	r, err := o.measure(t.Context(), &progress)
	if err != nil {
		t.Fatalf("%v\n%s", err, progress.String())
	}
	if len(r.Runs) != 3 {
		t.Fatalf("%d runs, want 3", len(r.Runs))
	}
	for i, want := range []string{"broken did not start: it ended\ncannot", "connection refused", ""} {
		if got := r.Runs[i].Error; !strings.Contains(got, want) || (want == "") != (got == "") {
			t.Errorf("%s: %q, want %q", r.Runs[i].Server, got, want)
		}
	}
	left, err := os.ReadDir(os.TempDir())
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
