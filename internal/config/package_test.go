package config

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// packaged is the configuration file that packages install.
const packaged = "../../deploy/package/config.yaml"

// commented returns a configuration file that sets nothing: each setting is there as a comment,
// with its meaning and its default.
func commented() string {
	var b strings.Builder
	b.WriteString("# Settings of SSE Gateway. A line that begins with # has no effect; the value in it is the default.\n" +
		"# After a change: systemctl restart ssegateway. For log_level, and a changed certificate, systemctl reload suffices.\n")
	for _, s := range settings(new(Config)) {
		if s.env == "CONFIG_FILE" || s.env == "CONFIG_FILE_FILE" {
			continue
		}
		fmt.Fprintf(&b, "\n# %s\n# Allowed: %s.\n#%s: %s\n", strings.ReplaceAll(s.meaning, "`", ""), s.allowed, s.key(), s.standard)
	}
	return b.String()
}

// TestPackagedFile fails when the file and the table of settings differ.
func TestPackagedFile(t *testing.T) {
	if *update {
		if err := os.WriteFile(packaged, []byte(commented()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	content, err := os.ReadFile(packaged)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(commented(), string(content)); diff != "" {
		t.Errorf("%s differs from the settings; run go test ./internal/config -update (-want +file):\n%s", packaged, diff)
	}
	plain, _, plainErr := Load(nil, nil, 0)
	c, warnings, err := Load(nil, []string{"CONFIG_FILE=" + packaged}, 0)
	c.ConfigFile = ""
	if diff := cmp.Diff(plain, c, exact); err != nil || plainErr != nil || len(warnings) > 0 || diff != "" {
		t.Errorf("%v, %v, %v, -default +file:\n%s", err, plainErr, warnings, diff)
	}
	// Without its #, each line with a default is one that can be used.
	defaults := regexp.MustCompile(`(?m)^#([a-z0-9_]+: \S.*)$`).FindAllStringSubmatch(string(content), -1)
	if len(defaults) < 20 {
		t.Fatalf("%d settings with a default", len(defaults))
	}
	for _, line := range defaults {
		c, warnings, err := Load(nil, []string{"CONFIG_FILE=" + write(t, "config.yaml", line[1]+"\n")}, 0)
		c.ConfigFile = ""
		if diff := cmp.Diff(plain, c, exact); err != nil || len(warnings) > 0 || diff != "" {
			t.Errorf("%s: %v, %v, -default +line:\n%s", line[1], err, warnings, diff)
		}
	}
}
