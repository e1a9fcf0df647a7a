package edge

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/textproto"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
)

// scripted is a connection of a proxy whose bytes are there in pieces, and then end.
type scripted struct {
	net.Conn
	pieces [][]byte
}

func (c *scripted) Read(p []byte) (int, error) {
	if len(c.pieces) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.pieces[0])
	if c.pieces[0] = c.pieces[0][n:]; len(c.pieces[0]) == 0 {
		c.pieces = c.pieces[1:]
	}
	return n, nil
}

func (*scripted) SetReadDeadline(time.Time) error { return nil }
func (*scripted) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(aProxy))
}

// inPieces cuts bytes into pieces of that size.
func inPieces(b []byte, size int) (pieces [][]byte) {
	for len(b) > 0 {
		n := min(size, len(b))
		pieces = append(pieces, b[:n])
		b = b[n:]
	}
	return pieces
}

// headerEnd returns where a header of the PROXY protocol ends by its specification (sections 2.1 and
// 2.2), and the client that it names: none for LOCAL, UNKNOWN, and everything else that is no TCP.
// ok is false for what is certainly no header.
func headerEnd(b []byte) (end int, client netip.AddrPort, ok bool) {
	if bytes.HasPrefix(b, []byte("\r\n\r\n\x00\r\nQUIT\n")) && len(b) >= 16 {
		end = 16 + int(binary.BigEndian.Uint16(b[14:]))
		if b[12]>>4 != 2 || b[12]&15 > 1 || end > len(b) {
			return 0, client, false
		}
		switch size := map[byte]int{0x11: 4, 0x21: 16}[b[13]]; {
		case b[12]&15 == 0 || size == 0:
		case end < 16+2*size+4:
			return 0, client, false
		default:
			addr, _ := netip.AddrFromSlice(b[16 : 16+size])
			client = netip.AddrPortFrom(addr, binary.BigEndian.Uint16(b[16+2*size:]))
		}
		return end, client, true
	}
	line, _, found := bytes.Cut(b, []byte("\r\n"))
	if !found || len(line) > 105 || !bytes.HasPrefix(line, []byte("PROXY ")) {
		return 0, client, false
	}
	fields := strings.Split(string(line), " ")
	if len(fields) == 6 && (fields[1] == "TCP4" || fields[1] == "TCP6") {
		addr, err := netip.ParseAddr(fields[2])
		port, err2 := strconv.ParseUint(fields[4], 10, 16)
		if err != nil || err2 != nil {
			return 0, client, false
		}
		client = netip.AddrPortFrom(addr, uint16(port))
	} else if len(fields) < 2 || fields[1] != "UNKNOWN" {
		return 0, client, false
	}
	return len(line) + 2, client, true
}

