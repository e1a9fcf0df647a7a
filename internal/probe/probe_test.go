package probe

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"ssegateway/internal/bubble"
)

// spoilt is a path with a fault, or with none.
type spoilt struct {
	name    string
	want    ID     // "": nothing is found
	proxy   string // that the setting is looked up for
	setting string // what the advice for that proxy has to name
	path    func(w *world) http.Handler
	edit    func(w *world, o *Options)
	secured []string // the protocols of TLS; none: plain HTTP
}

// sound is a path without a fault.
func sound(w *world) http.Handler { return guarded(w.forward()) }

var paths = []spoilt{
	{name: "sound", path: sound},
	{name: "sound, with HTTP 2", path: sound, secured: []string{"h2", "http/1.1"}},
	{name: "sound, for ten minutes", path: sound, edit: func(_ *world, o *Options) { o.For = 10 * time.Minute }},
	{name: "an idle time longer than the heartbeat", path: func(w *world) http.Handler { return w.filtered(silent(20*time.Second, io.ErrUnexpectedEOF)) }},
	{name: "bodies are held back, and nobody minds", path: holdBodies},

	{
		name: "the whole answer is buffered", want: HeldBack, proxy: "nginx", setting: "proxy_buffering off",
		path: func(w *world) http.Handler { return bufferedHead(w, 1<<30) },
	},
	{
		name: "the head waits for 4 KiB", want: HeldBack, proxy: "ingress-nginx", setting: "proxy-buffering",
		path: func(w *world) http.Handler { return bufferedHead(w, 4<<10) },
	},
	{name: "buffers of 8 KiB", want: HeldBack, proxy: "Caddy", setting: "response_buffers", path: func(w *world) http.Handler {
		return w.filtered(func(r io.Reader) io.Reader {
			return reader(func(b []byte) (int, error) { return io.ReadFull(r, b[:8<<10]) })
		})
	}},
	{name: "the end of a large event waits for 4 KiB", want: HeldBack, proxy: "nginx", setting: "proxy_ignore_headers", path: func(w *world) http.Handler {
		return w.filtered(func(r io.Reader) io.Reader { return filling(r, 4<<10) })
	}},
	{name: "small writes are joined for 0.2 s", want: Delayed, proxy: "HAProxy", setting: "option http-no-delay", path: func(w *world) http.Handler {
		return w.filtered(func(r io.Reader) io.Reader {
			return batching(r, func() time.Duration { return 200 * time.Millisecond })
		})
	}},
	{name: "a write waits for an acknowledgement", want: Delayed, proxy: "nginx", setting: "tcp_nodelay on", path: func(w *world) http.Handler {
		return w.filtered(func(r io.Reader) io.Reader {
			var last time.Time
			return reader(func(b []byte) (int, error) {
				n, err := r.Read(b)
				time.Sleep(time.Until(last.Add(40 * time.Millisecond))) // fake clock
				last = time.Now()
				return n, err
			})
		})
	}},
	{name: "flushed every half second", want: Delayed, proxy: "Traefik", setting: "flushInterval", path: func(w *world) http.Handler {
		return w.filtered(func(r io.Reader) io.Reader { return ticking(r, 500*time.Millisecond) })
	}},
	{name: "flushed every three seconds", want: Delayed, proxy: "Traefik", setting: "flushInterval", path: func(w *world) http.Handler {
		return w.filtered(func(r io.Reader) io.Reader { return ticking(r, 3*time.Second) })
	}},
	{name: "compressed", want: Compressed, proxy: "nginx", setting: "gzip_types", path: compressing},
	{
		name: "a short idle time", want: IdleCut, proxy: "nginx", setting: "proxy_read_timeout",
		path: func(w *world) http.Handler { return w.filtered(silent(5*time.Second, io.ErrUnexpectedEOF)) },
	},
	{
		name: "a short idle time that looks like an end", want: IdleCut, proxy: "Caddy", setting: "read_timeout",
		path: func(w *world) http.Handler { return w.filtered(silent(5*time.Second, io.EOF)) },
	},
	{
		name: "an idle time that only a slow heartbeat meets", want: IdleCut, proxy: "AWS ALB", setting: "idle_timeout.timeout_seconds",
		path: func(w *world) http.Handler { return w.filtered(silent(60*time.Second, io.ErrUnexpectedEOF)) },
		edit: func(w *world, o *Options) { w.gateway.heartbeat, o.For = 5*time.Minute, 3*time.Minute },
	},
	{
		name: "a very short idle time, and a slow backend", want: IdleCut, proxy: "Apache", setting: "ProxyTimeout",
		path: func(w *world) http.Handler { return w.filtered(silent(time.Second, io.ErrUnexpectedEOF)) },
		edit: func(w *world, _ *Options) {
			w.gateway.accept = func(*http.Request) int {
				time.Sleep(600 * time.Millisecond) // fake clock
				return http.StatusOK
			}
		},
	},
	{name: "a very short bound of the whole answer", want: LifeCut, proxy: "Caddy", setting: "write", path: func(w *world) http.Handler {
		return bounded(w, 2*time.Second)
	}},
	{name: "a bound of the whole answer", want: LifeCut, proxy: "Envoy", setting: "timeout: 0s", path: func(w *world) http.Handler {
		return bounded(w, 15*time.Second)
	}},
	{
		name: "a bound of the whole answer, long", want: LifeCut, proxy: "Traefik", setting: "writeTimeout",
		path: func(w *world) http.Handler { return bounded(w, 5*time.Minute) }, edit: func(_ *world, o *Options) { o.For = 10 * time.Minute },
	},
	{name: "HTTP/1.0", want: HTTP10, proxy: "Apache", setting: "force-response-1.0", path: older},
	{name: "HTTP/2 is off", want: OnlyHTTP1, proxy: "HAProxy", setting: "alpn h2,http/1.1", path: sound, secured: []string{"http/1.1"}},
	{name: "Cache-Control is hidden", want: HeadersLost, proxy: "nginx", setting: "proxy_hide_header", path: func(w *world) http.Handler {
		return answering(w, func(h http.Header) { h.Del("Cache-Control") })
	}},
	{name: "nosniff is hidden", want: HeadersLost, proxy: "Envoy", setting: "response_headers_to_remove", path: func(w *world) http.Handler {
		return answering(w, func(h http.Header) { h.Del("X-Content-Type-Options") })
	}},
	{name: "the content type is another", want: ContentType, proxy: "Apache", setting: "Header set Content-Type", path: func(w *world) http.Handler {
		return answering(w, func(h http.Header) { h.Set("Content-Type", "text/plain") })
	}},
	{name: "requests for one URL are joined", want: Cached, proxy: "nginx", setting: "proxy_cache off", path: joining},
	{name: "an old stream is given", want: Cached, proxy: "Cloudflare", setting: "Bypass cache", path: storing},
	{name: "every second event runs into the one before", want: EventsLost, proxy: "Apache", setting: "mod_substitute", path: func(w *world) http.Handler {
		return w.filtered(perEvent(func(n int, text string) string {
			if n > 2 && n%2 == 1 {
				return strings.TrimSuffix(text, "\n")
			}
			return text
		}))
	}},
	{name: "some events are dropped", want: EventsLost, proxy: "nginx", setting: "sub_filter", path: func(w *world) http.Handler {
		return w.filtered(perEvent(func(n int, text string) string {
			if n%70 == 0 {
				return ""
			}
			return text
		}))
	}},
	{name: "some events come twice", want: EventsChanged, proxy: "Envoy", setting: "ext_proc", path: func(w *world) http.Handler {
		return w.filtered(perEvent(func(n int, text string) string {
			if n%70 == 0 {
				return text + text
			}
			return text
		}))
	}},
	{name: "large events end the stream", want: EventsCut, proxy: "HAProxy", setting: "tune.bufsize", path: func(w *world) http.Handler {
		return w.filtered(func(r io.Reader) io.Reader { return &limited{r: bufio.NewReaderSize(r, 32<<10)} })
	}},
	{name: "lines are cut", want: EventsChanged, proxy: "nginx", setting: "sub_filter", path: func(w *world) http.Handler {
		return w.filtered(perEvent(func(_ int, text string) string {
			if len(text) > 64<<10 {
				return text[:64<<10] + "\n\n"
			}
			return text
		}))
	}},
	{name: "another character set", want: EventsChanged, proxy: "nginx", setting: "charset", path: func(w *world) http.Handler {
		return w.filtered(perEvent(func(_ int, text string) string { return strings.ReplaceAll(text, "é", "?") }))
	}},
	{name: "blanks are trimmed", want: EventsChanged, proxy: "Caddy", setting: "replace", path: func(w *world) http.Handler {
		return w.filtered(perEvent(func(_ int, text string) string { return strings.ReplaceAll(text, "  \n", "\n") }))
	}},
	{name: "addresses are rewritten", want: EventsChanged, proxy: "Cloudflare", setting: "Rewrites", path: func(w *world) http.Handler {
		return w.filtered(perEvent(func(_ int, text string) string { return strings.ReplaceAll(text, "&amp;", "&") }))
	}},
	{name: "comments are dropped", want: HeartbeatsLost, proxy: "Envoy", setting: "wasm", path: func(w *world) http.Handler {
		return w.filtered(perEvent(func(_ int, text string) string {
			if strings.HasPrefix(text, ":") {
				return ""
			}
			return text
		}))
	}},
	{name: "the end is hidden", want: EndHidden, proxy: "HAProxy", setting: "filter lua", path: func(w *world) http.Handler {
		return w.filtered(func(r io.Reader) io.Reader {
			return reader(func(b []byte) (int, error) {
				n, err := r.Read(b)
				if errors.Is(err, io.EOF) {
					time.Sleep(time.Minute) // fake clock
				}
				return n, err
			})
		})
	}},
	{name: "an end looks like a cut", want: EndCut, proxy: "nginx", setting: "body_filter_by_lua", path: func(w *world) http.Handler {
		return w.filtered(func(r io.Reader) io.Reader {
			return reader(func(b []byte) (int, error) {
				n, err := r.Read(b)
				if err != nil {
					err = io.ErrUnexpectedEOF
				}
				return n, err
			})
		})
	}},
	{name: "a client's leaving is hidden", want: LeavingHidden, proxy: "nginx", setting: "proxy_ignore_client_abort", path: func(w *world) http.Handler {
		return detached(w, true)
	}},
	{name: "a client's leaving shows at a write", want: LeavingLate, proxy: "HAProxy", setting: "option abortonclose", path: func(w *world) http.Handler {
		return detached(w, false)
	}},
	{name: "Last-Event-ID is dropped", want: LastEventIDLost, proxy: "Traefik", setting: "customRequestHeaders", path: func(w *world) http.Handler {
		return w.changed(func(r *http.Request) { r.Header.Del("Last-Event-ID") })
	}},
	{name: "Last-Event-ID is changed", want: LastEventIDLost, proxy: "Apache", setting: "RequestHeader unset", path: func(w *world) http.Handler {
		return w.changed(func(r *http.Request) {
			if id := r.Header.Get("Last-Event-ID"); id != "" {
				r.Header.Set("Last-Event-ID", strings.ToLower(id))
			}
		})
	}},
	{name: "the query is dropped", want: QueryLost, proxy: "nginx", setting: "$is_args$args", path: func(w *world) http.Handler {
		return w.changed(func(r *http.Request) { r.URL.RawQuery = "" })
	}},
	{name: "bodies are held back", want: BodyHeld, proxy: "nginx", setting: "proxy_request_buffering off", path: holdBodies, edit: func(_ *world, o *Options) { o.Bodies = true }},
	{name: "nothing is denied", want: InternalReached, proxy: "nginx", setting: "deny all", path: func(w *world) http.Handler { return w.forward() }},
	{name: "nothing is denied, on the gateway's host", want: InternalOpen, proxy: "HAProxy", setting: "url_dec", path: func(w *world) http.Handler { return w.local(nil) }},
	{name: "only /internal is denied", want: InternalOpen, proxy: "Caddy", setting: "/metrics/*", path: func(w *world) http.Handler {
		return w.local(func(target string) string {
			if strings.Contains(strings.ToLower(target), "nternal") {
				return ""
			}
			return target
		})
	}},
	{name: "an encoded letter is not seen", want: InternalOpen, proxy: "HAProxy", setting: "url_dec", path: func(w *world) http.Handler {
		return w.local(func(target string) string {
			if strings.Contains(target, "internal") || strings.Contains(target, "metrics") {
				return ""
			}
			decoded, _ := url.PathUnescape(target)
			return decoded
		})
	}},
	{name: "dot segments are cleaned behind the rule", want: InternalOpen, proxy: "Envoy", setting: "direct_response", path: func(w *world) http.Handler {
		return w.local(func(target string) string {
			if !strings.HasPrefix(target, "/x/") && !strings.HasPrefix(target, "/events/") {
				return ""
			}
			return (&url.URL{Path: "/"}).JoinPath(target).Path
		})
	}},
	{name: "slashes are merged behind the rule", want: InternalOpen, proxy: "Apache", setting: "LocationMatch", path: func(w *world) http.Handler {
		return w.local(func(target string) string {
			if strings.HasPrefix(target, "/events/") {
				return target
			}
			if !strings.HasPrefix(target, "//") {
				return ""
			}
			return target[1:]
		})
	}},
	{name: "the prefix is taken away", want: InternalOpen, proxy: "nginx", setting: "no path in `proxy_pass`", path: func(w *world) http.Handler {
		return w.local(func(target string) string {
			behind, ok := strings.CutPrefix(target, "/events")
			if !ok {
				return ""
			}
			return behind
		})
	}},
}

