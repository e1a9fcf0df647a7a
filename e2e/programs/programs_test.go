package programs

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ssegateway/e2e/harness"
)

// program is a client, and an application that answers it.
type program struct {
	name  string
	start func(t *testing.T, s *session, base string)
	path  string // of the application
	// goesOn: its application goes on without a reader, and has a way of its own to resume.
	goesOn bool
	// plain: its answer is no event stream, and only passed through.
	plain bool
	// events is how many an answer has, if the client notices the last one before the end.
	events int
}

var programs = []program{
	{name: "AI SDK, useChat", start: page("chat")},
	{name: "AI SDK, useChat with resumable-stream", start: page("own"), goesOn: true},
	{name: "AI SDK, useChat with a text stream", start: page("text"), plain: true},
	{name: "fetch-event-source by POST", start: page("fetch-event-source"), path: "/events", events: 6},
	{name: "Datastar @post", start: page("datastar")},
	{name: "htmx hx-post", start: page("htmx")},
	{name: "AG-UI HttpAgent", start: page("agent"), path: "/agent", events: 9},
	{name: "curl", start: curl},
}

// latencies are how long after its client each application learned that nobody reads its answer any more.
type latencies struct {
	mu  sync.Mutex
	all []time.Duration
}

func (l *latencies) add(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, d)
}

func TestPrograms(t *testing.T) {
	s := startSite(t)
	var left latencies
	t.Run("all", func(t *testing.T) {
		for _, p := range programs {
			t.Run(p.name, func(t *testing.T) {
				t.Parallel()
				testProgram(t, p, s, &left)
			})
		}
		t.Run("MCP", func(t *testing.T) {
			t.Parallel()
			testMCP(t, s, &left)
		})
	})
	slices.Sort(left.all)
	t.Logf("applications were cancelled after %v", left.all)
	// The median, since tests beside this one may hold up any process.
	if n := len(left.all); n == 0 || left.all[n/2] > 100*time.Millisecond {
		t.Errorf("the applications were cancelled after %v, want 100ms", left.all)
	}
}

func testProgram(t *testing.T, p program, s *site, left *latencies) {
	var end string
	t.Run("is the same with the gateway as without", func(t *testing.T) { end = p.same(t, s) })
	if end == "" {
		return
	}
	if !p.plain {
		for _, w := range []way{s.resuming, s.askingHTTP2} {
			t.Run("is cut off, and the rest comes, "+w.name, func(t *testing.T) { cutOff(t, p, s, w, end) })
		}
	}
	if p.events > 0 {
		t.Run("is cut off behind the last event, and has the end", func(t *testing.T) { cutOffAtEnd(t, p, s, end) })
	}
	if strings.HasSuffix(p.name, "useChat") {
		t.Run("the page is loaded again, and the rest comes", func(t *testing.T) { reloaded(t, p, s, end) })
	}
	if strings.HasSuffix(p.name, "useChat") || p.name == "curl" {
		t.Run("stops an answer that is kept", func(t *testing.T) { stops(t, p, s, left) })
	}
	if p.goesOn {
		return
	}
	for _, w := range []way{s.relayed, s.http2} {
		t.Run("leaves, and the application is cancelled, "+w.name, func(t *testing.T) { leaves(t, p, s, w, left) })
	}
}

// same: the client reports the same by each way. It returns what the client has in the end.
func (p program) same(t *testing.T, s *site) (end string) {
	var want map[string][]string
	for _, w := range []way{s.direct, s.relayed, s.resuming, s.http2} {
		c := p.open(t, s, w)
		end = c.complete(0)
		delete(c.reports, "key") // which only some ways have, and each time others
		delete(c.reports, "id")
		if want == nil {
			want = c.reports
		}
		if diff := cmp.Diff(want, c.reports); diff != "" {
			t.Errorf("%s (-direct +%s):\n%s", w.name, w.name, diff)
		}
	}
	return end
}

// cutOff: what comes after a cut, and what came meanwhile, comes once, of the same answer.
func cutOff(t *testing.T, p program, s *site, w way, end string) {
	c := p.open(t, s, w)
	c.say(0, 2)
	c.interrupt(2, 4)
	c.text(4)
	if got := c.complete(4); got != end {
		t.Errorf("in the end it has\n%s\nwant\n%s", got, end)
	}
	wantAsked(t, p, c)
}

func wantAsked(t *testing.T, p program, c *session) {
	t.Helper()
	want := 1
	if p.goesOn {
		want = 2
	}
	if got := c.control(0, ""); got.Asked != want {
		t.Errorf("the application was asked %d times, want %d", got.Asked, want)
	}
}

// cutOffAtEnd: a client that has all events, but not the end, gets that.
func cutOffAtEnd(t *testing.T, p program, s *site, end string) {
	c := p.open(t, s, s.resuming)
	c.say(0, len(pieces))
	c.control(1, "")
	c.wants("last")
	key, _, _ := strings.Cut(c.reports["key"][0], ".")
	c.network.SetDown(true)
	c.control(1, "taken:7")
	awaitComplete(t, s.resuming.base+p.path, key+"."+strconv.Itoa(p.events))
	c.network.SetDown(false)
	if got := c.wants("end"); got != end {
		t.Errorf("in the end it has\n%s\nwant\n%s", got, end)
	}
	wantAsked(t, p, c)
}

// awaitComplete waits until the gateway has the end of an answer. The id is that of its last event.
func awaitComplete(t *testing.T, url, id string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodHead, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Last-Event-ID", id)
	for deadline := time.Now().Add(harness.Patience); ; <-time.After(10 * time.Millisecond) {
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusNoContent {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("what is behind %s is a %d, want 204", id, resp.StatusCode)
		}
	}
}

// stops: a client stops an answer that would go on without it.
func stops(t *testing.T, p program, s *site, left *latencies) {
	c := p.open(t, s, s.resuming)
	c.say(0, 2)
	at := time.Now()
	c.stop()
	left.add(c.gone(1).Sub(at))
	c.wants("end")
}

// reloaded: a page that is loaded again in the middle of an answer gets it all.
func reloaded(t *testing.T, p program, s *site, end string) {
	c := p.open(t, s, s.resuming)
	c.say(0, 2)
	c.reload()
	c.text(2)
	if got := c.complete(2); got != end {
		t.Errorf("in the end it has\n%s\nwant\n%s", got, end)
	}
	wantAsked(t, p, c)
}

// leaves: when the client leaves, so does the gateway.
func leaves(t *testing.T, p program, s *site, w way, left *latencies) {
	c := p.open(t, s, w)
	c.say(0, 2)
	at := time.Now()
	c.leave()
	if w != s.http2 && !p.plain { // else one cannot see when the client has left, and its time counts too
		at = c.network.AwaitLeft(t, 1)[0]
	}
	left.add(c.gone(1).Sub(at))
}

// gone waits until n answers have lost their reader at the application, and returns when that was.
func (s *session) gone(n int) time.Time {
	s.t.Helper()
	return time.UnixMilli(s.control(0, "gone:"+strconv.Itoa(n)).GoneAt)
}
