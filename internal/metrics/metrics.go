// Package metrics exports the gateway's counters to Prometheus. All label values
// come from fixed sets, such as reasons, results and actions, never from a token or a path.
package metrics

import (
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"ssegateway/internal/api"
	"ssegateway/internal/cluster"
	"ssegateway/internal/connections"
	"ssegateway/internal/edge"
	"ssegateway/internal/gateway"
	"ssegateway/internal/history"
	"ssegateway/internal/logging"
	"ssegateway/internal/records"
	"ssegateway/internal/topics"
)

// Metrics serves /metrics.
type Metrics struct {
	http.Handler

	registry  *prometheus.Registry
	callbacks *prometheus.CounterVec
	latency   *prometheus.HistogramVec
	panics    prometheus.Counter
	sources   Sources
}

// Sources is where the counters are.
type Sources struct {
	Gateway *gateway.Gateway
	Own     *connections.Own
	API     *api.API
	Topics  *topics.Topics
	Edge    *edge.Edge
	Node    *cluster.Node    // nil without a cluster
	Records *records.Records // nil without STATE_DIR
	State   func() State
}

// State is what only the server knows.
type State struct {
	Ready              bool
	MaxConnections     int
	StreamsFull        uint64    // refused because there were MaxConnections
	StreamsNotReady    uint64    // told to come back because the gateway drains or its broker is away
	StreamsBackendDown uint64    // refused because the backend was down
	BackendDown        bool      // callbacks are made as probes only
	HasAddresses       bool      // an address is bounded
	Addresses          int       // that are remembered
	StreamsPerAddress  uint64    // refused because the address had too many
	ConnectsPerAddress uint64    // refused because the address opened too many in a minute
	PendingDisconnects int       // not delivered yet
	ConnectsAsking     int       // connect callbacks under way
	ConnectsWaiting    int       // for their turn
	HasBroker          bool      // NATS
	BrokerConnected    bool      // within the last seconds
	HasState           bool      // STATE_DIR
	StateWritable      bool      // within the last seconds
	CertificateExpiry  time.Time // zero without TLS
	ForgottenKeys      uint64    // of publishes, before their time
	HasRelay           bool      // RELAY_URL
	Answers            int       // that clients can come back to
	AnswersAlone       int       // of them, while no client reads them
	AnswerBytes        int64     // that are kept of them
	AnswersUnkept      uint64    // that were kept no more before their time
	AnswerReturns      uint64    // clients that came back
}

// New returns Metrics without the gateway's counters. Watch adds them. results are those that an
// attempt of a callback can have, by action: each series is there from the start.
func New(version string, results map[string][]string) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		callbacks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ssegateway_callbacks_total",
			Help: "Callbacks to the backend, each attempt, by action and result.",
		}, []string{"action", "result"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "ssegateway_callback_duration_seconds",
			Help:    "Time from a callback's start to its answer, by action.",
			Buckets: history.Bounds[:],
		}, []string{"action"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ssegateway_request_panics_total",
			Help: "Requests whose handler panicked: faults of the gateway.",
		}),
	}
	for action, possible := range results {
		m.latency.WithLabelValues(action)
		for _, result := range possible {
			m.callbacks.WithLabelValues(action, result)
		}
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "ssegateway_build_info", Help: "1, with the version of the program and of its Go as labels.",
		ConstLabels: prometheus.Labels{"version": version, "go_version": runtime.Version()},
	})
	build.Set(1)
	m.registry.MustRegister(m.callbacks, m.latency, m.panics, build, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.Handler = promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
	return m
}

// ObserveCallback counts one attempt of a callback.
func (m *Metrics) ObserveCallback(action, result string, took time.Duration) {
	m.callbacks.WithLabelValues(action, result).Inc()
	m.latency.WithLabelValues(action).Observe(took.Seconds())
}

// CountPanic counts a request whose handler panicked.
func (m *Metrics) CountPanic() { m.panics.Inc() }

// Watch adds the counters of the sources.
func (m *Metrics) Watch(s Sources) {
	m.sources = s
	m.registry.MustRegister(m)
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("ssegateway_"+name, help, labels, nil)
}

