package edge

import (
	"bytes"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"ssegateway/internal/bubble"
)

// Over HTTP/2 an answer can be held back on its own, while the connection is fine.
func TestAnswerDeadlineHTTP2(t *testing.T) {
	const size = 10 * answerPiece
	for _, test := range []struct {
		name     string
		internal bool
		size     int
		every    time.Duration // gives answerPiece more of window; 0: never
		want     time.Duration // when the server has ended the stream
		ok       bool
	}{
		{"a stranger that takes nothing", false, 100, 0, answerTimeout, false},
		{"a caller that takes nothing", true, 100, 0, callerTimeout, false},
		{"a caller that takes nothing of much", true, size, 0, callerTimeout, false},
		{"a caller that takes little", true, size, 50 * time.Second, 500 * time.Second, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				w := newWorld(4, 2)
				l := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
				server := &http.Server{ConnContext: Context, ErrorLog: log.New(io.Discard, "", 0), Protocols: new(http.Protocols), WriteTimeout: 1e6 * time.Hour}
				server.Protocols.SetUnencryptedHTTP2(true)
				server.Handler = Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if test.internal {
						Trust(r.Context())
						w = Answer(w, r)
					}
					_, _ = w.Write(make([]byte, test.size))
				}))
				served := make(chan error)
				go func() { served <- server.Serve(w.Listen(l, Plain, nil)) }()
				client, conn := net.Pipe()
				l.conns <- conn

				began := time.Now()
				if ok := requestHTTP2(t, client, test.every); ok != test.ok || time.Since(began) != test.want {
					t.Errorf("all came: %v, after %v, want %v after %v", ok, time.Since(began), test.ok, test.want)
				}
				_ = client.Close()
				_ = server.Close()
				if err := <-served; !errors.Is(err, http.ErrServerClosed) {
					t.Error(err)
				}
			})
		})
	}
}

// requestHTTP2 makes a request without any window for its answer, and gives some from time to
// time. It returns whether all of the answer came, or the stream was reset.
func requestHTTP2(t *testing.T, nc net.Conn, every time.Duration) (all bool) {
	t.Helper()
	frames := http2.NewFramer(nc, nc)
	writes := make(chan func() error, 10) // a pipe's writes wait for who reads
	done := make(chan struct{})
	defer close(done)
	go func() {
		for {
			select {
			case write := <-writes:
				_ = write()
			case <-done:
				return
			}
		}
	}()
	var head bytes.Buffer
	fields := hpack.NewEncoder(&head)
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "x"}, {":path", "/"}} {
		_ = fields.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	writes <- func() error { _, err := io.WriteString(nc, http2.ClientPreface); return err }
	writes <- func() error { return frames.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}) }
	writes <- func() error {
		return frames.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head.Bytes(), EndStream: true, EndHeaders: true})
	}
	if every > 0 {
		go func() {
			for {
				select {
				case <-time.After(every):
					writes <- func() error { return frames.WriteWindowUpdate(1, answerPiece) }
				case <-done:
					return
				}
			}
		}()
	}
	for {
		frame, err := frames.ReadFrame()
		if err != nil {
			t.Error(err)
			return false
		}
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				writes <- frames.WriteSettingsAck
			}
		case *http2.DataFrame:
			if f.StreamEnded() {
				return true
			}
		case *http2.RSTStreamFrame:
			return false
		}
	}
}

// deadlines counts the deadlines for writes that an answer sets.
type deadlines struct {
	http.ResponseWriter
	n int
}

func (d *deadlines) SetWriteDeadline(time.Time) error { d.n++; return nil }

// wrapped is what other handlers may put around an answer.
type wrapped struct{ http.ResponseWriter }

func (w wrapped) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// A stream that is an answer of the internal API over HTTP/2 has no deadline: it may be silent for long.
func TestEndless(t *testing.T) {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.ProtoMajor = 2
	for _, endless := range []bool{false, true} {
		seen := &deadlines{ResponseWriter: httptest.NewRecorder()}
		w := http.ResponseWriter(wrapped{Answer(seen, r)})
		if endless {
			Endless(w)
		}
		if _, err := w.Write([]byte("data: x\n\n")); err != nil || seen.n == 0 != endless {
			t.Errorf("endless %t: %d deadlines, %v", endless, seen.n, err)
		}
	}
}
