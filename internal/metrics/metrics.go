// Package metrics exports the gateway's counters to Prometheus. All label values
// come from fixed sets, such as reasons, results and actions, never from a token or a path.
package metrics

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"ssegateway/internal/api"
	"ssegateway/internal/cluster"
	"ssegateway/internal/connections"
	"ssegateway/internal/edge"
	"ssegateway/internal/gateway"
	"ssegateway/internal/logging"
)

// Metrics serves /metrics.
type Metrics struct {
	http.Handler

	registry  *prometheus.Registry
	callbacks *prometheus.CounterVec
	latency   *prometheus.HistogramVec
	panics    prometheus.Counter
	gw        *gateway.Gateway
	own       *connections.Own
	api       *api.API
	node      *cluster.Node // nil without a cluster
	edge      *edge.Edge
}

// New returns Metrics without the gateway's counters. Watch adds them.
func New() *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		callbacks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ssegateway_callbacks_total",
			Help: "Callbacks to the backend, each attempt, by action and result.",
		}, []string{"action", "result"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "ssegateway_callback_duration_seconds",
			Help:    "Time from a callback's start to its answer, by action.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}, []string{"action"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ssegateway_request_panics_total",
			Help: "Requests whose handler panicked: faults of the gateway.",
		}),
	}
	m.registry.MustRegister(m.callbacks, m.latency, m.panics, collectors.NewGoCollector(),
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

// Watch adds the counters of a gateway, its connections, its API and its edge. In a
// cluster it also adds those of the node; otherwise node is nil.
func (m *Metrics) Watch(gw *gateway.Gateway, own *connections.Own, a *api.API, node *cluster.Node, e *edge.Edge) {
	m.gw, m.own, m.api, m.node, m.edge = gw, own, a, node, e
	m.registry.MustRegister(m)
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("ssegateway_"+name, help, labels, nil)
}

var (
	held       = desc("connections", "Connections now, by state.", "state")
	opened     = desc("streams_opened_total", "Streams opened.")
	closed     = desc("connections_closed_total", "Ends that the backend is told of, by reason.", "reason")
	events     = desc("events_written_total", "Events handed to clients' sockets, one for each client.")
	bytes      = desc("written_bytes_total", "Bytes handed to clients' sockets, heads, framing and heartbeats included.")
	queued     = desc("queued_bytes", "Bytes queued for clients now, bookkeeping included.")
	requests   = desc("request_bytes", "Bytes kept of clients' requests now, of connections and of ends that the backend was not told of yet, bookkeeping included.")
	overBudget = desc("request_budget_refused_total", "Streams turned away because request_bytes was at its bound.")
	heartbeats = desc("heartbeats_total", "Heartbeats written.")
	dropped    = desc("events_dropped_total", "Events accepted for a connection and dropped: it ended before they were written, or its overflow policy dropped them.")
	sends      = desc("sends_total", "Requests to /internal/send, by result.", "result")

	accepted   = desc("edge_connections", "Accepted connections that are not streams now, by state.", "state")
	evicted    = desc("edge_evicted_total", "Connections that were closed to make room for others, by the state they were in.", "state")
	turned     = desc("edge_refused_total", "Connections closed on accept because all descriptors were in use.")
	floods     = desc("edge_floods_total", "Connections that were closed because their peer sent much and asked for little.")
	logLost    = desc("log_lines_lost_total", "Log lines lost because they could not be written in time.")
	logLeftOut = desc("log_lines_left_out_total", "Log lines left out because equal lines had just been written.")

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
	s := m.gw.Stats()
	gauge := func(d *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge(held, s.Pending.Load(), "pending")
	gauge(held, s.Open.Load(), "open")
	counter(opened, s.Opened.Load())
	for _, r := range gateway.Reasons() {
		counter(closed, s.Closed[r].Load(), r.String())
	}
	counter(events, s.Events.Load())
	counter(bytes, s.Bytes.Load())
	gauge(queued, m.gw.QueuedBytes())
	gauge(requests, m.gw.Requests().Bytes())
	counter(overBudget, m.gw.Requests().Refused())
	counter(heartbeats, s.Heartbeats.Load())
	counter(dropped, s.Dropped.Load())
	counter(logLost, logging.Lost())
	counter(logLeftOut, logging.LeftOut())
	m.own.Sends(func(result string, n uint64) {
		if result == connections.InvalidSend {
			n += m.api.InvalidSends()
		}
		counter(sends, n, result)
	})
	e := m.edge.Stats()
	for _, state := range edge.States() {
		gauge(accepted, int64(e.Open[state]), state.String())
		counter(evicted, e.Evicted[state], state.String())
	}
	counter(turned, e.Refused)
	counter(floods, e.Floods)
	if m.node == nil {
		return
	}
	alive, dead := m.node.Count()
	gauge(nodes, int64(alive), "live")
	gauge(nodes, int64(dead), "lost")
	held := int64(0)
	if m.node.Holds() {
		held = 1
	}
	gauge(lease, held)
	gauge(ledger, int64(m.node.Backlog()))
	gauge(heldUp, m.node.Held())
	c := m.node.Stats()
	counter(refused, c.Refused.Load())
	counter(relayed, c.Relayed.Load(), "answered")
	counter(relayed, c.Unknown.Load(), "unreachable")
	counter(answered, c.Answered.Load())
	counter(reaped, c.Reaped.Load())
}
