package main

import (
	"compress/gzip"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// npmTests has the tests of the npm packages, and what they need.
const npmTests = "../npm/test"

// npmFiles returns the main package, that for this system, and that for pages.
func npmFiles(t *testing.T) (files []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dist, "npm", "*.tgz"))
	if err != nil || len(files) != 3 {
		t.Fatalf("%q (%v), want three packages", files, err)
	}
	return files
}

// command runs a command in a directory, which must succeed, and returns what it prints on stdout.
func command(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Dir = dir
	var errors strings.Builder
	cmd.Stderr = &errors
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%q: %v\n%s%s", args, err, out, errors.String())
	}
	return string(out)
}

// installed returns a directory that has the packages, installed from their files without a network.
func installed(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "package.json"), `{"private": true}`)
	command(t, dir, append([]string{"npm", "install", "--offline", "--no-audit", "--no-fund", "--cache", t.TempDir()}, npmFiles(t)...)...)
	return dir
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Each package has the files that npm pack would take, and they have one version.
func TestNPMPack(t *testing.T) {
	var versions []string
	for _, path := range npmFiles(t) {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		z, err := gzip.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		names := untar(t, z, dir)
		_ = f.Close()
		var listed []struct {
			Version, Filename string
			Files             []struct {
				Path string
				Mode int64
			}
		}
		if err := json.Unmarshal([]byte(command(t, filepath.Join(dir, "package"), "npm", "pack", "--dry-run", "--json")), &listed); err != nil || len(listed) != 1 {
			t.Fatalf("%v: %+v", err, listed)
		}
		var want []string
		for _, file := range listed[0].Files {
			want = append(want, "package/"+file.Path)
		}
		slices.Sort(want)
		if !slices.Equal(names, want) || listed[0].Filename != filepath.Base(path) {
			t.Errorf("%s has %q, npm packs %s with %q", filepath.Base(path), names, listed[0].Filename, want)
		}
		versions = append(versions, listed[0].Version)
	}
	if len(slices.Compact(versions)) != 1 {
		t.Errorf("versions %q", versions)
	}
}

// npx runs the program of the release; start() and the command do what they promise.
func TestNPM(t *testing.T) {
	dir := installed(t)
	if out := command(t, dir, "npx", "--no-install", "ssegateway", "version"); !strings.HasSuffix(out, " "+runtime.GOOS+"/"+runtime.GOARCH+"\n") {
		t.Errorf("the version is %q", out)
	}
	tests, err := os.ReadFile(filepath.Join(npmTests, "start.test.mjs"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "start.test.mjs"), string(tests))
	t.Log(command(t, dir, "node", "--test", "--test-timeout=60000", "start.test.mjs"))
}

// The modules for pages can be imported by the names of their package, which says that importing them does nothing else.
func TestNPMWeb(t *testing.T) {
	dir := installed(t)
	script := `import { follow } from "@ssegateway/web";
import { share } from "@ssegateway/web/tabs";
import { ask } from "@ssegateway/web/relay";
import { events } from "@ssegateway/web/events";
for await (const { data } of events(new Blob(["data: read\n\n"]).stream())) console.log(data, follow.name, share.name, ask.name);`
	if out := command(t, dir, "node", "--input-type=module", "-e", script); out != "read follow share ask\n" {
		t.Errorf("node prints %q", out)
	}
}

// The README's examples run, in Jest and in Playwright with a real Chromium.
func TestNPMExamples(t *testing.T) {
	dir := installed(t)
	readme, err := os.ReadFile("../npm/ssegateway/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, found := range regexp.MustCompile("(?s)```js\n// (\\S+)\n(.*?)```").FindAllStringSubmatch(string(readme), -1) {
		write(t, filepath.Join(dir, found[1]), found[2])
	}
	modules, err := filepath.Abs(filepath.Join(npmTests, "node_modules"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"@playwright", "playwright", "playwright-core"} {
		if err := os.Symlink(filepath.Join(modules, name), filepath.Join(dir, "node_modules", name)); err != nil {
			t.Fatal(err)
		}
	}
	// Both count what passed, so that no test is none.
	cmd := exec.CommandContext(t.Context(), filepath.Join(modules, ".bin", "jest"), "--rootDir", dir)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "Tests:       1 passed, 1 total") {
		t.Errorf("Jest: %v\n%s", err, out)
	}
	// Debian's Chromium, instead of one that Playwright would download.
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "debian.config.mjs"), `import config from "./playwright.config.mjs";
export default { ...config, use: { launchOptions: { executablePath: "`+chromium+`", args: ["--no-sandbox"] } } };`)
	cmd = exec.CommandContext(t.Context(), "node", "node_modules/@playwright/test/cli.js", "test", "-c", "debian.config.mjs", "--reporter=line")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "1 passed") {
		t.Errorf("Playwright: %v\n%s", err, out)
	}
}
