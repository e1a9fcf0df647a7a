package harness

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// HTTP2 is an HTTP/2 connection at the level of frames. It can carry several exchanges.
type HTTP2 struct {
	conn   net.Conn
	framer *http2.Framer // reading: the read goroutine; writing: under writing

	writing sync.Mutex
	encoder *hpack.Encoder
	encoded bytes.Buffer

	mu       sync.Mutex
	streams  map[uint32]*http2Stream
	lastID   uint32
	goneAway bool // the server sent GOAWAY: it accepts no more streams
}

// http2Stream is the link of one exchange.
type http2Stream struct {
	c             *HTTP2
	id            uint32
	x             *Exchange
	stopAfterHead bool
	stopped       bool   // guarded by c.mu
	owed          uint32 // window that was not granted while stopped
	regular       bool   // END_STREAM or RST_STREAM was received; read goroutine only
}

// NewHTTP2 sends the preface and starts to read.
func NewHTTP2(conn net.Conn) (*HTTP2, error) {
	c := &HTTP2{conn: conn, framer: http2.NewFramer(conn, conn), streams: map[uint32]*http2Stream{}}
	c.encoder = hpack.NewEncoder(&c.encoded)
	c.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		conn.Close()
		return nil, err
	}
	if err := c.framer.WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 0}); err != nil {
		conn.Close()
		return nil, err
	}
	go c.read()
	return c, nil
}

// Do starts an exchange.
func (c *HTTP2) Do(e Endpoint, r Request) (*Exchange, error) {
	x := newExchange()
	s := &http2Stream{c: c, x: x, stopAfterHead: r.StopAfterHead}
	x.link = s

	c.writing.Lock()
	defer c.writing.Unlock()
	c.mu.Lock()
	s.id = c.lastID + 1
	c.lastID += 2
	c.streams[s.id] = s
	c.mu.Unlock()

	c.encoded.Reset()
	fields := []Field{
		{":method", r.Method},
		{":scheme", e.Scheme()},
		{":authority", r.Host},
		{":path", r.Target},
	}
	for _, f := range append(fields, r.Header...) {
		if err := c.encoder.WriteField(hpack.HeaderField{Name: strings.ToLower(f.Name), Value: f.Value}); err != nil {
			return nil, err
		}
	}
	if err := c.writeHeadersLocked(s.id, r.Body == nil); err != nil {
		return nil, err
	}
	if r.Body == nil {
		return x, nil
	}
	return x, c.framer.WriteData(s.id, true, r.Body) // small bodies only: no flow control
}

// writeHeadersLocked sends the encoded header block in as many frames as necessary.
func (c *HTTP2) writeHeadersLocked(id uint32, endStream bool) error {
	const maxFrame = 16 << 10
	block := c.encoded.Bytes()
	first := block[:min(maxFrame, len(block))]
	block = block[len(first):]
	err := c.framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: id, BlockFragment: first, EndStream: endStream, EndHeaders: len(block) == 0,
	})
	for len(block) > 0 && err == nil {
		next := block[:min(maxFrame, len(block))]
		block = block[len(next):]
		err = c.framer.WriteContinuation(id, len(block) == 0, next)
	}
	return err
}

// GoneAway reports whether the server accepts no new streams on the connection.
func (c *HTTP2) GoneAway() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.goneAway
}

// HangUp closes the connection.
func (c *HTTP2) HangUp() { c.conn.Close() }

func (c *HTTP2) read() {
	for {
		frame, err := c.framer.ReadFrame()
		if err != nil {
			var streamErr http2.StreamError
			if errors.As(err, &streamErr) {
				if s := c.stream(streamErr.StreamID); s != nil {
					s.x.gotEnd(Malformed, streamErr)
				}
				continue
			}
			c.lost(err)
			return
		}
		c.handle(frame)
	}
}

// lost ends every unfinished exchange after the connection was lost.
func (c *HTTP2) lost(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	end := Cut
	var connErr http2.ConnectionError
	if errors.As(err, &connErr) {
		end = Malformed
	}
	for _, s := range c.streams {
		s.x.gotEnd(end, err)
	}
}

func (c *HTTP2) stream(id uint32) *http2Stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.streams[id]
}

