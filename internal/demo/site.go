package demo

import (
	"context"
	"crypto/rand"
	"embed"
	"encoding/json" //nolint:depguard // as in backend.go
	"hash/fnv"
	"html"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"ssegateway/web"
)

// This file is the demo's own: its page, who its users are, what they can press.

//go:embed page
var files embed.FS

//go:embed page/index.html
var index string

//go:embed page/answers.html
var answers string

var static, _ = fs.Sub(files, "page")

// site is the application whose backend this is.
type site struct {
	*backend
	view      view
	curlFlags string // what a send in a terminal needs beside its URL

	internalURL string // of the gateway

	mu      sync.Mutex
	records []record // of callbacks, the newest last
	number  int      // of the last one
	started int64
}

// view is what the page says of this demo.
type view struct {
	GatewayPort int
	Page        string // origins
	Gateway     string
	CORS        string // what makes the gateway accept the page
	OpenCommand string
}

// user is whose streams and requests belong together.
type user struct {
	id    string
	name  string
	guest bool // not a browser with our page
}

const (
	// streamPath is where pages open their streams. The gateway takes any path, the
	// shipped files for proxies this one. Below it, a guest gives a name: /events/terminal.
	streamPath = "/events/"

	// sessionCookie also reaches the gateway, as it is the same site on another port,
	// and from there the backend.
	sessionCookie = "ssegateway_demo"

	clockInterval = 5 * time.Second
	keptRecords   = 20
	// welcomeRetry is shorter than what browsers take by themselves: 3 to 5 s.
	welcomeRetry = 1500 // milliseconds
)

// handler serves everything: the gateway's callbacks, the page, its buttons.
func (s *site) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /callback", s.serveCallback)
	mux.HandleFunc("GET /{$}", s.servePage(index))
	mux.HandleFunc("GET /answers", s.servePage(answers))
	for _, file := range []string{"page.js", "page.css", "overview.svg", "answers.js"} {
		mux.Handle("GET /"+file, http.FileServerFS(static))
	}
	for _, file := range []string{"relay.js", "events.js"} {
		mux.Handle("GET /"+file, http.FileServerFS(web.Files))
	}
	mux.HandleFunc("POST /send", s.serveSend)
	mux.HandleFunc("POST /close", s.serveClose)
	mux.HandleFunc("GET /token/{name}", s.serveToken)
	mux.HandleFunc("POST "+answersPath, s.serveAnswer)
	n := newNetwork(s.view.Gateway)
	mux.Handle(networkPath+"/", n)
	mux.HandleFunc("POST /cut", n.serveCut)
	// No other site may press our buttons. The gateway and curl are no browsers.
	return http.NewCrossOriginProtection().Handler(mux)
}

// servePage serves a page with the view in it.
func (s *site) servePage(page string) http.HandlerFunc {
	port := strconv.Itoa(s.view.GatewayPort)
	// A page that connects to a gateway of another origin has to say so here, if it says anything.
	policy := "default-src 'self'; img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'; " +
		"connect-src 'self' http://localhost:" + port + " http://127.0.0.1:" + port
	return func(w http.ResponseWriter, r *http.Request) {
		if _, ok := session(r.Cookies()); !ok {
			http.SetCookie(w, &http.Cookie{ //nolint:gosec // not Secure: the demo is plain HTTP, on this host
				Name: sessionCookie, Value: rand.Text(), Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode,
			})
		}
		h := w.Header()
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", policy)
		_, _ = s.view.filler().WriteString(w, page) // a browser that left does not matter
	}
}

// filler returns what puts the view into the page. The page is no html/template: that calls methods by names that
// the linker does not know, so the linker would leave no exported method out of the program.
func (v view) filler() *strings.Replacer {
	return strings.NewReplacer(
		"{{GatewayPort}}", strconv.Itoa(v.GatewayPort),
		"{{Page}}", html.EscapeString(v.Page),
		"{{Gateway}}", html.EscapeString(v.Gateway),
		"{{CORS}}", html.EscapeString(v.CORS),
		"{{OpenCommand}}", html.EscapeString(v.OpenCommand),
	)
}

// session identifies the user of a request. A real application would look the session up; here
// everybody who has one is somebody.
func session(cookies []*http.Cookie) (user, bool) {
	for _, c := range cookies {
		if c.Name == sessionCookie && len(c.Value) == len(rand.Text()) {
			return user{id: c.Value, name: nameOf(c.Value)}, true
		}
	}
	return user{}, false
}

func nameOf(id string) string {
	colours := []string{"amber", "azure", "coral", "cyan", "gold", "green", "indigo", "lilac", "olive", "plum", "ruby", "teal"}
	animals := []string{"badger", "crane", "falcon", "heron", "ibex", "lynx", "marten", "otter", "owl", "panda", "robin", "seal", "stoat", "swift", "tapir", "wren"}
	h := fnv.New32a()
	_, _ = h.Write([]byte(id))
	n := int(h.Sum32() >> 1)
	return colours[n%len(colours)] + "-" + animals[n/len(colours)%len(animals)]
}

// identify accepts a browser by its cookie, and a guest, who has none, by the path.
func (s *site) identify(url string, headers map[string]string) (user, int) {
	path, _, _ := strings.Cut(url, "?")
	if name, ok := strings.CutPrefix(path, streamPath); ok && isName(name) {
		return user{id: "guest " + name, name: name, guest: true}, http.StatusOK
	}
	if path != streamPath {
		return user{}, http.StatusNotFound
	}
	cookies, _ := http.ParseCookie(headers["cookie"]) // none, if it is malformed
	u, ok := session(cookies)
	if !ok {
		return user{}, http.StatusUnauthorized
	}
	return u, http.StatusOK
}

