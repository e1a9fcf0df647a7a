package callback

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"time"

	"ssegateway/internal/gateway"
	"ssegateway/internal/guard"
	"ssegateway/internal/logging"
)

var errNoTurn = errors.New("too many callbacks in flight")

// Connect implements gateway.Backend. The caller waits for its turn for as long as ctx
// and client live, but at most turnTimeout; only then does ConnectTimeout begin. The
// status of the answer decides. The body of a 2xx is waited for, since it may be a grant. Any
// other body is read afterwards, and delays only the next connect that waits for a turn.
func (c *Client) Connect(ctx, client context.Context, token gateway.Token, request []byte) gateway.Answer {
	switch c.takeTurn(ctx, client) {
	case clientLeft:
		return gateway.Answer{Outcome: gateway.Unasked}
	case backendDown:
		return c.refuse()
	case noTurn:
		r := reply{err: errNoTurn, late: true}
		c.connected(client, token, &r, 0)
		return r.answer()
	case itsTurn:
	}
	traced, head, done := c.cfg.Trace(client, ActionConnect, token)
	asked := c.cfg.Position(ctx) // before the backend reads its state
	start := time.Now()
	message := getBuffer()
	*message = c.appendConnect((*message)[:0], token, asked, request, head)
	r := c.exchange(ctx, start.Add(c.cfg.ConnectTimeout), *message)
	putBuffer(message)
	took := time.Since(start)

	var body []byte
	if r.ok() {
		body = c.grant(ctx, traced, token, &r)
	}
	if !isCut(ctx, &r) {
		c.breaker.observe(&r, start, false)
	}
	answer := r.answer() // before another goroutine may own r
	answer.Body, answer.Asked = body, asked
	var left string
	answer.Header, left = r.passed()
	done(c.connected(traced, token, &r, took), r.status)
	if left != "" {
		c.leftOut.LogContext(traced, c.cfg.Log, slog.LevelWarn, "a field of the answer to the connect callback is not passed on: too long, or with control characters",
			slog.String("token", token.String()), slog.String("field", left))
	}
	switch {
	case r.status == 0 || r.ok(): // nothing is left to read
		c.yieldTurn()
	case r.atHand():
		c.finish(&r)
		c.yieldTurn()
	default:
		rest := r
		go func() {
			defer guard.Recover()
			c.finish(&rest)
			c.yieldTurn()
		}()
	}
	return answer
}

// turn is the outcome of waiting for a turn.
type turn uint8

const (
	itsTurn     turn = iota // to be given back with yieldTurn
	noTurn                  // the time ran out
	clientLeft              // the client left first
	backendDown             // and this connect is no probe
)

func (c *Client) takeTurn(ctx, client context.Context) turn {
	if client.Err() != nil {
		return clientLeft
	}
	select {
	case c.turns <- struct{}{}:
	default:
		if t := c.awaitTurn(ctx, client); t != itsTurn {
			return t
		}
	}
	if !c.breaker.admit(probeEvery) {
		c.yieldTurn()
		return backendDown
	}
	return itsTurn
}

func (c *Client) awaitTurn(ctx, client context.Context) turn {
	c.waiting.Add(1)
	defer c.waiting.Add(-1)
	timeout := time.NewTimer(turnTimeout)
	defer timeout.Stop()
	select {
	case c.turns <- struct{}{}:
		if client.Err() != nil { // both at once
			c.yieldTurn()
			return clientLeft
		}
		return itsTurn
	case <-client.Done():
		return clientLeft
	case <-c.breaker.gone():
		return backendDown
	case <-ctx.Done():
	case <-timeout.C:
	}
	return noTurn
}

// refuse returns the answer to a connect that is not made because the backend is down.
func (c *Client) refuse() gateway.Answer {
	c.breaker.refuse()
	return gateway.Answer{Outcome: gateway.Unreachable}
}

// isCut reports whether a callback has no answer because ctx ended: that says nothing of the backend.
func isCut(ctx context.Context, r *reply) bool { return r.status == 0 && ctx.Err() != nil }

// Refusing returns b, whose Connect ends in c's, without what b does for a connect that c refuses at once because
// the backend is down.
func (c *Client) Refusing(b gateway.Backend) gateway.Backend { return &refusing{b, c} }

type refusing struct {
	gateway.Backend

	client *Client
}

// Connect implements gateway.Backend.
func (r *refusing) Connect(ctx, client context.Context, token gateway.Token, request []byte) gateway.Answer {
	if r.client.breaker.closed() {
		return r.client.refuse()
	}
	return r.Backend.Connect(ctx, client, token, request)
}

func (c *Client) yieldTurn() { <-c.turns }

