package examples

import (
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"ssegateway/e2e/harness"
	"ssegateway/e2e/harness/chromium"
)

func page(name string) example {
	return example{name, []string{"node", path(name, "server.mjs")}, "listening on", "nodejs", nil, nil}
}

// tab is a page of the example in a browser.
type tab struct {
	chromium.Tab
}

// visit opens a page of the example until the end of the test.
func (s *site) visit(t *testing.T, target string, options ...chromedp.ContextOption) tab {
	t.Helper()
	p := tab{browser.Open(t, options...)}
	chromium.Run(t, p.Tab, chromedp.Navigate(s.app+target))
	return p
}

// enter fills a text field, and submits its form. Tabs in the background get no input events, so enter and click use
// scripts.
func (p tab) enter(t *testing.T, selector, text string) {
	t.Helper()
	chromium.Call[chromedp.Void](t, p.Tab, `(selector, text) => {
		const field = document.querySelector(selector);
		field.value = text;
		field.form.requestSubmit();
	}`, selector, text)
}

func (p tab) click(t *testing.T, selector string) {
	t.Helper()
	chromium.Call[chromedp.Void](t, p.Tab, "(selector) => document.querySelector(selector).click()", selector)
}

// want waits until an element has that text.
func (p tab) want(t *testing.T, selector, text string) {
	t.Helper()
	p.wait(t, selector, "(element, text) => element.textContent === text", text)
}

// wait waits until a condition of an element is true: a JavaScript function of the
// element and args.
func (p tab) wait(t *testing.T, selector, condition string, args ...any) {
	t.Helper()
	find := "(selector, ...args) => (" + condition + ")(document.querySelector(selector), ...args)"
	if err := chromium.Wait(t, p.Tab, find, append([]any{selector}, args...)...); err != nil {
		got := chromium.Run(t, p.Tab, chromedp.TextContent(selector))
		t.Fatalf("%s, %q: %v; %s is %q", condition, args, err, selector, got)
	}
}

func TestChat(t *testing.T) {
	t.Parallel()
	s := page("chat").start(t)
	ada := s.visit(t, "/")
	ada.wait(t, "section", "(chat) => chat.hidden")
	// The form leads where its fields say.
	query := chromium.Call[string](t, ada.Tab, `() => {
		const { name, room } = join.elements;
		[name.value, room.value] = ["Ada", "tea"];
		return String(new URLSearchParams(new FormData(join)));
	}`)
	chromium.Run(t, ada.Tab, chromedp.Navigate(s.app+"/?"+query))
	ada.want(t, "#present", "Ada")
	bob := s.visit(t, "/?room=tea&name=Bob")
	bob.want(t, "#present", "Ada, Bob")
	ada.want(t, "#present", "Ada, Bob")
	cleo := s.visit(t, "/?room=coffee&name=Cleo")
	cleo.want(t, "#present", "Cleo")

	ada.enter(t, "#say input", "Milk <b>first</b>?")
	for _, p := range []tab{ada, bob} {
		p.want(t, "#said", "Ada: Milk <b>first</b>?")
	}
	cleo.want(t, "#said", "")

	// Who comes later sees the last lines.
	dan := s.visit(t, "/?room=tea&name=Dan")
	dan.want(t, "#said", "Ada: Milk <b>first</b>?")
	ada.want(t, "#present", "Ada, Bob, Dan")

	// A user who has left is removed from the list, also after a restart of the backend.
	s.example.Kill()
	s.startExample(t)
	dan.Close(t)
	ada.want(t, "#present", "Ada, Bob")
	bob.enter(t, "#say input", "Tea first.")
	const all = "Ada: Milk <b>first</b>?Bob: Tea first."
	ada.want(t, "#said", all)

	// Who comes back sees what was said meanwhile, and nothing twice, whether the browser comes back or the page.
	chromium.Run(t, bob.Tab, chromedp.Navigate("about:blank"))
	ada.want(t, "#present", "Ada")
	s.closeStreams(t, "subject=Ada")
	s.do(t, "POST", "/say", `{"room":"tea","name":"Eve","say":"Or coffee?"}`, 200, nil)
	ada.want(t, "#said", all+"Eve: Or coffee?")
	chromium.Call[chromedp.Void](t, ada.Tab, "() => { lastEventId = ''; open(); }") // everything comes again
	ada.want(t, ".state", "here")
	s.do(t, "POST", "/say", `{"room":"tea","name":"Eve","say":"No."}`, 200, nil)
	ada.want(t, "#said", all+"Eve: Or coffee?Eve: No.")

	// While the backend is away nobody comes in, and the page tries again.
	s.example.Kill()
	s.closeStreams(t, "subject=Ada")
	ada.want(t, ".state", "away")
	s.startExample(t)
	ada.want(t, ".state", "here")
	ada.want(t, "#said", all+"Eve: Or coffee?Eve: No.")
}

func TestProgress(t *testing.T) {
	t.Parallel()
	s := page("progress").start(t)
	p := s.visit(t, "/")
	p.click(t, "button")
	p.wait(t, "progress", "(bar) => bar.value > 20 && bar.value < 100")

	// The job outlives a restart of its program, and a page that is loaded again goes on with it.
	s.example.Kill()
	s.startExample(t)
	chromium.Run(t, p.Tab, chromedp.Reload())
	p.wait(t, "progress", "(bar) => bar.value > 0")
	p.want(t, "output", "done")
	s.open(t, "/events/jobs/unknown", 404)
}

func TestModel(t *testing.T) {
	t.Parallel()
	e := page("llm")
	e.env = []string{"STEP_MS=60"} // 5 s in all
	s := e.start(t, "RELAY_URL=APP", "RELAY_PATHS=/events/llm")
	network := harness.NewNetwork(t, strings.TrimPrefix(s.streams, "http://"))
	p := tab{browser.Open(t)}
	load := func() { chromium.Run(t, p.Tab, chromedp.Navigate("http://"+network.Addr+"/events/llm/")) }
	load()
	p.enter(t, "input", "Why?")
	const writes = "(answer) => answer.textContent.includes('promise')"
	p.wait(t, "#answer", writes)
	network.Cut()
	p.want(t, "#state", "interrupted")
	p.want(t, "#state", "answering")
	load()
	p.want(t, "#state", "done")
	text := chromium.Run(t, p.Tab, chromedp.TextContent("#answer"))
	if !strings.HasPrefix(text, "You ask: Why?\n\nA stream is a promise") || !strings.HasSuffix(text, "watch it arrive.\n") {
		t.Errorf("the answer is %q", text)
	}
	// answered returns how many pieces the nth answer has, and might have.
	answered := func(n int) (made, all string) {
		t.Helper()
		says := regexp.MustCompile(`^answered with (\d+) of (\d+) pieces$`)
		if !s.example.Log.Until(harness.Patience, func(line string) bool {
			if found := says.FindStringSubmatch(line); found != nil {
				made, all = found[1], found[2]
				n--
			}
			return n == 0
		}) {
			t.Fatal("the example does not say what it has made")
		}
		return made, all
	}
	if made, all := answered(1); made != all {
		t.Errorf("the example has made %s of %s pieces", made, all)
	}

	// The model stops when its reader says so.
	p.enter(t, "input", "And why else?")
	p.wait(t, "#answer", writes)
	p.click(t, "#stop")
	p.want(t, "#state", "done")
	if made, all := answered(2); made == all {
		t.Errorf("the example has made all of %s pieces, and was to stop", all)
	}
}