func (c *HTTP2) handle(frame http2.Frame) {
	switch f := frame.(type) {
	case *http2.SettingsFrame:
		c.handleSettings(f)
	case *http2.PingFrame:
		if !f.IsAck() {
			c.send(func() error { return c.framer.WritePing(true, f.Data) })
		}
	case *http2.MetaHeadersFrame:
		if s := c.stream(f.StreamID); s != nil {
			s.handleHeaders(f)
		}
	case *http2.DataFrame:
		if s := c.stream(f.StreamID); s != nil {
			s.handleData(f)
		}
	case *http2.GoAwayFrame:
		c.mu.Lock()
		c.goneAway = true
		c.mu.Unlock()
	case *http2.RSTStreamFrame:
		if s := c.stream(f.StreamID); s != nil && !s.regular {
			s.regular = true
			s.x.gotEnd(Cut, fmt.Errorf("RST_STREAM %v", f.ErrCode))
		}
	}
}

func (c *HTTP2) handleSettings(f *http2.SettingsFrame) {
	if f.IsAck() {
		return
	}
	c.send(c.framer.WriteSettingsAck)
}

func (s *http2Stream) handleHeaders(f *http2.MetaHeadersFrame) {
	status, err := strconv.Atoi(f.PseudoValue("status"))
	if err != nil {
		s.x.gotEnd(Malformed, fmt.Errorf("status %q", f.PseudoValue("status")))
		return
	}
	head := &Head{Proto: "HTTP/2", Status: status}
	for _, field := range f.RegularFields() {
		head.Header = append(head.Header, Field{field.Name, field.Value})
	}
	if s.stopAfterHead {
		s.stop()
	}
	s.x.gotHead(head)
	if f.StreamEnded() {
		s.regular = true
		s.x.gotEnd(Clean, nil)
	}
}

func (s *http2Stream) handleData(f *http2.DataFrame) {
	if s.regular {
		s.x.gotEnd(Malformed, errors.New("DATA after the end of the stream"))
		return
	}
	if len(f.Data()) > 0 {
		s.x.gotBytes(len(f.Data()))
		s.x.gotPiece(f.Data())
	}
	if f.StreamEnded() {
		s.regular = true
		s.x.gotEnd(Clean, nil)
	}
	if f.Length == 0 {
		return
	}
	s.c.mu.Lock()
	stopped := s.stopped
	if stopped {
		s.owed += f.Length
	}
	s.c.mu.Unlock()
	if !stopped {
		s.grant(f.Length)
	}
}

// grant sends window updates for the connection and for the stream.
func (s *http2Stream) grant(n uint32) {
	s.c.send(func() error {
		if err := s.c.framer.WriteWindowUpdate(0, n); err != nil {
			return err
		}
		return s.c.framer.WriteWindowUpdate(s.id, n)
	})
}

// send writes frames. It ignores errors, because the read goroutine gets them too.
func (c *HTTP2) send(f func() error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	_ = f()
}

func (s *http2Stream) leave() {
	s.c.send(func() error { return s.c.framer.WriteRSTStream(s.id, http2.ErrCodeCancel) })
	s.x.gotEnd(Cut, errors.New("canceled by the client"))
}

func (s *http2Stream) halfClose() error {
	return s.c.conn.(interface{ CloseWrite() error }).CloseWrite()
}

func (s *http2Stream) reset() error { return resetOnClose(s.c.conn) }

func (s *http2Stream) write([]byte) error {
	return errors.New("HTTP/2 cannot send bytes after a request")
}

func (s *http2Stream) hangUp() { s.c.conn.Close() }

func (s *http2Stream) stop() {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.stopped = true
}

func (s *http2Stream) take(n int) {
	s.c.mu.Lock()
	granted := min(uint32(n), s.owed)
	s.owed -= granted
	s.c.mu.Unlock()
	if granted > 0 {
		s.grant(granted)
	}
}

func (s *http2Stream) resume() {
	s.c.mu.Lock()
	owed := s.owed
	s.stopped, s.owed = false, 0
	s.c.mu.Unlock()
	if owed > 0 {
		s.grant(owed)
	}
}
