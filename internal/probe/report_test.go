package probe

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"ssegateway/e2e/harness"
	"ssegateway/internal/bubble"
	"ssegateway/internal/operator"
)

var update = flag.Bool("update", false, "write the tables in docs/probe.md")

// run probes a sound path on which something else is special, and returns what is not known.
func run(t *testing.T, edit func(w *world, o *Options)) (r *Report, err error) {
	bubble.Test(t, func(t *testing.T) { r, err = spoilt{path: sound, edit: edit}.probe(t) })
	return r, err
}

func says(notes []Note, what, text string) bool {
	return slices.ContainsFunc(notes, func(n Note) bool { return n.What == what && strings.Contains(n.Text, text) })
}

// What the gateway's API cannot tell is not known, and not guessed.
func TestNotKnown(t *testing.T) {
	for _, c := range []struct {
		name         string
		edit         func(w *world, o *Options)
		known        bool
		what, saying string
	}{
		{"without topics", func(w *world, _ *Options) { w.gateway.topics = nil }, false, "Last-Event-ID", "no topics"},
		{"with topics", nil, true, "Last-Event-ID", "arrives"},
		{"without cookies", nil, false, "cookies and Authorization", "none was given"},
		{"cookies that nobody needs", func(_ *world, o *Options) { o.Header.Set("Cookie", "a=b") }, false, "cookies and Authorization", "without them too"},
		{"cookies that are needed", func(w *world, o *Options) {
			o.Header.Set("Cookie", "a=b")
			w.gateway.accept = func(r *http.Request) int {
				if r.Header.Get("Cookie") != "a=b" {
					return http.StatusUnauthorized
				}
				return http.StatusOK
			}
		}, true, "cookies and Authorization", "401"},
		{"a relayed stream", func(w *world, _ *Options) { w.gateway.relay = true }, false, "events, their end and Last-Event-ID", "application"},
		{"when the gateway knew", nil, true, "leaving", "the gateway knew after"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := run(t, c.edit)
			if err != nil {
				t.Fatal(err)
			}
			notes := r.NotKnown
			if c.known {
				notes = r.Measured
			}
			if !says(notes, c.what, c.saying) || len(r.Findings) > 0 {
				t.Errorf("%+v, want %q of %s", r, c.saying, c.what)
			}
		})
	}
}

// What cannot be probed is an error.
func TestCannotProbe(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(w *world, o *Options)
		want string
	}{
		"the backend refuses": {func(w *world, _ *Options) { w.gateway.accept = func(*http.Request) int { return http.StatusForbidden } }, "no stream: 403 BACKEND_ERROR"},
		"nobody listens":      {func(_ *world, o *Options) { o.URL.Host = "elsewhere" }, "cannot connect to elsewhere"},
		"another gateway": {func(w *world, o *Options) {
			w.serve("other:80", &fakeGateway{conns: map[string]*fakeConn{}, heartbeat: time.Second}, nil)
			o.URL.Host = "other"
		}, "no new connection appeared"},
		"no gateway": {func(w *world, o *Options) { w.serve("page:80", http.NotFoundHandler(), nil); o.URL.Host = "page" }, "404 Not Found, not from a gateway"},
		"others open streams at once": {func(w *world, _ *Options) {
			w.gateway.opened = alsoOpens(w.gateway)
		}, errAmbiguous.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := run(t, c.edit); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// A gateway that shows the request of a connection tells which is the probe's, whatever else is opened.
func TestAmongOthers(t *testing.T) {
	r, err := run(t, func(w *world, _ *Options) {
		w.gateway.shows = true
		w.gateway.opened = alsoOpens(w.gateway)
	})
	if err != nil || len(r.Findings) > 0 {
		t.Errorf("%+v, %v, want nothing found", r, err)
	}
}

// What others open at other paths before the probe's own stream is there does not count.
func TestBesideOthers(t *testing.T) {
	r, err := run(t, func(w *world, _ *Options) {
		w.gateway.accept = func(*http.Request) int {
			for _, path := range []string{"/a", "/b"} {
				w.gateway.add(path, "a browser")
			}
			time.Sleep(200 * time.Millisecond) // fake clock: the backend's answer
			return http.StatusOK
		}
	})
	if err != nil || len(r.Findings) > 0 {
		t.Errorf("%+v, %v, want nothing found", r, err)
	}
}

// alsoOpens has a stranger open a stream with the same path, together with each of the probe's.
func alsoOpens(g *fakeGateway) func(token, path string) {
	nested := false
	return func(_, path string) {
		if !nested {
			nested = true
			g.add(path, "a browser")
			nested = false
		}
	}
}

// failing is an API that fails.
type failing struct{ error }

func (f failing) Call(context.Context, string, string, any, any) error { return f.error }

// An error of the API ends the probe.
func TestAPIFails(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.serve("public:80", sound(w), nil)
		want := &operator.Error{Code: "UNAUTHORIZED", Message: "no"}
		p := newProber(failing{want}, Options{URL: &url.URL{Scheme: "http", Host: "public", Path: "/"}, For: time.Second}, w.network.dial)
		if _, err := p.run(t.Context()); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	})
}

// A report is one line if nothing was found, and else has each finding with what to set.
func TestPrint(t *testing.T) {
	r := &Report{URL: "http://a/b", Measured: []Note{{"versions", "HTTP/2"}, {"delay", "1ms"}}, NotKnown: []Note{{"x", "y"}, {"z", "y"}}}
	var out strings.Builder
	r.Print(&out)
	if want := "ok    http://a/b: nothing found; versions HTTP/2; not known: x, z\n"; out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
	r.Findings = []Finding{{IdleCut, "what was seen", "why", []Setting{{"nginx", "this"}, {"Apache", "that"}}}}
	out.Reset()
	r.Print(&out)
	want := "fail  idle-cut: what was seen\n      why\n        nginx   this\n        Apache  that\nok    versions: HTTP/2\nok    delay: 1ms\n?     x: y\n?     z: y\n"
	if out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
	if got, want := Bar(15*time.Second, time.Minute), "[#######.......................] 15s of 1m0s"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// Each kind of finding has one advice, and each is found in a test.
func TestAdvice(t *testing.T) {
	seen := map[ID]bool{}
	for _, k := range kinds {
		if seen[k.id] || k.what == "" || k.cause == "" || len(k.settings()) == 0 {
			t.Errorf("%s: %+v", k.id, k)
		}
		seen[k.id] = true
		if !slices.ContainsFunc(paths, func(s spoilt) bool { return s.want == k.id }) {
			t.Errorf("%s: no path is spoilt so", k.id)
		}
	}
}

// docs/probe.md has the advice.
func TestPage(t *testing.T) {
	var text strings.Builder
	for i, k := range kinds {
		if i > 0 {
			text.WriteByte('\n')
		}
		fmt.Fprintf(&text, "### %s\n\n%s %s\n\n| proxy | setting |\n| --- | --- |\n", k.id, k.what, k.cause)
		for i, proxy := range proxies {
			setting := strings.ReplaceAll(k.by[i], "|", `\|`)
			if setting == "" {
				setting = "–"
			}
			fmt.Fprintf(&text, "| %s | %s |\n", proxy, setting)
		}
	}
	harness.KeepPage(t, "../../docs/probe.md", "<!-- findings: go test ./internal/probe -run TestPage -update -->\n\n", "\n<!-- end of findings -->", text.String(), *update)
}
