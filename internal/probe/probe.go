// Package probe finds out what the proxies between a client and the gateway do to event streams. It is a client of both
// ends: it opens streams at the public URL, and by the gateway's API it sends to them and looks at them. What it finds has
// its likely cause, and the setting of each known proxy that ends it. What cannot be known it says so.
package probe

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// Options are what to probe.
type Options struct {
	URL    *url.URL      // of a stream, http or https
	Header http.Header   // of each request, besides what an EventSource sends
	For    time.Duration // how long streams are watched for cuts
	Bodies bool          // a body that is held back counts as a finding
	Direct bool          // the URL is the gateway's own, on this host: nothing is in between, and nobody is outside
	// Progress, if set, is told every second how much of For is over.
	Progress func(over time.Duration)
}

// Report is what a probe has found out.
type Report struct {
	URL      string    `json:"url"`
	Findings []Finding `json:"findings"`
	Measured []Note    `json:"measured"`
	NotKnown []Note    `json:"not_known"`
}

// Finding is a fault of the path.
type Finding struct {
	ID       ID        `json:"id"`
	Detail   string    `json:"detail"` // what was seen
	Cause    string    `json:"cause"`
	Settings []Setting `json:"settings"`
}

// Note is something that was measured, or that could not be.
type Note struct {
	What string `json:"what"`
	Text string `json:"text"`
}

// Run probes a path. It fails if it cannot probe: the stream is refused, or one end cannot be reached.
func Run(ctx context.Context, api API, o Options) (*Report, error) {
	return newProber(api, o, new(net.Dialer).DialContext).run(ctx)
}

// Times that the checks have in common.
const (
	patience    = 2 * time.Second        // for what takes a moment on a path without faults
	pollEvery   = 50 * time.Millisecond  // how often the gateway is asked
	longPast    = 10 * time.Second       // for a path that is slow
	answerLimit = 64 << 10               // bytes of an answer that is no stream
	late        = 25 * time.Millisecond  // beyond the round trip; a delayed acknowledgement takes 40 ms
	pairGap     = 100 * time.Millisecond // between two pairs of events, longer than any delayed acknowledgement
)

type dialer func(ctx context.Context, network, addr string) (net.Conn, error)

// prober is one run.
type prober struct {
	Options

	api   API
	dial  dialer
	tls   *tls.Config
	nonce string // in the data of each event, and in the User-Agent

	versions  []version     // that the public end speaks; the first is a browser's choice
	trip      time.Duration // of a short request through the path and back
	encodings string        // Accept-Encoding of streams
	busting   bool          // each request has a parameter that no cache has seen
	requests  int           // with that parameter
	events    int           // sent so far
	opened    []*stream
	report    Report
}

func newProber(api API, o Options, dial dialer) *prober {
	if o.Header == nil {
		o.Header = http.Header{}
	}
	return &prober{
		Options: o, api: api, dial: dial, tls: &tls.Config{MinVersion: tls.VersionTLS12},
		nonce: rand.Text(), encodings: "gzip, deflate, br",
		report: Report{URL: o.URL.Scheme + "://" + o.URL.Host + o.URL.EscapedPath(), Findings: []Finding{}, Measured: []Note{}, NotKnown: []Note{}},
	}
}

// run does all checks, one after the other, beside the watching for cuts.
func (p *prober) run(ctx context.Context) (*Report, error) {
	defer p.cleanUp(context.WithoutCancel(ctx))
	if err := p.findVersions(ctx); err != nil {
		return nil, err
	}
	s, err := p.first(ctx)
	if err != nil {
		return nil, err
	}
	if s.conn.Kind == relayed {
		p.unknown("events, their end and Last-Event-ID", "an application behind the relay writes this stream, and the gateway cannot send to it")
		if err := p.leaving(ctx, s); err != nil {
			return nil, err
		}
		return p.done(p.access(ctx, s))
	}
	prompt, err := p.delivery(ctx, s)
	if err != nil {
		return nil, err
	}
	if !prompt {
		p.unknown("all but /internal", "events do not come, or not at once: take that fault away first")
		return p.done(p.access(ctx, s))
	}
	watch, err := p.beginWatch(ctx)
	if err != nil {
		return nil, err
	}
	defer watch.stop()
	for _, check := range []func(context.Context, *stream) error{p.ending, p.departure, p.otherVersion, p.resume, p.credentials, p.bodies, p.access} {
		if err := check(ctx, s); err != nil {
			return nil, err
		}
	}
	if err := watch.finish(ctx); err != nil {
		return nil, err
	}
	return p.done(nil)
}

// otherVersion does the checks of delivery and of leaving over HTTP/1.1 too, if the first version was another one.
func (p *prober) otherVersion(ctx context.Context, _ *stream) error {
	if len(p.versions) < 2 {
		return nil
	}
	p.versions[0], p.versions[1] = p.versions[1], p.versions[0]
	defer func() { p.versions[0], p.versions[1] = p.versions[1], p.versions[0] }()
	s, err := p.open(ctx, request{})
	if err != nil {
		return err
	}
	if prompt, err := p.delivery(ctx, s); err != nil || !prompt {
		return err
	}
	if err := p.ending(ctx, s); err != nil {
		return err
	}
	return p.departure(ctx, s)
}

// found adds a finding, once.
func (p *prober) found(id ID, detail string) {
	if slices.ContainsFunc(p.report.Findings, func(f Finding) bool { return f.ID == id }) {
		return
	}
	k := kindOf(id)
	p.report.Findings = append(p.report.Findings, Finding{ID: id, Detail: detail, Cause: k.cause, Settings: k.settings()})
}

func (p *prober) measured(what, text string) {
	p.report.Measured = append(p.report.Measured, Note{what, text})
}

func (p *prober) unknown(what, why string) {
	p.report.NotKnown = append(p.report.NotKnown, Note{what, why})
}

// done returns the report, its findings the worst first, unless the last check failed.
func (p *prober) done(err error) (*Report, error) {
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(p.report.Findings, func(a, b Finding) int { return rank(a.ID) - rank(b.ID) })
	return &p.report, nil
}

// cleanUp leaves all streams, and closes what a proxy may still hold open at the gateway.
func (p *prober) cleanUp(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, longPast)
	defer cancel()
	for _, s := range p.opened {
		s.leave()
		if s.conn.Token != "" && s.conn.Kind != relayed {
			_ = p.end(ctx, s.conn.Token) // mostly gone already
		}
		s.transport.CloseIdleConnections()
	}
	p.endStray(ctx)
}

// endStray ends the streams that a proxy opened for requests that were answered or given up, where the gateway shows them.
func (p *prober) endStray(ctx context.Context) {
	now, err := p.connections(ctx)
	if err != nil {
		return
	}
	for {
		c, sure, err := p.mine(ctx, nil, now)
		if err != nil || !sure || p.end(ctx, c.Token) != nil {
			return
		}
		delete(now, c.Token)
	}
}

// wait waits, or until ctx ends.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
