// Package internal_test keeps the architecture true: which package may know which.
package internal_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// module is the path of this module; the packages below are named without it.
const module = "ssegateway/"

// arrows lists for each package which packages of this module it may reach,
// directly or through others. Dependencies point downwards only: a package may
// not be added to a line because it is convenient, only because the house has
// changed (see docs/architecture.md).
var arrows = map[string][]string{
	"sse":                  {},
	"web":                  {},
	"internal/config":      {},
	"internal/console":     {},
	"internal/logging":     {},
	"internal/guard":       {},
	"internal/tracing":     {"internal/logging"},
	"internal/epoll":       {},
	"internal/address":     {},
	"internal/edge":        {"internal/guard", "internal/logging"},
	"internal/fastsend":    {"internal/guard", "internal/epoll"},
	"internal/frame":       {"sse"},
	"internal/outbox":      {"sse", "internal/frame"},
	"internal/repeats":     {"sse"},
	"internal/broker":      {"internal/guard", "sse", "internal/frame", "internal/repeats"},
	"internal/topics":      {"internal/guard", "sse", "internal/frame", "internal/broker", "internal/repeats"},
	"internal/gateway":     {"internal/guard", "internal/logging", "sse", "internal/frame", "internal/broker", "internal/repeats", "internal/topics", "internal/outbox"},
	"internal/stream":      {"internal/edge", "internal/guard", "internal/logging", "internal/epoll", "sse", "internal/frame", "internal/broker", "internal/repeats", "internal/topics", "internal/outbox", "internal/gateway"},
	"internal/callback":    {"internal/guard", "internal/logging", "internal/epoll", "sse", "internal/frame", "internal/broker", "internal/repeats", "internal/topics", "internal/outbox", "internal/gateway"},
	"internal/cluster":     {"internal/guard", "internal/logging", "sse", "internal/frame", "internal/broker", "internal/repeats", "internal/topics", "internal/outbox", "internal/gateway"},
	"internal/records":     {"internal/guard", "internal/logging", "sse", "internal/frame", "internal/broker", "internal/repeats", "internal/topics", "internal/outbox", "internal/gateway"},
	"internal/history":     {"internal/edge", "internal/guard", "internal/logging", "sse", "internal/frame", "internal/broker", "internal/repeats", "internal/topics", "internal/outbox", "internal/gateway"},
	"internal/connections": {"internal/guard", "internal/logging", "sse", "internal/frame", "internal/broker", "internal/repeats", "internal/topics", "internal/outbox", "internal/gateway"},
	"internal/router":      {"internal/guard", "internal/logging", "sse", "internal/frame", "internal/broker", "internal/repeats", "internal/topics", "internal/outbox", "internal/gateway", "internal/connections", "internal/cluster"},
	"internal/api":         {"internal/edge", "internal/guard", "internal/logging", "sse", "internal/frame", "internal/broker", "internal/repeats", "internal/topics", "internal/outbox", "internal/gateway", "internal/connections", "internal/history"},
	"internal/relay":       {"internal/edge", "internal/guard", "internal/logging", "internal/epoll", "sse", "internal/frame", "internal/broker", "internal/repeats", "internal/topics", "internal/outbox", "internal/gateway", "internal/stream", "internal/callback", "internal/connections", "internal/api", "internal/history"},
	"internal/metrics":     {"internal/edge", "internal/guard", "internal/logging", "sse", "internal/frame", "internal/broker", "internal/repeats", "internal/topics", "internal/outbox", "internal/gateway", "internal/connections", "internal/cluster", "internal/records", "internal/api", "internal/history"},
	"internal/server": {
		"sse", "internal/config", "internal/guard", "internal/logging", "internal/frame", "internal/broker", "internal/repeats", "internal/topics", "internal/outbox", "internal/gateway",
		"internal/stream", "internal/callback", "internal/api", "internal/metrics", "internal/fastsend", "internal/epoll",
		"internal/journal", "internal/broker/disk", "internal/broker/nats", "internal/cluster", "internal/records", "internal/edge", "internal/connections", "internal/router", "internal/tracing", "internal/address", "internal/relay", "internal/history", "internal/console",
	},
	"internal/demo": {
		"sse", "web", "internal/config", "internal/guard", "internal/logging", "internal/frame", "internal/broker", "internal/repeats", "internal/topics", "internal/outbox", "internal/gateway",
		"internal/stream", "internal/callback", "internal/api", "internal/metrics", "internal/fastsend", "internal/epoll", "internal/server",
		"internal/journal", "internal/broker/disk", "internal/broker/nats", "internal/cluster", "internal/records", "internal/edge", "internal/connections", "internal/router", "internal/tracing", "internal/address", "internal/relay", "internal/history", "internal/console",
	},
	"internal/operator": {"sse", "internal/config"},
	"internal/probe":    {"internal/guard", "sse", "internal/config", "internal/operator"},
	"internal/check": {
		"sse", "internal/config", "internal/guard", "internal/logging", "internal/frame", "internal/broker", "internal/repeats", "internal/topics", "internal/outbox", "internal/gateway",
		"internal/stream", "internal/callback", "internal/api", "internal/metrics", "internal/fastsend", "internal/epoll", "internal/server",
		"internal/journal", "internal/broker/disk", "internal/broker/nats", "internal/cluster", "internal/records", "internal/edge", "internal/connections", "internal/router", "internal/operator", "internal/tracing", "internal/address", "internal/relay", "internal/history", "internal/console",
	},

	"internal/journal":     {},
	"internal/broker/disk": {"internal/guard", "sse", "internal/frame", "internal/broker", "internal/repeats", "internal/journal"},
	"internal/broker/nats": {"internal/guard", "internal/logging", "sse", "internal/frame", "internal/broker", "internal/repeats"},

	"internal/bubble":              {},
	"internal/planted":             {},
	"internal/logging/loggingtest": {},
	"internal/journal/journaltest": {"internal/journal"},

	"internal/broker/brokertest": {"internal/guard", "sse", "internal/frame", "internal/broker", "internal/repeats"},
	"internal/gatewaytest":       {"internal/guard", "internal/logging", "sse", "internal/frame", "internal/broker", "internal/repeats", "internal/topics", "internal/outbox", "internal/gateway"},

	"deploy/traefik/plugins-local/src/comeback": {},
}

