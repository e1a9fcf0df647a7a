package stream_test

import (
	"bytes"
	"flag"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"ssegateway/internal/gateway"
)

var trickleTime = flag.Duration("trickle", 15*time.Second, "how long TestTrickle's clients are slow")

// https2windows is an HTTP/2 client that reads all that comes, but lets little come.
const https2windows protocol = "HTTP 2, windows"

// A client that takes 100 bytes each 100 ms is kept however long it lasts, whether it is
// its socket that is slow or its flow control, and however large what is on its way.
func TestTrickle(t *testing.T) {
	t.Parallel()
	start := time.Now()
	slowly := pace{100, 100 * time.Millisecond}
	all := map[protocol]*single{}
	for _, p := range append([]protocol{https2windows}, protocols...) {
		s := openSingle(t, p, nil)
		s.client.trickle(slowly)
		sender := s.history.Sender(0)
		for range 20 {
			if r := sender.Send(s.gw, 10000, false, true); r != gateway.Sent {
				t.Fatalf("%s: a send was answered with %d", p, r)
			}
		}
		all[p] = s
	}
	hurry := time.After(*trickleTime)
	for p, s := range all {
		select {
		case <-s.client.over:
			await(t, "the backend is told of the end", s.history.Told)
			t.Errorf("%s: cut after %v, and the backend was told %q", p, time.Since(start), s.history.Ends())
		case <-hurry:
			hurry = closed
		}
	}
	for p, s := range all {
		t.Run(string(p), func(t *testing.T) {
			s.client.trickle(pace{})
			sender := s.history.Sender(0)
			if err := sender.Done(); err != nil {
				await(t, "the backend is told", s.history.Told)
				t.Fatalf("the last event: %v, and the backend was told %q", err, s.history.Ends())
			}
			sender.Send(s.gw, -1, true, false)
			await(t, "the client sees the end", s.client.over)
			await(t, "the backend is told of the end", s.history.Told)
			if got := s.history.Ends()[0]; got != "server_closed/" {
				t.Errorf("the backend was told %q", got)
			}
			s.settle(t)
			s.check(t)
		})
	}
}

// closed is a time that is over.
var closed = func() <-chan time.Time {
	c := make(chan time.Time)
	close(c)
	return c
}()

// trickle makes the client slow, or fast again, where it meets the network.
func (c *client) trickle(p pace) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.beneath = p
}

// beneath is a client's connection as TLS sees it. What a busy machine makes it miss it
// takes later.
type beneath struct {
	*net.TCPConn
	c    *client
	took int
	from time.Time
}

func (b *beneath) Read(p []byte) (int, error) {
	b.c.mu.Lock()
	pace := b.c.beneath
	b.c.mu.Unlock()
	if pace.bytes > 0 && !b.c.windows {
		if b.from.IsZero() {
			b.from = time.Now()
		}
		<-time.After(time.Until(b.from.Add(time.Duration(b.took/pace.bytes+1) * pace.every)))
		p = p[:min(len(p), pace.bytes)]
	}
	n, err := b.TCPConn.Read(p)
	if pace.bytes > 0 {
		b.took += n
	}
	return n, err
}

// request2windows makes an HTTP/2 request, and opens the windows as it pleases.
func (c *client) request2windows(addr, path string) error {
	const first = 1
	framer := http2.NewFramer(c.conn, c.conn)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	var head bytes.Buffer
	encoder := hpack.NewEncoder(&head)
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", addr}, {":path", path}} {
		if err := encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}); err != nil {
			return err
		}
	}
	if _, err := io.WriteString(c.conn, http2.ClientPreface); err != nil {
		return err
	}
	if err := framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 100}); err != nil {
		return err
	}
	if err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: first, BlockFragment: head.Bytes(), EndStream: true, EndHeaders: true}); err != nil {
		return err
	}
	settings := make(chan struct{}, 8)
	go func() {
		defer close(c.over)
		defer c.conn.Close()
		for c.end == nil {
			switch f, err := framer.ReadFrame(); f := f.(type) {
			case *http2.SettingsFrame:
				if !f.IsAck() {
					settings <- struct{}{}
				}
			case *http2.MetaHeadersFrame:
				c.status = 200
			case *http2.DataFrame:
				c.body = append(c.body, f.Data()...)
				if f.StreamEnded() {
					c.end = io.EOF
				}
			case *http2.RSTStreamFrame:
				c.end = io.ErrUnexpectedEOF
			default:
				c.end = err
			}
		}
	}()
	go func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			c.mu.Lock()
			more := c.beneath.bytes
			c.mu.Unlock()
			if more == 0 {
				more = 10000
			}
			select {
			case <-c.over:
				return
			case <-settings:
				_ = framer.WriteSettingsAck()
			case <-tick.C:
				_ = framer.WriteWindowUpdate(0, uint32(more))
				_ = framer.WriteWindowUpdate(first, uint32(more))
			}
		}
	}()
	return nil
}
