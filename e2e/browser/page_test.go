package browser

import (
	"context"
	_ "embed"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"ssegateway/e2e/harness"
	"ssegateway/e2e/harness/chromium"
)

// pageScript is the JavaScript of the pages.
//
//go:embed page.js
var pageScript string

// page is a tab with a profile of its own, so it shares no cookies and connections with others.
type page struct {
	tab chromium.Tab

	mu        sync.Mutex
	changed   chan struct{} // closed and replaced at every change
	reports   map[string][]report
	responses []*network.Response // heads that the page's network stack received
	problem   error
}

// report is something that happened to an EventSource of the page.
type report struct {
	Source string  `json:"source"` // its name
	Type   string  `json:"type"`   // of the event: open, error, message or a name
	Data   string  `json:"data"`
	ID     string  `json:"id"`    // lastEventId
	State  int     `json:"state"` // readyState
	At     float64 `json:"at"`    // in milliseconds, by the page's clock
}

// The states of an EventSource.
const (
	connecting = 0
	closed     = 2
)

// newPage opens a page until the end of the test.
func newPage(t *testing.T, url string) *page {
	t.Helper()
	p := &page{changed: make(chan struct{}), reports: map[string][]report{}}
	p.tab = browser.Open(t, chromedp.WithNewBrowserContext(), chromedp.WithListener(p.event))
	chromium.Run(t, p.tab, chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, runtime.AddBinding, runtime.AddBindingParams{Name: "report"})
		if err == nil {
			script := cdppage.AddScriptToEvaluateOnNewDocumentParams{Source: pageScript}
			_, err = cdp.Call(ctx, target, cdppage.AddScriptToEvaluateOnNewDocument, script)
		}
		return err
	}))
	p.navigate(t, url)
	return p
}

// navigate goes to a document and waits until it is loaded.
func (p *page) navigate(t *testing.T, url string) {
	t.Helper()
	chromium.Run(t, p.tab, chromedp.Navigate(url))
}

// do calls a JavaScript function of the page.
func (p *page) do(t *testing.T, function string, args ...any) {
	t.Helper()
	chromium.Call[chromedp.Void](t, p.tab, function, args...)
}

// open creates an EventSource with that name.
func (p *page) open(t *testing.T, source, url string) {
	t.Helper()
	p.do(t, "openSource", source, url, false)
}

// close closes an EventSource from inside the page.
func (p *page) close(t *testing.T, source string) {
	t.Helper()
	p.do(t, "closeSource", source)
}

// event handles an event of the tab.
func (p *page) event(e any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e := e.(type) {
	case *runtime.EventBindingCalled:
		var r report
		if err := json.Unmarshal([]byte(e.Payload), &r); err != nil {
			p.problem = err
		}
		p.reports[r.Source] = append(p.reports[r.Source], r)
	case *network.EventResponseReceived:
		p.responses = append(p.responses, e.Response)
	default:
		return
	}
	close(p.changed)
	p.changed = make(chan struct{})
}

// next waits for the next thing that happens to an EventSource.
func (p *page) next(t *testing.T, source string) report {
	t.Helper()
	timer := time.NewTimer(harness.Patience)
	defer timer.Stop()
	for {
		p.mu.Lock()
		reports, changed, problem := p.reports[source], p.changed, p.problem
		if len(reports) > 0 {
			p.reports[source] = reports[1:]
		}
		p.mu.Unlock()
		if problem != nil {
			t.Fatal(problem)
		}
		if len(reports) > 0 {
			return reports[0]
		}
		select {
		case <-changed:
		case <-timer.C:
			t.Fatalf("nothing happened to %s within %v", source, harness.Patience)
		}
	}
}

// want waits for the next thing that happens, which must be this.
func (p *page) want(t *testing.T, source, kind string, state int) report {
	t.Helper()
	r := p.next(t, source)
	if r.Type != kind || r.State != state {
		t.Fatalf("%s: %s in state %d (data %.100q), want %s in state %d", source, r.Type, r.State, r.Data, kind, state)
	}
	return r
}

// wantOpen waits until the EventSource is open, for the first time or again. It may have had
// errors before, but must not have given up.
func (p *page) wantOpen(t *testing.T, source string) report {
	t.Helper()
	for {
		r := p.next(t, source)
		switch {
		case r.Type == "open":
			return r
		case r.Type != "error" || r.State != connecting:
			t.Fatalf("%s: %s in state %d, want it to open", source, r.Type, r.State)
		}
	}
}

// received returns the response heads so far for which match returns true.
func (p *page) received(match func(*network.Response) bool) []*network.Response {
	p.mu.Lock()
	defer p.mu.Unlock()
	var found []*network.Response
	for _, r := range p.responses {
		if match(r) {
			found = append(found, r)
		}
	}
	return found
}
