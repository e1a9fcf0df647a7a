package console

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

// Each file has its type and is not sent again to who has it, and none names another place to load from.
func TestServe(t *testing.T) {
	elsewhere := regexp.MustCompile(`(?:https?:)?//[a-z0-9.-]+\.[a-z]+/[^"' ]*`)
	serve := func(method, name, tag string) (*httptest.ResponseRecorder, bool) {
		r := httptest.NewRequest(method, "/", http.NoBody)
		r.Header.Set("If-None-Match", tag)
		w := httptest.NewRecorder()
		return w, Serve(w, r, name)
	}
	for name, f := range files() {
		w, ok := serve(http.MethodGet, name, "")
		if !ok || w.Code != http.StatusOK || w.Body.String() != string(f.body) || w.Body.Len() == 0 || w.Header().Get("Content-Type") != f.kind || f.kind == "" || w.Header().Get("Content-Security-Policy") != policy {
			t.Errorf("%s: %v, %d, %v", name, ok, w.Code, w.Header())
		}
		if found := elsewhere.FindString(w.Body.String()); found != "" && !strings.HasPrefix(name, "vendor/") && found != "http://www.w3.org/2000/svg" {
			t.Errorf("%s: %s", name, found)
		}
		if w, _ := serve(http.MethodHead, name, ""); w.Code != http.StatusOK || w.Body.Len() != 0 {
			t.Errorf("%s: HEAD: %d, %d bytes", name, w.Code, w.Body.Len())
		}
		if w, _ := serve(http.MethodGet, name, f.tag); w.Code != http.StatusNotModified {
			t.Errorf("%s: again: %d", name, w.Code)
		}
	}
	for _, name := range []string{"index.html", "none", "vendor", "vendor/", "../console.go"} {
		if w, ok := serve(http.MethodGet, name, ""); ok || len(w.Header()) > 0 {
			t.Errorf("%s: there is one: %v", name, w.Header())
		}
	}
}
