package examples

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"ssegateway/e2e/harness"
	"ssegateway/e2e/harness/chromium"
)

// Each page works behind the shipped configuration of nginx, where page and streams have one origin.
func TestBehindNginx(t *testing.T) {
	for _, c := range []struct {
		name, target string
		works        func(t *testing.T, p tab)
	}{
		{"chat", "/?name=Ada&room=tea", func(t *testing.T, p tab) {
			p.want(t, "#present", "Ada")
			p.enter(t, "#say input", "hello")
			p.want(t, "#said", "Ada: hello")
		}},
		{"progress", "/", func(t *testing.T, p tab) {
			p.click(t, "button")
			p.want(t, "output", "done")
		}},
		{"browser", "/", func(t *testing.T, p tab) {
			p.want(t, "#state", "up to date")
			p.click(t, "[data-by='1']")
			p.want(t, "#value", "1")
		}},
		{"llm", "/events/llm/", func(t *testing.T, p tab) {
			p.enter(t, "input", "Why?")
			p.want(t, "#state", "done")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e := page(c.name)
			e.env = []string{"PUBLIC="}
			s := e.start(t, "RELAY_URL=APP", "RELAY_PATHS=/events/llm")
			site := s.nginx(t)
			p := tab{browser.Open(t)}
			chromium.Run(t, p.Tab, chromedp.EmulateViewport(360, 640, chromedp.EmulateScale(2)))
			chromium.Run(t, p.Tab, chromedp.Navigate(site+c.target))
			c.works(t, p)
			p.wantPhone(t)
		})
	}
}

// nginx puts the shipped configuration in front of both, and returns its base URL.
func (s *site) nginx(t *testing.T) string {
	t.Helper()
	port, err := strconv.Atoi(s.app[strings.LastIndex(s.app, ":")+1:])
	if err != nil {
		t.Fatal(err)
	}
	return "http://" + harness.StartFront(t, "nginx", nil, s.port, port).Endpoint.Addr
}

// wantPhone looks at what every page has in common: nothing is wider than a phone, and there is one style.
func (p tab) wantPhone(t *testing.T) {
	t.Helper()
	p.wait(t, "html", "(html) => html.scrollWidth <= 360")
	p.wait(t, "link[rel=stylesheet]", "(link) => link.sheet.cssRules.length > 10 && document.styleSheets.length === 1")
	p.wait(t, "html", "(html) => getComputedStyle(html).colorScheme === 'light dark'")
}

// Behind nginx the streams of the backends in all languages have a path that is answered as it is.
func TestStreamsBehindNginx(t *testing.T) {
	t.Parallel()
	e := page("chat")
	s := e.start(t)
	site := s.nginx(t)
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for _, target := range []string{"/events/?name=ada&room=tea", "/events/chat?name=ada&room=tea"} {
		resp, err := client.Get(site + target)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := fmt.Sprint(resp.StatusCode, " ", resp.Header.Get("Content-Type")); got != "200 text/event-stream" {
			t.Errorf("%s: %s", target, got)
		}
	}
}
