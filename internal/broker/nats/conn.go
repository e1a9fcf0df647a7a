// Package nats is the broker for several nodes. The log is a stream of NATS JetStream. Each
// node keeps a window of it in memory, so that many clients that reconnect at once cause no
// requests to NATS. Another stream has the keys and records of the nodes.
package nats

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"ssegateway/internal/guard"
	"ssegateway/internal/logging"
)

// Config has the settings of the connection to NATS.
type Config struct {
	URL             string // may be several, with commas; with user and password or a token
	CredentialsFile string // of a NATS account; empty: none
	CAFile          string // file of PEM root certificates for the server's; empty: the system's
	Log             *slog.Logger
}

const (
	reconnectWait   = time.Second / 4
	reconnectJitter = time.Second / 2 // nodes do not come back all at once
	pingInterval    = time.Second     // a server that answers none of pingsOut is gone
	pingsOut        = 2
	writeTimeout    = 5 * time.Second // of a server that takes nothing
	takeOverTime    = 2 * time.Second // of another server of the cluster

	logEvery = 10 * time.Second // between equal log lines
)

// Conn is a connection to NATS, which may be down for a while, also at first.
type Conn struct {
	nats *nats.Conn
	log  *slog.Logger

	full  atomic.Bool // NATS has answered that its storage is full
	lines lines

	mu    sync.Mutex
	down  time.Time     // since when; zero: it is up
	wrong error         // why the connected server cannot be used
	told  string        // the last reason of the connection being down
	again chan struct{} // closed when the connection is up again

	link   context.Context // ends when the current connection is lost; of the last one while it is down
	unlink context.CancelFunc
}

// lines throttle the log lines that an outage, or another user of NATS, can cause again and again.
type lines struct {
	failed, wrong, back, away, full, room *logging.Throttle // of the connection
	unopened, lost, open, stuck, unstuck  *logging.Throttle // of the log
	lags, untidy                          *logging.Throttle // of the store of retained events
	foreign                               *logging.Throttle // messages that are not the gateway's
	all                                   *logging.Throttle // why all topics are read
}

func newLines() (l lines) {
	for _, t := range []**logging.Throttle{
		&l.failed, &l.wrong, &l.back, &l.away, &l.full, &l.room, &l.unopened, &l.lost, &l.open, &l.stuck, &l.unstuck, &l.foreign, &l.lags, &l.untidy, &l.all,
	} {
		*t = logging.Every(logEvery)
	}
	return l
}

// Dial connects. If the server is down, Dial succeeds, and goes on trying in the background. It
// fails if a later attempt would fail too: the URL or a file is wrong, or the server refuses
// this client or is too old.
func Dial(cfg Config) (*Conn, error) {
	c := &Conn{log: cfg.Log, lines: newLines(), again: make(chan struct{})}
	c.link, c.unlink = context.WithCancel(context.Background())
	options := append(cfg.options(), nats.MaxReconnects(-1), nats.IgnoreAuthErrorAbort(), nats.ReconnectWait(reconnectWait),
		nats.ReconnectJitter(reconnectJitter, reconnectJitter), nats.PingInterval(pingInterval), nats.MaxPingsOutstanding(pingsOut), nats.FlusherTimeout(writeTimeout),
		nats.ReconnectBufSize(-1), // what cannot be sent fails at once
		nats.ConnectHandler(c.up), nats.ReconnectHandler(c.up),
		nats.DisconnectErrHandler(c.lost), nats.ReconnectErrHandler(c.lost),
		nats.ErrorHandler(func(_ *nats.Conn, s *nats.Subscription, err error) {
			attrs := []slog.Attr{slog.String("error", err.Error())}
			if s != nil {
				attrs = append(attrs, slog.String("subject", s.Subject))
			}
			c.lines.failed.Log(c.log, slog.LevelWarn, "NATS", attrs...)
		}),
	)
	conn, err := nats.Connect(cfg.URL, options...)
	if isAway(err) {
		c.away(err)
		conn, err = nats.Connect(cfg.URL, append(options, nats.RetryOnFailedConnect(true))...)
	}
	if err != nil {
		return nil, fmt.Errorf("connecting to NATS: %w", withoutURL(err))
	}
	c.nats = conn
	if conn.IsConnected() {
		if err := checkVersion(conn.ConnectedServerVersion()); err != nil {
			conn.Close()
			return nil, err
		}
	}
	return c, nil
}

