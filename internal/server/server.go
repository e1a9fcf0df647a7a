// Package server puts the gateway on the network: listeners, routing, access
// rules, health, and the handler that turns a client's GET into a connection.
package server

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"ssegateway/internal/address"
	"ssegateway/internal/api"
	"ssegateway/internal/broker"
	"ssegateway/internal/broker/disk"
	"ssegateway/internal/broker/nats"
	"ssegateway/internal/callback"
	"ssegateway/internal/cluster"
	"ssegateway/internal/config"
	"ssegateway/internal/connections"
	"ssegateway/internal/edge"
	"ssegateway/internal/fastsend"
	"ssegateway/internal/gateway"
	"ssegateway/internal/guard"
	"ssegateway/internal/history"
	"ssegateway/internal/logging"
	"ssegateway/internal/metrics"
	"ssegateway/internal/records"
	"ssegateway/internal/relay"
	"ssegateway/internal/router"
	"ssegateway/internal/stream"
	"ssegateway/internal/topics"
	"ssegateway/internal/tracing"
)

const (
	// headerTimeout bounds the time from a connection's start, TLS included, to
	// the end of its request's header.
	headerTimeout = 10 * time.Second
	// idleTimeout is longer than the idle time of common HTTP client pools, so
	// that it is the backend that closes an idle connection, not we under its request.
	idleTimeout = 2 * time.Minute
	// readTimeout is for what net/http reads by itself, before a handler sees the request: the
	// body behind an Expect that it does not know. The edge moves it for what handlers read.
	readTimeout = 2 * headerTimeout
	// writeTimeout never ends: writes have deadlines of the edge. With it net/http makes the
	// timer of an HTTP/2 stream when the stream begins, and ends it with that. Without it a
	// deadline that is set for a stream that was just reset keeps it in memory until then.
	writeTimeout = 100 * 365 * 24 * time.Hour

	// The default of REQUEST_BUDGET_BYTES: the first, or the second for each of MAX_CONNECTIONS if
	// that is more. A browser's request with its cookies takes about 1 KiB. Under a limit on memory it
	// is at most one part of that in requestsShare.
	leastRequestBudget = 256 << 20
	requestBytes       = 2 << 10
	requestsShare      = 4
)

// Server is the whole program as a value.
type Server struct {
	cfg     config.Config
	version string
	log     *slog.Logger

	gw        *gateway.Gateway
	topics    *topics.Topics
	broker    broker.Engine
	nats      *nats.Conn       // nil where the log is in memory
	engine    *nats.Engine     // the broker, with nats
	disk      *disk.Store      // the broker, with STATE_DIR
	records   *records.Records // in disk; nil without STATE_DIR
	node      *cluster.Node    // nil: there are no others
	router    *router.Router   // nil without node
	callbacks *callback.Client // nil without a CALLBACK_URL
	streams   *stream.Opener
	relay     *relay.Relay // nil without RELAY_URL
	forwarder *callback.Forwarder
	senders   *fastsend.Server
	own       *connections.Own
	api       *api.API
	metrics   *metrics.Metrics
	history   *history.History
	tracer    *tracing.Tracer // nil: nobody asks for traces
	serveAPI  http.HandlerFunc
	withCORS  func(http.HandlerFunc) http.Handler
	relayCORS func(http.HandlerFunc) http.Handler // of what the gateway itself answers to a relayed request
	clients   http.Handler                        // serves requests other than health and /internal

	edge        *edge.Edge
	files       descriptors
	certificate atomic.Pointer[certificate] // of the public listener; nil without TLS, and before Run
	reloading   sync.Mutex
	reloadable  []reloadable // what follows files, under reloading
	panics      *logging.Throttle
	finder      address.Finder
	limits      *address.Limits // of an address; nil: none
	untrusted   sync.Once       // a peer that is not trusted has sent the header of a proxy
	ignored     *logging.Throttle
	full        *logging.Throttle
	started     atomic.Bool
	turnedAway  struct{ full, notReady atomic.Uint64 } // clients, without a callback

	hurryOnce sync.Once
	hurriedAt time.Time     // when hurried was closed
	hurried   chan struct{} // closed by Hurry
}

// noBackend is the backend if no CALLBACK_URL is configured. It is called only for what is held by the answer to a relayed request.
type noBackend struct{}

