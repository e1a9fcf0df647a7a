package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strings"
	"time"
)

// findVersions finds out which versions of HTTP the public end speaks, and how long a short request takes.
func (p *prober) findVersions(ctx context.Context) error {
	begin := time.Now()
	conn, err := p.connect(ctx, "h2", "http/1.1")
	if err != nil {
		return fmt.Errorf("cannot connect to %s: %w; is the URL right, and can it be reached from this host?", p.URL.Host, err)
	}
	defer conn.Close()
	p.trip = time.Since(begin)
	p.versions = []version{http1}
	if secured, ok := conn.(*tls.Conn); ok && secured.ConnectionState().NegotiatedProtocol == "h2" {
		p.versions = []version{http2}
		if older, err := p.connect(ctx, "http/1.1"); err == nil {
			older.Close()
			p.versions = append(p.versions, http1)
		}
	} else if ok {
		p.found(OnlyHTTP1, "the public end chose HTTP/1.1, though HTTP/2 was offered")
	}
	names := make([]string, len(p.versions))
	for i, v := range p.versions {
		names[i] = v.name
	}
	p.measured("versions", strings.Join(names, ", "))
	p.roundTrip(ctx)
	return nil
}

// roundTrip measures a short request through the path and back: a HEAD, which a gateway answers by itself. An application
// behind a relay may take longer for it.
func (p *prober) roundTrip(ctx context.Context) {
	transport := p.transport(p.versions[0])
	defer transport.CloseIdleConnections()
	const tries = 5
	for i := range tries {
		took, err := p.head(ctx, transport)
		if err != nil {
			break // the time of the connection remains
		}
		if i == 1 || i > 1 && took < p.trip {
			p.trip = took // the first one made the connection
		}
	}
}

// head makes a short request, and returns how long it takes. A cache may make a GET of it.
func (p *prober) head(ctx context.Context, transport *http.Transport) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := p.request(ctx, http.MethodHead, request{}, nil)
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	resp.Body.Close()
	return time.Since(begin), nil
}

// first opens the first stream, and looks at the head of its answer.
func (p *prober) first(ctx context.Context) (*stream, error) {
	s, err := p.open(ctx, request{})
	if err != nil {
		return nil, err
	}
	h := s.answered()
	if h == nil {
		return s, nil // it is held back, which delivery finds
	}
	p.checkHead(h)
	if encoding(h.fields) == "" {
		return s, nil
	}
	p.found(Compressed, fmt.Sprintf("Content-Encoding: %.40q", encoding(h.fields)))
	s.leave()
	p.encodings = "identity"
	if s, err = p.open(ctx, request{}); err != nil {
		return nil, err
	}
	if h = s.answered(); h != nil && encoding(h.fields) != "" {
		return nil, errors.New("the stream is compressed though nobody asked for it, so that its events cannot be looked at")
	}
	return s, nil
}

func (p *prober) checkHead(h *head) {
	if h.old {
		p.found(HTTP10, "the answer is "+h.proto)
	}
	if kind, _, _ := mime.ParseMediaType(h.fields.Get("Content-Type")); kind != "text/event-stream" {
		p.found(ContentType, fmt.Sprintf("Content-Type: %.80q", h.fields.Get("Content-Type")))
	}
	var lost []string
	if control := strings.ToLower(strings.Join(h.fields.Values("Cache-Control"), ",")); !strings.Contains(control, "no-cache") && !strings.Contains(control, "no-store") {
		lost = append(lost, "Cache-Control: no-cache")
	}
	if !strings.EqualFold(h.fields.Get("X-Content-Type-Options"), "nosniff") {
		lost = append(lost, "X-Content-Type-Options: nosniff")
	}
	if len(lost) > 0 {
		p.found(HeadersLost, "the answer lacks "+strings.Join(lost, " and "))
	}
	if by := h.fields.Get("Server"); by != "" {
		p.measured("server", fmt.Sprintf("%.80q", by))
	}
	if via := h.fields.Values("Via"); len(via) > 0 {
		p.measured("via", fmt.Sprintf("%.200q", strings.Join(via, ", ")))
	}
}

// encoding returns how an answer is compressed, or "".
func encoding(fields http.Header) string {
	if e := strings.ToLower(fields.Get("Content-Encoding")); e != "identity" {
		return e
	}
	return ""
}
