package pages

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/chromedp/chromedp"

	"ssegateway/e2e/harness"
	"ssegateway/e2e/harness/chromium"
	"ssegateway/web"
)

//go:embed page.js
var pageScript string

var (
	binary  string // the gateway
	browser *chromium.Browser
)

// object is a JSON object.
type object = map[string]any

func TestMain(m *testing.M) {
	os.Exit(harness.Main(m, prepare, func() error { return browser.Stop() }))
}

func prepare(dir string) (err error) {
	if binary, err = harness.Build(dir); err != nil {
		return err
	}
	browser, err = chromium.Start(dir)
	return err
}

// site is an application with a number that changes, and the gateway that tells its pages.
type site struct {
	*harness.Gateway
	app     *httptest.Server
	number  atomic.Int64
	refuses atomic.Int64 // the status of the answers to connects, and of the state; 0: all is well
}

// newSite runs a site until the end of the test.
func newSite(t *testing.T, settings ...string) *site {
	t.Helper()
	s := &site{}
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServerFS(web.Files))
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, `<!doctype html><title>page</title><output></output><script type="module" src="page.js"></script>`)
	})
	mux.HandleFunc("GET /page.js", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
		fmt.Fprint(w, pageScript)
	})
	mux.HandleFunc("GET /state", func(w http.ResponseWriter, _ *http.Request) {
		if status := int(s.refuses.Load()); status != 0 {
			w.WriteHeader(status)
			return
		}
		fmt.Fprint(w, s.number.Load())
	})
	mux.HandleFunc("GET /null", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, "null")
	})
	mux.HandleFunc("GET /ends", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, "retry: 0\ndata: 1\n\n")
	})
	s.app = httptest.NewServer(mux)
	t.Cleanup(s.app.Close)
	s.Gateway = harness.StartGateway(t, binary, nil, append([]string{"CORS_ALLOWED_ORIGINS=" + s.app.URL}, settings...)...)
	s.Backend.On("", harness.Script{Connect: func(*harness.Callback) harness.Answer {
		if status := int(s.refuses.Load()); status != 0 {
			return harness.Answer{Status: status}
		}
		return harness.Answer{Body: `{"topics": ["number"], "retry_ms": 100}`}
	}})
	return s
}

// change writes the state, then publishes the change; n times.
func (s *site) change(t *testing.T, n int) {
	t.Helper()
	for range n {
		s.Publish(t, "number", object{"data": strconv.FormatInt(s.number.Add(1), 10)})
	}
}

// tab is a window with the page.
type tab struct {
	chromium.Tab
	url string
}

// visit opens a page that follows the site's stream.
func (s *site) visit(t *testing.T, config object) *tab {
	t.Helper()
	return s.visitIn(t, browser, config)
}

func (s *site) visitIn(t *testing.T, browser *chromium.Browser, config object) *tab {
	t.Helper()
	full := object{"url": s.Endpoint.Scheme() + "://" + s.Endpoint.Addr + "/events"}
	maps.Copy(full, config)
	text, err := json.Marshal(full)
	if err != nil {
		t.Fatal(err)
	}
	p := &tab{browser.Open(t), s.app.URL + "/#" + url.PathEscape(string(text))}
	p.load(t)
	return p
}

// load loads the page, or loads it again.
func (p *tab) load(t *testing.T) {
	t.Helper()
	chromium.Run(t, p.Tab, chromedp.Navigate(p.url))
}

// leave shows nothing, so the page is gone.
func (p *tab) leave(t *testing.T) {
	t.Helper()
	chromium.Run(t, p.Tab, chromedp.Navigate("about:blank"))
}

// wait waits until a condition about what the page tells holds.
func (p *tab) wait(t *testing.T, condition string) {
	t.Helper()
	if err := chromium.Wait(t, p.Tab, "() => !!globalThis.log && ("+condition+")"); err != nil {
		t.Fatalf("%s: %v; the page tells %s", condition, err, chromium.Call[string](t, p.Tab, "() => JSON.stringify(globalThis.log)"))
	}
}

func (p *tab) wantStatus(t *testing.T, status string) {
	t.Helper()
	p.wait(t, `log.status === "`+status+`"`)
}

// wantState waits until the page has that state.
func (p *tab) wantState(t *testing.T, n int) {
	t.Helper()
	p.wait(t, "log.state === "+strconv.Itoa(n))
}

// log is what the page tells.
type log struct {
	Taken                   []int
	Doubles, Missing, Loads int
	Statuses                []string
	Problem                 struct {
		Status        int
		Code, Message string
	}
}

func (p *tab) log(t *testing.T) log {
	t.Helper()
	return chromium.Call[log](t, p.Tab, "() => log")
}

// wantTaken requires that the page has taken these events, each once, and has loaded its state so often.
func (p *tab) wantTaken(t *testing.T, first, last, loads int) {
	t.Helper()
	var want []int
	for n := first; n <= last; n++ {
		want = append(want, n)
	}
	got := p.log(t)
	if fmt.Sprint(got.Taken) != fmt.Sprint(want) || got.Loads != loads || got.Missing != 0 || got.Doubles != 0 {
		t.Errorf("the page tells %+v, want the events %d to %d and %d loads", got, first, last, loads)
	}
}

// wantStreams requires that the gateway has so many streams open.
func (s *site) wantStreams(t *testing.T, want int) {
	t.Helper()
	states, err := s.Connections()
	if err != nil || len(states) != want {
		t.Errorf("the gateway has the streams %v (%v), want %d", states, err, want)
	}
}

// wantConnects waits for so many connect callbacks.
func (s *site) wantConnects(t *testing.T, n int) {
	t.Helper()
	s.Await(t, n, "connect", func(*harness.Callback) bool { return true })
}

// wantDisconnects waits for so many disconnect callbacks.
func (s *site) wantDisconnects(t *testing.T, n int) {
	t.Helper()
	s.Await(t, n, "disconnect", func(*harness.Callback) bool { return true })
}