func (noBackend) Connect(_, client context.Context, _ gateway.Token, _ []byte) gateway.Answer {
	if a, ok := gateway.Held(client); ok {
		return a
	}
	return gateway.Answer{Outcome: gateway.Unreachable}
}
func (noBackend) Disconnect(gateway.Notice) {}

// New makes a Server, for Run. It opens STATE_DIR, or makes a first attempt to reach NATS; nothing listens yet.
func New(cfg config.Config, version string, log *slog.Logger) (_ *Server, err error) {
	files, err := shareOut(openFilesLimit(), cfg.MaxConnections, cfg.CallbackConcurrency)
	if err != nil {
		return nil, err
	}
	cfg.CallbackConcurrency = files.concurrency
	if cfg.MaxConnections > files.streams {
		log.Warn("MAX_CONNECTIONS is more than the limit on open files leaves for streams with a socket of their own; raise that limit (ulimit -n)",
			"max_connections", cfg.MaxConnections, "descriptors", files.files, "streams", files.streams)
	}
	if cfg.MaxConnections == 0 || cfg.MaxConnections > files.streams && !cfg.H2C && cfg.TLSCertFile == "" {
		cfg.MaxConnections = files.streams
	}
	if cfg.RequestBudgetBytes == 0 {
		cfg.RequestBudgetBytes = max(leastRequestBudget, requestBytes*int64(cfg.MaxConnections))
		if cfg.MemoryLimit > 0 {
			cfg.RequestBudgetBytes = min(cfg.RequestBudgetBytes, max(1, cfg.MemoryLimit/requestsShare))
		}
	}
	tracer := tracing.New(version, log)
	if tracer != nil {
		log = tracer.Logger(log)
	}
	s := &Server{
		finder: address.Finder{Trusted: cfg.TrustedProxies, Header: cfg.ClientIPHeader}, limits: newLimits(&cfg),
		cfg: cfg, tracer: tracer, version: version, log: log, metrics: metrics.New(version, callback.Results(cfg.CallbackBatch)), files: files,
		panics: logging.Every(time.Second), ignored: logging.Every(time.Second), full: logging.Every(time.Second), hurried: make(chan struct{}),
	}

	requests := gateway.NewRequests(cfg.RequestBudgetBytes)

	if err := s.openBroker(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.closeBroker()
		}
	}()
	if s.nats != nil {
		s.node = newNode(cfg, s.nats, log)
	}

	var backend gateway.Backend = noBackend{}
	if cfg.CallbackURL != "" {
		callbacks, err := s.callbackConfig(requests)
		if err != nil {
			return nil, err
		}
		if s.node != nil {
			callbacks.Permit, callbacks.OnFinished = s.node.Permit, s.node.OnFinished
		}
		if s.records != nil {
			callbacks.OnDelayed, callbacks.OnFinished = s.records.OnDelayed, s.records.OnFinished
		}
		if s.callbacks, err = callback.New(callbacks); err != nil {
			return nil, err
		}
		teller := holder{s.callbacks}
		backend = teller
		if s.node != nil {
			backend = s.callbacks.Refusing(s.node.Backend(teller))
		}
		if s.records != nil {
			backend = s.callbacks.Refusing(s.records.Backend(teller))
		}
	}
	s.topics = topics.New(s.broker, s.node != nil)
	if tracer != nil {
		s.topics.Trace(tracer)
	}
	var addresses gateway.Addresses
	if s.limits != nil {
		addresses = s.limits
	}
	s.gw = gateway.New(gateway.Config{
		Topics:    s.topics,
		Heartbeat: cfg.HeartbeatInterval, MaxConnections: cfg.MaxConnections, MaxTails: files.tails(),
		QueueBytes: cfg.QueueBytes, BudgetBytes: cfg.QueueBudgetBytes, MaxTopics: cfg.MaxTopics, Requests: requests, Addresses: addresses, Envelope: cfg.EventForm == "envelope", Clustered: s.node != nil, Log: log,
	}, backend)
	if s.streams, err = stream.NewOpener(); err != nil {
		return nil, err
	}
	if err := s.newRelay(); err != nil {
		return nil, err
	}
	s.connect()
	if s.relay != nil {
		s.own.SetAnswers(s.relay)
		s.gw.SetSpare(s.relay.Spare)
	}
	if s.senders, err = fastsend.New(s.newSender); err != nil {
		return nil, err
	}
	s.edge = edge.New(edge.Config{
		Limit: files.connections(), Internal: files.reserve / 2,
		Streams: s.sockets, Senders: s.senders.Conns, CloseSender: s.senders.CloseIdlest, Log: log,
	})
	s.metrics.Watch(metrics.Sources{Gateway: s.gw, Own: s.own, API: s.api, Topics: s.topics, Edge: s.edge, Node: s.node, Records: s.records, State: s.state})

	s.withCORS = newCORS(cfg.CORSAllowedOrigins)
	s.clients = s.withCORS(tracer.Handler("connect", s.serveStream))
	return s, nil
}

