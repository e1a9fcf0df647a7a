//go:build unix

package callback

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"ssegateway/internal/broker"
	"ssegateway/internal/gateway"
)

// The backends of these benchmarks run in the same process: the time includes them. The
// lean one does as little as a backend can.

func BenchmarkConnect(b *testing.B) {
	b.Run("lean backend", func(b *testing.B) {
		benchmarkConnect(b, "http://"+rawBackend(b, nil, leanBackend), 1)
	})
	b.Run("lean backend, 64 at a time", func(b *testing.B) {
		benchmarkConnect(b, "http://"+rawBackend(b, nil, leanBackend), 64)
	})
	b.Run("net/http backend", func(b *testing.B) {
		benchmarkConnect(b, httpBackend(b, answerOK).URL, 1)
	})
}

func answerOK(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	_, _ = io.WriteString(w, "{}")
}

// leanBackend takes each read for a request.
func leanBackend(c net.Conn, _ *bufio.Reader) {
	p := make([]byte, 16<<10)
	for {
		if _, err := c.Read(p); err != nil {
			return
		}
		if _, err := io.WriteString(c, okAnswer); err != nil {
			return
		}
	}
}

func benchmarkConnect(b *testing.B, url string, parallel int) {
	c := newClient(b, Config{URL: url})
	body := encoded(browserRequest)
	token := gateway.NewToken()
	ctx := b.Context()
	b.ReportAllocs()
	b.ResetTimer()
	before := cpuTime()
	var all sync.WaitGroup
	for i := range parallel {
		all.Go(func() {
			for range (b.N + parallel - 1 - i) / parallel {
				if a := c.Connect(ctx, ctx, token, body); a.Outcome != gateway.Accepted {
					b.Errorf("%+v", a)
					return
				}
			}
		})
	}
	all.Wait()
	b.ReportMetric(float64((cpuTime()-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// The same callback by http.Client, to compare with.
func BenchmarkTransport(b *testing.B) {
	url := "http://" + rawBackend(b, nil, leanBackend)
	transport := &http.Transport{MaxIdleConnsPerHost: 256}
	client := &http.Client{Transport: transport, Timeout: 5 * time.Second}
	b.Cleanup(transport.CloseIdleConnections)
	c, _ := New(Config{URL: url})
	token, body := gateway.NewToken(), encoded(browserRequest)
	b.ReportAllocs()
	b.ResetTimer()
	before := cpuTime()
	for range b.N {
		message := getBuffer()
		*message = c.appendConnect((*message)[:0], token, atPosition, body, "")
		r, err := client.Post(url, "application/json", bytes.NewReader((*message)[len(c.head)+len("123\r\n"):]))
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, r.Body)
		r.Body.Close()
		putBuffer(message)
	}
	b.ReportMetric(float64((cpuTime()-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
}

var browserRequest = &http.Request{
	RequestURI: "/events?room=7&since=100", Host: "app.example.org",
	Header: http.Header{
		"Accept":            {"text/event-stream"},
		"Accept-Encoding":   {"gzip, deflate, br, zstd"},
		"Accept-Language":   {"en-GB,en;q=0.9,de;q=0.8"},
		"Cache-Control":     {"no-cache"},
		"Connection":        {"keep-alive"},
		"Cookie":            {"session=0123456789abcdef0123456789abcdef; theme=dark"},
		"Referer":           {"https://app.example.org/"},
		"Sec-Ch-Ua":         {`"Chromium";v="140", "Not=A?Brand";v="24"`},
		"Sec-Fetch-Dest":    {"empty"},
		"Sec-Fetch-Mode":    {"cors"},
		"Sec-Fetch-Site":    {"same-origin"},
		"User-Agent":        {"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"},
		"X-Forwarded-For":   {"203.0.113.7"},
		"X-Forwarded-Proto": {"https"},
		"X-Request-Id":      {"6f1c2a"},
	},
}

func BenchmarkAppendRequest(b *testing.B) {
	b.Run("append", func(b *testing.B) {
		var dst []byte
		b.ReportAllocs()
		for b.Loop() {
			dst = AppendRequest(dst[:0], browserRequest, netip.Addr{})
		}
		b.SetBytes(int64(len(dst)))
	})
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			encoded(browserRequest)
		}
	})
}

// atPosition is a position as callbacks have it.
var atPosition = broker.Position{Epoch: "K7WQ2M4XHD", Offset: 1_000_000}

// BenchmarkMessage is a callback as it goes on the wire.
func BenchmarkMessage(b *testing.B) {
	c, token, body := messageParts(b)
	notice := gateway.Notice{Token: token, Request: body, Reason: gateway.Error, Detail: gateway.SlowConsumer}
	var dst []byte
	b.Run("connect", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			dst = c.appendConnect(dst[:0], token, atPosition, body, "")
		}
	})
	b.Run("disconnect", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			dst = c.appendDisconnect(dst[:0], &notice, "")
		}
	})
}

func messageParts(t testing.TB) (*Client, gateway.Token, []byte) {
	t.Helper()
	c, err := New(Config{URL: "http://backend.example.org/callback?secret=1"})
	if err != nil {
		t.Fatal(err)
	}
	return c, gateway.NewToken(), encoded(browserRequest)
}

// A callback is encoded into a buffer that is used again; what is kept of the client's
// request, for the callbacks to repeat, is one allocation.
func TestEncodingAllocations(t *testing.T) {
	c, token, body := messageParts(t)
	notice := gateway.Notice{Token: token, Request: body, Reason: gateway.Error, Detail: gateway.SlowConsumer}
	dst := make([]byte, 0, 4096)
	for _, test := range []struct {
		name string
		most float64
		do   func()
	}{
		{"a connect", 0, func() { dst = c.appendConnect(dst[:0], token, atPosition, body, "") }},
		{"a disconnect", 0, func() { dst = c.appendDisconnect(dst[:0], &notice, "") }},
		{"a request in a buffer", 0, func() { dst = AppendRequest(dst[:0], browserRequest, netip.Addr{}) }},
		{"a request", 1, func() { encoded(browserRequest) }},
	} {
		if n := testing.AllocsPerRun(1000, test.do); n > test.most {
			t.Errorf("%s: %v allocations", test.name, n)
		}
	}
}

func encoded(r *http.Request) []byte {
	request, _ := EncodeRequest(r, netip.Addr{})
	return request
}