// Each fault of a path is found, no other is, and the advice names the setting that was spoilt.
func TestSpoiltPaths(t *testing.T) {
	for _, path := range paths {
		t.Run(path.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				report, err := path.probe(t)
				if err != nil {
					t.Fatal(err)
				}
				if path.want == "" {
					if len(report.Findings) > 0 {
						t.Errorf("found %s, want nothing", short(report))
					}
					return
				}
				if len(report.Findings) != 1 || report.Findings[0].ID != path.want {
					t.Fatalf("found %s, want %s", short(report), path.want)
				}
				t.Log(report.Findings[0].Detail)
				if got := kindOf(path.want).by[slices.Index(proxies[:], path.proxy)]; !strings.Contains(got, path.setting) {
					t.Errorf("the advice for %s is %q, want one that names %q", path.proxy, got, path.setting)
				}
			})
		})
	}
}

func short(r *Report) string {
	var b strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "\n%s: %s", f.ID, f.Detail)
	}
	return b.String()
}

// probe runs the path and probes it.
func (s spoilt) probe(t *testing.T) (*Report, error) {
	w := newWorld(t)
	defer w.close()
	o := Options{URL: &url.URL{Scheme: "http", Host: "public", Path: "/events/7"}, For: 20 * time.Second}
	addr := "public:80"
	p := newProber(w.gateway, o, w.network.dial)
	if len(s.secured) > 0 {
		config, roots := certified(t, s.secured...)
		p.URL.Scheme, p.tls.RootCAs, addr = "https", roots, "public:443"
		w.serve(addr, s.path(w), config)
	} else {
		w.serve(addr, s.path(w), nil)
	}
	if s.edit != nil {
		s.edit(w, &p.Options)
	}
	return p.run(t.Context())
}