// connect makes the API for this node's connections, or, in a cluster, for those of all nodes.
func (s *Server) connect() {
	name := hostname()
	s.own = connections.NewOwn(s.gw, s.topics, func() string { return name }, s.log)
	var conns connections.Connections = s.own
	if s.node != nil {
		s.own = connections.NewOwn(s.gw, s.topics, s.node.Name, s.log)
		s.router = router.New(s.own, s.node, s.log)
		s.node.Serve(s.router.Answer)
		conns = s.router
	}
	s.history = history.New(s.counts)
	s.api = api.New(conns, s.cfg.MaxBodyBytes, s.gw.MaxTopics(), s.follow, api.Past{Points: s.history.Points, Follow: s.followHistory}, s.log)
	s.serveAPI = traceAPI(s.tracer, s.api.ServeHTTP)
}

// Run serves until ctx ends, then drains. It returns an error if it could not start, if one
// of its parts failed, which ends all of them, or if the backend could not be notified of
// every disconnect.
func (s *Server) Run(ctx context.Context) error {
	listeners, err := s.listen(ctx)
	if err != nil {
		s.closeBroker()
		return err
	}
	parts := newParts()
	defer guard.Watch(func(p *guard.Panic) { parts.fail(p) })()
	parts.startUntil(ctx, "broker", s.broker.Run)
	parts.startUntil(ctx, "topics", s.topics.Run)
	parts.startUntil(ctx, "gateway", s.gw.Run)
	parts.startUntil(ctx, "streams", s.streams.Run)
	parts.startUntil(ctx, "senders", s.senders.Run)
	parts.startUntil(ctx, "history", s.history.Run)
	parts.startUntil(ctx, "memory", s.keepMemory)
	if s.limits != nil {
		parts.startUntil(ctx, "addresses", s.limits.Run)
	}
	if s.callbacks != nil {
		parts.startUntil(ctx, "callbacks", s.callbacks.Run)
	}
	if s.records != nil {
		parts.startUntil(ctx, "records", s.records.Run)
	}
	if s.node != nil {
		parts.startUntil(ctx, "cluster", func(ctx context.Context) error { return s.node.Run(ctx, s.gw) })
	}
	for _, l := range listeners {
		for _, listener := range []net.Listener{l.listener, s.edge.Listen(l.exit, edge.Caller, s.refusal(false))} {
			parts.start("listener "+l.listener.Addr().String(), func() error { return l.server.Serve(listener) }, func() { _ = l.server.Close() })
		}
	}
	parts.startUntil(ctx, "watchdog", s.feedWatchdog)
	s.logStart()
	s.started.Store(true)
	s.notifySystemd(daemon.SdNotifyReady)

	var failure error
	select {
	case <-ctx.Done():
	case failure = <-parts.failed:
		s.fail(failure)
	}
	s.notifySystemd(daemon.SdNotifyStopping)
	begin := time.Now()
	err = s.drainBeside(begin, parts, failure)
	parts.end()
	s.closeListeners(listeners)
	s.endRelay()
	s.flushTraces(begin)
	if left := parts.stop(stopGrace); left != nil {
		s.log.Error(left.Error())
		return errors.Join(err, left)
	}
	err = s.leaveEnds(err)
	s.closeBroker()
	return err
}

// fail logs the failure that ends the server, and shortens the drain.
func (s *Server) fail(failure error) {
	attrs := []slog.Attr{slog.String("error", failure.Error())}
	if p := (*guard.Panic)(nil); errors.As(failure, &p) {
		attrs = append(attrs, slog.String("stack", string(p.Stack)))
	}
	s.log.LogAttrs(context.Background(), slog.LevelError, "a part of the gateway failed, all of it ends", attrs...)
	s.Hurry()
}

