package probe

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"
)

// reader is a function as a Reader.
type reader func(b []byte) (int, error)

func (r reader) Read(b []byte) (int, error) { return r(b) }

// bufferedHead is a proxy that answers when so many bytes of the body are there.
func bufferedHead(w *world, size int) http.Handler {
	p := w.forward()
	p.ModifyResponse = func(r *http.Response) error {
		body := r.Body
		held := make([]byte, min(size, 1<<20))
		n, _ := io.ReadFull(body, held)
		r.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(bytes.NewReader(held[:n]), body), body}
		return nil
	}
	return guarded(p)
}

// pumped reads in a goroutine, so that a Reader can wait for other things too.
func pumped(r io.Reader) <-chan []byte {
	pieces := make(chan []byte, 1024)
	go func() {
		defer close(pieces)
		for {
			b := make([]byte, 8<<10)
			n, err := r.Read(b)
			if n > 0 {
				pieces <- b[:n]
			}
			if err != nil {
				return
			}
		}
	}()
	return pieces
}

// batching waits after the first piece that comes, and passes on what has come till then.
func batching(r io.Reader, pause func() time.Duration) io.Reader {
	pieces := pumped(r)
	return reader(func(b []byte) (int, error) {
		piece, ok := <-pieces
		if !ok {
			return 0, io.EOF
		}
		time.Sleep(pause()) // fake clock
		n := copy(b, piece)
		for len(pieces) > 0 && n < len(b)/2 {
			n += copy(b[n:], <-pieces)
		}
		return n, nil
	})
}

// ticking passes on at fixed times what has come.
func ticking(r io.Reader, every time.Duration) io.Reader {
	begin := time.Now()
	return batching(r, func() time.Duration { return every - time.Since(begin)%every })
}

// filling passes on what is small at once, and of what is large whole buffers. The rest waits for what comes next.
func filling(r io.Reader, size int) io.Reader {
	held := ""
	return perEvent(func(_ int, text string) string {
		if held == "" && len(text) < size {
			return text
		}
		text = held + text
		whole := len(text) - len(text)%size
		held = text[whole:]
		return text[:whole]
	})(r)
}

// silent ends the stream when nothing comes for so long.
func silent(most time.Duration, with error) func(io.Reader) io.Reader {
	return func(r io.Reader) io.Reader {
		pieces := pumped(r)
		return reader(func(b []byte) (int, error) {
			select {
			case piece, ok := <-pieces:
				if !ok {
					return 0, io.EOF
				}
				return copy(b, piece), nil
			case <-time.After(most):
				return 0, with
			}
		})
	}
}

// perEvent passes a stream on event by event. f gets the number of each, from 1, and its text.
func perEvent(f func(n int, text string) string) func(io.Reader) io.Reader {
	return func(r io.Reader) io.Reader {
		lines := bufio.NewReader(r)
		var ready []byte
		n := 0
		return reader(func(b []byte) (int, error) {
			for len(ready) == 0 {
				var text strings.Builder
				for !strings.HasSuffix(text.String(), "\n\n") {
					line, err := lines.ReadString('\n')
					if err != nil {
						return 0, err
					}
					text.WriteString(line)
				}
				n++
				ready = []byte(f(n, text.String()))
			}
			copied := copy(b, ready)
			ready = ready[copied:]
			return copied, nil
		})
	}
}

// limited ends at a line that is longer than its buffer.
type limited struct {
	r    *bufio.Reader
	rest []byte
}

func (l *limited) Read(b []byte) (int, error) {
	if len(l.rest) == 0 {
		line, err := l.r.ReadSlice('\n')
		if err != nil {
			return 0, io.ErrUnexpectedEOF
		}
		l.rest = line
	}
	n := copy(b, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}

func compressing(w *world) http.Handler {
	p := w.forward()
	return guarded(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			p.ServeHTTP(rw, r)
			return
		}
		p := *p
		p.ModifyResponse = func(resp *http.Response) error {
			body := resp.Body
			resp.Header.Set("Content-Encoding", "gzip")
			out, in := io.Pipe()
			go func() {
				z := gzip.NewWriter(in)
				b := make([]byte, 1<<10)
				for {
					n, err := body.Read(b)
					if n > 0 {
						_, _ = z.Write(b[:n])
						_ = z.Flush()
					}
					if err != nil {
						_ = in.CloseWithError(z.Close())
						return
					}
				}
			}()
			resp.Body = struct {
				io.Reader
				io.Closer
			}{out, closers{out, body}}
			return nil
		}
		p.ServeHTTP(rw, r)
	}))
}

