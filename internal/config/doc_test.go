package config

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ssegateway/e2e/harness"
)

var update = flag.Bool("update", false, "write the table of settings into docs/configuration.md and deploy/package/config.yaml")

const page = "../../docs/configuration.md"

// TestPageShowsTheTable fails when the documentation and the table of settings differ.
func TestPageShowsTheTable(t *testing.T) {
	harness.KeepPage(t, page, "-update` -->\n", "<!-- settings: end -->", markdown(), *update)
}

// groups are the parts of the page. A setting belongs to the first group that has its name, or the beginning of it.
var groups = []struct{ title, settings string }{
	{"Listening", "CONFIG_FILE PORT TLS_ H2C HTTP2_"},
	{"The backend", "CALLBACK_ BACKEND_"},
	{"Who may send", "INTERNAL_"},
	{"Clients", "HEARTBEAT_ CORS_ EVENTSOURCE_ EVENT_FORM"},
	{"The address of a client", "MAX_CONNECTIONS_PER_IP CONNECTS_PER_ TRUSTED_ CLIENT_IP_ PROXY_PROTOCOL"},
	{"Bounds", "MAX_ QUEUE_ REQUEST_BUDGET_"},
	{"Topics and their log", "TOPIC_ RETAINED_"},
	{"What survives a kill, alone", "STATE_"},
	{"Several gateways", "NATS_ NODE_"},
	{"Relay", "RELAY_"},
	{"Shutdown", "DRAIN_"},
	{"Looking on", "LOG_ CONSOLE PPROF"},
}

func markdown() string {
	tables := make([]strings.Builder, len(groups))
	for _, s := range settings(new(Config)) {
		standard := "none"
		if s.standard != "" {
			standard = "`" + s.standard + "`"
		}
		fmt.Fprintf(&tables[groupOf(s.env)], "| `%s` | `--%s` | %s | %s | %s |\n", s.env, s.flag(), standard, s.allowed, s.meaning)
	}
	var b strings.Builder
	for i := range tables {
		b.WriteString("\n### " + groups[i].title + "\n\n| variable | flag | default | allowed | meaning |\n| --- | --- | --- | --- | --- |\n" + tables[i].String())
	}
	b.WriteString("\n")
	return b.String()
}

// groupOf returns the index of a setting's group.
func groupOf(env string) int {
	for i, g := range groups {
		for name := range strings.FieldsSeq(g.settings) {
			if strings.HasPrefix(env, name) {
				return i
			}
		}
	}
	panic(env + " has no group")
}

// TestPageExample loads the configuration file that the page shows.
func TestPageExample(t *testing.T) {
	content, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(content), "```yaml\n")
	example, _, ok := strings.Cut(rest, "```\n")
	if !ok {
		t.Fatalf("%s shows no YAML", page)
	}
	token := write(t, "token", "s3cret\n")
	example = strings.Replace(example, "/run/secrets/gateway-token", token, 1)
	c, warnings, err := Load(nil, []string{"CONFIG_FILE=" + write(t, "config.yaml", example)}, 0)
	if err != nil || len(warnings) > 0 {
		t.Fatal(err, warnings)
	}
	if c.InternalToken != "s3cret" || c.Port != 8080 || len(c.CORSAllowedOrigins) != 2 {
		t.Errorf("the example gives %+v", c)
	}
}

func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
