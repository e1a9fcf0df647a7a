package browser

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/chromedp/chromedp"

	"ssegateway/e2e/harness"
	"ssegateway/e2e/harness/chromium"
)

// startDemo runs the demo until the end of the test, and returns the URL of its page.
func startDemo(t *testing.T) (page string) {
	t.Helper()
	port, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	pagePort, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	demo, err := harness.Run(harness.Command{Args: []string{binary, "demo"}, Env: []string{"PORT=" + strconv.Itoa(port), "PAGE_PORT=" + strconv.Itoa(pagePort)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if code, err := demo.Stop(harness.Patience); code != 0 || err != nil {
			t.Errorf("exit code %d, %v", code, err)
		}
		if t.Failed() {
			t.Log(demo.Log.Text())
		}
	})
	if err := demo.AwaitHealth(harness.Local(port, nil)); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("http://localhost:%d/", pagePort)
}

// Over HTTP/1.1 a browser opens at most six connections to a site. The demo's page in the seventh
// tab says so, and opens its stream when another tab is closed.
func TestSeventhTab(t *testing.T) {
	t.Parallel()
	page := startDemo(t)
	var tabs []chromium.Tab
	for range 7 {
		tab := browser.Open(t)
		chromium.Run(t, tab, chromedp.Navigate(page))
		tabs = append(tabs, tab)
		want := "open"
		if len(tabs) == 7 {
			want = "waiting for a connection"
		}
		waitState(t, tab, want)
	}
	if text := chromium.Call[string](t, tabs[6], `() => document.getElementById("events").textContent`); len(text) < 100 {
		t.Errorf("the page explains: %q", text)
	}
	tabs[0].Close(t)
	waitState(t, tabs[6], "open")
}

// waitState waits until the demo's page says this of its stream.
func waitState(t *testing.T, tab chromium.Tab, want string) {
	t.Helper()
	if err := chromium.Wait(t, tab, `want => document.getElementById("state").textContent === want`, want); err != nil {
		t.Fatalf("the state is %q, want %q: %v", chromium.Call[string](t, tab, `() => document.getElementById("state").textContent`), want, err)
	}
}
