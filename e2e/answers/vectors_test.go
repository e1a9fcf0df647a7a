package answers

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"ssegateway/e2e/harness/chromium"
	"ssegateway/web"
)

// checked is what page.js says of the vectors.
type checked struct {
	Vectors int
	Wrong   []json.RawMessage
}

func (c checked) want(t *testing.T) {
	t.Helper()
	if c.Vectors < 50 {
		t.Errorf("only %d vectors were read", c.Vectors)
	}
	for _, w := range c.Wrong {
		t.Errorf("%s", w)
	}
}

const vectorFile = "../../sse/testdata/vectors.json"

func TestVectorsInNode(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("node"); err != nil {
		t.Fatal("node is not installed, and this test needs it: install nodejs, or run `make test-deps`")
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, web.Files); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"package.json": `{"type": "module"}`, "page.js": pageScript} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	vectors, err := filepath.Abs(vectorFile)
	if err != nil {
		t.Fatal(err)
	}
	node := exec.CommandContext(t.Context(), "node", "--input-type=module", "-e", `
import { readFileSync } from "node:fs";
import { check } from "./page.js";
console.log(JSON.stringify(await check(JSON.parse(readFileSync(`+"`"+vectors+"`"+`, "utf8")))));`)
	node.Dir = dir
	node.Stderr = os.Stderr
	out, err := node.Output()
	if err != nil {
		t.Fatal(err)
	}
	var c checked
	if err := json.Unmarshal(out, &c); err != nil {
		t.Fatal(err)
	}
	c.want(t)
}

func TestVectorsInChromium(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(vectorFile)
	if err != nil {
		t.Fatal(err)
	}
	p := newPage(t, newServer(t).URL)
	chromium.Call[checked](t, p.tab, "check", json.RawMessage(text)).want(t)
}
