package server

import (
	"bufio"
	"net/http"
	neturl "net/url"
	"strings"
	"testing"
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
