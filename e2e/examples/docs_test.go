package examples

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"ssegateway/e2e/harness"
	"ssegateway/e2e/harness/chromium"
)

// text returns a program in a page of docs/. Its first line is a comment with its name.
func text(t *testing.T, page, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("..", "..", "docs", page))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?s)```[a-z]+\n(?:<\\?php )?(?://|#) " + regexp.QuoteMeta(name) + "\n(.*?)```").FindSubmatch(content)
	if found == nil {
		t.Fatalf("%s has no %s", page, name)
	}
	return string(found[1])
}

// snippet is a program in a page of docs/, followed by more of it.
func snippet(t *testing.T, page, name, more string) example {
	t.Helper()
	program := strings.NewReplacer("8000", "PORT", "http://127.0.0.1:3000", "STREAMS").Replace(text(t, page, name)) + more
	if strings.HasSuffix(name, ".py") {
		return example{name, []string{"python3", "-c", program}, "listening", "python3", nil, nil}
	}
	return example{name, []string{"node", "--input-type=module", "-e", program}, "listening", "nodejs", nil, nil}
}

func TestStateInCallback(t *testing.T) {
	t.Parallel()
	s := snippet(t, "state.md", "callback.mjs", "").start(t)
	first := s.open(t, "/stock", 200)
	first.want(t, "stock", `{"version":1,"apples":5}`)
	s.do(t, "POST", "/sell", "", 200, nil)
	id := first.want(t, "stock", `{"version":2,"apples":4}`)
	s.do(t, "POST", "/sell", "", 200, nil)

	// Who comes back gets the state, then what it missed.
	back := s.open(t, "/stock?lastEventId="+id, 200)
	back.want(t, "stock", `{"version":3,"apples":3}`)
	back.want(t, "stock", `{"version":3,"apples":3}`)
}

func TestStateInPage(t *testing.T) {
	t.Parallel()
	s := snippet(t, "state.md", "page.mjs", "").start(t)
	loads := make(chan struct{}, 10)
	p := s.visit(t, "/", chromedp.WithListener(func(e any) {
		if _, ok := e.(*cdppage.EventLoadEventFired); ok {
			loads <- struct{}{}
		}
	}))
	p.want(t, "output", "5")
	s.do(t, "POST", "/sell", "", 200, nil)
	p.want(t, "output", "4")

	// The page is open while its stream is not: it gets what has changed since it was rendered.
	source := chromium.Call[string](t, p.Tab, "() => { source.close(); return source.url; }")
	s.do(t, "POST", "/sell", "", 200, nil)
	_, target, _ := strings.Cut(strings.TrimPrefix(source, "http://"), "/")
	again := s.open(t, "/"+target, 200)
	again.want(t, "stock", `{"version":2,"apples":4}`)
	again.want(t, "stock", `{"version":3,"apples":3}`)

	// After a gap the page is rendered anew.
	chromium.Run(t, p.Tab, chromedp.Navigate(s.app+"/"))
	p.want(t, "output", "3")
	for range 2 {
		awaitLoad(t, loads)
	}
	s.restartGateway(t)
	awaitLoad(t, loads)
	p.want(t, "output", "3")
}

func awaitLoad(t *testing.T, loads <-chan struct{}) {
	t.Helper()
	select {
	case <-loads:
	case <-time.After(harness.Patience):
		t.Fatal("the page was not loaded")
	}
}

func TestStateRetained(t *testing.T) {
	t.Parallel()
	s := snippet(t, "state.md", "retained.mjs", "").start(t)
	s.open(t, "/stock", 200).want(t, "apples", "5")
	s.do(t, "POST", "/sell", "", 200, nil)
	s.open(t, "/stock", 200).want(t, "apples", "4")
}

