package site

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"ssegateway/e2e/harness/chromium"
)

// reader is a tab in which the site is read.
type reader struct {
	t   *testing.T
	tab chromium.Tab

	mu       sync.Mutex
	asked    []string // URLs of all requests
	problems []string // what the pages said on the console
}

// open opens a tab until the end of the test.
func open(t *testing.T) *reader {
	t.Helper()
	r := &reader{t: t}
	r.tab = browser.Open(t, chromedp.WithNewBrowserContext(), chromedp.WithListener(r.hear))
	chromium.Run(t, r.tab, chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, log.Enable, cdp.Empty{})
		if err == nil {
			_, err = cdp.Call(ctx, target, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true})
		}
		return err
	}))
	r.view(1280, "light")
	return r
}

func (r *reader) hear(e any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch e := e.(type) {
	case *network.EventRequestWillBeSent:
		r.asked = append(r.asked, e.Request.URL)
	case *runtime.EventExceptionThrown:
		r.problems = append(r.problems, fmt.Sprint("exception: ", e.ExceptionDetails.Text, e.ExceptionDetails.Exception.Description))
	case *runtime.EventConsoleAPICalled:
		r.problems = append(r.problems, fmt.Sprintf("console: %s", e.Args[0].Value))
	case *log.EventEntryAdded:
		r.problems = append(r.problems, fmt.Sprint("log: ", e.Entry.Text, " ", e.Entry.URL))
	}
}

// view sets the width of the window, and which colours its user prefers.
func (r *reader) view(width int64, scheme string) {
	r.t.Helper()
	chromium.Run(r.t, r.tab, chromedp.EmulateViewport(width, 860))
	chromium.Run(r.t, r.tab, chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: scheme}, //nolint:misspell // the name in CSS
			{Name: "prefers-reduced-motion", Value: "reduce"},
		}})
		return err
	}))
}

// read goes to a page and waits until it works and its drawings are drawn.
func (r *reader) read(page string) {
	r.t.Helper()
	chromium.Run(r.t, r.tab, chromedp.Navigate(files.URL+"/"+page))
	r.wants(page, `() => Boolean(document.querySelector("#app")?.__vue_app__ ?? document.querySelector("main > .shiki, main > ul")) && !document.querySelector("pre.undrawn")`)
}

// wants waits until an expression holds.
func (r *reader) wants(what, condition string, args ...any) {
	r.t.Helper()
	if err := chromium.Wait(r.t, r.tab, condition, args...); err != nil {
		r.t.Fatalf("%s: %v; the page: %.600s", what, err, chromium.Call[string](r.t, r.tab, `() => document.body.innerText`))
	}
}

// isQuiet checks that nothing was said on the console, and that no request went elsewhere.
func (r *reader) isQuiet() {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.problems) > 0 {
		r.t.Errorf("the pages said: %s", strings.Join(r.problems, "\n"))
	}
	if len(r.asked) == 0 {
		r.t.Error("no requests seen: the test is blind")
	}
	for _, url := range r.asked {
		if !strings.HasPrefix(url, files.URL+"/") && !strings.HasPrefix(url, "data:") && !strings.HasPrefix(url, "blob:"+files.URL+"/") {
			r.t.Errorf("a page asked for %s", url)
		}
	}
}
