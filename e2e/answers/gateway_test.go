package answers

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"testing"

	"github.com/chromedp/chromedp"

	"ssegateway/e2e/harness"
	"ssegateway/e2e/harness/chromium"
)

// application streams by itself, one event for each value, and serves the page.
type application struct {
	*httptest.Server
	write chan string   // closed: the end; an empty one: it breaks off
	gone  chan struct{} // closed: it was cancelled
	asked chan string   // the body of each question
	cors  string        // the origin that may ask from elsewhere
}

func newApplication(t *testing.T) *application {
	t.Helper()
	a := &application{write: make(chan string), gone: make(chan struct{}), asked: make(chan string, 10)}
	mux := http.NewServeMux()
	mux.HandleFunc("/", servePage)
	mux.HandleFunc("POST /chat", a.answer)
	mux.HandleFunc("OPTIONS /chat", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", a.cors)
		w.Header().Set("Access-Control-Allow-Methods", "DELETE")
		w.Header().Set("Access-Control-Allow-Headers", "Last-Event-ID")
		w.WriteHeader(http.StatusNoContent)
	})
	a.Server = httptest.NewServer(mux)
	t.Cleanup(a.Close)
	return a
}

func (a *application) answer(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	a.asked <- string(body)
	w.Header().Set("Content-Type", "text/event-stream")
	if a.cors != "" {
		w.Header().Set("Access-Control-Allow-Origin", a.cors)
		w.Header().Set("Access-Control-Expose-Headers", "Sse-Gateway-Resume")
	}
	_ = http.NewResponseController(w).Flush()
	for {
		select {
		case text, more := <-a.write:
			if !more {
				return
			}
			if text == "" {
				panic(http.ErrAbortHandler)
			}
			fmt.Fprintf(w, "data: %s\n\n", text)
			_ = http.NewResponseController(w).Flush()
		case <-r.Context().Done():
			close(a.gone)
			return
		}
	}
}

// A page behind a gateway: its answer survives a cut and a reload, another window reads along, it ends, and is stopped.
func TestGateway(t *testing.T) {
	t.Parallel()
	app := newApplication(t)
	gw := harness.StartGateway(t, binary, nil, "RELAY_URL="+app.URL, "RELAY_PATHS=/", "RELAY_RESUME_SECONDS=60", "CALLBACK_URL=")
	way := harness.NewNetwork(t, gw.Endpoint.Addr)
	site := "http://" + way.Addr
	id := func(r report, n int) string {
		t.Helper()
		if !regexp.MustCompile(fmt.Sprintf(`^[\da-f]{32}\.%d$`, n)).MatchString(r.ID) {
			t.Fatalf("the id of message %d is %q", n, r.ID)
		}
		return r.ID
	}
	one := newPage(t, site)
	question := map[string]any{"method": "POST", "body": "why?", "headers": map[string]string{"Content-Type": "text/plain"}, "keep": "answer"}
	one.start(t, "one", "/chat", question)
	app.write <- "a"
	last := id(one.want(t, "message"), 1)
	if kept := one.kept(t, "answer"); kept != last {
		t.Errorf("the page keeps %q, want %q", kept, last)
	}

	// A cut, during which the application writes on.
	way.SetDown(true)
	app.write <- "b"
	app.write <- "c"
	one.want(t, "wait")
	way.SetDown(false)
	r := one.next(t)
	for r.Type == "wait" {
		r = one.next(t)
	}
	if r.Data != "b" {
		t.Fatalf("after the cut the page tells %+v", r)
	}
	id(r, 2)
	one.wantMessage(t, "c", id(report{ID: last[:len(last)-1] + "3"}, 3))

	// Another window.
	two := newPage(t, site)
	two.start(t, "two", "/chat", map[string]any{"id": last[:len(last)-1] + "0"})
	for _, want := range []string{"a", "b", "c"} {
		if r := two.want(t, "message"); r.Data != want {
			t.Fatalf("the other window tells %+v, want %s", r, want)
		}
	}

	// A reload. The page goes on where it was, as it says.
	one.load(t, site)
	kept := one.kept(t, "answer")
	id(report{ID: kept}, 3)
	one.start(t, "one", "/chat", map[string]any{"id": kept, "keep": "answer"})
	app.write <- "d"
	for _, p := range []*page{one, two} {
		if r := p.want(t, "message"); r.Data != "d" {
			t.Fatalf("the page tells %+v, want d", r)
		}
	}

	// The end.
	close(app.write)
	for _, p := range []*page{one, two} {
		p.want(t, "end")
	}
	if kept := one.kept(t, "answer"); kept != "" {
		t.Errorf("in the end the page keeps %q", kept)
	}
	two.start(t, "late", "/chat", map[string]any{"id": last[:len(last)-1] + "4"})
	two.want(t, "end")
	two.start(t, "never", "/chat", map[string]any{"id": "00000000000000000000000000000000.0"})
	if r := two.want(t, "problem"); r.Status != http.StatusGone {
		t.Errorf("an answer that there never was: %+v", r)
	}

	// A stop.
	app.write = make(chan string)
	one.start(t, "stopped", "/chat", question)
	app.write <- "e"
	r = one.want(t, "message")
	two.start(t, "along", "/chat", map[string]any{"id": r.ID[:len(r.ID)-1] + "0"})
	two.wantMessage(t, "e", r.ID)
	if status := chromium.Call[int](t, one.tab, "stop", "stopped"); status != http.StatusNoContent {
		t.Errorf("the stop was answered %d", status)
	}
	await(t, "the cancelling", app.gone)
	for _, p := range []*page{one, two} {
		p.want(t, "end")
	}
	if n := len(app.asked); n != 2 {
		t.Errorf("the application was asked %d times, want 2", n)
	}
}

