package browser

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"

	"ssegateway/e2e/harness"
	"ssegateway/e2e/harness/chromium"
)

func TestEventSource(t *testing.T) {
	for _, s := range setups {
		t.Run(s.name, func(t *testing.T) {
			// The drain is spread over a minute, so that there is time to check it.
			x := s.start(t, "DRAIN_SECONDS=60")
			testOpen(t, x)
			testLatency(t, x)
			t.Parallel() // only here, so that other tests do not disturb the measurements before
			testEvents(t, x)
			testServerClose(t, x)
			testRefusal(t, x)
			testLeave(t, x)
			testCut(t, x)
			testDrain(t, x)
			for _, r := range x.page.received(func(r *network.Response) bool { return strings.HasPrefix(r.URL, x.streams+"/events/") }) {
				if r.Protocol != s.protocol() {
					t.Errorf("%s came by %s, want %s", r.URL, r.Protocol, s.protocol())
				}
			}
		})
	}
}

// testOpen: a stream without events is open at once.
func testOpen(t *testing.T, x *site) {
	var latencies harness.Latencies
	for i := range 10 {
		source := fmt.Sprintf("open%d", i)
		began := time.Now()
		token := x.open(t, source)
		latencies = append(latencies, time.Since(began))
		x.page.close(t, source)
		x.wantDisconnect(t, token, "client_closed")
	}
	t.Logf("new EventSource to open: %v", latencies)
	// A quarter may be slower, because other tests share the processor with the browser.
	if quick := latencies.Quantile(0.25); quick > 100*time.Millisecond {
		t.Errorf("three of four streams take longer than %v to open, want 100ms", quick)
	}
}

// testLatency: each event reaches the page soon, and before the next one is sent.
func testLatency(t *testing.T, x *site) {
	token := x.open(t, "latency")
	var latencies harness.Latencies
	for i := range 100 {
		data := fmt.Sprintf("event %d", i)
		sent := time.Now()
		x.gw.Event(t, token, object{"data": data})
		r := x.page.want(t, "latency", "message", 1)
		latencies = append(latencies, time.Since(sent))
		if r.Data != data {
			t.Fatalf("got %q, want %q", r.Data, data)
		}
	}
	t.Logf("send to the page's callback: %v", latencies)
	if median := latencies.Quantile(0.5); median > 100*time.Millisecond {
		t.Errorf("half of the events take longer than %v, want 100ms", median)
	}
	x.page.close(t, "latency")
	x.wantDisconnect(t, token, "client_closed")
}

// testEvents: the page gets exactly what the backend sends.
func testEvents(t *testing.T, x *site) {
	token := x.open(t, "events")
	for _, c := range []struct {
		event               object
		kind, data, eventID string
	}{
		{object{"data": "plain"}, "message", "plain", ""},
		{object{"data": "x", "name": "named"}, "named", "x", ""},
		{object{"data": "x", "name": ""}, "message", "x", ""},
		{object{"data": ""}, "message", "", ""},
		{object{"data": "Line 1\nLine 2"}, "message", "Line 1\nLine 2", ""},
		{object{"data": "a\r\nb\rc\nd"}, "message", "a\nb\nc\nd", ""},
		{object{"data": "\n\nbetween\n\n"}, "message", "\n\nbetween\n\n", ""},
		{object{"data": "  two before, two after  "}, "message", "  two before, two after  ", ""},
		{object{"data": ": no comment\nevent: named\nid: 1\n\ndata: x"}, "message", ": no comment\nevent: named\nid: 1\n\ndata: x", ""},
		{object{"data": "Grüße, 世界 👋 \u2028\u2029\ufeff\x00\x01"}, "message", "Grüße, 世界 👋 \u2028\u2029\ufeff\x00\x01", ""},
		{object{"data": `{"json":"\\n"}`}, "message", `{"json":"\\n"}`, ""},
		{object{"data": strings.Repeat("0123456789", 30_000)}, "message", strings.Repeat("0123456789", 30_000), ""},
		{object{"data": "x", "id": "41"}, "message", "x", "41"},
		{object{"data": "the id stays"}, "message", "the id stays", "41"},
		{object{"data": "x", "id": "näxt 42", "name": "named"}, "named", "x", "näxt 42"},
		{object{"data": "an empty id is none", "id": ""}, "message", "an empty id is none", "näxt 42"},
		{object{"data": "x", "retry": 1}, "message", "x", "näxt 42"},
	} {
		x.gw.Event(t, token, c.event)
		r := x.page.want(t, "events", c.kind, 1)
		if r.Data != c.data || r.ID != c.eventID {
			t.Errorf("%.200v arrived with data %.200q and id %q", c.event, r.Data, r.ID)
		}
	}
	x.page.close(t, "events")
	x.wantDisconnect(t, token, "client_closed")
}

