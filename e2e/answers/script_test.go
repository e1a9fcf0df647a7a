package answers

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"ssegateway/e2e/harness"
	"ssegateway/e2e/harness/chromium"
)

const key = "0123456789abcdef0123456789abcdef"

// server answers with what a script says, one request after the other, as the relay may.
type server struct {
	*httptest.Server

	read chan struct{} // the page has told of a message

	mu       sync.Mutex
	script   []http.HandlerFunc
	requests []string // method, Last-Event-ID, X-Mine and body of each
}

func newServer(t *testing.T, script ...http.HandlerFunc) *server {
	t.Helper()
	s := &server{read: make(chan struct{}, 100), script: script}
	mux := http.NewServeMux()
	mux.HandleFunc("/", servePage)
	mux.HandleFunc("/answer", s.answer)
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

func (s *server) answer(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	s.requests = append(s.requests, strings.Join(strings.Fields(fmt.Sprint(r.Method, " ", r.Header.Get("Last-Event-Id"), " ", r.Header.Get("X-Mine"), " ", string(body))), " "))
	if len(s.script) == 0 {
		s.mu.Unlock()
		http.Error(w, "there is no more of the script", http.StatusTeapot)
		return
	}
	next := s.script[0]
	s.script = s.script[1:]
	s.mu.Unlock()
	next(w, r.WithContext(context.WithValue(r.Context(), serverKey{}, s)))
}

type serverKey struct{}

func (s *server) wantRequests(t *testing.T, want ...string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(s.requests, want) {
		t.Errorf("the server was asked %q, want %q", s.requests, want)
	}
}

// says answers with an event stream, and ends it.
func says(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		_, _ = io.WriteString(w, text)
		_ = http.NewResponseController(w).Flush()
	}
}

// breaks does the same, and breaks off once the test knows that the page has read the messages: what a browser's
// stream has not been asked for is lost with it.
func breaks(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		says(text)(w, r)
		for range strings.Count(text, "data: ") - strings.Count(text, "half") {
			select {
			case <-r.Context().Value(serverKey{}).(*server).read:
			case <-time.After(harness.Patience):
			}
		}
		panic(http.ErrAbortHandler)
	}
}

func refuses(status int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
	}
}

func vanishes(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// message is the nth event of an answer, on the wire.
func message(n int) string { return fmt.Sprintf("id: %s.%d\ndata: %d\n\n", key, n, n) }

func numbered(n int) string { return fmt.Sprintf("%s.%d", key, n) }

const asked, back1 = "POST yes question", "GET " + key + ".1 yes"

// outcomes are the answers that a page may get, and what it makes of them. Messages are told as their data.
var outcomes = []struct {
	name     string
	script   []http.HandlerFunc
	told     []string // "wait" may come any number of times
	requests []string
}{
	{
		"a whole answer",
		[]http.HandlerFunc{says("data: a\n\nevent: x\ndata: b\n\n")},
		[]string{"a", "b", "end"},
		[]string{asked},
	},
	{
		"a whole answer with ids",
		[]http.HandlerFunc{says(message(1) + message(2))},
		[]string{"1", "2", "end"},
		[]string{asked},
	},
	{
		"an answer that is cut twice",
		[]http.HandlerFunc{breaks("retry: 5\n\n" + message(1)), breaks(message(2) + "data: half"), says(message(3))},
		[]string{"1", "wait", "2", "wait", "3", "end"},
		[]string{asked, back1, "GET " + key + ".2 yes"},
	},
	{
		"an answer that is cut before its first message",
		[]http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Sse-Gateway-Resume", numbered(0))
			breaks("retry: 5\n\n")(w, r)
		}, says(message(1))},
		[]string{"wait", "1", "end"},
		[]string{asked, "GET " + key + ".0 yes"},
	},
	{
		"an answer without ids that is cut",
		[]http.HandlerFunc{breaks("data: a\n\n")},
		[]string{"a", "problem 0"},
		[]string{asked},
	},
	{
		"an answer with ids of the application that is cut",
		[]http.HandlerFunc{breaks("id: 7\ndata: a\n\n")},
		[]string{"a", "problem 0"},
		[]string{asked},
	},
	{
		"an answer that ended while nobody was there",
		[]http.HandlerFunc{breaks("retry: 5\n" + message(1)), refuses(204)},
		[]string{"1", "wait", "end"},
		[]string{asked, back1},
	},
	{
		"an answer that is gone",
		[]http.HandlerFunc{breaks("retry: 5\n" + message(1)), refuses(410)},
		[]string{"1", "wait", "problem 410"},
		[]string{asked, back1},
	},
	{
		"an answer of somebody else",
		[]http.HandlerFunc{breaks("retry: 5\n" + message(1)), refuses(403)},
		[]string{"1", "wait", "problem 403"},
		[]string{asked, back1},
	},
	{
		"a gateway and a network that are away for a while",
		[]http.HandlerFunc{
			breaks("retry: 5\n" + message(1)), vanishes, refuses(503), refuses(502), vanishes, refuses(429), breaks("retry: 5\n\n"), says(message(2)),
		},
		[]string{"1", "wait", "2", "end"},
		[]string{asked, back1, back1, back1, back1, back1, back1, back1},
	},
	{
		"a proxy that says when to come back",
		[]http.HandlerFunc{breaks("retry: 5\n" + message(1)), says("retry: 5\n\n"), says(message(2))},
		[]string{"1", "wait", "2", "end"},
		[]string{asked, back1, back1},
	},
	{
		"a proxy that says when to come back, to a question",
		[]http.HandlerFunc{says("retry: 5\n\n")},
		[]string{"problem 200"},
		[]string{asked},
	},
	{
		"a refusal",
		[]http.HandlerFunc{refuses(503)},
		[]string{"problem 503"},
		[]string{asked},
	},
	{
		"no event stream",
		[]http.HandlerFunc{refuses(200, "Content-Type", "application/json")},
		[]string{"problem 200"},
		[]string{asked},
	},
	{
		"nothing",
		[]http.HandlerFunc{refuses(204)},
		[]string{"end"},
		[]string{asked},
	},
	{
		"no answer",
		[]http.HandlerFunc{vanishes, vanishes, vanishes},
		[]string{"problem 0"},
		nil, // Chromium may ask again by itself, on another connection
	},
}

