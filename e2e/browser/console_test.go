package browser

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"ssegateway/e2e/harness"
	"ssegateway/e2e/harness/chromium"
)

// The pages of the console.
var consolePages = []string{"", "connections", "topics", "relayed", "nodes", "tester"}

// operator is the console of a gateway in a tab.
type operator struct {
	t   *testing.T
	gw  *harness.Gateway
	tab chromium.Tab
	url string

	mu       sync.Mutex
	problems []string // what the page said on its console
}

// startConsole runs a gateway with a console, and its backend, which grants each stream the topics of its path.
func startConsole(t *testing.T, settings ...string) *operator {
	t.Helper()
	o := &operator{t: t, gw: harness.StartGateway(t, binary, nil, append([]string{"CONSOLE=true"}, settings...)...)}
	o.gw.Backend.On("", harness.Script{Connect: func(c *harness.Callback) harness.Answer {
		var room, user int
		_, _ = fmt.Sscanf(c.URL, "/rooms/%d/events?user=%d", &room, &user)
		return harness.Answer{Body: fmt.Sprintf(`{"topics":["room.%d","news"],"subject":"user-%d"}`, room, user)}
	}})
	o.url = "http://" + strings.Replace(o.gw.Endpoint.Addr, "127.0.0.1", "localhost", 1) + "/internal/console/"
	return o
}

// open opens the console.
func (o *operator) open() {
	o.t.Helper()
	o.tab = browser.Open(o.t, chromedp.WithNewBrowserContext(), chromedp.WithListener(func(e any) {
		o.mu.Lock()
		defer o.mu.Unlock()
		switch e := e.(type) {
		case *runtime.EventExceptionThrown:
			o.problems = append(o.problems, fmt.Sprint("exception: ", e.ExceptionDetails.Text, e.ExceptionDetails.Exception.Description))
		case *runtime.EventConsoleAPICalled:
			o.problems = append(o.problems, fmt.Sprintf("console: %s", e.Args[0].Value))
		case *log.EventEntryAdded:
			o.problems = append(o.problems, fmt.Sprint("log: ", e.Entry.Text, " ", e.Entry.URL))
		}
	}))
	chromium.Run(o.t, o.tab, chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, log.Enable, cdp.Empty{})
		if err == nil {
			_, err = cdp.Call(ctx, target, cdppage.BringToFront, cdp.Empty{})
		}
		if err == nil {
			_, err = cdp.Call(ctx, target, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true})
		}
		return err
	}))
	chromium.Run(o.t, o.tab, chromedp.EmulateViewport(1280, 860))
	chromium.Run(o.t, o.tab, chromedp.Navigate(o.url))
}

// colours sets what the page is told that its user prefers.
func (o *operator) colours(scheme string) {
	o.t.Helper()
	chromium.Run(o.t, o.tab, chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}, //nolint:misspell // the name in CSS
		})
		return err
	}))
}

// goTo goes to a page of the console.
func (o *operator) goTo(page string) {
	o.t.Helper()
	chromium.Call[chromedp.Void](o.t, o.tab, `(p) => { location.hash = "#/" + p }`, page)
}

// wants waits until an expression holds.
func (o *operator) wants(what, condition string, args ...any) {
	o.t.Helper()
	if err := chromium.Wait(o.t, o.tab, condition, args...); err != nil {
		o.t.Fatalf("%s: %v; the page: %.600s", what, err, chromium.Call[string](o.t, o.tab, `() => document.body.innerText`))
	}
}

// click clicks the button with that text, or whose label for screen readers it is.
func (o *operator) click(text string) {
	o.t.Helper()
	const find = `(text) => [...document.querySelectorAll("dialog[open] button, button, a")].find((b) => !b.disabled && (b.textContent === text || b.ariaLabel === text))`
	o.wants("the button "+text, `(text) => Boolean((`+find+`)(text))`, text)
	chromium.Call[chromedp.Void](o.t, o.tab, `(text) => { (`+find+`)(text).click() }`, text)
}

// fill types a value into the field with that label.
func (o *operator) fill(label, value string) {
	o.t.Helper()
	chromium.Call[chromedp.Void](o.t, o.tab, `(label, value) => {
		const found = [...document.querySelectorAll("label")].find((l) => l.textContent === label)
		const input = found ? document.getElementById(found.htmlFor) : document.querySelector("[aria-label='" + label + "']")
		input.value = value
		input.dispatchEvent(new Event("input"))
		input.dispatchEvent(new Event("change"))
	}`, label, value)
}

// loading tells what the page has loaded, and when it had done so.
func (o *operator) loading() string {
	o.t.Helper()
	return chromium.Call[string](o.t, o.tab, `() => {
		const [page] = performance.getEntriesByType("navigation"), files = performance.getEntriesByType("resource").filter((f) => f.responseEnd && !f.name.includes("stats"))
		const bytes = [page, ...files].reduce((sum, f) => sum + f.encodedBodySize, 0)
		return (files.length + 1) + " files, " + (bytes / 1000).toFixed(0) + " kB, the last after " + Math.max(...files.map((f) => f.responseEnd)).toFixed(0) + " ms, ready after " + page.loadEventEnd.toFixed(0) + " ms"
	}`)
}