// reloadable is what follows files.
type reloadable interface {
	load() error
	names() []string
}

// follows adds what SIGHUP reloads.
func (s *Server) follows(what reloadable) {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	s.reloadable = append(s.reloadable, what)
}

// ReloadCertificates loads certificates and authorities anew. It returns the first file of each that was
// loaded. What cannot be loaded stays in use as it was.
func (s *Server) ReloadCertificates() (loaded []string, err error) {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	var problems []error
	for _, what := range s.reloadable {
		if err := what.load(); err != nil {
			problems = append(problems, err)
		} else {
			loaded = append(loaded, what.names()[0])
		}
	}
	return loaded, errors.Join(problems...)
}

// hostname returns the name of this node where connections are shown.
func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "localhost"
	}
	return name
}

func (s *Server) logStart() {
	attrs := append([]slog.Attr{slog.String("version", s.version)}, s.cfg.Changed()...)
	s.log.LogAttrs(context.Background(), slog.LevelInfo, "ssegateway started", attrs...)
	s.log.LogAttrs(context.Background(), slog.LevelDebug, "all settings", s.cfg.Redacted()...)
	s.log.Info("descriptors", "limit", s.files.files, "streams", s.files.streams, "callbacks", 2*s.files.concurrency, "reserve", s.files.reserve)
	for _, w := range Warnings(s.cfg) {
		s.log.Warn(w)
	}
}

// isThisHost reports whether a network has the addresses from which this host calls itself.
func isThisHost(p netip.Prefix) bool {
	return p.Contains(netip.AddrFrom4([4]byte{127, 0, 0, 1})) || p.Contains(netip.IPv6Loopback())
}

func isHTTPS(address string) bool {
	u, err := url.Parse(address)
	return err == nil && u.Scheme == "https"
}

// Warnings returns what is allowed and may yet be a mistake in the settings.
func Warnings(cfg config.Config) (warnings []string) {
	warn := func(text string) { warnings = append(warnings, text) }
	if cfg.CallbackURL == "" && cfg.RelayURL == "" {
		warn("neither CALLBACK_URL nor RELAY_URL is set: not ready, streams are refused")
	} else if (cfg.BackendCAFile != "" || cfg.BackendClientCertFile != "") && !isHTTPS(cfg.CallbackURL) && !isHTTPS(cfg.RelayURL) {
		warn("BACKEND_CA_FILE and BACKEND_CLIENT_CERT_FILE have no effect: neither CALLBACK_URL nor RELAY_URL is https")
	}
	if slices.Contains(cfg.CORSAllowedOrigins, "*") {
		warn("CORS_ALLOWED_ORIGINS is *: pages of any origin may open streams, but browsers send no cookies with them; name the origins to allow cookies")
	}
	if cfg.ProxyProtocol && cfg.InternalAddr == (config.Addr{}) && slices.ContainsFunc(cfg.TrustedProxies, isThisHost) {
		warn("PROXY_PROTOCOL is on and TRUSTED_PROXIES has 127.0.0.1 or ::1: a backend on this host, and health checks, cannot use the public port; set INTERNAL_ADDR, or let the proxy connect from 127.0.0.2")
	}
	if cfg.InternalAddr != (config.Addr{}) && !cfg.InternalAddr.IsLoopback() && cfg.InternalToken == "" && len(cfg.InternalAllow) == 0 && cfg.InternalClientCAFile == "" {
		warn("INTERNAL_ADDR answers everybody who reaches it: set INTERNAL_TOKEN, INTERNAL_ALLOW or INTERNAL_CLIENT_CA_FILE, or see to it that only the backend does")
	}
	// Without INTERNAL_ALLOW only callers on this host are answered, and no proxy that adds a forwarding header.
	if cfg.InternalAddr == (config.Addr{}) && cfg.InternalToken == "" && len(cfg.InternalAllow) > 0 {
		warn("/internal shares the public port, and INTERNAL_ALLOW opens it to other hosts: a proxy in front must deny /internal/ and /metrics, or set INTERNAL_ADDR or INTERNAL_TOKEN")
	}
	return warnings
}
