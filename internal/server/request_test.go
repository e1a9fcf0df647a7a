package server

import (
	"bufio"
	"bytes"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	neturl "net/url"
	"slices"
	"strings"
	"testing"

	"ssegateway/internal/api"
)

func TestOriginForm(t *testing.T) {
	for target, want := range map[string]string{
		"/": "/", "/http://x/y": "/http://x/y", "/?http://x": "/?http://x", "*": "*",
		"http://h": "/", "http://h/": "/", "hTTp://h/a?b": "/a?b", "https://h:1//a/../b": "//a/../b", "http://h?a/b": "/?a/b",
		"http://[::1]:80/x": "/x", "http://h/%zz%": "", "http://h/a:b@c": "/a:b@c",
		"ftp://h/": "", "http://u@h/": "", "http://u:p@h/": "", "http://@h/": "", "http://h@/": "", "http:///a": "", "http://": "", "http://h%2ex/": "", "http://h#a": "",
	} {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET " + target + " HTTP/1.1\r\nHost: other\r\n\r\n")))
		if err != nil {
			if want != "" {
				t.Errorf("%q: %v", target, err)
			}
			continue
		}
		if _, ok := originForm(r); ok != (want != "") || ok && r.RequestURI != want {
			t.Errorf("%q: %v, %q", target, ok, r.RequestURI)
		}
	}
}

// The bound is exact, and what is beyond it is forgotten before it is answered.
func TestHeadBound(t *testing.T) {
	s := &Server{withCORS: newCORS([]string{"https://app.example"})}
	served := 0
	h := s.admit(func(http.ResponseWriter, *http.Request) { served++ }, true)
	for _, c := range []struct {
		size, status int
	}{{maxHead, 200}, {maxHead + 1, 431}, {100 << 10, 431}} {
		r := httptest.NewRequest(http.MethodGet, "/x", nil)
		r.Header.Set("Origin", "https://app.example")
		size := len("/x") + len(r.Host) + len("Origin"+"https://app.example") + 2*fieldOverhead + len("X")
		r.Header.Set("X", strings.Repeat("x", c.size-size))
		w := httptest.NewRecorder()
		served = 0
		h.ServeHTTP(w, r)
		if w.Code != c.status || served == 1 != (c.status == 200) {
			t.Errorf("%d bytes: %d, served %d times", c.size, w.Code, served)
		}
		if refused := c.status == 431; refused && (len(r.Header) > 1 || r.RequestURI != "" || r.URL.Path != "" ||
			w.Header().Get("Access-Control-Allow-Origin") != "https://app.example" || w.Header().Get("Connection") != "close") {
			t.Errorf("%d bytes: what is kept is %v, the answer %v", c.size, r.Header, w.Header())
		}
	}
}

// What net/http refuses is answered with the fields of any other refusal: with those of CORS at
// the public listener, without them at one of /internal.
func TestRefusal(t *testing.T) {
	const origin = "https://app.example"
	s := &Server{withCORS: newCORS([]string{origin})}
	for _, public := range []bool{true, false} {
		path := map[bool]string{true: "/", false: "/internal/send"}[public]
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.Header.Set("Origin", origin)
		ours := httptest.NewRecorder()
		s.admit(func(w http.ResponseWriter, r *http.Request) { s.refusePath(w, r, path, api.ErrBody) }, public).ServeHTTP(ours, r)
		got, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(s.refusal(public)(http.StatusBadRequest, "400 Bad Request: why", origin))), nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(got.Body)
		_ = got.Body.Close()
		if err != nil || string(body) != `{"error":{"message":"the request is malformed: why","code":"INVALID_REQUEST"}}` || got.StatusCode != http.StatusBadRequest || !got.Close {
			t.Errorf("%+v with %s, %v", got, body, err)
		}
		if _, err := http.ParseTime(got.Header.Get("Date")); err != nil {
			t.Error(err)
		}
		for _, h := range []http.Header{got.Header, ours.Header()} { // ReadResponse takes Connection off
			for _, name := range []string{"Date", "Content-Length", "Connection"} {
				h.Del(name)
			}
		}
		if cors := got.Header.Get("Access-Control-Allow-Origin") != ""; cors != public || !maps.EqualFunc(got.Header, ours.Header(), slices.Equal) {
			t.Errorf("public %t: %v, another refusal has %v", public, got.Header, ours.Header())
		}
	}
}

// FuzzOriginForm looks for targets that are one thing here and another for net/http.
func FuzzOriginForm(f *testing.F) {
	f.Add("http://h:1/a?b")
	f.Add("http://u:p@h#/a")
	f.Add("HTTPS://[::1]?http://x")
	f.Fuzz(func(t *testing.T, target string) {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET " + target + " HTTP/1.1\r\nHost: other\r\n\r\n")))
		if err != nil {
			return
		}
		host, url := r.Host, r.URL
		absolute, ok := originForm(r)
		if !ok || !absolute {
			return
		}
		path, query, asked := strings.Cut(r.RequestURI, "?")
		if host != r.Host || url.User != nil || query != url.RawQuery || !asked && url.ForceQuery {
			t.Errorf("%q is %q for us, and %q for net/http", target, r.RequestURI, url)
		}
		if plain, err := neturl.PathUnescape(path); err != nil || plain != url.Path && (plain != "/" || url.Path != "") {
			t.Errorf("%q has the path %q for us, and %q for net/http", target, plain, url.Path)
		}
	})
}
