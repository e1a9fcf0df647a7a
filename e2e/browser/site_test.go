package browser

import (
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"go.uber.org/goleak"

	"ssegateway/e2e/harness"
	"ssegateway/e2e/harness/chromium"
)

var (
	binary  string // the gateway
	cert    *harness.Certificate
	renewed *harness.Certificate // of the same site
	browser *chromium.Browser
)

// object is a JSON object.
type object = map[string]any

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) (code int) {
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		_ = f.Value.Set("8") // the tests wait most of the time
	}
	dir, err := os.MkdirTemp("", "browser")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := prepare(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code = m.Run()
	if err := errors.Join(browser.Stop(), goleak.Find()); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	return code
}

func prepare(dir string) (err error) {
	if cert, err = harness.NewCertificate(dir); err != nil {
		return err
	}
	later := filepath.Join(dir, "renewed")
	if err := os.Mkdir(later, 0o700); err != nil {
		return err
	}
	if renewed, err = harness.NewCertificate(later); err != nil {
		return err
	}
	if binary, err = harness.Build(dir); err != nil {
		return err
	}
	browser, err = chromium.Start(dir,
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("ignore-certificate-errors-spki-list", cert.KeyHash()+","+renewed.KeyHash()),
		chromedp.Flag("host-resolver-rules", "MAP *.rebinding.example 127.0.0.1")) // like the answer of a hostile name server
	return err
}

// setup is the way from the browser to the gateway.
type setup struct {
	name    string
	tls     bool // HTTP/2 over TLS
	nginx   bool // with its defaults
	shipped bool // nginx with deploy/nginx.conf: page and streams have one origin
}

var setups = []setup{
	{name: "direct"},
	{name: "TLS and HTTP 2", tls: true},
	{name: "nginx", nginx: true},
	{name: "nginx, TLS and HTTP 2", nginx: true, tls: true},
	{name: "shipped nginx, TLS and HTTP 2", nginx: true, tls: true, shipped: true},
}

// protocol returns the browser's name of the protocol.
func (s setup) protocol() string {
	if s.tls {
		return "h2"
	}
	return "http/1.1"
}

// site is a gateway, the proxy in front of it, if any, and a page that uses it.
type site struct {
	setup
	gw      *harness.Gateway
	front   *harness.Proxy // if there is one
	page    *page
	pages   string // origin of the pages
	streams string // origin of the streams
}

// start runs the site until the end of the test.
func (s setup) start(t *testing.T, settings ...string) *site {
	t.Helper()
	x := &site{setup: s}
	application := httptest.NewServer(http.HandlerFunc(servePage))
	t.Cleanup(application.Close)
	settings = append([]string{"CORS_ALLOWED_ORIGINS=" + application.URL}, settings...)

	secured := cert
	if !s.tls {
		secured = nil
	}
	if !s.nginx {
		x.gw = harness.StartGateway(t, binary, secured, settings...)
		x.streams = x.gw.Endpoint.Scheme() + "://" + x.gw.Endpoint.Addr
	} else {
		x.gw = harness.StartGateway(t, binary, nil, settings...)
		if s.shipped {
			x.front = harness.StartFront(t, "nginx", secured, x.gw.Port, portOf(t, application.URL))
		} else {
			x.front = harness.StartNginx(t, secured, x.gw.Port, "", "")
		}
		x.streams = x.front.Endpoint.Scheme() + "://" + x.front.Endpoint.Addr
	}
	x.pages = application.URL
	if s.shipped {
		x.pages = x.streams
	}
	x.gw.Backend.On("", harness.Script{Connect: func(c *harness.Callback) harness.Answer {
		if strings.Contains(c.URL, "refused") {
			return harness.Answer{Status: http.StatusForbidden}
		}
		return harness.Answer{}
	}})
	x.page = newPage(t, x.pages)
	return x
}

// servePage is the application: it serves an empty page and sets a cookie.
func servePage(w http.ResponseWriter, _ *http.Request) {
	http.SetCookie(w, &http.Cookie{Name: "session", Value: "secret-1", Path: "/", HttpOnly: true})
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write([]byte("<!doctype html><title>page</title>"))
}

func portOf(t *testing.T, url string) (port int) {
	t.Helper()
	if _, err := fmt.Sscanf(url, "http://127.0.0.1:%d", &port); err != nil {
		t.Fatal(err)
	}
	return port
}

// path returns the request target of the EventSource with that name.
func path(source string) string { return "/events/" + source + "?from=page" }

// open creates an EventSource in the page, waits until it is open, and returns the token of
// its connection.
func (x *site) open(t *testing.T, source string) (token string) {
	t.Helper()
	x.page.open(t, source, x.streams+path(source))
	token, _ = x.wantOpen(t, source, 1)
	return token
}

// wantOpen waits until the EventSource is open, with its nth accepted connection.
func (x *site) wantOpen(t *testing.T, source string, n int) (token string, opened report) {
	t.Helper()
	token = x.connects(t, source, n)[n-1].Token
	return token, x.page.wantOpen(t, source)
}

// connects waits for the connect callbacks of an EventSource.
func (x *site) connects(t *testing.T, source string, n int) []*harness.Callback {
	t.Helper()
	return x.gw.Await(t, n, "connect", of(source))
}

// wantDisconnect waits for the disconnect callback of a connection.
func (x *site) wantDisconnect(t *testing.T, token, reason string) {
	t.Helper()
	call := x.gw.Await(t, 1, "disconnect", func(c *harness.Callback) bool { return c.Token == token })[0]
	if call.Reason != reason {
		t.Fatalf("disconnect with reason %q (detail %q), want %q", call.Reason, call.Detail, reason)
	}
}

func of(source string) func(*harness.Callback) bool {
	return func(c *harness.Callback) bool { return c.URL == path(source) }
}