// FuzzProxyHeader: a header is taken only where the specification has one. It names that client, it
// ends there, and each byte behind it is passed on once, in whatever pieces they come.
func FuzzProxyHeader(f *testing.F) {
	client := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 4711}
	for _, version := range []byte{1, 2} {
		h := proxyproto.HeaderProxyFromAddrs(version, client, client)
		b, err := h.Format()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(append(b, get...), uint8(3))
		f.Add(b[:len(b)-1], uint8(1))
	}
	f.Add([]byte("PROXY UNKNOWN\r\n"+get), uint8(200))
	f.Add([]byte("PROXY TCP6 2001:db8::7 2001:db8::8 1 65535\r\nx"), uint8(2))
	f.Add([]byte("PROXY TCP4 ::ffff:1.2.3.4 1.2.3.4 0 0\r\n"), uint8(9))
	f.Add([]byte("\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x03abcrest"), uint8(5))
	f.Add([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x21\x00\x24"+strings.Repeat("\x01", 40)), uint8(5))
	f.Add([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x31\x00\xd8"+strings.Repeat("\x01", 230)), uint8(50))
	f.Fuzz(func(t *testing.T, b []byte, size uint8) {
		w := newWorld(10, 10)
		c := &Conn{Conn: &scripted{pieces: inPieces(bytes.Clone(b), 1+int(size))}, edge: w.Edge}
		err := c.readHeader(context.Background())
		whole := &Conn{Conn: &scripted{pieces: [][]byte{bytes.Clone(b)}}, edge: w.Edge}
		if again := whole.readHeader(context.Background()); (again == nil) != (err == nil) {
			t.Fatalf("%q in pieces of %d: %v, and whole: %v", b, 1+int(size), err, again)
		}
		if err != nil {
			return
		}
		end, want, ok := headerEnd(b)
		if !ok {
			t.Fatalf("%q is taken for a header", b)
		}
		rest, _ := io.ReadAll(reader(c.receive))
		if !bytes.Equal(rest, b[end:]) {
			t.Errorf("%q ends at %d, and %q is passed on", b, end, rest)
		}
		got := c.RemoteAddr().(*net.TCPAddr).AddrPort()
		if !want.IsValid() {
			want = netip.MustParseAddrPort(aProxy)
		}
		if got.Addr().Unmap() != want.Addr().Unmap() || got.Port() != want.Port() {
			t.Errorf("%q is of %v, and taken for %v", b, want, got)
		}
	})
}

type reader func([]byte) (int, error)

func (r reader) Read(p []byte) (int, error) { return r(p) }

// FuzzFraming: what is seen of the requests of a connection does not depend on the pieces in which they come. The request
// whose length can be read in two ways is the first that net/http takes, and in whose head both fields stand.
func FuzzFraming(f *testing.F) {
	const two, chunked = "Content-Length: 5\r\ntransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n3;x\r\nA:b\r\n0\r\nContent-Length: 3\r\n\r\n"
	const post = "POST / HTTP/1.1\r\nHost: x\r\n"
	f.Add([]byte(post+two), uint8(1))
	f.Add([]byte(post+chunked+post+"Content-Length: 2\r\n\r\n\n\n\r\n"+post+two), uint8(3))
	f.Add([]byte("POST / HTTP/1.0\r\nHost: x\r\n"+chunked+post+two), uint8(9))
	f.Add([]byte("GET / HTTP/1.1\r\nHost: x\r\nOrigin: https://app.example \r\nContent-Length: 0\n\n"), uint8(4))
	f.Add([]byte("GET / HTTP/1.1\nHost: x\nOrigin: "+strings.Repeat("a", 600)+"\n\n"), uint8(100))
	f.Fuzz(func(t *testing.T, b []byte, size uint8) {
		var whole, cut framing
		whole.scan(b)
		for _, piece := range inPieces(b, 1+int(size)) {
			cut.scan(piece)
		}
		if whole.uncertain.Load() != cut.uncertain.Load() || whole.requests != cut.requests || !bytes.Equal(whole.origin, cut.origin) {
			t.Fatalf("%q is whole %d %d %q, in pieces %d %d %q", b,
				whole.uncertain.Load(), whole.requests, whole.origin, cut.uncertain.Load(), cut.requests, cut.origin)
		}
		taken, first := uint32(0), uint32(0) // requests by net/http's reading, and the first of them with both
		source := bytes.NewReader(b)
		for in := bufio.NewReader(source); first == 0; {
			head := b[len(b)-source.Len()-in.Buffered():]
			r, err := http.ReadRequest(in)
			if err != nil || r.ProtoMajor != 1 {
				break
			}
			taken++
			text := textproto.NewReader(bufio.NewReader(bytes.NewReader(head)))
			_, _ = text.ReadLine()
			fields, _ := text.ReadMIMEHeader()
			if len(fields["Transfer-Encoding"]) > 0 && (len(fields["Content-Length"]) > 0 || r.ProtoMinor == 0) {
				first = taken
			}
			if origins := fields["Origin"]; len(origins) == 1 && len(origins[0]) <= maxOrigin && whole.requests == 1 && string(whole.origin) != origins[0] {
				t.Errorf("%q: the origin is %q here, and %q there", b, whole.origin, origins[0])
			}
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				break
			}
		}
		if got := whole.uncertain.Load(); first > 0 && got != first || first == 0 && got > 0 && got <= taken {
			t.Errorf("%q: request %d is seen as uncertain, and it is %d of %d", b, got, first, taken)
		}
	})
}