// An answer that fails is cut, over and over, until the gateway forgets it: it never seems to have ended.
func TestFailure(t *testing.T) {
	for name, c := range map[string]*harness.Certificate{"HTTP 1.1": nil, "HTTP 2": cert} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app := newApplication(t)
			gw := harness.StartGateway(t, binary, c, "RELAY_URL="+app.URL, "RELAY_PATHS=/", "RELAY_RESUME_SECONDS=1", "CALLBACK_URL=")
			p := newPage(t, gw.Endpoint.Scheme()+"://"+gw.Endpoint.Addr)
			p.start(t, "a", "/chat", map[string]any{"method": "POST"})
			app.write <- "a"
			if r := p.want(t, "message"); r.Data != "a" {
				t.Fatalf("the page tells %+v", r)
			}
			app.write <- ""
			p.want(t, "wait")
			r := p.next(t)
			for r.Type == "wait" {
				r = p.next(t)
			}
			if r.Type != "problem" || r.Status != http.StatusGone {
				t.Errorf("after the cut the page tells %+v, want 410", r)
			}
		})
	}
}

// A page of another origin reads, comes back, and stops, where the application allows it.
func TestOtherOrigin(t *testing.T) {
	t.Parallel()
	app := newApplication(t)
	app.cors = app.URL
	gw := harness.StartGateway(t, binary, nil, "RELAY_URL="+app.URL, "RELAY_PATHS=/chat", "RELAY_RESUME_SECONDS=60", "CALLBACK_URL=", "CORS_ALLOWED_ORIGINS="+app.URL)
	way := harness.NewNetwork(t, gw.Endpoint.Addr)
	url := "http://" + way.Addr + "/chat"
	p := newPage(t, app.URL)
	p.start(t, "a", url, map[string]any{"method": "POST", "keep": "answer"})
	<-app.asked
	// It has an id before the first event.
	chromium.Call[chromedp.Void](t, p.tab, `async () => {
		while (!sessionStorage.answer?.endsWith(".0")) await new Promise((done) => setTimeout(done, 10));
	}`)
	way.Cut()
	p.want(t, "wait")
	app.write <- "a"
	if r := p.want(t, "message"); r.Data != "a" {
		t.Fatalf("after the cut the page tells %+v", r)
	}
	if status := chromium.Call[int](t, p.tab, "stop", "a"); status != http.StatusNoContent {
		t.Errorf("the stop was answered %d", status)
	}
	await(t, "the cancelling", app.gone)
	p.want(t, "end")
	p.start(t, "b", url, map[string]any{"id": numbered(0)})
	if r := p.want(t, "problem"); r.Status != http.StatusGone {
		t.Errorf("an answer that there never was: %+v", r)
	}
}

// A page that is closed, or left for another one, stops its answer.
func TestStopAtTheEndOfThePage(t *testing.T) {
	for name, end := range map[string]func(*testing.T, *page){
		"closed": func(t *testing.T, p *page) { t.Helper(); p.tab.Close(t) },
		"left":   func(t *testing.T, p *page) { t.Helper(); chromium.Run(t, p.tab, chromedp.Navigate("about:blank")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app := newApplication(t)
			gw := harness.StartGateway(t, binary, nil, "RELAY_URL="+app.URL, "RELAY_PATHS=/", "RELAY_RESUME_SECONDS=3600", "CALLBACK_URL=")
			p := newPage(t, "http://"+gw.Endpoint.Addr)
			p.start(t, "a", "/chat", map[string]any{"method": "POST", "stopOnClose": true})
			app.write <- "a"
			p.want(t, "message")
			end(t, p)
			await(t, "the cancelling", app.gone)
		})
	}
}

// An EventSource that is given an id reads the answer, comes back after a cut, and ends for good behind the end.
func TestEventSource(t *testing.T) {
	t.Parallel()
	app := newApplication(t)
	gw := harness.StartGateway(t, binary, nil, "RELAY_URL="+app.URL, "RELAY_PATHS=/", "RELAY_RESUME_SECONDS=60", "CALLBACK_URL=")
	way := harness.NewNetwork(t, gw.Endpoint.Addr)
	p := newPage(t, "http://"+way.Addr)
	p.start(t, "a", "/chat", map[string]any{"method": "POST"}, 1) // leaves behind the first message
	app.write <- "a"
	id := p.want(t, "message").ID
	p.want(t, "end")
	chromium.Call[chromedp.Void](t, p.tab, `(id) => {
		const source = new EventSource("/chat?lastEventId=" + id);
		source.onmessage = ({ data, lastEventId }) => report(JSON.stringify({ type: "message", data, id: lastEventId }));
		source.onerror = () => report(JSON.stringify({ type: source.readyState === EventSource.CLOSED ? "end" : "wait" }));
	}`, id[:len(id)-1]+"0")
	p.wantMessage(t, "a", id)
	way.Cut()
	p.want(t, "wait")
	app.write <- "b"
	p.wantMessage(t, "b", id[:len(id)-1]+"2")
	close(app.write)
	p.want(t, "wait")
	p.want(t, "end")
}
