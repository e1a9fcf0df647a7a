package clients

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	_ "embed"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	gosse "github.com/tmaxmax/go-sse"

	"ssegateway/e2e/harness"
	"ssegateway/e2e/harness/chromium"
)

// client is a client library or program, and how it deviates from the standard's EventSource.
type client struct {
	name  string
	start func(t *testing.T, url string) (next func() (report, error))

	// ignoresBareIDs: a block with only `id:` does not set its last event id. A browser sets
	// the id at every empty line.
	ignoresBareIDs bool
	// ownIDs: it reports an event without an id with no id, instead of the last one.
	ownIDs bool
	// losesEmptyLines: it drops empty lines at the beginning of the data.
	losesEmptyLines bool
}

var clients = []client{
	{name: "Chromium", start: startPage},
	// Both use eventsource-parser, which does not report blocks without data.
	{name: "eventsource", start: node("eventsource.mjs"), ignoresBareIDs: true, ownIDs: true},
	{name: "eventsource-client", start: node("eventsource-client.mjs"), ignoresBareIDs: true, ownIDs: true},
	// It reports blocks without data as events, and does not reconnect after a clean end unless
	// its caller asks for it: see the script.
	{name: "fetch-event-source", start: node("fetch-event-source.mjs"), ownIDs: true, losesEmptyLines: true},
	// It reports blocks without data as events, too.
	{name: "go-sse", start: startGoSSE},
	// It does not know events: the caller parses the lines, and reconnects.
	{name: "curl", start: startCurl},
}

func node(script string) func(*testing.T, string) func() (report, error) {
	return func(t *testing.T, url string) func() (report, error) { return runNode(t, script, url) }
}

func runNode(t *testing.T, script string, urls ...string) func() (report, error) {
	t.Helper()
	wantCommand(t, "node", "nodejs")
	if _, err := os.Stat("npm/node_modules"); err != nil {
		t.Fatalf("the npm packages are not installed: run `make test-deps` (%v)", err)
	}
	p, err := harness.Run(harness.Command{Args: append([]string{"node", "npm/" + script}, urls...)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("output of the client:\n%.2000s", p.Log.Text())
		}
	})
	n := 0
	return func() (r report, err error) {
		n++
		line, ok := p.Log.Find(harness.Patience, regexp.MustCompile(`^\{"n":`+strconv.Itoa(n)+","))
		if !ok {
			return r, fmt.Errorf("no line %d: %w", n, harness.ErrTimeout)
		}
		err = json.Unmarshal([]byte(line), &r)
		return r, err
	}
}

func wantCommand(t *testing.T, name, install string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Fatalf("%s is not installed, and this client needs it: install %s, or run `make test-deps`", name, install)
	}
}

// queue returns the reports of a client that runs in this process.
func queue(reports <-chan report) func() (report, error) {
	return func() (report, error) {
		select {
		case r := <-reports:
			return r, nil
		case <-time.After(harness.Patience):
			return report{}, fmt.Errorf("nothing happened: %w", harness.ErrTimeout)
		}
	}
}

func startGoSSE(t *testing.T, url string) func() (report, error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	reports := make(chan report, 1000)
	transport := &http.Transport{}
	c := gosse.Client{
		HTTPClient: &http.Client{Transport: transport},
		ResponseValidator: func(r *http.Response) error {
			err := gosse.DefaultValidator(r)
			if err == nil {
				reports <- report{Type: "open"}
			}
			return err
		},
	}
	conn := c.NewConnection(req)
	conn.SubscribeToAll(func(e gosse.Event) {
		if e.Type == "" && e.Data == "" {
			return // go-sse reports a block without data as an event
		}
		reports <- report{Type: "event", Name: cmp.Or(e.Type, "message"), Data: e.Data, ID: e.LastEventID}
	})
	done := make(chan error, 1)
	go func() { done <- conn.Connect() }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("go-sse gave up: %v", err)
		}
		transport.CloseIdleConnections()
	})
	return queue(reports)
}

// startCurl returns an EventSource made of curl and a loop.
func startCurl(t *testing.T, url string) func() (report, error) {
	t.Helper()
	wantCommand(t, "curl", "curl")
	reports := make(chan report, 1000)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	t.Cleanup(func() {
		cancel()
		<-done
	})
	go func() {
		defer close(done)
		for id := ""; ctx.Err() == nil; {
			args := []string{"--silent", "--include", "--no-buffer", url}
			if id != "" {
				args = append(args, "--header", "Last-Event-ID: "+id)
			}
			curl := exec.CommandContext(ctx, "curl", args...)
			out, err := curl.StdoutPipe()
			if err == nil {
				err = curl.Start()
			}
			if err != nil {
				reports <- report{Type: err.Error()}
				return
			}
			readLines(out, &id, reports)
			_ = curl.Wait() // curl fails if the stream is cut
		}
	}()
	return queue(reports)
}

// readLines reads a response as a shell script would.
func readLines(out io.Reader, id *string, reports chan<- report) {
	var name string
	var data []string
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ": ")
		switch field {
		case "HTTP/1.1 200 OK":
			reports <- report{Type: "open"}
		case "event":
			name = value
		case "id":
			*id = value
		case "data":
			data = append(data, value)
		case "":
			if data != nil {
				reports <- report{Type: "event", Name: cmp.Or(name, "message"), Data: strings.Join(data, "\n"), ID: *id}
			}
			name, data = "", nil
		}
	}
}

// pageScript is the JavaScript of the page.
//
//go:embed page.js
var pageScript string

// pages serves the page from one origin, which the gateway allows.
var pages *httptest.Server

func startPages(t *testing.T) (origin string) {
	t.Helper()
	pages = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(w, "<!doctype html><title>page</title><script>%s</script>", pageScript)
	}))
	t.Cleanup(pages.Close)
	return pages.URL
}

// browser is a running Chromium, in which each page gets a tab.
var browser *chromium.Browser

func startChromium(t *testing.T) {
	t.Helper()
	var err error
	if browser, err = chromium.Start(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := browser.Stop(); err != nil {
			t.Error(err)
		}
	})
}

func startPage(t *testing.T, url string) func() (report, error) {
	t.Helper()
	return runPage(t, "openSource", url)
}

// runPage calls a function of a page.
func runPage(t *testing.T, function string, arg any) func() (report, error) {
	t.Helper()
	reports := make(chan report, 1000)
	tab := browser.Open(t, chromedp.WithListener(func(e any) {
		if call, ok := e.(*runtime.EventBindingCalled); ok {
			var r report
			if err := json.Unmarshal([]byte(call.Payload), &r); err != nil {
				r.Type = err.Error()
			}
			reports <- r
		}
	}))
	chromium.Run(t, tab, chromedp.Steps(
		chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
			_, err := cdp.Call(ctx, target, runtime.AddBinding, runtime.AddBindingParams{Name: "report"})
			return err
		}),
		chromedp.Navigate(pages.URL),
	))
	chromium.Call[chromedp.Void](t, tab, function, arg)
	return queue(reports)
}