// testServerClose: after a close by the backend the browser reconnects with the id of the
// last event.
func testServerClose(t *testing.T, x *site) {
	token := x.open(t, "closed")
	if id, ok := x.connects(t, "closed", 1)[0].Headers["last-event-id"]; ok {
		t.Errorf("a first connection has Last-Event-ID %q", id)
	}
	x.gw.Event(t, token, object{"data": "x", "id": "näxt 42", "retry": 10})
	x.page.want(t, "closed", "message", 1)
	x.gw.CloseStream(t, token)
	x.page.want(t, "closed", "error", connecting)
	x.wantDisconnect(t, token, "server_closed")
	x.wantReturn(t, "closed", "näxt 42")
}

// wantReturn waits until an EventSource has reconnected once, and closes it.
func (x *site) wantReturn(t *testing.T, source, lastEventID string) (opened report) {
	t.Helper()
	token, opened := x.wantOpen(t, source, 2)
	if id := x.connects(t, source, 2)[1].Headers["last-event-id"]; id != lastEventID {
		t.Errorf("%s reconnected with Last-Event-ID %q, want %q", source, id, lastEventID)
	}
	x.gw.Event(t, token, object{"data": "welcome back"})
	if r := x.page.want(t, source, "message", 1); r.Data != "welcome back" || r.ID != lastEventID {
		t.Errorf("after the reconnect of %s: %q with id %q", source, r.Data, r.ID)
	}
	x.page.close(t, source)
	x.wantDisconnect(t, token, "client_closed")
	return opened
}

// testRefusal: an EventSource gives up when the backend refuses it.
func testRefusal(t *testing.T, x *site) {
	x.page.open(t, "refused", x.streams+path("refused"))
	x.page.want(t, "refused", "error", closed)
	if got := x.page.received(func(r *network.Response) bool { return r.URL == x.streams+path("refused") }); len(got) != 1 || got[0].Status != 403 {
		t.Errorf("the refused EventSource was answered %+v, want one 403", got)
	}
}

// testLeave: the backend is notified when a tab is closed.
func testLeave(t *testing.T, x *site) {
	tab := newPage(t, x.pages)
	other := &site{setup: x.setup, gw: x.gw, page: tab, streams: x.streams}
	token := other.open(t, "tab")
	tab.tab.Close(t)
	x.wantDisconnect(t, token, "client_closed")
}

// testCut: a browser whose connection is cut reconnects after the retry time.
func testCut(t *testing.T, x *site) {
	const retry = 3200 // longer than Chromium's default of 3 s
	token := x.open(t, "cut")
	x.gw.Event(t, token, object{"data": "x", "id": "cut-7", "retry": retry})
	x.page.want(t, "cut", "message", 1)
	if x.nginx {
		if _, err := x.front.Stop(harness.Patience); err != nil { // not Kill, which nginx's workers survive
			t.Fatal(err)
		}
		x.wantDisconnect(t, token, "client_closed")
		x.front.Restart(t)
	} else {
		x.gw.Kill()
		x.gw.Restart(t)
	}
	lost := x.page.want(t, "cut", "error", connecting)
	opened := x.wantReturn(t, "cut", "cut-7")
	if waited := opened.At - lost.At; waited < retry-10 { // the clocks of the page differ a little
		t.Errorf("reconnected after %.0f ms, want the retry of %d", waited, retry)
	}
}

