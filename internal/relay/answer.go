package relay

import (
	"errors"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/http/httputil"
	"slices"
	"strings"
	"time"

	"ssegateway/internal/gateway"
	"ssegateway/internal/logging"
)

const (
	prefix        = "sse-gateway-"      // of fields between the gateway and the application
	tokenField    = "Sse-Gateway-Token" //nolint:gosec // the name of a field
	resumeField   = "Sse-Gateway-Resume"
	positionField = "Sse-Gateway-Position"

	holdType   = "application/vnd.ssegateway+json"
	streamType = "text/event-stream"

	// maxGrant bounds the object of a hold, in bytes, as the answer to a connect callback is bounded.
	maxGrant = 1 << 20
	// grantTime bounds the wait for it.
	grantTime = 10 * time.Second
)

// removeOwn removes the fields that only the gateway sets. Some servers read "_" as "-".
func removeOwn(h http.Header) {
	for name := range h {
		if len(name) >= len(prefix) && strings.EqualFold(strings.ReplaceAll(name[:len(prefix)], "_", "-"), prefix) {
			delete(h, name)
		}
	}
}

// rewrite makes the request that goes to the backend. ReverseProxy has removed the hop-by-hop fields, and those of
// proxies.
func (r *Relay) rewrite(p *httputil.ProxyRequest) {
	x := of(p.Out.Context())
	h := p.Out.Header
	removeOwn(h)
	h.Del("Expect") // is met here
	peer := r.cfg.Peer(p.In)
	host, proto, chain := p.In.Host, "http", []string(nil)
	if p.In.TLS != nil {
		proto = "https"
	}
	forwarded := p.In.Header
	switch {
	case r.cfg.Trusts(peer):
		chain = forwarded["X-Forwarded-For"]
		if v := forwarded.Get("X-Forwarded-Host"); v != "" {
			host = v
		}
		if v := forwarded.Get("X-Forwarded-Proto"); v != "" {
			proto = v
		}
	case len(forwarded["X-Forwarded-For"])+len(forwarded["X-Forwarded-Host"])+len(forwarded["X-Forwarded-Proto"])+len(forwarded["Forwarded"]) > 0:
		r.untrusted.Do(func() {
			r.cfg.Log.Warn("a peer that is not in TRUSTED_PROXIES sends the fields of a proxy, which are not passed on: if it is one, add its address to TRUSTED_PROXIES; ignore this if it is a client (this is said once)")
		})
	}
	h["X-Forwarded-For"] = []string{strings.Join(append(append([]string{}, chain...), peer.String()), ", ")}
	h["X-Forwarded-Host"] = []string{host}
	h["X-Forwarded-Proto"] = []string{proto}
	h[tokenField] = []string{x.conn.Token().String()}
	h[positionField] = []string{x.asked.String()}
}

// transport carries what ReverseProxy sends.
type transport struct{ Forwarder }

// RoundTrip implements http.RoundTripper.
func (t transport) RoundTrip(out *http.Request) (*http.Response, error) {
	x := of(out.Context())
	out = out.WithContext(x.ctx) // ReverseProxy's context keeps its ResponseWriter
	if x.body != nil {
		out.Body = x.body // closing ReverseProxy's does not end the reading
	}
	return t.Send(out, x.interim)
}

// interim passes on an answer before the final one. A client of HTTP/1.0 does not know such answers (RFC 9110 section
// 15.2), and what it expects before its body the gateway has told it.
func (x *exchange) interim(early *http.Response) {
	if !x.in.ProtoAtLeast(1, 1) || early.StatusCode == http.StatusContinue {
		return
	}
	removeOwn(early.Header)
	for _, names := range early.Header["Connection"] {
		for name := range strings.SplitSeq(names, ",") {
			early.Header.Del(strings.TrimSpace(name))
		}
	}
	for _, name := range []string{"Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade"} {
		delete(early.Header, name)
	}
	header := x.w.Header()
	final := maps.Clone(header)
	clear(header)
	maps.Copy(header, early.Header)
	x.w.WriteHeader(early.StatusCode)
	clear(header)
	maps.Copy(header, final)
}