func (cfg Config) options() []nats.Option {
	options := []nats.Option{nats.Name("ssegateway")}
	if cfg.CredentialsFile != "" {
		options = append(options, nats.UserCredentials(cfg.CredentialsFile))
	}
	if cfg.CAFile != "" {
		options = append(options, nats.RootCAs(cfg.CAFile))
	}
	return options
}

// isAway reports whether a later attempt may succeed.
func isAway(err error) bool {
	if errors.As(err, new(*url.Error)) {
		return false
	}
	return errors.Is(err, nats.ErrNoServers) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, io.EOF) || errors.As(err, new(net.Error))
}

// up is called by the library when the connection is up.
func (c *Conn) up(conn *nats.Conn) {
	defer guard.Recover()
	c.upWith(checkVersion(conn.ConnectedServerVersion()))
}

func (c *Conn) upWith(wrong error) {
	c.mu.Lock()
	down := c.down
	c.down, c.wrong, c.told = time.Time{}, wrong, ""
	close(c.again)
	c.again = make(chan struct{})
	c.mu.Unlock()
	switch {
	case wrong != nil:
		c.lines.wrong.Log(c.log, slog.LevelError, wrong.Error())
	case !down.IsZero():
		c.lines.back.Log(c.log, slog.LevelInfo, "NATS is back", slog.String("after", time.Since(down).Round(time.Millisecond).String()))
	}
}

// lost is called by the library when the connection is lost, or an attempt to restore it has failed.
func (c *Conn) lost(conn *nats.Conn, err error) {
	defer guard.Recover()
	if !conn.IsClosed() {
		c.away(err)
	}
}

// away records that the connection is down. It does not log the same reason at each attempt.
func (c *Conn) away(err error) {
	text := "closed"
	if err != nil {
		text = err.Error()
	}
	c.mu.Lock()
	c.unlink()
	if c.down.IsZero() {
		c.down = time.Now()
	}
	fresh := text != c.told
	c.told = text
	c.mu.Unlock()
	if fresh {
		c.lines.away.Log(c.log, slog.LevelWarn, "NATS is away", slog.String("error", text))
	}
}

// Away returns how long the connection has been unusable; 0: it is usable.
func (c *Conn) Away() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.wrong != nil:
		return 1 << 62
	case c.down.IsZero() || c.nats.IsConnected(): // it is connected a moment before up is called
		return 0
	default:
		return max(time.Since(c.down), 1)
	}
}

// gone reports whether the connection is down, and no other server of a cluster can be expected
// to take it over.
func (c *Conn) gone() bool {
	away := c.Away()
	return away > 0 && (away > takeOverTime || len(c.nats.Servers()) < 2)
}

// back returns a channel that is closed when the connection next comes back.
func (c *Conn) back() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.again
}

// linked returns a context that ends when ctx does or when the connection is lost. A request that
// was sent before is not answered after that.
func (c *Conn) linked(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.link.Err() != nil && c.nats.IsConnected() {
		c.link, c.unlink = context.WithCancel(context.Background())
	}
	stop := context.AfterFunc(c.link, func() { cancel(errLinkLost) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// whileUp is like linked while the connection is up. While it is down it returns ctx, so that
// the library reports that nothing was sent.
func (c *Conn) whileUp(ctx context.Context) (context.Context, context.CancelFunc) {
	if c.Away() > 0 {
		return ctx, func() {}
	}
	return c.linked(ctx)
}

var errLinkLost = errors.New("the connection to NATS was lost meanwhile")

// Close closes the connection.
func (c *Conn) Close() { c.nats.Close() }

// checkVersion refuses servers older than 2.11, the first version in which each message can
// have its own expiry.
func checkVersion(version string) error {
	var major, minor int
	if _, err := fmt.Sscanf(version, "%d.%d", &major, &minor); err != nil {
		return fmt.Errorf("NATS server of unknown version %q: at least 2.11 is needed", version)
	}
	if major < 2 || major == 2 && minor < 11 {
		return fmt.Errorf("NATS server %s is too old: at least 2.11 is needed", version)
	}
	return nil
}
