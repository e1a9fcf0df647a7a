package pages

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"ssegateway/web"
)

// The types fit what an application in TypeScript writes, by the names of the npm package.
func TestTypes(t *testing.T) {
	t.Parallel()
	compiler, err := filepath.Abs("../generated/npm/node_modules/.bin/tsc")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(compiler); err != nil {
		t.Fatalf("the npm packages are not installed: run `make test-deps` (%v)", err)
	}
	dir := t.TempDir()
	module := filepath.Join(dir, "node_modules", "@ssegateway", "web")
	if err := os.CopyFS(module, web.Files); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{
		"../../npm/web/package.json": filepath.Join(module, "package.json"),
		"consumer.ts":                filepath.Join(dir, "consumer.mts"),
	} {
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tsc := exec.CommandContext(t.Context(), compiler, "--noEmit", "--strict", "--target", "es2022", "--module", "nodenext",
		"--lib", "es2022,dom,dom.iterable,dom.asynciterable", "consumer.mts")
	tsc.Dir = dir
	if out, err := tsc.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
