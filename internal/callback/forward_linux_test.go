package callback

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestForward: what comes early, late, long and twice. Bodies go both ways at the same time.
func TestForward(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		if r.URL.Path == "/early" {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			return
		}
		_, _ = io.Copy(w, r.Body)
		fmt.Fprintf(w, " %s %s %d", r.Method, r.RequestURI, r.ContentLength)
	}))
	defer app.Close()
	u, _ := url.Parse(app.URL)
	f := NewForwarder(ForwarderConfig{URL: u, Timeout: 10 * time.Second, MaxIdle: 4})
	defer f.Close()
	for _, size := range []int{0, 1, SmallBody, SmallBody + 1, 1 << 20} {
		for _, length := range []int64{int64(size), -1} {
			body := bytes.Repeat([]byte("x"), size)
			r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, app.URL, io.NopCloser(bytes.NewReader(body)))
			r.RequestURI, r.ContentLength = "//a|b?c", length
			a, err := f.Send(r, nil)
			if err != nil {
				t.Fatal(size, length, err)
			}
			got, err := io.ReadAll(a.Body)
			_ = a.Body.Close()
			if want := fmt.Sprintf("%s POST //a|b?c %d", body, length); err != nil || string(got) != want {
				t.Errorf("%d %d: %.100q %v", size, length, got, err)
			}
		}
	}
	// An answer before the end of a body that does not come: closing it ends the reading of the body.
	in, out := io.Pipe()
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, app.URL, in)
	r.RequestURI, r.ContentLength = "/early", -1
	a, err := f.Send(r, nil)
	if err != nil || a.StatusCode != http.StatusRequestEntityTooLarge {
		t.Fatal(a, err)
	}
	_ = a.Body.Close()
	if _, err := out.Write([]byte("x")); err == nil {
		t.Error("the body is still read")
	}
}

// failing is the body of a request whose context ends before its read has failed, as in net/http's server.
type failing struct {
	fail   context.CancelFunc
	closed chan struct{}
}

func (f failing) Read([]byte) (int, error) {
	f.fail()
	<-f.closed
	return 0, os.ErrDeadlineExceeded
}

func (f failing) Close() error {
	close(f.closed)
	return nil
}

// TestForwardWithoutBody: a body that does not come is the client's fault, and not the backend's.
func TestForwardWithoutBody(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	defer app.Close()
	u, _ := url.Parse(app.URL)
	f := NewForwarder(ForwarderConfig{URL: u, Timeout: 10 * time.Second})
	defer f.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, _ := http.NewRequestWithContext(ctx, http.MethodPost, app.URL, failing{cancel, make(chan struct{})})
	r.RequestURI, r.ContentLength = "/", 1<<20
	if _, err := f.Send(r, nil); !errors.Is(err, ErrBody) { //nolint:bodyclose // there is no answer
		t.Error(err)
	}
}

type roundTripper struct{ *Forwarder }

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f.Send(r, nil) }

// cpu returns the CPU time of the process.
func cpu(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkForward compares the ways to relay: a small POST, and the memory of an answer that goes on. Client and
// application are in the same process, and cost the same in each.
func BenchmarkForward(b *testing.B) {
	hold := make(chan struct{})
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "answer")
		if r.URL.Path == "/hold" {
			_ = http.NewResponseController(w).Flush()
			<-hold
		}
	}))
	defer app.Close()
	defer close(hold)
	u, _ := url.Parse(app.URL)
	f := NewForwarder(ForwarderConfig{URL: u, Timeout: time.Minute, MaxIdle: 4})
	defer f.Close()
	transport := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 4}
	defer transport.CloseIdleConnections()
	for name, way := range map[string]http.RoundTripper{"transport": transport, "exchange": roundTripper{f}} {
		b.Run("request/"+name, func(b *testing.B) {
			proxy := httptest.NewServer(&httputil.ReverseProxy{Transport: way, Rewrite: func(p *httputil.ProxyRequest) {
				p.SetURL(u)
				p.Out.Host = p.In.Host
			}})
			defer proxy.Close()
			before := cpu(b)
			for b.Loop() {
				a, err := http.Post(proxy.URL+"/x", "text/plain", strings.NewReader("question"))
				if err != nil {
					b.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, a.Body)
				_ = a.Body.Close()
			}
			b.ReportMetric(float64(cpu(b)-before)/float64(b.N)/1000, "cpu-µs/op")
		})
		b.Run("open/"+name, func(b *testing.B) { // what an answer that is being read takes
			const n = 200
			for b.Loop() {
				runtime.GC()
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				var open []io.Closer
				for range n {
					r, _ := http.NewRequestWithContext(b.Context(), http.MethodPost, app.URL+"/hold", strings.NewReader("question"))
					if name == "exchange" {
						r.RequestURI = "/hold"
					}
					a, err := way.RoundTrip(r) //nolint:bodyclose // closed with the others
					if err != nil {
						b.Fatal(err)
					}
					open = append(open, a.Body)
				}
				runtime.GC()
				runtime.ReadMemStats(&after)
				b.ReportMetric(float64(int64(after.HeapInuse+after.StackInuse)-int64(before.HeapInuse+before.StackInuse))/n, "bytes/open")
				for _, c := range open {
					_ = c.Close()
				}
			}
		})
	}
}