// errTaken has ReverseProxy leave an answer alone.
var errTaken = errors.New("the answer is no answer to pass through")

// decide looks at the head of an answer. It returns errTaken for one that is not passed through.
func (r *Relay) decide(a *http.Response) error {
	x := of(a.Request.Context())
	token := a.Header.Get(tokenField)
	x.resume = r.resumeTime(a.Header.Get(resumeField))
	removeOwn(a.Header)
	kind, _, _ := mime.ParseMediaType(a.Header.Get("Content-Type"))
	compressed := slices.ContainsFunc(a.Header["Content-Encoding"], func(v string) bool { return v != "" && !strings.EqualFold(v, "identity") })
	switch {
	case a.Request.Method == http.MethodHead:
	case kind == holdType && a.StatusCode >= 200 && a.StatusCode <= 299:
		if token == x.conn.Token().String() && !compressed {
			x.held = true
			return x.take(a)
		}
		r.unproven.Do(func() {
			r.cfg.Log.Warn("an answer of the type that holds a stream has no "+tokenField+" with the token of its request, so it is passed through (this is said once)", "path", logging.Cut(x.conn.Path()))
		})
	case kind == streamType && a.StatusCode == http.StatusOK:
		if !compressed {
			return x.take(a)
		}
		r.compressed.Do(func() {
			r.cfg.Log.Warn("an event stream of the application is compressed, so it is passed through as it comes, without heartbeats: have the application leave event streams as they are (this is said once)", "path", logging.Cut(x.conn.Path()))
		})
	}
	if a.StatusCode == http.StatusNoContent || a.StatusCode == http.StatusNotModified {
		a.Header.Del("Content-Length") // a 204 may have none, and over HTTP/2 clients wait for the body of a 304
	}
	removeOwn(a.Trailer)
	a.Body = &passing{a.Body, a}
	r.cfg.Log.DebugContext(x.in.Context(), "passed through", "token", x.conn.Token().String(), "status", a.StatusCode)
	return nil
}

// passing is the body of an answer that is passed through.
type passing struct {
	io.ReadCloser
	answer *http.Response
}

// Read implements io.Reader.
func (p *passing) Read(b []byte) (int, error) {
	n, err := p.ReadCloser.Read(b)
	if err != nil {
		removeOwn(p.answer.Trailer) // which has come by now
	}
	return n, err
}

// take keeps an answer from ReverseProxy. The request's body has been read to its end then.
func (x *exchange) take(a *http.Response) error {
	if sender, ok := a.Body.(interface{ Sent() bool }); ok {
		sender.Sent()
	}
	taken := *a
	taken.Request = nil
	x.answer = &taken
	a.Body, a.Header, a.Request = http.NoBody, nil, nil // the body keeps a for its trailer
	return errTaken
}

// hold turns a relayed request into a connection of the gateway's.
func (r *Relay) hold(w http.ResponseWriter, in *http.Request, x *exchange) {
	tooLate := time.AfterFunc(grantTime, x.cancel)
	content, err := io.ReadAll(io.LimitReader(x.answer.Body, maxGrant+1))
	late := !tooLate.Stop() && in.Context().Err() == nil
	if late || len(content) > maxGrant {
		content, err = nil, nil
		r.ungranted.Do(func() {
			r.cfg.Log.Warn("the object of an answer that holds a stream is larger than 1 MiB, or did not come within 10 s, so it counts as {} (this is said once)", "path", logging.Cut(x.conn.Path()))
		})
	}
	_ = x.answer.Body.Close()
	if err != nil {
		x.answer = nil // there is none
		r.fail(w, in.WithContext(x.ctx), err)
		return
	}
	answer := gateway.Answer{Outcome: gateway.Accepted, Status: x.answer.StatusCode, Body: content, Asked: x.asked}
	for _, value := range x.answer.Header["Set-Cookie"] {
		answer.Header = append(answer.Header, gateway.Field{Name: "Set-Cookie", Value: value})
	}
	x.settled = true
	r.cfg.Hold(w, in, x.conn, answer)
}