// forget forgets what the page has said on its console.
func (o *operator) forget() (said []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	said, o.problems = o.problems, nil
	return said
}

// isQuiet checks that the page has said nothing on its console.
func (o *operator) isQuiet() {
	o.t.Helper()
	if said := o.forget(); len(said) > 0 {
		o.t.Errorf("the page said: %s", strings.Join(said, "\n"))
	}
}

// streams opens n streams of the users from a number on, until the end of the test.
func (o *operator) streams(from, n int) []net.Conn {
	o.t.Helper()
	all := make([]net.Conn, n)
	var group sync.WaitGroup
	for part := range 16 {
		group.Go(func() {
			for i := part; i < n; i += 16 {
				c, err := net.Dial("tcp", o.gw.Endpoint.Addr)
				if err != nil {
					o.t.Error(err)
					return
				}
				all[i] = c
				_, _ = fmt.Fprintf(c, "GET /rooms/%d/events?user=%d HTTP/1.1\r\nHost: app.example.org\r\nAccept: text/event-stream\r\nUser-Agent: Mozilla/5.0\r\nReferer: https://app.example.org/chat?secret\r\nCookie: session=secret\r\n\r\n", (from+i)%97, from+i)
				if _, err := bufio.NewReaderSize(c, 16).ReadString('\n'); err != nil {
					o.t.Error(err)
				}
			}
		})
	}
	group.Wait()
	o.t.Cleanup(func() {
		for _, c := range all {
			if c != nil {
				_ = c.Close()
			}
		}
	})
	return all
}

// The console with 10,000 connections: every page has its figures, no barriers in light and dark, and nothing on its console; what is clicked is done.
func TestConsole(t *testing.T) {
	o := startConsole(t)
	conns := o.streams(0, 10_000)
	o.open()
	o.wants("open streams", `() => document.querySelector(".tile .value").textContent === "10,000"`)
	o.wants("live", `() => document.getElementById("live").textContent === "Live"`)
	t.Logf("loading: %s", o.loading())
	if n := chromium.Call[int](t, o.tab, `() => document.querySelectorAll(".chart canvas").length`); n != 9 {
		t.Errorf("%d plots", n)
	}
	script := chromium.Axe(t, "npm/node_modules")
	chromium.Run(t, o.tab, chromedp.Evaluate[chromedp.Void](script))
	for _, view := range []struct {
		width  int64
		scheme string
	}{{1280, "light"}, {1280, "dark"}, {390, "light"}} { // a phone has the same colours
		chromium.Run(t, o.tab, chromedp.EmulateViewport(view.width, 860))
		o.colours(view.scheme)
		for _, page := range append(consolePages, "topics/news") {
			o.goTo(page)
			o.wants("the page "+page, `() => document.querySelector("h1") !== null`)
			if found := chromium.Barriers(t, o.tab); found != "" {
				t.Errorf("%s: %+v: %s", page, view, found)
			}
			if wide := chromium.Call[int](t, o.tab, `() => document.documentElement.scrollWidth - innerWidth`); wide > 0 {
				t.Errorf("%s: %d pixels beyond %d", page, wide, view.width)
			}
		}
	}
	chromium.Run(t, o.tab, chromedp.EmulateViewport(1000, 860))

	o.goTo("connections")
	o.wants("10,000 rows", `() => document.querySelector("main p[role=status]").textContent === "10,000 connections"`)
	scrolled := chromium.Call[struct {
		Worst, Rows float64
		Last        string
	}](t, o.tab, `async () => {
		const s = document.querySelector(".scroller")
		let worst = 0, rows = 0
		for (let i = 1; i <= 100; i++) {
			const began = performance.now()
			s.scrollTop = s.scrollHeight * i / 100
			s.dispatchEvent(new Event("scroll"))
			await new Promise((r) => requestAnimationFrame(r))
			s.getBoundingClientRect()
			worst = Math.max(worst, performance.now() - began)
			rows = Math.max(rows, s.querySelectorAll("[role=row]").length)
		}
		return { worst, rows, last: [...s.querySelectorAll("[role=row]")].at(-1).getAttribute("aria-rowindex") }
	}`)
	// Few rows make scrolling quick, however busy this machine is.
	if t.Logf("the slowest of 100 frames took %.0f ms, of at most %.0f rows", scrolled.Worst, scrolled.Rows); scrolled.Rows > 80 || scrolled.Last != "10001" {
		t.Errorf("scrolling: %+v", scrolled)
	}
	o.fill("Search connections", "user-4242 room.71")
	o.wants("one fits", `() => document.querySelector("main p[role=status]").textContent === "1 of 10,000 connections"`)
	o.click("/rooms/71/events")
	o.wants("its request", `() => document.body.innerText.includes("https://app.example.org/chat")`)
	if text := chromium.Call[string](t, o.tab, `() => document.body.innerText`); strings.Contains(text, "secret") {
		t.Errorf("the page has a secret: %s", text)
	}
	o.fill("Data", "to you")
	o.click("Send")
	o.wants("sent", `() => document.getElementById("toasts").textContent.includes("Sent: ok")`)
	readUntil(t, conns[4242], "data: to you\n\n")
	o.fill("Topic to add", "extra")
	o.click("Add")
	o.wants("the topic", `() => [...document.querySelectorAll(".chips a")].some((a) => a.textContent === "extra")`)
	o.click("Close the connection")
	o.click("Close")
	o.wants("closed", `() => document.querySelector(".badge")?.textContent === "gone"`)
	o.forget() // the browser itself logs the 404 of a connection that is gone

	o.goTo("topics/news")
	o.wants("receivers", `() => document.querySelector(".tile .value").textContent === "9,999"`)
	o.fill("Data", "for all")
	o.click("Publish")
	o.wants("the tail", `() => document.querySelector(".events").textContent.includes("for all")`)
	o.goTo("topics")
	o.wants("topics, the largest first", `() => document.querySelector("main p[role=status]").textContent.startsWith("98 topics") && document.querySelector(".space a").textContent === "news"`)
	o.goTo("tester")
	o.fill("Path", "/rooms/5/events?user=1")
	o.click("Open")
	o.wants("a head", `() => document.querySelector("main > p").textContent.startsWith("200 text/event-stream")`)
	o.gw.Publish(t, "room.5", map[string]any{"data": "raw", "name": "hello"})
	o.wants("raw and parsed", `() => document.querySelector(".raw").textContent.includes("data: raw\n\n") && document.querySelector(".events").textContent.includes("hello")`)
	o.click("Stop")
	o.goTo("nodes")
	o.wants("the node", `() => document.querySelector("tbody th")?.textContent.includes("this one")`)
	o.isQuiet()
}

