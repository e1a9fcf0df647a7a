package probe

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
)

// version is a version of HTTP.
type version struct {
	name  string
	http2 bool
}

var (
	http1 = version{"HTTP/1.1", false}
	http2 = version{"HTTP/2", true}
)

// request is what is special about a request for a stream.
type request struct {
	header http.Header
	query  string
	bare   bool // without the headers of the user
}

// transport makes a transport of its own, so that nothing is shared with another stream.
func (p *prober) transport(v version) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!v.http2)
	protocols.SetHTTP2(v.http2)
	return &http.Transport{
		Protocols: protocols, DialContext: p.dial, TLSClientConfig: p.tls.Clone(), DisableCompression: true,
		MaxResponseHeaderBytes: answerLimit,
	}
}

// request makes a request as an EventSource does.
func (p *prober) request(ctx context.Context, method string, r request, body io.Reader) (*http.Request, error) {
	to := *p.URL
	queries := []string{to.RawQuery, r.query}
	if p.busting {
		p.requests++
		queries = append(queries, fmt.Sprintf("ssegateway-probe=%s-%d", p.nonce, p.requests))
	}
	to.RawQuery = strings.Join(slices.DeleteFunc(queries, func(q string) bool { return q == "" }), "&")
	req, err := http.NewRequestWithContext(ctx, method, to.String(), body)
	if err != nil {
		return nil, err
	}
	req.Header = http.Header{
		"Accept": {"text/event-stream"}, "Cache-Control": {"no-cache"}, "Accept-Encoding": {p.encodings}, "User-Agent": {p.agent()},
	}
	if !r.bare {
		maps.Copy(req.Header, p.Header)
	}
	maps.Copy(req.Header, r.header)
	req.Host = p.host()
	return req, nil
}

// host returns the host that requests name.
func (p *prober) host() string {
	if host := p.Header.Get("Host"); host != "" {
		return host
	}
	return p.URL.Host
}

// agent is the User-Agent of this run.
func (p *prober) agent() string { return "ssegateway-probe/" + p.nonce }

// connect makes a connection to the public end, which offers these protocols by ALPN if there is TLS.
func (p *prober) connect(ctx context.Context, protocols ...string) (net.Conn, error) {
	port := p.URL.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[p.URL.Scheme]
	}
	ctx, cancel := context.WithTimeout(ctx, longPast)
	defer cancel()
	conn, err := p.dial(ctx, "tcp", net.JoinHostPort(p.URL.Hostname(), port))
	if err != nil || p.URL.Scheme == "http" {
		return conn, err
	}
	config := p.tls.Clone()
	config.NextProtos, config.ServerName = protocols, p.URL.Hostname()
	secured := tls.Client(conn, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return secured, nil
}