// The page's part of the documentation, without a network.
func TestStateScripts(t *testing.T) {
	t.Parallel()
	s := &site{files: t.TempDir()}
	run := func(name, before, after, want string) {
		t.Helper()
		command := snippet(t, "state.md", name, after).command
		last := len(command) - 1
		command[last] = before + command[last]
		if got := s.run(t, command); got != want {
			t.Errorf("%s prints %q, want %q", name, got, want)
		}
	}
	// What comes while the state is loaded is applied to it, and a second gap makes the first answer too old.
	run("gap.js", `
const source = new EventTarget(), answers = [];
let state = "old";
const apply = (event) => { state += event.n; };
const fetch = () => new Promise((resolve) => answers.push((state) => resolve({ json: async () => state })));
const tell = (type, n) => source.dispatchEvent(Object.assign(new Event(type), { n }));
`, `
tell("change", 1);
tell("gap");
tell("change", 2);
tell("gap");
tell("change", 3);
answers[0]("early");
await new Promise(setImmediate);
console.log(state);
answers[1]("late");
await new Promise(setImmediate);
tell("change", 4);
console.log(state);
`, "old1\nlate34\n")
	run("follow.js", `
class EventSource extends EventTarget { constructor(url) { super(); console.log(url); } }
`, `
follow().dispatchEvent(Object.assign(new Event("stock"), { lastEventId: "K7WQ2M4XHD-17" }));
follow();
`, "/stock?lastEventId=\n/stock?lastEventId=K7WQ2M4XHD-17\n")
}

func TestKeepNothing(t *testing.T) {
	t.Parallel()
	s := snippet(t, "restart.md", "nothing.py", "").start(t)
	ada := s.open(t, "/events?user=ada", 200)
	s.example.Kill()
	s.startExample(t)
	var there bool
	s.do(t, "POST", "/present?user=bob", "", 200, &there)
	if there {
		t.Error("bob is there")
	}
	s.do(t, "POST", "/present?user=ada", "", 200, &there)
	if !there {
		t.Error("ada is not there")
	}
	s.do(t, "POST", "/notify?user=ada", "your order was shipped", 200, nil)
	ada.want(t, "note", "your order was shipped")
	s.do(t, "POST", "/log-out?user=ada", "", 200, nil)
	if _, end, err := ada.Rest(harness.Patience); end != harness.Clean {
		t.Errorf("after the log-out: %v, %v", end, err)
	}
}

func TestAskAtTheStart(t *testing.T) {
	t.Parallel()
	s := snippet(t, "restart.md", "nothing.py", "").start(t)
	s.open(t, "/events?user=ada", 200)
	token := s.token(t, "subject=ada")
	if got, want := s.run(t, snippet(t, "restart.md", "list.py", "").command), "{'"+token+"': 'ada'}\n"; got != want {
		t.Errorf("the list is %q, want %q", got, want)
	}

	// The table keeps what is there, and what is young.
	got := s.run(t, snippet(t, "restart.md", "table.py", `
for token in ["gone", "`+token+`", "told"]:
    connect(token, "ada")
disconnect("told")
disconnect("told")
db.execute("UPDATE streams SET since = since - 61")
connect("young", "ada")
tidy()
print(sorted(token for (token,) in db.execute("SELECT token FROM streams")))
`).command)
	if want := "['" + token + "', 'young']\n"; got != want {
		t.Errorf("the table has %q, want %q", got, want)
	}
}

// The ends of all streams come in one callback, and leave no row.
func TestManyEnds(t *testing.T) {
	t.Parallel()
	s := snippet(t, "restart.md", "ends.py", "").start(t, "CALLBACK_BATCH=500")
	const streams = 20
	for i := range streams {
		s.open(t, "/"+strconv.Itoa(i), 200)
	}
	stays := s.open(t, "/stays", 200)
	var rows [][]string
	if s.do(t, "POST", "/rows", "", 200, &rows); len(rows) != streams+1 {
		t.Fatalf("rows %v", rows)
	}
	stays.Leave()
	if _, ok := s.gateway.Log.Find(harness.Patience, regexp.MustCompile("action=disconnects status=200 result=delivered .*events=1 ")); !ok {
		t.Error("the end was not told in a batch")
	}
	if s.do(t, "POST", "/rows", "", 200, &rows); len(rows) != streams {
		t.Errorf("rows %v", rows)
	}
	s.restartGateway(t)
	s.do(t, "POST", "/rows", "", 200, &rows)
	if len(rows) != 0 {
		t.Errorf("rows %v", rows)
	}
}
