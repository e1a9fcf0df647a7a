package examples

import (
	"context"
	_ "embed"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"ssegateway/e2e/harness"
	"ssegateway/e2e/harness/chromium"
)

var (
	counterTime = flag.Duration("counter", 20*time.Second, "how long the page of examples/browser is disturbed")
	counterRate = flag.Int("rate", 200, "changes a second")
	screenshot  = flag.String("screenshot", "", "file for a picture of that page, as PNG")
)

// observeScript is added to the page, and tells what that shows.
//
//go:embed observe.js
var observeScript string

// counter is the truth about the counter of examples/browser, and the page's word beside it.
type counter struct {
	mu       sync.Mutex
	values   []int       // by version
	known    []time.Time // when the backend answered that version
	claims   int         // observations in which the page says that it is up to date
	stalest  time.Duration
	problems []string
}

// observation is what the page shows at a moment.
type observation struct {
	At             int64 // in milliseconds, by this host's clock
	Claim          bool
	Version, Value int
}

// staleness is how long a version may be known before a page that says that it is up to date has it. The
// page relies on one pulse for 3.5 s at most; the rest is for a machine that is busy.
const staleness = 5 * time.Second

// TestCounter disturbs the page of examples/browser in every way while the counter changes. Whatever the
// page shows has to be the value of its version, and as new as it claims.
func TestCounter(t *testing.T) {
	t.Parallel()
	e := page("browser")
	w := newWay(t)
	e.command = append([]string{"env", "PUBLIC=" + w.url}, e.command...)
	s := e.start(t)
	w.to.Store(int32(s.port))
	c := &counter{values: []int{0}, known: []time.Time{time.Now()}}
	p := tab{browser.Open(t, chromedp.WithNewBrowserContext(), chromedp.WithListener(c.listen))}
	chromium.Run(t, p.Tab, chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, runtime.AddBinding, runtime.AddBindingParams{Name: "report"})
		if err == nil {
			script := cdppage.AddScriptToEvaluateOnNewDocumentParams{Source: observeScript}
			_, err = cdp.Call(ctx, target, cdppage.AddScriptToEvaluateOnNewDocument, script)
		}
		return err
	}))
	chromium.Run(t, p.Tab, chromedp.Navigate(s.app+"/"))
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.change(ctx, s) }()

	disturbances := []struct {
		name string
		do   func()
	}{
		{"reloads", func() { chromium.Run(t, p.Tab, chromedp.Navigate(s.app+"/")) }},
		{"losses of the network", func() {
			p.offline(t, true)
			s.closeStreams(t, "topic=counter") // Chromium spares those that are open
			p.wantClaim(t, false)
			c.wait(t, rand.IntN(*counterRate))
			p.offline(t, false)
		}},
		{"new streams by script", func() {
			for range 1 + rand.IntN(5) {
				p.click(t, "#reopen")
				c.wait(t, rand.IntN(10))
			}
		}},
		{"silences", func() {
			w.gate.Lock()
			defer w.gate.Unlock()
			p.wantClaim(t, false)
		}},
		{"closes by the backend", func() { s.closeStreams(t, "topic=counter") }},
		{"gateways that forget the log", func() {
			p.want(t, "#loads", "0") // since the last reload: nothing was missed without a gap
			s.restartGateway(t)
			p.wait(t, "#loads", "(loads) => loads.textContent > 0")
		}},
	}
	begun, n := time.Now(), 0
	for ; time.Since(begun) < *counterTime || n < len(disturbances); n++ {
		p.wantClaim(t, true)
		c.wait(t, rand.IntN(*counterRate))
		disturbances[n%len(disturbances)].do()
	}
	p.wantClaim(t, true)
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}

	last, value := c.report(t, fmt.Sprintf("%d disturbances in %v", n, time.Since(begun).Round(time.Second)))
	p.want(t, "#version", fmt.Sprint(last))
	p.want(t, "#value", fmt.Sprint(value))
	p.wantClaim(t, true)
	if *screenshot != "" {
		if err := os.WriteFile(*screenshot, chromium.Run(t, p.Tab, chromedp.CaptureScreenshot()), 0o600); err != nil {
			t.Error(err)
		}
	}

	// While nothing changes only the gap tells the page to load its state.
	loads := chromium.Run(t, p.Tab, chromedp.TextContent("#loads"))
	s.restartGateway(t)
	p.wait(t, "#loads", "(loads, before) => loads.textContent !== before", loads)
	p.wantClaim(t, true)
}

