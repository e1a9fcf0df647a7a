package examples

import (
	"context"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"ssegateway/e2e/harness"
)

func page(name string) example {
	return example{name, []string{"node", path(name, "server.mjs")}, "listening on", "nodejs"}
}

// tab is a page of the example in a browser.
type tab struct {
	context.Context
}

// visit opens a page of the example for as long as the test.
func (s *site) visit(t *testing.T, target string) tab {
	t.Helper()
	ctx, closeTab := chromedp.NewContext(browser)
	t.Cleanup(closeTab)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	limited, cancel := context.WithTimeout(ctx, 2*harness.Patience) // not before: it would limit the tab's life
	t.Cleanup(cancel)
	p := tab{limited}
	p.do(t, chromedp.Navigate(s.app+target))
	return p
}

func (p tab) do(t *testing.T, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(p, steps...); err != nil {
		t.Fatal(err)
	}
}

// enter fills the page's first text field and submits its form. Tabs in the background
// take no input events, so that this and click are done by script.
func (p tab) enter(t *testing.T, text string) {
	t.Helper()
	p.do(t, chromedp.Evaluate[chromedp.Void](`{
		const field = document.querySelector("input:not([type])");
		field.value = `+strconv.Quote(text)+`;
		field.form.requestSubmit();
	}`))
}

func (p tab) click(t *testing.T, selector string) {
	t.Helper()
	p.do(t, chromedp.Evaluate[chromedp.Void]("document.querySelector("+strconv.Quote(selector)+").click()"))
}

// want waits until an element has that text.
func (p tab) want(t *testing.T, selector, text string) {
	t.Helper()
	p.wait(t, "document.querySelector("+strconv.Quote(selector)+").textContent === "+strconv.Quote(text), selector)
}

// wait waits for a condition; shown is the element to show where it does not come true.
func (p tab) wait(t *testing.T, condition, shown string) {
	t.Helper()
	// By mutations: headless tabs in the background have no animation frames.
	if _, err := chromedp.Run(p, chromedp.Poll[bool](condition, chromedp.WithPollingMutation(), chromedp.WithPollingTimeout(harness.Patience))); err != nil {
		got, _ := chromedp.Run(p, chromedp.TextContent(shown))
		t.Fatalf("%s: %v; %s is %q", condition, err, shown, got)
	}
}

func TestChat(t *testing.T) {
	t.Parallel()
	s := page("chat").start(t)
	ada := s.visit(t, "/?room=tea&name=Ada")
	ada.want(t, "#present", "Ada")
	bob := s.visit(t, "/?room=tea&name=Bob")
	bob.want(t, "#present", "Ada, Bob")
	ada.want(t, "#present", "Ada, Bob")
	cleo := s.visit(t, "/?room=coffee&name=Cleo")
	cleo.want(t, "#present", "Cleo")

	ada.enter(t, "Milk <b>first</b>?")
	for _, p := range []tab{ada, bob} {
		p.want(t, "#said", "Ada: Milk <b>first</b>?")
	}
	cleo.want(t, "#said", "")

	// Who leaves is gone from the list.
	if err := chromedp.Cancel(bob.Context); err != nil {
		t.Fatal(err)
	}
	ada.want(t, "#present", "Ada")
}

func TestProgress(t *testing.T) {
	t.Parallel()
	s := page("progress").start(t)
	p := s.visit(t, "/")
	p.click(t, "button")
	p.wait(t, "document.querySelector('progress').value > 20 && document.querySelector('progress').value < 100", "output")
	p.want(t, "output", "done")
	s.open(t, "/jobs/unknown", 404)
}

func TestModel(t *testing.T) {
	t.Parallel()
	s := page("llm").start(t)
	p := s.visit(t, "/")
	p.enter(t, "Why?")
	p.want(t, "#state", "done")
	text, err := chromedp.Run(p, chromedp.TextContent("#answer"))
	if err != nil || !strings.HasPrefix(text, "You ask: Why?\n\nA stream is a promise") || !strings.HasSuffix(text, "watch it arrive.\n") {
		t.Errorf("the answer is %q (%v)", text, err)
	}
	if _, ok := s.example.Log.Find(harness.Patience, regexp.MustCompile(`^answered 200 after (\d+) of (\d+) pieces$`)); !ok {
		t.Error("the answer was not taken")
	}

	// Who leaves is not answered any further.
	p.enter(t, " And why else?")
	p.wait(t, "document.querySelector('#answer').textContent.includes('promise')", "#answer")
	p.click(t, "#stop")
	line, ok := s.example.Log.Find(harness.Patience, regexp.MustCompile(`^answered 410 after`))
	if !ok {
		t.Fatal("it was not told that the reader has left")
	}
	pieces := regexp.MustCompile(`\d+`).FindAllString(line, 3)
	made, _ := strconv.Atoi(pieces[1])
	all, _ := strconv.Atoi(pieces[2])
	if made >= all {
		t.Errorf("%s: it did not stop", line)
	}
}

func TestReplayAndGap(t *testing.T) {
	t.Parallel()
	s := page("browser").start(t)
	p := s.visit(t, "/")
	p.want(t, "#state", "following")
	p.enter(t, "one")
	p.want(t, "#items", "news: one")

	// The stream is closed, and the page has its topics after it came back.
	token := s.token(t, "topic=news")
	s.do(t, "POST", "/publish?topic=weather", "not asked for", 200, nil)
	s.closeStream(t, token)
	s.do(t, "POST", "/publish?topic=news", "two", 200, nil)
	p.want(t, "#items", "news: onenews: two")

	// The gateway has forgotten everything.
	s.restartGateway(t)
	s.do(t, "POST", "/publish?topic=news", "three", 200, nil)
	p.want(t, "#state", "following, after a gap")
	p.want(t, "#items", "news: onenews: twonews: three")
	s.do(t, "POST", "/publish?topic=news", "four", 200, nil)
	p.want(t, "#items", "news: onenews: twonews: threenews: four")
}
