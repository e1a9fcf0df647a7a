package examples

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"ssegateway/e2e/harness"
	"ssegateway/e2e/harness/chromium"
)

// The form of docs/relay.md: htmx posts it, comes back after a cut, and ends with the answer.
func TestRelayHtmx(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "relay.md"))
	if err != nil {
		t.Fatal(err)
	}
	form := regexp.MustCompile(`<form hx-post.*>`).FindString(string(text))
	const dist = "npm/node_modules/htmx.org/dist/"
	if _, err := os.Stat(dist); err != nil {
		t.Fatalf("the npm packages are not installed: run `make test-deps` (%v)", err)
	}
	asked, next := make(chan string, 10), make(chan string)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write([]byte(`<!doctype html><script src="/dist/htmx.min.js"></script><script src="/dist/ext/hx-sse.min.js"></script>` +
			form + `<input name="question" value="why?"></form><p id="answer"></p>`))
	})
	mux.Handle("GET /dist/", http.StripPrefix("/dist/", http.FileServer(http.Dir(dist))))
	mux.HandleFunc("POST /chat", func(w http.ResponseWriter, r *http.Request) {
		asked <- r.FormValue("question")
		w.Header().Set("Content-Type", "text/event-stream")
		for data := range next {
			_, _ = w.Write([]byte(data))
			_ = http.NewResponseController(w).Flush()
		}
	})
	app := httptest.NewServer(mux)
	t.Cleanup(app.Close)
	gw := harness.StartGateway(t, binary, nil, "RELAY_URL="+app.URL, "RELAY_PATHS=/", "RELAY_RESUME_SECONDS=60", "CALLBACK_URL=")
	way := harness.NewNetwork(t, gw.Endpoint.Addr)
	p := tab{browser.Open(t)}
	chromium.Run(t, p.Tab, chromedp.Navigate("http://"+way.Addr+"/"))
	chromium.Call[chromedp.Void](t, p.Tab, `() => {
		globalThis.reasons = [];
		document.body.addEventListener("htmx:sse:close", (event) => reasons.push(event.detail.reason));
		document.querySelector("form").requestSubmit();
	}`)
	next <- "data: <b>To</b>\n\n"
	p.want(t, "#answer", "To")
	way.Cut()
	next <- "data: <i>be,</i>\n\n"
	p.want(t, "#answer", "Tobe,")
	next <- "data: or\n\nevent: done\ndata:\n\n"
	p.want(t, "#answer", "Tobe,or")
	close(next)
	deadline := time.Now().Add(harness.Patience)
	for reasons := ""; reasons != "message"; reasons = chromium.Call[string](t, p.Tab, "() => globalThis.reasons.join()") {
		if time.Now().After(deadline) {
			t.Fatalf("the stream was closed for %q, want message", reasons)
		}
	}
	if n, question := len(asked), <-asked; n != 1 || !strings.HasPrefix(question, "why?") {
		t.Errorf("the application was asked %d times, %q", n, question)
	}
}
