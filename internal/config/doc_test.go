package config

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the table of settings into docs/configuration.md and deploy/package/config.yaml")

const page = "../../docs/configuration.md"

// TestPageShowsTheTable fails when the documentation and the table of settings differ.
func TestPageShowsTheTable(t *testing.T) {
	const begin, end = "-update` -->\n", "<!-- settings: end -->"
	content, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(content), begin)
	if !ok {
		t.Fatalf("%s: no line that ends in %q", page, begin)
	}
	table, after, ok := strings.Cut(rest, end)
	if !ok {
		t.Fatalf("%s: no line %q", page, end)
	}
	want := markdown()
	if *update {
		if err := os.WriteFile(page, []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, table); diff != "" {
		t.Errorf("%s differs from the settings; run go test ./internal/config -update (-want +page):\n%s", page, diff)
	}
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
