package programs

import (
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// program is a client, and an application that answers it.
type program struct {
	name  string
	start func(t *testing.T, s *session, base string)
	// also are the cases that only it has.
	also map[string]func(t *testing.T, p program, s *site, end string)
	// goesOn: its application goes on without a reader, and has a way of its own to resume.
	goesOn bool
}

var programs = []program{
	{
		name: "AI SDK, useChat", start: page("chat"),
		also: map[string]func(*testing.T, program, *site, string){"the page is loaded again, and the rest comes": reloaded},
	},
	{name: "AI SDK, useChat with resumable-stream", start: page("own"), goesOn: true},
	{name: "fetch-event-source by POST", start: page("fetch-event-source")},
	{name: "Datastar @post", start: page("datastar")},
	{name: "htmx hx-post", start: page("htmx")},
	{name: "AG-UI HttpAgent", start: node("agent.mjs", "/agent?")},
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
	t.Run("is cut off, and the rest comes", func(t *testing.T) { cutOff(t, p, s, end) })
	for name, run := range p.also {
		t.Run(name, func(t *testing.T) { run(t, p, s, end) })
	}
	if !p.goesOn {
		t.Run("leaves, and the application is cancelled", func(t *testing.T) { leaves(t, p, s, left) })
	}
}

// same: the client reports the same by each way. It returns what the client has in the end.
func (p program) same(t *testing.T, s *site) (end string) {
	var want map[string][]string
	for _, w := range []way{s.direct, s.relayed, s.resuming} {
		c := p.open(t, s, w)
		end = c.complete(0)
		if want == nil {
			want = maps.Clone(c.reports)
		}
		if diff := cmp.Diff(want, c.reports); diff != "" {
			t.Errorf("%s (-direct +%s):\n%s", w.name, w.name, diff)
		}
	}
	return end
}

func (p program) open(t *testing.T, s *site, w way) *session {
	t.Helper()
	c, base := newSession(t, s, w)
	p.start(t, c, base)
	return c
}

// cutOff: what comes after a cut, and what came meanwhile, comes once, of the same answer.
func cutOff(t *testing.T, p program, s *site, end string) {
	c := p.open(t, s, s.resuming)
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
func leaves(t *testing.T, p program, s *site, left *latencies) {
	c := p.open(t, s, s.relayed)
	c.say(0, 2)
	c.leave()
	c.wantCancelled(1, left)
}

// wantCancelled waits until the client has closed n streams, and the application has learned it.
func (s *session) wantCancelled(n int, left *latencies) {
	s.t.Helper()
	at := s.network.AwaitLeft(s.t, n)[n-1]
	left.add(time.UnixMilli(s.control(0, "gone:"+string(rune('0'+n))).GoneAt).Sub(at.Truncate(time.Millisecond)))
}
