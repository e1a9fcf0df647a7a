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

// One page of each kind: the first, a long one with tables, one with a drawing, with pictures, with programs, a decision, a file, a folder, a page from outside docs/.
var kinds = []string{
	"index.html", "operations.html", "architecture.html", "console.html", "relay.html",
	"adr/0001-detached-sockets.html", "source/deploy/nginx.conf.html", "source/examples/index.html", "source/README.html", "404.html",
}

// Each kind of page is whole without a network, and has no barriers in light and dark.
func TestPages(t *testing.T) {
	script := chromium.Axe(t, "../browser/npm/node_modules")
	r := open(t)
	for _, scheme := range []string{"light", "dark"} {
		r.view(1280, scheme)
		for _, page := range kinds {
			r.read(page)
			if dark := chromium.Call[bool](t, r.tab, `() => document.documentElement.classList.contains("dark")`); dark != (scheme == "dark") {
				t.Errorf("%s: in %s dark is %v", page, scheme, dark)
			}
			chromium.Run(t, r.tab, chromedp.Evaluate[chromedp.Void](script))
			if found := chromium.Barriers(t, r.tab); found != "" {
				t.Errorf("%s, %s: %s", page, scheme, found)
			}
		}
	}
	r.isQuiet()
}

// On a phone no page has to be moved sideways, and the navigation and the search can be opened.
func TestPhone(t *testing.T) {
	script := chromium.Axe(t, "../browser/npm/node_modules")
	r := open(t)
	r.view(390, "light")
	for _, page := range append([]string{"contract.html", "api.html", "benchmarks.html", "configuration.html"}, kinds...) {
		r.read(page)
		if wide := chromium.Call[int](t, r.tab, `() => document.documentElement.scrollWidth - innerWidth`); wide > 0 {
			t.Errorf("%s: %d pixels beyond the screen", page, wide)
		}
	}
	r.read("index.html")
	chromium.Run(t, r.tab, chromedp.Evaluate[chromedp.Void](script))
	chromium.Call[chromedp.Void](t, r.tab, `() => document.querySelector(".VPLocalNav button.menu").click()`)
	r.wants("the navigation", `() => document.querySelector(".VPSidebar.open")?.innerText.includes("Contract")`)
	if found := chromium.Barriers(t, r.tab); found != "" {
		t.Errorf("with the navigation: %s", found)
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
	below, err := filepath.Glob("../../docs/[^a]*/*.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := 0
	for _, file := range append(pages, below...) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		want := len(regexp.MustCompile("(?m)^```mermaid$").FindAll(text, -1))
		if want == 0 {
			continue
		}
		blocks += want
		page := strings.TrimSuffix(strings.TrimPrefix(filepath.ToSlash(file), "../../docs/"), ".md")
		r.view(1280, "light")
		r.read(page + ".html")
		const drawn = `() => [...document.querySelectorAll(".drawing svg")].filter((d) => d.querySelectorAll(".node, .actor").length > 1)`
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