func TestOutcomes(t *testing.T) {
	t.Parallel()
	for _, o := range outcomes {
		t.Run(o.name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, o.script...)
			p := newPage(t, s.URL)
			p.start(t, "a", "/answer", map[string]any{"method": "POST", "headers": map[string]string{"X-Mine": "yes"}, "body": "question", "keep": "kept"})
			last := ""
			var told []string
			for !strings.HasPrefix(last, "end") && !strings.HasPrefix(last, "problem") {
				switch r := p.next(t); r.Type {
				case "message":
					last = r.Data
					s.read <- struct{}{}
				case "problem":
					last = fmt.Sprint("problem ", r.Status)
				case "wait":
					if last == "wait" {
						continue
					}
					fallthrough
				default:
					last = r.Type
				}
				told = append(told, last)
			}
			if !slices.Equal(told, o.told) {
				t.Errorf("the page tells %q, want %q", told, o.told)
			}
			if o.requests != nil {
				s.wantRequests(t, o.requests...)
			}
			if kept := p.kept(t, "kept"); kept != "" && kept != "nothing" {
				t.Errorf("in the end the page keeps %q", kept)
			}
		})
	}
}

// The page waits at least for as long as it was told, and longer after each failure.
func TestWait(t *testing.T) {
	t.Parallel()
	s := newServer(t,
		breaks("retry: 70\n"+message(1)), refuses(502), refuses(500), refuses(429), refuses(503, "Retry-After", "2"), refuses(503, "Retry-After", "soon"),
		breaks("retry: 80\n"+message(2)), refuses(204))
	p := newPage(t, s.URL)
	began := time.Now()
	p.start(t, "a", "/answer", map[string]any{"method": "POST"})
	p.wantMessage(t, "1", numbered(1))
	s.read <- struct{}{}
	for i, least := range []float64{70, 100, 200, 400, 2000, 2000} {
		if r := p.want(t, "wait"); r.MS < least || r.MS > 2*least {
			t.Errorf("wait %d is %.0f ms, want %.0f to %.0f", i, r.MS, least, 2*least)
		}
	}
	p.wantMessage(t, "2", numbered(2))
	s.read <- struct{}{}
	if r := p.want(t, "wait"); r.MS < 80 || r.MS > 160 {
		t.Errorf("after a message the wait is %.0f ms, want 80 to 160", r.MS)
	}
	p.want(t, "end")
	if took := time.Since(began); took < 4700*time.Millisecond {
		t.Errorf("it took only %v", took)
	}
}

// A wait has a bound, whatever the server says.
func TestLongestWait(t *testing.T) {
	t.Parallel()
	s := newServer(t, breaks("retry: 99999999999999\n"+message(1)))
	p := newPage(t, s.URL)
	p.start(t, "a", "/answer", nil)
	p.wantMessage(t, "1", numbered(1))
	s.read <- struct{}{}
	if r := p.want(t, "wait"); r.MS != 3_600_000 {
		t.Errorf("the wait is %.0f ms, want an hour", r.MS)
	}
	s.wantRequests(t, "GET")
}

// holds writes a message and waits until the client has left, or the test ends it.
func holds(gone chan<- struct{}, end <-chan struct{}, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		says(text)(w, r)
		select {
		case <-r.Context().Done():
			close(gone)
		case <-end:
		}
	}
}

func await(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(harness.Patience):
		t.Fatalf("%s did not happen", what)
	}
}