// unlimited packages may reach everything: the wiring, and what tests or
// measures the whole. Only their like may import them, and nobody the commands.
var unlimited = []string{"cmd/", "e2e", "bench", "docs", "examples", "internal"}

// standardOnly packages reach nothing but the standard library.
var standardOnly = []string{"sse", "deploy/traefik/plugins-local/src/comeback"}

// kept away are packages (and all below them) that a package must not reach,
// directly or through others.
var keptAway = map[string][]string{
	// The heart knows no HTTP, no broker driver, and no library of metrics or traces.
	"internal/gateway": {"net/http", "github.com/prometheus", "github.com/nats-io", "go.opentelemetry.io"},
	"internal/topics":  {"net/http", "github.com/prometheus", "github.com/nats-io", "go.opentelemetry.io"},
	// How bytes reach a client has nothing to do with how they are counted or routed.
	"internal/stream":   {"github.com/prometheus", "github.com/nats-io", "go.opentelemetry.io"},
	"internal/callback": {"github.com/prometheus", "github.com/nats-io", "go.opentelemetry.io"},
	"internal/records":  {"net/http", "github.com/prometheus", "github.com/nats-io", "go.opentelemetry.io"},
	"internal/cluster":  {"net/http", "github.com/prometheus", "github.com/nats-io", "go.opentelemetry.io"},
	"internal/history":  {"github.com/prometheus", "github.com/nats-io", "go.opentelemetry.io"},
	"internal/api":      {"github.com/prometheus", "github.com/nats-io", "go.opentelemetry.io"},
	// What can be done with connections, and what nodes say to each other, is no HTTP.
	"internal/connections": {"net/http", "github.com/prometheus", "github.com/nats-io", "go.opentelemetry.io"},
	"internal/router":      {"net/http", "github.com/prometheus", "github.com/nats-io", "go.opentelemetry.io"},
}

// pkg is what `go list -json` says of a package, as far as it matters here.
type pkg struct {
	ImportPath string
	Imports    []string
	Deps       []string
	Standard   bool
}

func TestDependenciesPointDownwards(t *testing.T) {
	for _, build := range []struct {
		name string
		env  []string
		args []string
	}{
		{name: "linux", env: []string{"GOOS=linux"}},
		{name: "linux portable", env: []string{"GOOS=linux"}, args: []string{"-tags", "portable"}},
		{name: "darwin", env: []string{"GOOS=darwin"}},
		{name: "windows", env: []string{"GOOS=windows"}},
	} {
		t.Run(build.name, func(t *testing.T) {
			packages := list(t, build.env, build.args)
			if len(packages) == 0 {
				t.Fatal("go list found no packages")
			}
			check(t, packages)
		})
	}
}

func check(t *testing.T, packages map[string]pkg) {
	for path, p := range packages {
		name, ours := strings.CutPrefix(path, module)
		if !ours {
			continue
		}
		allowed, known := arrows[name]
		free := isUnlimited(name)
		if !known && !free {
			t.Errorf("%s: a new package: say in arrows what it may reach", name)
			continue
		}
		for _, dep := range p.Deps {
			to, ours := strings.CutPrefix(dep, module)
			switch {
			case ours && strings.HasPrefix(to, "cmd/"):
				t.Errorf("%s reaches %s, which nobody may import", name, to)
			case ours && !free && !slices.Contains(allowed, to):
				t.Errorf("%s reaches %s: the arrow points the wrong way", name, to)
			case !packages[dep].Standard && slices.Contains(standardOnly, name):
				t.Errorf("%s reaches %s: it may use the standard library only", name, dep)
			}
			for _, away := range keptAway[name] {
				if dep == away || strings.HasPrefix(dep, away+"/") {
					t.Errorf("%s reaches %s, which it must know nothing of", name, dep)
				}
			}
		}
	}
}

func isUnlimited(name string) bool {
	return slices.ContainsFunc(unlimited, func(u string) bool {
		return name == strings.TrimSuffix(u, "/") || u != "internal" && strings.HasPrefix(name, strings.TrimSuffix(u, "/")+"/")
	})
}

// list asks the go command for all packages of the module and for what they
// reach, by import path. Test files are left out: a test may import more.
func list(t *testing.T, env, args []string) map[string]pkg {
	t.Helper()
	args = append([]string{"list", "-deps", "-json=ImportPath,Imports,Deps,Standard"}, args...)
	cmd := exec.CommandContext(t.Context(), "go", append(args, "./...")...)
	cmd.Dir = ".."
	cmd.Env = append(cmd.Environ(), env...)
	cmd.Env = append(cmd.Env, "CGO_ENABLED=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.Bytes())
	}
	packages := map[string]pkg{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		packages[p.ImportPath] = p
	}
}
