package site

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"ssegateway/e2e/harness/chromium"
)

// One page of each kind: the first, long ones with tables, one with a drawing, with pictures, a decision, a file, a folder, a page from outside docs/.
var kinds = []string{
	"index.html", "contract.html", "api.html", "architecture.html", "console.html", "scale.html", "relay.html",
	"adr/0001-detached-sockets.html", "source/deploy/nginx.conf.html", "source/examples/index.html", "source/README.html", "404.html",
}

// Each kind of page is whole without a network, has no barriers in light and dark, and fits a phone.
func TestPages(t *testing.T) {
	script := axe(t)
	r := open(t)
	for _, view := range []struct {
		width  int64
		scheme string
	}{{1280, "light"}, {1280, "dark"}, {390, "light"}, {390, "dark"}} {
		r.view(view.width, view.scheme)
		for _, page := range kinds {
			r.read(page)
			if dark := chromium.Call[bool](t, r.tab, `() => document.documentElement.classList.contains("dark")`); dark != (view.scheme == "dark") {
				t.Errorf("%s: %+v: dark is %v", page, view, dark)
			}
			if wide := chromium.Call[int](t, r.tab, `() => document.documentElement.scrollWidth - innerWidth`); wide > 0 {
				t.Errorf("%s: %d pixels beyond %d", page, wide, view.width)
			}
			chromium.Run(t, r.tab, chromedp.Evaluate[chromedp.Void](script))
			if found := chromium.Call[string](t, r.tab, `async () => {
				const r = await axe.run(document, { resultTypes: ["violations"] })
				return r.violations.map((v) => v.id + ": " + v.nodes.slice(0, 5).map((n) => n.target + " " + n.html.slice(0, 160) + n.failureSummary).join("; ")).join("\n")
			}`); found != "" {
				t.Errorf("%s: %+v: %s", page, view, found)
			}
		}
	}
	r.isQuiet()
}

// Each Mermaid block is drawn, and anew when the reader changes the colours.
func TestDrawings(t *testing.T) {
	r := open(t)
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := 0
	for _, file := range pages {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		want := len(regexp.MustCompile("(?m)^```mermaid$").FindAll(text, -1))
		if want == 0 {
			continue
		}
		blocks += want
		page := strings.TrimSuffix(filepath.Base(file), ".md")
		r.view(1280, "light")
		r.read(page + ".html")
		const drawn = `() => [...document.querySelectorAll(".drawing svg")].filter((d) => d.querySelectorAll(".node").length > 1)`
		if n := chromium.Call[int](t, r.tab, `() => (`+drawn+`)().length`); n != want {
			t.Errorf("%s: %d drawings, want %d", page, n, want)
		}
		light := chromium.Call[string](t, r.tab, `() => document.querySelector(".drawing").innerHTML`)
		r.view(1280, "dark")
		r.wants(page+" in dark", `(light) => document.querySelector(".drawing").innerHTML !== light`, light)
	}
	if blocks == 0 {
		t.Error("no drawings: the test is blind")
	}
	r.isQuiet()
}
