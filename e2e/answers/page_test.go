package answers

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"ssegateway/e2e/harness"
	"ssegateway/e2e/harness/chromium"
	"ssegateway/web"
)

//go:embed page.js
var pageScript string

var (
	binary  string // the gateway
	cert    *harness.Certificate
	browser *chromium.Browser
)

func TestMain(m *testing.M) {
	os.Exit(harness.Main(m, prepare, func() error { return browser.Stop() }))
}

func prepare(dir string) (err error) {
	if binary, cert, err = harness.BuildWithCertificate(dir); err != nil {
		return err
	}
	browser, err = chromium.Start(dir, chromedp.Flag("ignore-certificate-errors", true))
	return err
}

// servePage serves the page and its scripts.
func servePage(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/":
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, `<!doctype html><title>page</title><script type="module" src="page.mjs"></script>`)
	case "/page.mjs":
		w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
		fmt.Fprint(w, pageScript)
	default:
		http.FileServerFS(web.Files).ServeHTTP(w, r)
	}
}

// page is a window with a page.
type page struct {
	tab     chromium.Tab
	reports chan report
}

// report is something that the page tells of an answer.
type report struct {
	Name string
	Type string // message, wait, end or problem
	Event, Data,
	ID string
	Status int     // of a problem
	MS     float64 // of a wait
}

func newPage(t *testing.T, url string) *page {
	t.Helper()
	p := &page{reports: make(chan report, 10_000)}
	p.tab = browser.Open(t, chromedp.WithListener(func(e any) {
		if call, ok := e.(*runtime.EventBindingCalled); ok {
			var r report
			if err := json.Unmarshal([]byte(call.Payload), &r); err != nil {
				r.Type = err.Error()
			}
			p.reports <- r
		}
	}))
	chromium.Run(t, p.tab, chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, runtime.AddBinding, runtime.AddBindingParams{Name: "report"})
		return err
	}))
	p.load(t, url)
	return p
}

// load loads the page, or loads it again.
func (p *page) load(t *testing.T, url string) {
	t.Helper()
	chromium.Run(t, p.tab, chromedp.Navigate(url))
	if err := chromium.Wait(t, p.tab, "() => globalThis.start !== undefined"); err != nil {
		t.Fatal(err)
	}
}

// start has the page read an answer.
func (p *page) start(t *testing.T, name, url string, init map[string]any, first ...int) {
	t.Helper()
	n := 1 << 30
	if len(first) > 0 {
		n = first[0]
	}
	chromium.Call[chromedp.Void](t, p.tab, "(...args) => { start(...args); }", name, url, init, n)
}

func (p *page) next(t *testing.T) report {
	t.Helper()
	select {
	case r := <-p.reports:
		return r
	case <-time.After(harness.Patience):
		t.Fatal("the page tells nothing")
		return report{}
	}
}

// want waits for the next report, which has to be of that type.
func (p *page) want(t *testing.T, kind string) report {
	t.Helper()
	r := p.next(t)
	if r.Type != kind {
		t.Fatalf("the page tells %+v, want %s", r, kind)
	}
	return r
}

// wantMessage waits for the next report, which has to be this message.
func (p *page) wantMessage(t *testing.T, data, id string) {
	t.Helper()
	if r := p.want(t, "message"); r.Data != data || r.ID != id {
		t.Fatalf("the page tells %+v, want the message %q with the id %q", r, data, id)
	}
}

// kept returns what the page keeps under a name.
func (p *page) kept(t *testing.T, name string) string {
	t.Helper()
	return chromium.Call[string](t, p.tab, "(name) => sessionStorage[name] ?? 'nothing'", name)
}
