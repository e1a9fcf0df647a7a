package corpus

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"ssegateway/e2e/harness"
)

// markerID is the stream of the request behind each case.
const markerID = 2001

// peer reads what the gateway answers to raw frames.
type peer struct {
	conn    net.Conn
	framer  *http2.Framer
	bodies  map[uint32][]byte
	answers map[uint32]string // heads of those whose end has not come
	kinds   map[uint32]string
}

// next returns what comes next of the things that are frozen. final: nothing more comes on this connection.
func (p *peer) next(within time.Duration) (line string, final bool, err error) {
	_ = p.conn.SetReadDeadline(time.Now().Add(within))
	for {
		f, err := p.framer.ReadFrame()
		if err != nil {
			return "", true, err
		}
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			kind := ""
			for _, field := range f.RegularFields() {
				if field.Name == "content-type" {
					kind = field.Value
				}
			}
			line = fmt.Sprintf("answer %d %s", f.StreamID, f.PseudoValue("status"))
			switch {
			case strings.HasPrefix(kind, "text/event-stream"):
				return line + " stream", false, nil
			case f.StreamEnded():
				return line, false, nil
			}
			p.answers[f.StreamID], p.kinds[f.StreamID] = line, kind
		case *http2.DataFrame:
			p.bodies[f.StreamID] = append(p.bodies[f.StreamID], f.Data()...)
			if f.StreamEnded() && p.answers[f.StreamID] != "" {
				return p.answers[f.StreamID] + " " + meaning(p.kinds[f.StreamID], p.bodies[f.StreamID]), false, nil
			}
		case *http2.RSTStreamFrame:
			if f.ErrCode != http2.ErrCodeNo { // that says only that no more of a body is wanted
				return fmt.Sprintf("answer %d reset %v", f.StreamID, f.ErrCode), false, nil
			}
		case *http2.GoAwayFrame:
			return fmt.Sprintf("answer goaway %v", f.ErrCode), f.ErrCode != http2.ErrCodeNo, nil
		}
	}
}

// sendFrames is send for frames. What comes on different streams has no order, so the lines are sorted.
func (a attempt) sendFrames(conn net.Conn, known []string) (lines []string) {
	_ = conn.SetWriteDeadline(time.Now().Add(harness.Patience))
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = io.WriteString(conn, http2.ClientPreface+raw(http2.FrameSettings, 0, 0, "")+a.raw)
	}()
	p := &peer{conn, http2.NewFramer(io.Discard, conn), map[uint32][]byte{}, map[uint32]string{}, map[uint32]string{}}
	p.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	answers, within := begins(known, "answer ")+begins(known, "closed"), harness.Patience
	if known == nil {
		answers, within = -1, quiet
	}
	for n := 0; n != answers; n++ {
		line, final, err := p.next(within)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && known == nil:
			n = answers - 1
			continue
		case errors.Is(err, os.ErrDeadlineExceeded):
			return append(lines, "missing: "+err.Error())
		case err != nil:
			lines = append(lines, "closed")
		default:
			lines = append(lines, line)
		}
		if final {
			slices.Sort(lines)
			return lines
		}
	}
	slices.Sort(lines)
	<-sent
	_, _ = io.WriteString(conn, h2get(markerID, "/readyz"))
	for {
		line, final, err := p.next(harness.Patience)
		switch {
		case err != nil:
			return append(lines, "marker lost")
		case final:
			return append(lines, "marker "+line)
		case line == fmt.Sprintf("answer %d %s", markerID, itsReply):
			return append(lines, "marker answered")
		case strings.HasSuffix(line, " reset STREAM_CLOSED"):
			// Of a stream that was answered before the rest of its body had come (RFC 9113 section 5.1): a matter of who was faster.
			continue
		}
		lines = append(lines, "late "+line)
	}
}

// TestHTTP2 sends frames, without TLS to the public listener and with TLS to that of /internal.
func TestHTTP2(t *testing.T) {
	s := start(t, nil, "H2C=true", "INTERNAL_TLS_CERT_FILE="+cert.CertFile, "INTERNAL_TLS_KEY_FILE="+cert.KeyFile)
	s.hold(t, http2Frames, listeners, s.tryFrames)
	s.hold(t, http2Bodies, listeners[1:], s.tryFrames)
	s.hold(t, http2Raced, listeners, s.tryRaced)
	harness.Figure(t, "%d cases of frames of HTTP/2", len(http2Frames.attempts)+len(http2Bodies.attempts)+len(http2Raced.attempts))
}

// tryRaced is tryFrames for cases of which only the marker counts.
func (s *site) tryRaced(t *testing.T, a attempt, listener, client string, frozen []string) []string {
	lines := s.tryFrames(t, a, listener, client, []string{})
	lines = slices.DeleteFunc(lines, func(line string) bool { return !strings.HasPrefix(line, "marker ") })
	if a.name == twice && slices.Equal(lines, []string{"marker answer goaway PROTOCOL_ERROR"}) {
		return frozen // where the first request was answered before the second was read (RFC 9113 section 5.1.1)
	}
	return lines
}

func (s *site) tryFrames(t *testing.T, a attempt, listener, client string, frozen []string) []string {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(client)}}
	conn, err := dialer.DialContext(t.Context(), "tcp", s.addrs[listener])
	if err == nil && listener == "internal" {
		secured := tls.Client(conn, &tls.Config{RootCAs: cert.Roots, ServerName: "localhost", NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12})
		err = secured.HandshakeContext(t.Context())
		conn = secured
	}
	if err != nil {
		t.Error(err)
		return nil
	}
	lines := a.sendFrames(conn, frozen)
	conn.Close()
	s.settle(client, frozen)
	return lines
}
