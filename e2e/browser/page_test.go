package browser

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"ssegateway/e2e/harness"
)

// pageScript is what the pages know: see there.
//
//go:embed page.js
var pageScript string

// page is a tab with a profile of its own: cookies and connections are not shared.
type page struct {
	context, target, session string

	mu        sync.Mutex
	changed   chan struct{} // closed and replaced at every change
	reports   map[string][]report
	responses []response
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

// response is a response head that the page's network stack received.
type response struct {
	URL          string  `json:"url"`
	Status       int     `json:"status"`
	Protocol     string  `json:"protocol"`
	ConnectionID float64 `json:"connectionId"`
}

// newPage opens a page for as long as the test.
func newPage(t *testing.T, url string) *page {
	t.Helper()
	p := &page{changed: make(chan struct{}), reports: map[string][]report{}}
	var context struct{ BrowserContextID string }
	p.do(t, "Target.createBrowserContext", nil, &context)
	p.context = context.BrowserContextID
	t.Cleanup(func() {
		if err := browser.call("", "Target.disposeBrowserContext", object{"browserContextId": p.context}, nil); err != nil {
			t.Error(err)
		}
		browser.handle(p.session, nil)
	})
	var target struct{ TargetID string }
	p.do(t, "Target.createTarget", object{"url": "about:blank", "browserContextId": p.context}, &target)
	p.target = target.TargetID
	var attached struct{ SessionID string }
	p.do(t, "Target.attachToTarget", object{"targetId": p.target, "flatten": true}, &attached)
	p.session = attached.SessionID
	browser.handle(p.session, p.event)
	p.do(t, "Network.enable", nil, nil)
	p.do(t, "Page.enable", nil, nil)
	p.do(t, "Runtime.enable", nil, nil)
	p.do(t, "Runtime.addBinding", object{"name": "report"}, nil)
	p.do(t, "Page.addScriptToEvaluateOnNewDocument", object{"source": pageScript}, nil)
	p.navigate(t, url)
	return p
}

// navigate goes to a document and waits until it is loaded.
func (p *page) navigate(t *testing.T, url string) {
	t.Helper()
	var navigated struct{ ErrorText string }
	p.do(t, "Page.navigate", object{"url": url}, &navigated)
	if navigated.ErrorText != "" {
		t.Fatalf("%s: %s", url, navigated.ErrorText)
	}
	p.next(t, "page")
}

// do runs a command of the page's session, or of the browser as long as there is none.
func (p *page) do(t *testing.T, method string, params object, result any) {
	t.Helper()
	if err := browser.call(p.session, method, params, result); err != nil {
		t.Fatal(err)
	}
}

// call calls a JavaScript function in the page and decodes what it returns or promises, if into is given.
func (p *page) call(t *testing.T, into any, function string, args ...any) {
	t.Helper()
	list, err := json.Marshal(append([]any{}, args...))
	if err != nil {
		t.Fatal(err)
	}
	var called struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails *struct{ Exception struct{ Description string } }
	}
	expression := fmt.Sprintf("(%s)(...%s)", function, list)
	p.do(t, "Runtime.evaluate", object{"expression": expression, "returnByValue": true, "awaitPromise": true}, &called)
	if called.ExceptionDetails != nil {
		t.Fatalf("%s: %s", expression, called.ExceptionDetails.Exception.Description)
	}
	if into == nil {
		return
	}
	if err := json.Unmarshal(called.Result.Value, into); err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
}

// open makes an EventSource of that name.
func (p *page) open(t *testing.T, source, url string) {
	t.Helper()
	p.call(t, nil, "openSource", source, url, false)
}

// close closes an EventSource from inside the page.
func (p *page) close(t *testing.T, source string) {
	t.Helper()
	p.call(t, nil, "closeSource", source)
}

// closeTab closes the page as its user does.
func (p *page) closeTab(t *testing.T) {
	t.Helper()
	if err := browser.call("", "Target.closeTarget", object{"targetId": p.target}, nil); err != nil {
		t.Fatal(err)
	}
}

// event takes an event of the page's session.
func (p *page) event(method string, params json.RawMessage) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch method {
	case "Runtime.bindingCalled":
		var call struct{ Payload string }
		var r report
		p.note(json.Unmarshal(params, &call))
		p.note(json.Unmarshal([]byte(call.Payload), &r))
		p.reports[r.Source] = append(p.reports[r.Source], r)
	case "Network.responseReceived":
		var received struct{ Response response }
		p.note(json.Unmarshal(params, &received))
		p.responses = append(p.responses, received.Response)
	default:
		return
	}
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *page) note(err error) {
	if err != nil {
		p.problem = err
	}
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

// wantOpen waits until the EventSource is open, again or for the first time; before
// that it may have tried in vain, but must not have given up.
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

// received are the response heads so far for which match says true.
func (p *page) received(match func(response) bool) []response {
	p.mu.Lock()
	defer p.mu.Unlock()
	var found []response
	for _, r := range p.responses {
		if match(r) {
			found = append(found, r)
		}
	}
	return found
}
