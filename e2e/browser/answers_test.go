package browser

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"ssegateway/e2e/harness/chromium"
)

var screenshots = flag.String("screenshots", "", "a folder for pictures of the demo's page of answers, and of the console")

// demoTab is a window with the demo's page of answers.
type demoTab struct{ chromium.Tab }

func (p demoTab) text(t *testing.T, id string) string {
	t.Helper()
	return chromium.Call[string](t, p.Tab, "(id) => document.getElementById(id).textContent", id)
}

func (p demoTab) wait(t *testing.T, condition string, args ...any) {
	t.Helper()
	if err := chromium.Wait(t, p.Tab, condition, args...); err != nil {
		t.Fatalf("%s %v: %v; the answer %q, the application %q, seen: %q", condition, args, err, p.text(t, "state"), p.text(t, "application"), p.text(t, "events"))
	}
}

// want waits until an element has a text that contains this.
func (p demoTab) want(t *testing.T, id, text string) {
	t.Helper()
	p.wait(t, "(id, text) => document.getElementById(id).textContent.includes(text)", id, text)
}

// wantWords waits until the window has read so many words.
func (p demoTab) wantWords(t *testing.T, words int) {
	t.Helper()
	p.wait(t, "(n) => Number(document.getElementById('words').textContent) >= n", words)
}

func (p demoTab) click(t *testing.T, id string) {
	t.Helper()
	p.wait(t, "(id) => !document.getElementById(id).disabled", id)
	chromium.Call[chromedp.Void](t, p.Tab, "(id) => document.getElementById(id).click()", id)
}

// The demo's answer survives a cut and a reload, another window reads along, and a button stops it.
func TestAnswers(t *testing.T) {
	t.Parallel()
	page := startDemo(t)
	whole, err := os.ReadFile(filepath.Join("..", "..", "internal", "demo", "page", "answer.txt"))
	if err != nil {
		t.Fatal(err)
	}
	p := demoTab{browser.Open(t)}
	chromium.Run(t, p.Tab, chromedp.Navigate(page))
	answers := chromium.Call[string](t, p.Tab, `() => document.querySelector("a[href=answers]").href`)
	chromium.Run(t, p.Tab, chromedp.Navigate(answers))
	p.want(t, "state", "none yet")
	chromium.Call[chromedp.Void](t, p.Tab, "() => { window.open = (url) => { window.opened = url; }; }")
	picture(t, p, "before")
	p.click(t, "ask")
	p.wantWords(t, 5)
	p.click(t, "along")
	along := demoTab{browser.Open(t)}
	chromium.Run(t, along.Tab, chromedp.Navigate(page+chromium.Call[string](t, p.Tab, "() => window.opened")))
	along.wantWords(t, 5)

	p.click(t, "cut")
	for _, window := range []demoTab{p, along} {
		window.want(t, "state", "is cut")
	}
	before := p.text(t, "application")
	picture(t, p, "cut")
	p.wait(t, "(before) => document.getElementById('application').textContent !== before", before) // which goes on
	for _, window := range []demoTab{p, along} {
		window.want(t, "events", "It goes on after")
		window.want(t, "cuts", "1")
	}
	chromium.Run(t, p.Tab, chromedp.Navigate(answers))
	p.want(t, "events", "loaded again")
	p.wantWords(t, 100)
	if text := p.text(t, "text"); !strings.HasPrefix(string(whole), text) {
		t.Errorf("after the reload the answer is %q", text)
	}
	picture(t, p, "reloaded")
	for _, window := range []demoTab{p, along} {
		window.wantWords(t, 150)
		window.want(t, "state", "has ended")
		if text := window.text(t, "text"); text != string(whole) {
			t.Errorf("the answer is %q", text)
		}
	}
	p.want(t, "application", "has written all")
	picture(t, p, "ended")

	p.click(t, "ask")
	p.wantWords(t, 3)
	p.click(t, "stop")
	p.want(t, "state", "stopped")
	p.want(t, "application", "stopped after")
	if kept := chromium.Call[string](t, p.Tab, "() => sessionStorage.answer"); kept != "" {
		t.Errorf("after the end the page keeps %q", kept)
	}
	// The link of the other window leads to an answer that is there for a while.
	chromium.Run(t, along.Tab, chromedp.Navigate(page))
	chromium.Run(t, along.Tab, chromedp.Navigate(answers+"#00000000000000000000000000000000.0"))
	along.want(t, "state", "gone")
}

// picture saves pictures of a window: light, dark, and on a phone.
func picture(t *testing.T, p demoTab, name string) {
	t.Helper()
	if *screenshots == "" {
		return
	}
	for _, look := range []struct {
		name, scheme string
		width        int64
		mobile       bool
	}{{"light", "light", 1280, false}, {"dark", "dark", 1280, false}, {"phone", "light", 390, true}, {"phone-dark", "dark", 390, true}} {
		chromium.Run(t, p.Tab, chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
			_, err := cdp.Call(ctx, target, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
				Width: look.width, Height: 844, DeviceScaleFactor: 1, Mobile: look.mobile,
			})
			if err == nil {
				media := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: look.scheme}}} //nolint:misspell // its name in CSS
				_, err = cdp.Call(ctx, target, emulation.SetEmulatedMedia, media)
			}
			return err
		}))
		shot := chromium.Run(t, p.Tab, chromedp.FullScreenshot(100))
		if err := os.WriteFile(filepath.Join(*screenshots, name+"-"+look.name+".png"), shot, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