// isName allows only names that need no quoting anywhere.
func isName(name string) bool {
	return name != "" && len(name) <= 32 && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// opened sends a greeting. The gateway keeps it until the stream is open.
func (s *site) opened(ctx context.Context, token string, u user) {
	_ = s.send(ctx, message{Token: token, Event: &event{
		Name: "welcome", Retry: welcomeRetry,
		Data: "You are " + u.name + ". " + s.whereabouts(ctx, token) + "To send to this stream from a terminal:\n" + s.sendCommand(token),
	}})
}

// whereabouts returns which node of the gateway has a stream, if that is known.
func (s *site) whereabouts(ctx context.Context, token string) string {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.internalURL+"connections/"+url.PathEscape(token), http.NoBody) //nolint:gosec // the URL is configured
	if err != nil {
		return ""
	}
	if s.authorization != "" {
		req.Header.Set("Authorization", s.authorization)
	}
	resp, err := s.client.Do(req) //nolint:gosec // as above
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	var connection struct{ Node string }
	if json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&connection) != nil || connection.Node == "" {
		return ""
	}
	return "This stream is on the node " + connection.Node + ". "
}

// serveSend serves the form: it sends to all streams of the user, or of everybody.
func (s *site) serveSend(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 1<<20)
	u, ok := session(r.Cookies())
	if !ok {
		answer(w, http.StatusUnauthorized, "Reload the page: it has no session.")
		return
	}
	if err := r.ParseForm(); err != nil {
		answer(w, http.StatusBadRequest, err.Error())
		return
	}
	chosen := func(st stream) bool { return st.user.id == u.id }
	if r.PostForm.Get("to") == "everyone" {
		chosen = func(stream) bool { return true }
	}
	sent, err := s.sendTo(r.Context(), chosen, message{Event: &event{
		Name: r.PostForm.Get("name"), Data: r.PostForm.Get("data"),
	}})
	if err != nil {
		answer(w, http.StatusBadGateway, err.Error())
		return
	}
	answer(w, http.StatusOK, "Sent to "+streams(sent)+".")
}

// serveClose closes all streams of who pressed the button, with a last event.
func (s *site) serveClose(w http.ResponseWriter, r *http.Request) {
	u, ok := session(r.Cookies())
	if !ok {
		answer(w, http.StatusUnauthorized, "Reload the page: it has no session.")
		return
	}
	sent, err := s.sendTo(r.Context(), func(st stream) bool { return st.user.id == u.id }, message{
		Event: &event{Name: "goodbye", Data: "The backend closes this stream. A browser comes back by itself."},
		Close: true,
	})
	if err != nil {
		answer(w, http.StatusBadGateway, err.Error())
		return
	}
	answer(w, http.StatusOK, "Closed "+streams(sent)+".")
}

// serveToken tells the token of the newest stream of a name, for use in a terminal.
func (s *site) serveToken(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	var newest time.Time
	token := ""
	s.backend.mu.Lock()
	for t, st := range s.streams {
		if st.user.name == name && st.opened.After(newest) {
			token, newest = t, st.opened
		}
	}
	s.backend.mu.Unlock()
	if token == "" {
		answer(w, http.StatusNotFound, "no open stream of that name")
		return
	}
	answer(w, http.StatusOK, token)
}

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text)) //nolint:gosec // plain text, and not to be taken for anything else
}

func streams(n int) string {
	if n == 1 {
		return "1 stream"
	}
	return strconv.Itoa(n) + " streams"
}

// clock sends the time to everybody, until ctx ends.
func (s *site) clock(ctx context.Context) {
	ticker := time.NewTicker(clockInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			// A gateway that does not answer has missed this tick; there will be another.
			_, _ = s.sendTo(ctx, func(stream) bool { return true }, message{Event: &event{Name: "clock", Data: now.Format(time.TimeOnly)}})
		}
	}
}

// record is a callback as the page shows it.
type record struct {
	Key    string `json:"key"`
	Time   int64  `json:"time"` // milliseconds
	User   string `json:"user"`
	Status int    `json:"status"`
	callback
}

// received shows each callback on every page, and to a page that has just opened
// the last ones before. A real application would not show them to its users.
func (s *site) received(ctx context.Context, c callback, status int) {
	u, _ := s.identify(c.Request.URL, c.Request.Headers)
	shown := map[string]string{}
	for name, value := range c.Request.Headers {
		if name == "cookie" || name == "authorization" {
			value = "(there, and not shown)"
		}
		shown[name] = value
	}
	c.Request.Headers = shown

	s.mu.Lock()
	s.number++
	r := record{
		Key: strconv.FormatInt(s.started, 36) + "-" + strconv.Itoa(s.number), Time: time.Now().UnixMilli(),
		User: u.name, Status: status, callback: c,
	}
	s.records = append(s.records, r)
	s.records = s.records[max(0, len(s.records)-keptRecords):]
	all := append([]record(nil), s.records...)
	s.mu.Unlock()

	for _, token := range s.find(func(st stream) bool { return !st.user.guest }) {
		some := all[len(all)-1:]
		if token == c.Token {
			some = all
		}
		data, err := json.Marshal(some)
		if err != nil {
			return // strings and numbers
		}
		_ = s.send(ctx, message{Token: token, Event: &event{Name: "callbacks", Data: string(data)}})
	}
}