// testDrain: during a drain old and new EventSources get a retry, and they reconnect when
// there is a gateway again.
func testDrain(t *testing.T, x *site) {
	// The drain ends one of the two streams at once, and the other one half a minute later.
	for _, source := range []string{"drained1", "drained2"} {
		x.gw.Event(t, x.open(t, source), object{"data": "x", "id": "last of " + source})
		x.page.want(t, source, "message", 1)
	}
	if err := x.gw.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	x.gw.Await(t, 1, "disconnect", func(c *harness.Callback) bool {
		return c.Reason == "server_closed" && strings.Contains(c.URL, "drained")
	})
	x.page.open(t, "late", x.streams+path("late"))
	x.page.want(t, "late", "open", 1)
	x.page.want(t, "late", "error", connecting)
	if calls := x.gw.Backend.Calls(of("late")); len(calls) > 0 {
		t.Errorf("during a drain the backend was called: %s", calls[0].Body)
	}
	x.gw.Kill()
	if x.nginx && !x.shipped {
		return // nginx answers 502 while there is no gateway, after which browsers give up
	}
	x.gw.Restart(t)
	for _, source := range []string{"drained1", "drained2"} {
		x.wantReturn(t, source, "last of "+source)
	}
	token, _ := x.wantOpen(t, "late", 1)
	x.gw.Event(t, token, object{"data": "hello"})
	if r := x.page.want(t, "late", "message", 1); r.Data != "hello" {
		t.Errorf("after the restart: %q", r.Data)
	}
}

// Pages may open more streams than the six connections that a browser makes to a site
// over HTTP/1.1: with HTTP/2 all of them share one.
func TestManyStreamsOverOneConnection(t *testing.T) {
	t.Parallel()
	const n = 150
	x := setup{tls: true}.start(t)
	name := func(i int) string { return fmt.Sprintf("stream%d", i) }
	var tokens [n]string
	tokens[0] = x.open(t, name(0)) // from this one the browser learns that the gateway speaks HTTP/2
	for i := 1; i < n; i++ {
		x.page.open(t, name(i), x.streams+path(name(i)))
	}
	for i := 1; i < n; i++ {
		tokens[i], _ = x.wantOpen(t, name(i), 1)
	}
	var latencies harness.Latencies
	for i := range n {
		sent := time.Now()
		x.gw.Event(t, tokens[i], object{"data": name(i)})
		if r := x.page.want(t, name(i), "message", 1); r.Data != name(i) {
			t.Errorf("%s got %q", name(i), r.Data)
		}
		latencies = append(latencies, time.Since(sent))
	}
	t.Logf("send to the page's callback: %v", latencies)
	heads := x.page.received(func(r *network.Response) bool { return strings.HasPrefix(r.URL, x.streams) })
	if len(heads) != n {
		t.Errorf("%d responses, want %d", len(heads), n)
	}
	for _, r := range heads {
		if r.Protocol != "h2" || r.ConnectionID != heads[0].ConnectionID {
			t.Fatalf("%s came by %s on connection %v, another one on connection %v", r.URL, r.Protocol, r.ConnectionID, heads[0].ConnectionID)
		}
	}
	x.page.tab.Close(t)
	for _, token := range tokens {
		x.wantDisconnect(t, token, "client_closed")
	}
}

