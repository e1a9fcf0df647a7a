package site

import (
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

// Every link of every page leads to a file of the site, and to a heading that is there.
func TestLinks(t *testing.T) {
	pages := documents(t)
	followed := 0
	for _, page := range pages {
		for _, link := range links(page.root) {
			u, err := url.Parse(link)
			if err != nil {
				t.Errorf("%s: %s: %v", page.path, link, err)
				continue
			}
			if u.Scheme != "" || u.Host != "" {
				continue
			}
			followed++
			target := targetOf(page.path, u.Path)
			if info, err := os.Stat(filepath.Join(built, filepath.FromSlash(target))); err != nil || info.IsDir() {
				t.Errorf("%s: %s: no such file", page.path, link)
				continue
			}
			if to := pages[target]; u.Fragment != "" && (to == nil || !to.anchors[u.Fragment]) {
				t.Errorf("%s: %s: no such heading", page.path, link)
			}
		}
	}
	if followed < len(pages) {
		t.Errorf("%d links in %d pages: the test is blind", followed, len(pages))
	}
	t.Logf("%d links in %d pages", followed, len(pages))
}

// targetOf returns which file a link of a page asks a file server for.
func targetOf(page, link string) string {
	switch {
	case link == "":
		return page
	case strings.HasSuffix(link, "/"):
		link += "index.html"
	}
	if !strings.HasPrefix(link, "/") {
		link = path.Join(path.Dir(page), link)
	}
	return strings.TrimPrefix(path.Clean(link), "/")
}