var (
	ready          = desc("ready", "1 while /readyz answers 200, else 0.")
	maxConnections = desc("max_connections", "Streams that may be open or pending at a time.")
	held           = desc("connections", "Connections now, by state.", "state")
	streamsRefused = desc("streams_refused_total", "Streams refused without a callback, by cause.", "cause")
	addresses      = desc("client_addresses", "Addresses of clients that are remembered for the limits of an address: those with a stream, and those that opened one within the last minute.")
	expiry         = desc("tls_certificate_expiry_timestamp_seconds", "When the TLS certificate in use expires, in Unix time.")
	connected      = desc("broker_connected", "1 while NATS is connected, or was within the last seconds, else 0.")
	backendDown    = desc("backend_down", "1 while the backend counts as down: one callback a second is made, and other clients are refused. Else 0.")
	connects       = desc("connect_callbacks", "Connect callbacks now: asking are under way, waiting are for one of CALLBACK_CONCURRENCY to end.", "state")
	pending        = desc("disconnects_pending", "Disconnect callbacks that are not delivered yet.")

	publishes = desc("publishes_total", "Events to be published, by result.", "result")
	logBytes  = desc("topic_log_bytes", "Bytes of published events that the log keeps.")
	logEvents = desc("topic_log_events", "Published events that the log keeps.")
	kept      = desc("retained_events", "Retained events, each counted for each of its topics.")
	keptBytes = desc("retained_bytes", "Bytes that retained events take, bookkeeping included. The bound is RETAINED_BYTES.")
	resumes   = desc("resumes_total", "Streams with topics whose client came back with a Last-Event-ID.")
	gaps      = desc("gaps_total", "Events gap that clients got: each had missed what the log does not have any more.")

	opened        = desc("streams_opened_total", "Streams opened.")
	closed        = desc("connections_closed_total", "Ends that the backend is told of, by reason.", "reason")
	events        = desc("events_written_total", "Events handed to clients' sockets, one for each client.")
	bytes         = desc("written_bytes_total", "Bytes handed to clients' sockets, heads, framing and heartbeats included.")
	queued        = desc("queued_bytes", "Bytes queued for clients now, bookkeeping included.")
	requests      = desc("request_bytes", "Bytes kept of clients' requests now, of connections and of ends that the backend was not told of yet, bookkeeping included.")
	overBudget    = desc("request_budget_refused_total", "Streams turned away because request_bytes was at its bound.")
	heartbeats    = desc("heartbeats_total", "Heartbeats written.")
	dropped       = desc("events_dropped_total", "Events accepted for a connection and dropped: it ended before they were written, or its overflow policy dropped them.")
	keysForgotten = desc("idempotency_keys_forgotten_total", "Idempotency keys that were forgotten within their 2 minutes, because too many were in use, by what they were of.", "of")
	sends         = desc("sends_total", "Requests to /internal/send, by result.", "result")

	accepted   = desc("edge_connections", "Accepted connections that are not streams now, by state.", "state")
	evicted    = desc("edge_evicted_total", "Connections that were closed to make room for others, by the state they were in.", "state")
	turned     = desc("edge_refused_total", "Connections closed on accept because all descriptors were in use.")
	floods     = desc("edge_floods_total", "Connections that were closed because their peer sent much and asked for little.")
	logLost    = desc("log_lines_lost_total", "Log lines lost because they could not be written in time.")
	logLeftOut = desc("log_lines_left_out_total", "Log lines left out because equal lines had just been written.")

	writable   = desc("state_writable", "1 while STATE_DIR can be written, or could within the last seconds, else 0.")
	unwritten  = desc("state_records_waiting", "Connections whose records could not be written to STATE_DIR, and will be when it can be written.")
	unrecorded = desc("state_unrecorded_total", "Connections that the backend was asked about while STATE_DIR took no record of them: after a kill it is not told of their ends.")
	restored   = desc("state_restored_total", "Connections of former processes, found in STATE_DIR, of which the backend is told.")

	answers      = desc("relay_answers", "Answers of the application that clients can come back to.")
	answersAlone = desc("relay_answers_alone", "Those of them that are read on while no client reads them.")
	answerBytes  = desc("relay_kept_bytes", "Bytes that are kept of answers, bookkeeping included. The bound is RELAY_BUDGET_BYTES.")
	unkept       = desc("relay_unkept_total", "Answers that were kept no more before their time: one had outgrown RELAY_ANSWER_BYTES, there was no room in RELAY_BUDGET_BYTES, or it had ids of its own.")
	returns      = desc("relay_returns_total", "Clients that came back to an answer.")

	nodes    = desc("cluster_nodes", "Other nodes, by state. Lost: dead, and the backend is being told of what it held.", "state")
	lease    = desc("cluster_lease_held", "1 while this node's lease holds for certain, else 0: what it has to tell the backend waits.")
	ledger   = desc("cluster_ledger_backlog", "Records of connections that are not written to the broker, or removed, yet.")
	heldUp   = desc("cluster_held_bytes", "Bytes of connections' records that are not written to the broker, or removed, yet.")
	refused  = desc("cluster_refused_total", "Clients told to come back because too many bytes of records wait to be written to the broker, or its storage is full.")
	relayed  = desc("cluster_relayed_total", "Requests to other nodes, by result.", "result")
	answered = desc("cluster_answered_total", "Requests from other nodes that were answered.")
	reaped   = desc("cluster_reaped_total", "Connections of lost nodes that the backend was told of by this one.")
)

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, ch) }

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	source := &m.sources
	s, state := source.Gateway.Stats(), source.State()
	gauge := func(d *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	flag := func(d *prometheus.Desc, on bool) {
		v := int64(0)
		if on {
			v = 1
		}
		gauge(d, v)
	}
	flag(ready, state.Ready)
	gauge(maxConnections, int64(state.MaxConnections))
	counter(streamsRefused, state.StreamsFull, "max_connections")
	counter(streamsRefused, state.StreamsNotReady, "not_ready")
	counter(streamsRefused, state.StreamsBackendDown, "backend_down")
	flag(backendDown, state.BackendDown)
	if state.HasAddresses {
		counter(streamsRefused, state.StreamsPerAddress, "max_connections_per_ip")
		counter(streamsRefused, state.ConnectsPerAddress, "connects_per_minute_per_ip")
		gauge(addresses, int64(state.Addresses))
	}
	gauge(connects, int64(state.ConnectsAsking), "asking")
	gauge(connects, int64(state.ConnectsWaiting), "waiting")
	gauge(pending, int64(state.PendingDisconnects))
	if state.HasBroker {
		flag(connected, state.BrokerConnected)
	}
	if !state.CertificateExpiry.IsZero() {
		gauge(expiry, state.CertificateExpiry.Unix())
	}
	published, failed, duplicate := source.Own.Publishes()
	counter(publishes, published, "ok")
	counter(publishes, failed, "failed")
	counter(publishes, duplicate, "duplicate")
	counter(keysForgotten, source.Own.ForgottenKeys(), "send")
	counter(keysForgotten, state.ForgottenKeys, "publish")
	counter(publishes, source.API.InvalidPublishes(), "invalid")
	extent, delivery := source.Topics.Log(), source.Topics.Stats()
	gauge(logBytes, extent.Bytes)
	gauge(logEvents, extent.Events)
	gauge(kept, int64(extent.Retained))
	gauge(keptBytes, extent.RetainedBytes)
	counter(resumes, delivery.Resumes.Load())
	counter(gaps, delivery.Gaps.Load())
	gauge(held, s.Pending.Load(), "pending")
	gauge(held, s.Open.Load(), "open")
	counter(opened, s.Opened.Load())
	for _, r := range gateway.Reasons() {
		counter(closed, s.Closed[r].Load(), r.String())
	}
	counter(events, s.Events.Load())
	counter(bytes, s.Bytes.Load())
	gauge(queued, source.Gateway.QueuedBytes())
	gauge(requests, source.Gateway.Requests().Bytes())
	counter(overBudget, source.Gateway.Requests().Refused())
	counter(heartbeats, s.Heartbeats.Load())
	counter(dropped, s.Dropped.Load())
	counter(logLost, logging.Lost())
	counter(logLeftOut, logging.LeftOut())
	source.Own.Sends(func(result string, n uint64) {
		if result == connections.InvalidSend {
			n += source.API.InvalidSends()
		}
		counter(sends, n, result)
	})
	e := source.Edge.Stats()
	for _, state := range edge.States() {
		gauge(accepted, int64(e.Open[state]), state.String())
		counter(evicted, e.Evicted[state], state.String())
	}
	counter(turned, e.Refused)
	counter(floods, e.Floods)
	if state.HasState {
		flag(writable, state.StateWritable)
	}
	if r := source.Records; r != nil {
		gauge(unwritten, int64(r.Owed()))
		counter(unrecorded, r.Stats().Unrecorded.Load())
		counter(restored, r.Stats().Restored.Load())
	}
	if state.HasRelay {
		gauge(answers, int64(state.Answers))
		gauge(answersAlone, int64(state.AnswersAlone))
		gauge(answerBytes, state.AnswerBytes)
		counter(unkept, state.AnswersUnkept)
		counter(returns, state.AnswerReturns)
	}
	node := source.Node
	if node == nil {
		return
	}
	alive, dead := node.Count()
	gauge(nodes, int64(alive), "live")
	gauge(nodes, int64(dead), "lost")
	flag(lease, node.Holds())
	gauge(ledger, int64(node.Backlog()))
	gauge(heldUp, node.Held())
	c := node.Stats()
	counter(refused, c.Refused.Load())
	counter(relayed, c.Relayed.Load(), "answered")
	counter(relayed, c.Unknown.Load(), "unreachable")
	counter(answered, c.Answered.Load())
	counter(reaped, c.Reaped.Load())
}
