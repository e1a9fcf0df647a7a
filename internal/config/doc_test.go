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

func markdown() string {
	var b strings.Builder
	b.WriteString("\n| variable | flag | default | allowed | meaning |\n| --- | --- | --- | --- | --- |\n")
	for _, s := range settings(new(Config)) {
		standard := "none"
		if s.standard != "" {
			standard = "`" + s.standard + "`"
		}
		fmt.Fprintf(&b, "| `%s` | `--%s` | %s | %s | %s |\n", s.env, s.flag(), standard, s.allowed, s.meaning)
	}
	b.WriteString("\n")
	return b.String()
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