// Streams that are refused or closed do not affect the others, or the connection that they share.
func TestRefusedStreamsKeepTheConnection(t *testing.T) {
	t.Parallel()
	x := setup{tls: true}.start(t)
	kept := x.open(t, "kept")
	for i := range 10 {
		refused, closing := fmt.Sprintf("refused%d", i), fmt.Sprintf("closing%d", i)
		x.page.open(t, refused, x.streams+path(refused))
		x.page.want(t, refused, "error", closed)
		x.page.open(t, closing, x.streams+path(closing))
		x.page.close(t, closing) // most probably before the backend has answered
	}
	x.open(t, "last")
	x.gw.Event(t, kept, object{"data": "still here"})
	x.page.want(t, "kept", "message", 1)
	heads := x.page.received(func(r *network.Response) bool { return strings.HasPrefix(r.URL, x.streams) })
	for _, r := range heads {
		if r.ConnectionID != heads[0].ConnectionID {
			t.Errorf("%s came on connection %v, the first on %v", r.URL, r.ConnectionID, heads[0].ConnectionID)
		}
	}
}

// A page of a site whose name resolves to this host has the gateway's origin for the browser
// (DNS rebinding). It has no access to /internal; a page of this host has.
func TestRebinding(t *testing.T) {
	t.Parallel()
	x := setup{}.start(t)
	try := func(host, method, target string) (status int) {
		t.Helper()
		x.page.navigate(t, fmt.Sprintf("http://%s:%d/healthz", host, x.gw.Port))
		return chromium.Call[int](t, x.page.tab, `(async (method, target, body) => (await fetch(target, {method, body, headers: {"content-type": "application/json"}})).status)`,
			method, target, map[string]any{"GET": nil, "POST": `{"token":"x"}`}[method])
	}
	for _, c := range []struct {
		method, target string
		own            int
	}{
		{"GET", "/internal/connections", 200},
		{"GET", "/internal/connections?limit=1", 200},
		{"GET", "/metrics", 200},
		{"POST", "/internal/send", 404},
	} {
		if got := try("evil.rebinding.example", c.method, c.target); got != 403 {
			t.Errorf("%s %s from a page of another site: %d", c.method, c.target, got)
		}
		if got := try("localhost", c.method, c.target); got != c.own {
			t.Errorf("%s %s from a page of this host: %d, want %d", c.method, c.target, got, c.own)
		}
	}
}

// A page can see which protocol the streams of its own origin use.
func TestNextHopProtocol(t *testing.T) {
	t.Parallel()
	x := setup{tls: true}.start(t)
	x.page.navigate(t, x.streams+"/healthz")
	token := x.open(t, "seen")
	x.gw.CloseStream(t, token)
	x.page.want(t, "seen", "error", connecting)
	x.page.close(t, "seen")
	if protocol := chromium.Call[string](t, x.page.tab, "nextHopProtocol", x.streams+path("seen")); protocol != "h2" {
		t.Errorf("nextHopProtocol is %q, want h2", protocol)
	}
}

// Cookies are sent from another origin only if the page asks for it.
func TestCredentials(t *testing.T) {
	for _, s := range []setup{{name: "direct"}, {name: "nginx", nginx: true}} {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			x := s.start(t)
			for _, with := range []bool{false, true} {
				source := fmt.Sprintf("credentials-%v", with)
				x.page.do(t, "openSource", source, x.streams+path(source), with)
				x.page.wantOpen(t, source)
				want := ""
				if with {
					want = "session=secret-1"
				}
				headers := x.connects(t, source, 1)[0].Headers
				if headers["cookie"] != want || headers["origin"] != x.pages || headers["accept"] != "text/event-stream" {
					t.Errorf("withCredentials %v: request.headers are %v", with, headers)
				}
			}
		})
	}
}

// A page of an origin that is not listed gets no stream, and the backend gets the disconnect.
func TestForeignOrigin(t *testing.T) {
	t.Parallel()
	x := setup{tls: true}.start(t)
	x.page = newPage(t, strings.Replace(x.pages, "127.0.0.1", "localhost", 1))
	x.page.open(t, "foreign", x.streams+path("foreign"))
	x.page.want(t, "foreign", "error", closed)
	x.wantDisconnect(t, x.connects(t, "foreign", 1)[0].Token, "client_closed")
}
