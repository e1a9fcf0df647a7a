package pages

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"ssegateway/e2e/harness/chromium"
)

// lifecycle freezes a tab, or has it go on.
func lifecycle(t *testing.T, p *tab, state cdppage.SetWebLifecycleStateState) {
	t.Helper()
	chromium.Run(t, p.Tab, chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, cdppage.SetWebLifecycleState, cdppage.SetWebLifecycleStateParams{State: state})
		return err
	}))
}

// crash has the process of a tab die.
func crash(t *testing.T, p *tab) {
	t.Helper()
	ctx, cancel := context.WithCancel(p.Tab)
	t.Cleanup(cancel)
	go func() { // it is never answered
		_, _ = chromedp.Run(ctx, chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
			_, err := cdp.Call(ctx, target, cdppage.Crash, cdp.Empty{})
			return err
		}))
	}()
}

// Two tabs have one stream. Whatever happens to the one that holds it, the other goes on, without a loss, a double or a load.
func TestLeaderLeaves(t *testing.T) {
	t.Parallel()
	own, err := chromium.Start(t.TempDir()) // other tests' tabs may share a process with one that crashes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := own.Stop(); err != nil {
			t.Error(err)
		}
	})
	for _, c := range []struct {
		name    string
		browser *chromium.Browser
		leave   func(*testing.T, *tab)
	}{
		{"closed", browser, func(t *testing.T, p *tab) { t.Helper(); p.Close(t) }},
		{"elsewhere", browser, func(t *testing.T, p *tab) { t.Helper(); p.leave(t) }},
		{"frozen", browser, func(t *testing.T, p *tab) { t.Helper(); lifecycle(t, p, cdppage.SetWebLifecycleStateStateFrozen) }},
		{"crashed", own, crash},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t)
			leader := s.visitIn(t, c.browser, object{"tabs": "number"})
			leader.wantStatus(t, "open")
			s.change(t, 1)
			leader.wantState(t, 1)
			p := s.visitIn(t, c.browser, object{"tabs": "number"})
			p.wantStatus(t, "open")
			p.wantState(t, 1)
			s.wantStreams(t, 1)
			s.change(t, 2)
			leader.wantState(t, 3)
			p.wantState(t, 3)
			c.leave(t, leader)
			s.wantDisconnects(t, 1)
			s.change(t, 2)
			p.wantState(t, 5)
			p.wantTaken(t, 2, 5, 1)
			if got := p.log(t).Statuses; len(got) != 1 {
				t.Errorf("the page was %v, want it to be open all the time", got)
			}
			s.wantStreams(t, 1)

			if c.name != "frozen" {
				return
			}
			lifecycle(t, leader, cdppage.SetWebLifecycleStateStateActive)
			leader.wantState(t, 5)
			s.change(t, 1)
			for _, p := range []*tab{leader, p} {
				p.wantState(t, 6)
			}
			leader.wantTaken(t, 1, 6, 1)
			s.wantStreams(t, 1)
		})
	}
}

// A leader that hangs, and says nothing of it, loses the stream to a tab that does not.
func TestLeaderHangs(t *testing.T) {
	t.Parallel()
	s := newSite(t, "HEARTBEAT_INTERVAL_SECONDS=1")
	config := object{"tabs": "number", "heartbeat": 1.5}
	leader := s.visit(t, config)
	leader.wantStatus(t, "open")
	p := s.visit(t, config)
	p.wantStatus(t, "open")
	chromium.Call[chromedp.Void](t, leader.Tab, "() => { setTimeout(() => { for (const end = Date.now() + 120e3; Date.now() < end; ); }); }")
	p.wantStatus(t, "away")
	s.change(t, 1)
	p.wantStatus(t, "open")
	p.wantState(t, 1)
	p.wantTaken(t, 1, 1, 1)
}

// Seven tabs of one site get all events over HTTP/1.1, of which browsers allow six connections.
func TestSevenTabs(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	var tabs []*tab
	for range 7 {
		tabs = append(tabs, s.visit(t, object{"tabs": "number", "keep": "number"}))
	}
	for _, p := range tabs {
		p.wantStatus(t, "open")
	}
	s.change(t, 20)
	for _, p := range tabs {
		p.wantState(t, 20)
		p.wantTaken(t, 1, 20, 1)
	}
	s.wantStreams(t, 1)

	// The leader goes, and another tab is loaded again: all the others have everything all the same.
	tabs[0].Close(t)
	s.wantDisconnects(t, 1)
	s.change(t, 20)
	for _, p := range tabs[1:] {
		p.wantState(t, 40)
		p.wantTaken(t, 1, 40, 1)
	}
	tabs[6].leave(t)
	s.change(t, 5)
	tabs[6].load(t)
	tabs[6].wantState(t, 45)
	tabs[6].wantTaken(t, 41, 45, 0)
	s.wantStreams(t, 1)
}

// While the backend is away the tabs are, too; then they have one stream again, and lack nothing.
func TestTabsAway(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	var tabs []*tab
	for range 3 {
		p := s.visit(t, object{"tabs": "number"})
		p.wantStatus(t, "open")
		tabs = append(tabs, p)
	}
	s.refuses.Store(http.StatusServiceUnavailable)
	s.closeStreams(t)
	for _, p := range tabs {
		p.wantStatus(t, "away")
	}
	s.change(t, 3)
	s.refuses.Store(0)
	for _, p := range tabs {
		p.wantState(t, 3)
		p.wantTaken(t, 1, 3, 1)
	}
	s.wantStreams(t, 1)
}

// Where there are no locks, or they are forbidden, each tab has a stream of its own.
func TestNoLocks(t *testing.T) {
	for _, locks := range []string{"none", "forbidden"} {
		t.Run(locks, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			tabs := []*tab{s.visit(t, object{"tabs": "number", "locks": locks}), s.visit(t, object{"tabs": "number", "locks": locks})}
			for _, p := range tabs {
				p.wantStatus(t, "open")
			}
			s.wantStreams(t, 2)
			s.change(t, 1)
			for _, p := range tabs {
				p.wantState(t, 1)
				p.wantTaken(t, 1, 1, 1)
			}
		})
	}
}

// A tab that does not take what the others take has a bound. It loads its state when it goes on.
func TestTabBehind(t *testing.T) {
	t.Parallel()
	s := newSite(t, "MAX_BODY_BYTES=8388608")
	leader := s.visit(t, object{"tabs": "number"})
	leader.wantStatus(t, "open")
	p := s.visit(t, object{"tabs": "number", "blocks": true})
	p.wantStatus(t, "open")
	chromium.Call[chromedp.Void](t, p.Tab, `() => {
		let length = 0;
		globalThis.reached = new Promise((done) => {
			new BroadcastChannel("sse number").onmessage = ({ data }) => {
				length += data.text?.length ?? 0;
				if (length > 6e6) done();
			};
		});
	}`)
	for range 6 {
		s.Publish(t, "number", object{"data": strconv.FormatInt(s.number.Add(1), 10) + strings.Repeat(" ", 1_000_000)})
	}
	leader.wantState(t, 6)
	chromium.Call[chromedp.Void](t, p.Tab, "async () => { await reached; config.blocks = false; release(); }")
	p.wantState(t, 6)
	p.wantStatus(t, "open")
	if got := p.log(t); got.Loads != 2 {
		t.Errorf("the page tells %+v, want that it has loaded its state twice", got)
	}
	s.change(t, 1)
	for _, p := range []*tab{leader, p} {
		p.wantState(t, 7)
	}
	leader.wantTaken(t, 1, 7, 1)
	s.wantStreams(t, 1)
}
