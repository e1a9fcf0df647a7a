package chromium

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"

	"ssegateway/e2e/harness"
)

// Axe returns the script of axe-core, which looks for barriers, from a folder of npm packages. A page has to have it loaded for Barriers.
func Axe(t *testing.T, packages string) string {
	t.Helper()
	script, err := os.ReadFile(filepath.Join(packages, "axe-core", "axe.min.js"))
	if err != nil {
		t.Fatalf("the npm packages are not installed: run `make test-deps` (%v)", err)
	}
	return string(script)
}

// Barriers returns what axe finds in a page; "" is nothing. It may take long on a busy machine.
func Barriers(t *testing.T, tab Tab) string {
	t.Helper()
	limited, cancel := context.WithTimeout(tab, 6*harness.Patience)
	defer cancel()
	found, err := chromedp.Run(limited, chromedp.Evaluate[string](`(async () => {
		const r = await axe.run(document, { resultTypes: ["violations"] })
		return r.violations.map((v) => v.id + ": " + v.nodes.slice(0, 5).map((n) => n.target + " " + n.html.slice(0, 160) + n.failureSummary).join("; ")).join("\n")
	})()`, chromedp.EvalAwaitPromise))
	if err != nil {
		t.Fatal(err)
	}
	return found
}
