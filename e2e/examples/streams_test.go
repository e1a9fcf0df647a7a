package examples

import (
	"os"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"ssegateway/e2e/harness/chromium"
	"ssegateway/web"
)

// streamSite runs the application of docs/pages.md, with all that is to be in its folder.
func streamSite(t *testing.T) *site {
	t.Helper()
	s := snippet(t, "pages.md", "server.mjs", "").prepare(t)
	if err := os.CopyFS(s.files, web.Files); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"plain.js", "page.js", "key.js", "shared.js"} {
		s.write(t, name, strings.ReplaceAll(text(t, "pages.md", name), "http://127.0.0.1:3000", s.streams))
	}
	s.startExample(t)
	return s
}

// Each page of docs/pages.md shows what changes, also after the gateway was killed.
func TestStreamPages(t *testing.T) {
	t.Parallel()
	s := streamSite(t)
	var pages []tab
	for _, name := range []string{"/plain", "/page", "/shared", "/shared"} {
		p := s.visit(t, name)
		p.want(t, "i", "open")
		p.want(t, "output", "5")
		pages = append(pages, p)
	}
	if streams := s.tokens(t, ""); len(streams) != 3 {
		t.Errorf("the pages have %d streams, want 3", len(streams))
	}
	s.do(t, "POST", "/sell", "", 200, nil)
	for _, p := range pages {
		p.want(t, "output", "4")
	}
	s.restartGateway(t)
	for _, p := range pages {
		p.want(t, "i", "open")
	}
	s.do(t, "POST", "/sell", "", 200, nil)
	for _, p := range pages {
		p.want(t, "output", "3")
	}

	// Loaded again, the page goes on with what it kept, and the plain one begins anew.
	for _, p := range pages[:2] {
		chromium.Run(t, p.Tab, chromedp.Reload())
		p.want(t, "output", "3")
		p.want(t, "i", "open")
	}

	// Only who has the key gets a stream.
	s.do(t, "POST", "/shut", "", 200, nil)
	p := s.visit(t, "/page")
	p.want(t, "i", "refused: BACKEND_AUTH_FAILED")
	p = s.visit(t, "/key")
	p.want(t, "i", "open")
	s.do(t, "POST", "/sell", "", 200, nil)
	p.want(t, "output", "2")
}
