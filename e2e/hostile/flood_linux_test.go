package hostile

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"ssegateway/e2e/harness"
)

// flood is what an HTTP/2 peer sends without end.
type flood struct {
	name  string
	path  string                                     // of the requests
	first func(f *http2.Framer)                      // sent once
	more  func(f *http2.Framer, n int, block []byte) // sent again and again
	cut   bool                                       // the gateway has to close the connection soon
}

var floods = []flood{
	{name: "PING", cut: true, more: func(f *http2.Framer, n int, _ []byte) { _ = f.WritePing(false, [8]byte{byte(n)}) }},
	{name: "SETTINGS", cut: true, more: func(f *http2.Framer, n int, _ []byte) {
		_ = f.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: uint32(4096 + n%2)})
	}},
	{name: "PRIORITY", cut: true, more: func(f *http2.Framer, n int, _ []byte) {
		_ = f.WritePriority(uint32(2*n+1)&0x7fffffff, http2.PriorityParam{Weight: 1})
	}},
	{name: "CONTINUATION", cut: true, first: func(f *http2.Framer) {
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndStream: true})
	}, more: func(f *http2.Framer, _ int, block []byte) { _ = f.WriteContinuation(1, false, block) }},
	{name: "empty CONTINUATION", cut: true, first: func(f *http2.Framer) {
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndStream: true})
	}, more: func(f *http2.Framer, _ int, _ []byte) { _ = f.WriteContinuation(1, false, nil) }},
	{name: "resets of what has an answer at once", path: "/healthz", more: rapidReset},
	{name: "resets of streams", path: "/streams", cut: true, more: rapidReset},
}

func rapidReset(f *http2.Framer, n int, block []byte) {
	id := uint32(2*n + 1)
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndStream: true, EndHeaders: true})
	_ = f.WriteRSTStream(id, http2.ErrCodeCancel)
}

// Floods of HTTP/2 frames cost bounded time and memory, and do not affect other clients.
func TestFloods(t *testing.T) {
	for _, k := range floods {
		t.Run(k.name, func(t *testing.T) {
			v := newVisitor(t, false, "LOG_LEVEL=warn")
			calm := v.ask()
			before := memory(t, v.g.Process, "VmRSS")

			flooded := make(chan int)
			stop := make(chan struct{})
			go func() {
				sent := 0
				defer func() { flooded <- sent }()
				for {
					sent += pour(t, v.g.Endpoint.Addr, k)
					select { // pause, because the test is not about who has more processors
					case <-stop:
						return
					case <-time.After(100 * time.Millisecond):
					}
				}
			}()
			meanwhile := v.ask()
			close(stop)
			sent := <-flooded
			grown := memory(t, v.g.Process, "VmRSS") - before
			t.Logf("%d MB sent; %d MiB more resident; before: %v; meanwhile: %v", sent>>20, grown>>20, calm, meanwhile)
			meanwhile.within(t)
			if grown > 96<<20 { // high, because the race detector multiplies memory
				t.Errorf("%d MiB more resident", grown>>20)
			}
		})
	}
}

// pour floods the gateway on one connection, until the gateway closes it or enough was sent. It returns how many bytes were sent.
func pour(t *testing.T, addr string, k flood) (sent int) {
	floodMost := 2 << 20
	if k.cut {
		floodMost = 32 << 20
	}
	nc, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
	drained := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, nc)
		close(drained)
	}()
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	for _, field := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "x"}, {":path", k.path}} {
		_ = e.WriteField(hpack.HeaderField{Name: field[0], Value: field[1], Sensitive: true}) // sent in full each time
	}
	var b bytes.Buffer
	b.WriteString(http2.ClientPreface)
	f := http2.NewFramer(&b, nil)
	_ = f.WriteSettings()
	if k.first != nil {
		k.first(f)
	}
	for n := 0; sent < floodMost; {
		for b.Len() < 64<<10 {
			k.more(f, n, block.Bytes())
			n++
		}
		written, err := nc.Write(b.Bytes())
		b.Reset()
		if sent += written; err != nil {
			<-drained
			return sent
		}
	}
	if k.cut {
		t.Errorf("%s: the gateway accepted %d bytes", k.name, sent)
	}
	return sent
}

// memory is [harness.Process.Memory], which has to succeed.
func memory(t *testing.T, p *harness.Process, line string) int64 {
	t.Helper()
	n, err := p.Memory(line)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