// A stop is a request of its own, after which the answer ends.
func TestStop(t *testing.T) {
	t.Parallel()
	gone, end := make(chan struct{}), make(chan struct{})
	s := newServer(t, holds(gone, end, message(1)), func(w http.ResponseWriter, _ *http.Request) {
		close(end)
		w.WriteHeader(http.StatusNoContent)
	})
	p := newPage(t, s.URL)
	p.start(t, "a", "/answer", map[string]any{"method": "POST", "body": "question", "keep": "kept"})
	p.wantMessage(t, "1", numbered(1))
	if kept := p.kept(t, "kept"); kept != numbered(1) {
		t.Errorf("the page keeps %q", kept)
	}
	chromium.Call[chromedp.Void](t, p.tab, `() => {
		const real = fetch;
		globalThis.fetch = (url, init) => { globalThis.kept = init.keepalive; return real(url, init); };
	}`)
	if status := chromium.Call[int](t, p.tab, "stop", "a"); status != http.StatusNoContent {
		t.Errorf("the stop was answered %d", status)
	}
	if !chromium.Call[bool](t, p.tab, "() => kept === true") { // or it may end with the page
		t.Error("the stop is no request with keepalive")
	}
	if r := p.want(t, "end"); r.ID != "" {
		t.Errorf("the id in the end is %q", r.ID)
	}
	s.wantRequests(t, "POST question", "DELETE "+numbered(1))
}

// A page that stops and leaves at once does both.
func TestStopAndLeave(t *testing.T) {
	t.Parallel()
	gone := make(chan struct{})
	script := append([]http.HandlerFunc{holds(gone, nil, message(1))}, slices.Repeat([]http.HandlerFunc{refuses(http.StatusNoContent)}, 3)...)
	s := newServer(t, script...)
	p := newPage(t, s.URL)
	chromium.Call[chromedp.Void](t, p.tab, `() => {
		globalThis.leaving = new AbortController();
		start("a", "/answer", { signal: leaving.signal });
	}`)
	p.wantMessage(t, "1", numbered(1))
	if status := chromium.Call[int](t, p.tab, `() => { const stopped = stop("a"); leaving.abort(); return stopped; }`); status != http.StatusNoContent {
		t.Errorf("the stop was answered %d", status)
	}
	p.want(t, "end")
	await(t, "the leaving", gone)
	s.mu.Lock()
	s.requests = slices.Compact(s.requests) // Chromium may repeat by itself what does no harm twice
	s.mu.Unlock()
	s.wantRequests(t, "GET", "DELETE "+numbered(1))
}

// Without an id a stop leaves. To leave the loop leaves, too, and so does a signal, also while the page waits.
func TestLeave(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, text string
		first      int
		do         string
	}{
		{"stop", "data: 1\n\n", 10, "(name) => stop(name)"},
		{"break", message(1), 1, "() => {}"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			gone := make(chan struct{})
			s := newServer(t, holds(gone, nil, c.text))
			p := newPage(t, s.URL)
			p.start(t, "a", "/answer", nil, c.first)
			p.want(t, "message")
			chromium.Call[chromedp.Void](t, p.tab, c.do, "a")
			p.want(t, "end")
			await(t, "the leaving", gone)
			s.wantRequests(t, "GET")
		})
	}
	t.Run("signal", func(t *testing.T) {
		t.Parallel()
		gone := make(chan struct{})
		s := newServer(t, holds(gone, nil, message(1)), breaks("retry: 3600000\n"+message(2)))
		p := newPage(t, s.URL)
		for i, want := range []string{"message", "wait"} {
			chromium.Call[chromedp.Void](t, p.tab, `(name) => {
				globalThis.leaving = new AbortController();
				start(name, "/answer", { signal: leaving.signal });
			}`, fmt.Sprint(i))
			p.want(t, "message")
			if want == "wait" {
				s.read <- struct{}{}
				p.want(t, "wait")
			}
			chromium.Call[chromedp.Void](t, p.tab, "() => leaving.abort()")
			p.want(t, "end")
		}
		await(t, "the leaving", gone)
		s.wantRequests(t, "GET", "GET")
	})
}

// A page that knows an id goes back, and does not ask.
func TestGoBack(t *testing.T) {
	t.Parallel()
	s := newServer(t, says(message(1)+message(2)))
	p := newPage(t, s.URL)
	p.start(t, "a", "/answer", map[string]any{"method": "POST", "body": "question", "id": numbered(0)})
	p.wantMessage(t, "1", numbered(1))
	p.wantMessage(t, "2", numbered(2))
	p.want(t, "end")
	s.wantRequests(t, "GET "+numbered(0))
}

// The fields of the request come along, in whatever form fetch takes them.
func TestHeaders(t *testing.T) {
	t.Parallel()
	for _, headers := range []string{`{ "X-Mine": "yes" }`, `[["X-Mine", "yes"]]`, `new Headers({ "X-Mine": "yes" })`} {
		t.Run(headers, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, says(message(1)))
			p := newPage(t, s.URL)
			chromium.Call[chromedp.Void](t, p.tab, fmt.Sprintf(`(id) => { start("a", "/answer", { id, headers: %s }); }`, headers), numbered(0))
			p.wantMessage(t, "1", numbered(1))
			s.wantRequests(t, "GET "+numbered(0)+" yes")
		})
	}
}