// Connects returns how many connects the backend is being asked about, and how many wait for their turn.
func (c *Client) Connects() (asking, waiting int) { return len(c.turns), int(c.waiting.Load()) }

// grant reads the body of an acceptance. A body that cannot be used counts as none, and is
// logged, since the client then gets less than the backend meant. If the connection broke
// within the body there is no answer, and r is changed to say so. traced is the context of log lines.
func (c *Client) grant(ctx, traced context.Context, token gateway.Token, r *reply) []byte {
	body, err := c.body(ctx, r)
	switch {
	case err == nil:
		return body
	case errors.Is(err, errCut):
		*r = reply{err: err, sent: true}
	default:
		c.ignored.LogContext(traced, c.cfg.Log, slog.LevelWarn, "the answer to the connect callback is ignored", slog.String("token", token.String()), slog.String("error", err.Error()))
	}
	return nil
}

func (r *reply) answer() gateway.Answer {
	switch {
	case r.ok():
		return gateway.Answer{Outcome: gateway.Accepted, Status: r.status}
	case r.status != 0:
		return gateway.Answer{Outcome: gateway.Refused, Status: r.status}
	case r.late:
		return gateway.Answer{Outcome: gateway.TimedOut, Unsent: !r.sent}
	case r.sent:
		return gateway.Answer{Outcome: gateway.Unanswered}
	default:
		return gateway.Answer{Outcome: gateway.Unreachable}
	}
}

var connectResults = [...]string{
	gateway.Accepted:    ResultAccepted,
	gateway.Refused:     ResultRefused,
	gateway.Unreachable: ResultUnreachable,
	gateway.TimedOut:    ResultTimeout,
	gateway.Unanswered:  ResultUnanswered,
}

// connected counts and logs the outcome of a connect, and returns its result.
func (c *Client) connected(traced context.Context, token gateway.Token, r *reply, took time.Duration) (result string) {
	result = connectResults[r.answer().Outcome]
	c.cfg.Observe(ActionConnect, result, took)
	c.log(traced, slog.LevelInfo, ActionConnect, token, result, r, took)
	if (result == ResultUnreachable || result == ResultTimeout || result == ResultUnanswered) && !c.Down() { // else it was said
		c.away.LogContext(traced, c.cfg.Log, slog.LevelWarn, "the backend does not answer connect callbacks, so clients are refused", slog.String("result", result), slog.Any("error", r.err))
	}
	if r.misdirected() {
		attrs := []slog.Attr{slog.String("token", token.String()), slog.Int("status", r.status)}
		if location := r.location(); location != "" {
			attrs = append(attrs, slog.String("location", location))
		}
		c.misdirected.LogContext(traced, c.cfg.Log, slog.LevelWarn, "the answer to the connect callback is a redirect, which is not followed, or no status of HTTP", attrs...)
	}
	return result
}

// misdirected reports whether the answer is one that a backend should not give: a redirect,
// which is not followed, or a status that HTTP does not define (RFC 9110 section 15).
func (r *reply) misdirected() bool {
	return 300 <= r.status && r.status <= 399 || r.status >= 600
}

// location returns the target of a redirect, without user information, query and fragment,
// which may hold secrets; "" if it is none.
func (r *reply) location() string {
	if r.response == nil || !r.misdirected() {
		return ""
	}
	u, err := url.Parse(r.response.Header.Get("Location"))
	if err != nil {
		return ""
	}
	return logging.Cut((&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}).String())
}

// log writes a callback's line.
func (c *Client) log(ctx context.Context, level slog.Level, action string, token gateway.Token, result string, r *reply, took time.Duration, more ...slog.Attr) {
	if !c.cfg.Log.Enabled(ctx, level) {
		return
	}
	attrs := make([]slog.Attr, 0, 8)
	attrs = append(attrs, slog.String("action", action))
	if token != (gateway.Token{}) { // a batch has none
		attrs = append(attrs, slog.String("token", token.String()))
	}
	if r.status != 0 {
		attrs = append(attrs, slog.Int("status", r.status))
	}
	if location := r.location(); location != "" {
		attrs = append(attrs, slog.String("location", location))
	}
	attrs = append(attrs, slog.String("result", result), slog.Int64("ms", took.Milliseconds()))
	attrs = append(attrs, more...)
	switch {
	case r.err != nil:
		attrs = append(attrs, slog.Any("error", r.err))
	case 400 <= r.status && r.status <= 499 && r.conn.demand == unmet: // most probably the cause
		attrs = append(attrs, slog.Any("error", errCertificate))
	}
	c.cfg.Log.LogAttrs(ctx, level, "callback", attrs...)
}