func readUntil(t *testing.T, c net.Conn, want string) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(harness.Patience))
	var got bytes.Buffer
	b := make([]byte, 4096)
	for !strings.Contains(got.String(), want) {
		n, err := c.Read(b)
		got.Write(b[:n])
		if err != nil {
			t.Fatalf("%q: %v", got.String(), err)
		}
	}
}

// The page of a gateway with a token asks for it once, and nothing else is to be had without it.
func TestConsoleToken(t *testing.T) {
	o := startConsole(t, "INTERNAL_TOKEN=right")
	for path, status := range map[string]int{"": 200, "app.js": 200, "none.js": 404, "../stats": 401, "../console/../stats": 401} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, o.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.URL.Opaque = "/internal/console/" + path
		if path == "../stats" {
			r.URL.Opaque = "/internal/stats"
		}
		if path == "../console/../stats" {
			r.URL.Opaque, status = "/internal/console/../stats", 404
		}
		answer, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		if answer.StatusCode != status {
			t.Errorf("%s: %d, want %d", path, answer.StatusCode, status)
		}
		if csp := answer.Header.Get("Content-Security-Policy"); status == 200 && !strings.Contains(csp, "default-src 'none'") {
			t.Errorf("%s: the policy is %q", path, csp)
		}
	}
	o.open()
	o.wants("the form", `() => document.querySelector("h1")?.textContent === "This gateway asks for a token"`)
	o.fill("Token", "wrong")
	o.click("Continue")
	o.wants("refused", `() => document.body.innerText.includes("It does not know that token.")`)
	o.fill("Token", "right")
	o.click("Continue")
	o.wants("figures", `() => document.querySelector(".tile .value")?.textContent === "0"`)
	chromium.Run(t, o.tab, chromedp.Navigate(o.url+"?again"))
	o.wants("figures again, in the same tab", `() => document.querySelector(".tile .value")?.textContent === "0"`)
	if kept := chromium.Call[string](t, o.tab, `() => document.cookie + JSON.stringify(localStorage)`); kept != "{}" {
		t.Errorf("kept: %s", kept)
	}
}

// Without CONSOLE there is none.
func TestNoConsole(t *testing.T) {
	gw := harness.StartGateway(t, binary, nil)
	for _, path := range []string{"/internal/console", "/internal/console/", "/internal/console/app.js"} {
		if status, _ := gw.Call(t, http.MethodGet, path, ""); status != http.StatusNotFound {
			t.Errorf("%s: %d", path, status)
		}
	}
}

// The vendored files are those of the package.
func TestVendored(t *testing.T) {
	for ours, theirs := range map[string]string{"uPlot.js": "dist/uPlot.iife.min.js", "uPlot.css": "dist/uPlot.min.css", "LICENSE": "LICENSE"} {
		a, err := os.ReadFile("../../internal/console/static/vendor/" + ours)
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile("npm/node_modules/uplot/" + theirs)
		if err != nil {
			t.Fatalf("the npm packages are not installed: run `make test-deps` (%v)", err)
		}
		if !bytes.Equal(a, b) {
			t.Errorf("%s is not the package's %s", ours, theirs)
		}
	}
}
