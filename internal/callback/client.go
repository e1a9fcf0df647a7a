// Package callback is the HTTP client for the backend: it asks whether a connection may
// open, and reports that one ended.
//
// It brings its own pool and round trip, on net/http's response parser, rather than
// using http.Transport. A refused client is gone for good (an EventSource does not
// come back after an error status), so the package has to know more about a
// connection that the backend closed than Transport reports: whether it was closed
// before a callback was sent on it, and if not, whether the backend received any of
// the callback (see fate). It also does without Transport's two goroutines for each
// connection, which is half of what a callback costs.
package callback

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"ssegateway/internal/broker"
	"ssegateway/internal/gateway"
	"ssegateway/internal/logging"
)

// The actions of a callback, as they appear in its body, in logs and in metrics.
const (
	ActionConnect     = "connect"
	ActionDisconnect  = "disconnect"
	ActionDisconnects = "disconnects" // several in one
)

// The results of a callback, as they appear in logs and metrics. Of a connect:
const (
	ResultAccepted    = "accepted"    // answered 2xx
	ResultRefused     = "refused"     // answered anything else
	ResultUnreachable = "unreachable" // the backend cannot have received it
	ResultTimeout     = "timeout"     // no answer in time, or no longer wanted
	ResultUnanswered  = "unanswered"  // the connection broke, or what came was not HTTP
)

// Of each attempt of a disconnect, or of several in one:
const (
	ResultDelivered = "delivered" // answered 2xx
	ResultRetry     = "retry"     // failed, to be tried again
	ResultRejected  = "rejected"  // answered with a status that no retry will change; a batch's ends are each sent alone then
	ResultGivenUp   = "given_up"  // failed for so long that it is not tried again; a batch's ends are each sent alone then
)

// Results returns the results that an attempt of each action can have. batch is as in Config.
func Results(batch int) map[string][]string {
	results := map[string][]string{
		ActionConnect:    {ResultAccepted, ResultRefused, ResultUnreachable, ResultTimeout, ResultUnanswered},
		ActionDisconnect: {ResultDelivered, ResultRetry, ResultRejected, ResultGivenUp},
	}
	if batch > 1 {
		results[ActionDisconnects] = results[ActionDisconnect]
	}
	return results
}

// Config says where and how callbacks are made.
type Config struct {
	// URL is where callbacks are POSTed: http or https, query and userinfo as given.
	URL string
	// Socket is the path of the Unix socket to connect to in place of the URL's host; empty: the host.
	Socket string
	// Authorities, if not nil, returns the certificates that the backend's is checked with, instead of the
	// system's; Certificate, if not nil, one for a backend that asks for it. Both are asked for each
	// connection, and return the same pointer while nothing has changed.
	Authorities func() *x509.CertPool
	Certificate func() *tls.Certificate
	// SigningSecrets sign the callbacks, each by a signature of its own; none: they are not signed.
	SigningSecrets [][]byte
	// Token is sent as a bearer token, instead of the URL's userinfo; empty: none.
	Token string
	// Timeout bounds one attempt of a disconnect, from the start of the dial to the end of the answer's
	// body; 5 s if zero.
	Timeout time.Duration
	// ConnectTimeout is Timeout for a connect, which may wait for its turn before; Timeout if zero.
	ConnectTimeout time.Duration
	// Concurrency bounds the connects in flight, and separately the disconnects in
	// flight; 256 if zero.
	Concurrency int
	// Batch is how many disconnects one callback may carry, up to 1 MiB of them; up to 1: each has its own.
	Batch int
	// Requests, if not nil, counts the requests of notices that are not delivered yet.
	Requests *gateway.Requests
	// Log gets a line for each callback. None of them shows the URL. nil: no log.
	Log *slog.Logger
	// Position, if not nil, returns where the log is. A connect callback carries it.
	Position func(context.Context) broker.Position
	// Observe, if not nil, is called after each attempt with an Action, a Result and how
	// long the backend took. It must not block.
	Observe func(action, result string, took time.Duration)
	// Trace, if not nil, is called before each attempt, for a connect with the context of the client's
	// request. A batch has no token of its own, so the token is zero. It returns the context of the attempt's log lines, and lines for the head of the callback,
	// each with its CRLF. done is called with the outcome; status 0: no answer.
	Trace func(ctx context.Context, action string, token gateway.Token) (_ context.Context, head string, done func(result string, status int))
	// Permit, if not nil, is called before each attempt of a disconnect. A deferred
	// disconnect waits for Resume; a denied one is dropped.
	Permit func(gateway.Token) gateway.Permission
	// OnFinished, if not nil, is called when a disconnect needs no further attempt: it was
	// delivered, rejected, given up or denied.
	OnFinished func(n gateway.Notice, denied bool)
	// OnDelayed, if not nil, is called when the first attempt of a disconnect has failed and others will
	// follow, or when it has to wait because the backend is down. Permit, OnFinished and OnDelayed must not call the Client.
	OnDelayed func(gateway.Notice)
}