// report tells what was observed, and returns the last version and its value.
func (c *counter) report(t *testing.T, disturbances string) (version, value int) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	version = len(c.values) - 1
	if len(c.problems) == 0 {
		harness.Figure(t, "%d changes and %s: the page shows 0 wrong states, %d times claims to be up to date, and then lacks nothing older than %v (bound %v)",
			version, disturbances, c.claims, c.stalest.Round(time.Millisecond), staleness)
	}
	for _, problem := range c.problems[:min(len(c.problems), 10)] {
		t.Error(problem)
	}
	if c.claims < version/10 {
		t.Errorf("the page claimed only %d times to be up to date, with %d changes", c.claims, version)
	}
	return version, c.values[version]
}

// change changes the counter, one change after the other, until ctx ends.
func (c *counter) change(ctx context.Context, s *site) error {
	tick := time.NewTicker(time.Second / time.Duration(*counterRate))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		by := rand.IntN(2001) - 1000
		c.mu.Lock()
		version, value := len(c.values), c.values[len(c.values)-1]+by
		c.values = append(c.values, value) // the page may show it before the answer is here
		c.mu.Unlock()
		resp, err := s.client.Post(fmt.Sprintf("%s/change?by=%d", s.app, by), "text/plain", http.NoBody)
		if err != nil {
			return err
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if want := fmt.Sprintf(`{"version":%d,"value":%d}`, version, value); err != nil || string(text) != want {
			return fmt.Errorf("the backend answered %d %q (%w), want %s", resp.StatusCode, text, err, want)
		}
		c.mu.Lock()
		c.known = append(c.known, time.Now())
		c.mu.Unlock()
	}
}

// wait waits until the counter has changed so many times more.
func (c *counter) wait(t *testing.T, changes int) {
	t.Helper()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	deadline := time.Now().Add(2 * harness.Patience)
	for first := c.last(); c.last() < first+changes; <-poll.C {
		if time.Now().After(deadline) {
			t.Fatalf("the counter stands still at version %d", c.last())
		}
	}
}

func (c *counter) last() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.known) - 1
}

// listen compares what the page shows with the truth.
func (c *counter) listen(e any) {
	called, ok := e.(*runtime.EventBindingCalled)
	if !ok {
		return
	}
	var seen []observation
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := json.Unmarshal([]byte(called.Payload), &seen); err != nil {
		c.problems = append(c.problems, err.Error())
	}
	for _, o := range seen {
		if o.Version >= len(c.values) || c.values[o.Version] != o.Value {
			c.problems = append(c.problems, fmt.Sprintf("the page shows %d at version %d, claim %v", o.Value, o.Version, o.Claim))
			continue
		}
		if !o.Claim {
			continue
		}
		c.claims++
		if next := o.Version + 1; next < len(c.known) {
			stale := time.UnixMilli(o.At).Sub(c.known[next])
			c.stalest = max(c.stalest, stale)
			if stale > staleness {
				c.problems = append(c.problems, fmt.Sprintf("the page claims to be up to date with version %d, when the next one was %v old", o.Version, stale))
			}
		}
	}
}

// wantClaim waits until the page says that it is up to date, or no longer does.
func (p tab) wantClaim(t *testing.T, claim bool) {
	t.Helper()
	p.wait(t, "#state", "(state, claim) => (state.textContent === 'up to date') === claim", claim)
}

// offline takes the page's network away, or gives it back.
func (p tab) offline(t *testing.T, offline bool) {
	t.Helper()
	conditions := &network.Conditions{Offline: offline, DownloadThroughput: -1, UploadThroughput: -1}
	chromium.Run(t, p.Tab, chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, network.EmulateNetworkConditionsByRule,
			network.EmulateNetworkConditionsByRuleParams{MatchedNetworkConditions: []*network.Conditions{conditions}})
		return err
	}))
}