type closers []io.Closer

func (c closers) Close() error {
	for _, one := range c {
		_ = one.Close()
	}
	return nil
}

// bounded ends each answer after some time.
func bounded(w *world, most time.Duration) http.Handler {
	p := w.forward()
	return guarded(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), most)
		defer cancel()
		p.ServeHTTP(rw, r.WithContext(ctx))
	}))
}

// older answers with HTTP/1.0, which has no chunks.
func older(w *world) http.Handler {
	return guarded(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		out := r.Clone(r.Context())
		out.RequestURI, out.URL.Scheme, out.URL.Host = "", "http", "gateway:80"
		resp, err := w.back.RoundTrip(out) //nolint:bodyclose // twice, below
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		defer resp.Body.Close()
		conn, _, err := http.NewResponseController(rw).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		go func() { // a client that leaves
			_, _ = io.Copy(io.Discard, conn)
			resp.Body.Close()
		}()
		var head bytes.Buffer
		fmt.Fprintf(&head, "HTTP/1.0 %s\r\n", resp.Status)
		_ = resp.Header.Write(&head)
		head.WriteString("\r\n")
		_, _ = conn.Write(head.Bytes())
		_, _ = io.Copy(conn, resp.Body)
	}))
}

// answering is a proxy that changes the head of answers.
func answering(w *world, change func(http.Header)) http.Handler {
	p := w.forward()
	p.ModifyResponse = func(r *http.Response) error {
		change(r.Header)
		return nil
	}
	return guarded(p)
}

// joining lets one request for a URL wait for the answer of another.
func joining(w *world) http.Handler {
	var mu sync.Mutex
	under := map[string]bool{}
	p := w.forward()
	return guarded(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && r.Header.Get("Last-Event-ID") == "" && r.ContentLength == 0 {
			mu.Lock()
			busy := under[r.RequestURI]
			under[r.RequestURI] = true
			mu.Unlock()
			if busy {
				<-r.Context().Done()
				return
			}
		}
		p.ServeHTTP(rw, r)
	}))
}

// storing answers with what it once stored.
func storing(w *world) http.Handler {
	p := w.forward()
	return guarded(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.URL.RawQuery != "" {
			p.ServeHTTP(rw, r)
			return
		}
		rw.Header().Set("Content-Type", "text/event-stream")
		rw.Header().Set("Age", "4711")
		_, _ = io.WriteString(rw, "data: old\n\n")
	}))
}

// detached is a proxy whose request to the gateway does not end when the client leaves. It notices that at a write, unless
// it hides it.
func detached(w *world, hidden bool) http.Handler {
	p := w.forward()
	return guarded(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), time.Hour)
		defer cancel()
		if hidden {
			rw = deaf{rw}
		}
		p.ServeHTTP(rw, r.WithContext(ctx))
	}))
}

// deaf hides that nobody takes what is written.
type deaf struct{ http.ResponseWriter }

func (d deaf) Write(b []byte) (int, error) {
	_, _ = d.ResponseWriter.Write(b)
	return len(b), nil
}

func (d deaf) FlushError() error {
	_ = http.NewResponseController(d.ResponseWriter).Flush()
	return nil
}

func holdBodies(w *world) http.Handler {
	p := w.forward()
	return guarded(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		r.Body, r.ContentLength, r.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
		p.ServeHTTP(rw, r)
	}))
}

// local is a proxy on the gateway's host, which adds no forwarding header. It passes on another target for each, or with ""
// denies it.
func (w *world) local(target func(string) string) http.Handler {
	p := &httputil.ReverseProxy{
		Transport: w.back, FlushInterval: -1, ErrorLog: w.forward().ErrorLog,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "http", "gateway:80"
			if target == nil {
				return
			}
			path, query, _ := strings.Cut(r.In.RequestURI, "?")
			r.Out.URL = &url.URL{Scheme: "http", Host: "gateway:80", Opaque: target(path), RawQuery: query}
		},
	}
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		path, _, _ := strings.Cut(r.RequestURI, "?")
		if strings.HasPrefix(path, "http") || target != nil && target(path) == "" {
			rw.WriteHeader(http.StatusForbidden)
			return
		}
		p.ServeHTTP(rw, r)
	})
}