const (
	defaultTimeout     = 5 * time.Second
	defaultConcurrency = 256

	// turnTimeout bounds how long a connect waits for its turn, before its own timeout
	// begins. Both together stay below the 60 s after which common proxies give up on a
	// client's request, and are long enough for a storm of reconnecting clients.
	turnTimeout = 50 * time.Second
)

// Client makes the callbacks. Its methods may be called concurrently, Connect and
// Disconnect also before Run.
type Client struct {
	cfg   Config
	head  []byte // of every request, up to the fields that differ
	turns chan struct{}
	// signer signs the callbacks.
	signer signer
	// waiting counts the connects that wait for a turn.
	waiting atomic.Int64
	pool    pool
	breaker breaker

	// Throttles of log lines about faulty answers to connects: clients can cause any number.
	ignored, leftOut, misdirected, away *logging.Throttle

	notifier notifier
}

var _ gateway.Backend = (*Client)(nil)

// New checks the configuration and makes a Client. No error shows the URL.
func New(cfg Config) (*Client, error) {
	if cfg.Timeout == 0 {
		cfg.Timeout = defaultTimeout
	}
	if cfg.Concurrency == 0 {
		cfg.Concurrency = defaultConcurrency
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = cfg.Timeout
	}
	if cfg.Timeout < 0 || cfg.ConnectTimeout < 0 || cfg.Concurrency < 0 {
		return nil, errors.New("callback: timeouts and concurrency must be positive")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Observe == nil {
		cfg.Observe = func(string, string, time.Duration) {}
	}
	if cfg.Requests == nil {
		cfg.Requests = gateway.NewRequests(0)
	}
	if cfg.Position == nil {
		cfg.Position = func(context.Context) broker.Position { return broker.Position{} }
	}
	if cfg.Trace == nil {
		cfg.Trace = func(ctx context.Context, _ string, _ gateway.Token) (context.Context, string, func(string, int)) {
			return ctx, "", func(string, int) {}
		}
	}
	if cfg.Permit == nil {
		cfg.Permit = func(gateway.Token) gateway.Permission { return gateway.Granted }
	}
	if cfg.OnFinished == nil {
		cfg.OnFinished = func(gateway.Notice, bool) {}
	}
	if cfg.OnDelayed == nil {
		cfg.OnDelayed = func(gateway.Notice) {}
	}
	u, err := parseURL(cfg.URL)
	if err != nil {
		return nil, err
	}
	c := &Client{
		cfg: cfg, head: requestHead(u, cfg.Token), turns: make(chan struct{}, cfg.Concurrency), signer: newSigner(cfg.SigningSecrets),
		ignored: logging.Every(time.Second), leftOut: logging.Every(time.Second), misdirected: logging.Every(time.Second), away: logging.Every(10 * time.Second),
	}
	c.pool.init(u, cfg)
	c.breaker.init(cfg.Log, c.notifier.onBack)
	c.notifier.init(c)
	return c, nil
}

// parseURL rejects a URL that cannot be sent as given. The errors of url.Parse quote the
// URL with its secrets, so they are replaced.
func parseURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return nil, errors.New("callback: the URL cannot be parsed")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("callback: the URL must begin with http:// or https://")
	case u.Hostname() == "":
		return nil, errors.New("callback: the URL names no host")
	case strings.ContainsFunc(u.Host, func(r rune) bool { return r > '~' || r <= ' ' }):
		return nil, errors.New("callback: the URL's host must be ASCII (write an international name in its xn-- form)")
	case strings.ContainsFunc(u.RequestURI(), func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return nil, errors.New("callback: the URL must not contain spaces or control characters (write %20)")
	}
	return u, nil
}

// Run delivers notices until ctx ends. It returns, always with nil, when every
// goroutine and connection that the Client started is gone. A notice not delivered by
// then is never delivered. Call Run once.
func (c *Client) Run(ctx context.Context) error {
	c.notifier.begin(ctx)
	<-ctx.Done()
	c.notifier.end()
	c.pool.close()
	c.notifier.workers.Wait()
	return nil
}

// dialFunc is how connections are made; tests bring their own.
type dialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

func newDialer() dialFunc {
	// No keep-alive probes: a connection never waits longer than the timeout.
	d := net.Dialer{KeepAlive: -1}
	return d.DialContext
}
