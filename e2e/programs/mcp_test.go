package programs

import (
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// mcp is a server of MCP, and its client, which listens and calls a tool.
func mcp(path string) program { return program{name: path, start: node("mcp.mjs", path)} }

func testMCP(t *testing.T, s *site, left *latencies) {
	var end string
	t.Run("is the same with the gateway as without", func(t *testing.T) {
		for path, ways := range map[string][]way{"/mcp?": {s.direct, s.relayed, s.resuming, s.http2}, "/mcp-store?": {s.direct, s.resuming}} {
			var want map[string][]string
			for _, w := range ways {
				c := mcp(path).listen(t, s, w)
				c.sayAndHear(0, len(pieces))
				c.control(1, "")
				end = c.wants("end")
				if len(c.reports["session"]) != 1 || c.reports["session"][0] == "" {
					t.Errorf("%s: sessions %q", w.name, c.reports["session"])
				}
				// They are different each time.
				delete(c.reports, "session")
				delete(c.reports, "id")
				if want == nil {
					want = c.reports
				}
				if diff := cmp.Diff(want, c.reports); diff != "" {
					t.Errorf("%s (-direct +%s):\n%s", w.name, w.name, diff)
				}
			}
		}
	})
	// A server without a store has no ids. Its client takes the gateway's for the server's.
	t.Run("is cut off, and the rest comes", func(t *testing.T) {
		mcpCutOff(t, s, "/mcp?listen&", s.resuming, end, regexp.MustCompile(`^[0-9a-f]{32}\.\d+$`))
	})
	for _, w := range []way{s.relayed, s.resuming} {
		t.Run("is cut off, and the rest comes by the server's own ids, "+w.name, func(t *testing.T) {
			mcpCutOff(t, s, "/mcp-store?", w, end, regexp.MustCompile(`^[0-9a-f-]{36}/\d+$`))
		})
	}
	t.Run("is cut off before it has heard anything, and listens again", func(t *testing.T) {
		mcpCutOffEarly(t, s, "/mcp?", "listening", "200")
		// The gateway reads on, and the client has no id to come back to that with.
		mcpCutOffEarly(t, s, "/mcp?listen&", "refused", "409")
	})
	t.Run("leaves, and the application is cancelled", func(t *testing.T) {
		c := mcp("/mcp?").listen(t, s, s.relayed)
		c.sayAndHear(0, 2)
		c.leave()
		left.add(c.gone(2).Sub(c.network.AwaitLeft(t, 2)[1]))
	})
}

// listen starts a client, and waits until it has its listen stream.
func (p program) listen(t *testing.T, s *site, w way) *session {
	t.Helper()
	c := p.open(t, s, w)
	c.wants("listening")
	return c
}

// sayAndHear has the application say pieces. The client has them as progress of its call, and on its listen stream.
func (s *session) sayAndHear(from, to int) {
	s.t.Helper()
	for n := from + 1; n <= to; n++ {
		s.control(1, "")
		s.hear(n)
	}
}

// hear waits until the client has the first n pieces on both streams.
func (s *session) hear(n int) {
	s.t.Helper()
	for _, kind := range []string{"text", "heard"} {
		for got := s.reports[kind]; len(got) == 0 || got[len(got)-1] != said(n); got = s.reports[kind] {
			s.wants(kind)
		}
	}
}

// mcpCutOff: both streams of a client are cut off, and both go on where they were.
func mcpCutOff(t *testing.T, s *site, path string, w way, end string, ids *regexp.Regexp) {
	c := mcp(path).listen(t, s, w)
	c.sayAndHear(0, 2)
	c.interrupt(2, 4)
	c.hear(4)
	c.sayAndHear(4, len(pieces))
	c.control(1, "")
	if got := c.wants("end"); got != end {
		t.Errorf("in the end it has\n%s\nwant\n%s", got, end)
	}
	for _, kind := range []string{"text", "heard"} {
		want := []string{said(1), said(2), said(3), said(4), said(5)}
		if diff := cmp.Diff(want, c.reports[kind]); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", kind, diff)
		}
	}
	if len(c.reports["id"]) < len(pieces) {
		t.Errorf("the client has the ids %q", c.reports["id"])
	}
	for _, id := range c.reports["id"] {
		if !ids.MatchString(id) {
			t.Errorf("the client has the id %q, want %v", id, ids)
		}
	}
}

// mcpCutOffEarly: a client loses its listen stream before the first event.
func mcpCutOffEarly(t *testing.T, s *site, path, kind, value string) {
	c := mcp(path).listen(t, s, s.resuming)
	c.control(0, "asked:5") // the last is the call of the tool
	c.network.Cut()
	r, err := c.next()
	if r.Kind == "cut" { // so had its call no answer yet
		r, err = c.next()
	}
	if want := (report{kind, value}); err != nil || r != want {
		t.Errorf("%s: %+v %v, want %+v", path, r, err, want)
	}
}
