package server

import (
	"errors"
	"net/http"

	"github.com/go-json-experiment/json"

	"ssegateway/internal/api"
	"ssegateway/internal/broker"
	"ssegateway/internal/metrics"
)

// readiness is the answer of /readyz.
type readiness struct {
	Status     string   `json:"status"`
	Configured bool     `json:"configured"`
	Reasons    []string `json:"reasons,omitempty"`
}

// stuck returns the reason why the log accepts no events.
func stuck(err error) string {
	if errors.Is(err, broker.ErrFull) {
		return "the broker's storage is full"
	}
	return "the broker stores no events"
}

// healthPath returns the path of a request for health, without a slash behind it; "" for any other.
func healthPath(path string) string {
	switch path {
	case "/healthz", "/readyz":
		return path
	case "/healthz/", "/readyz/":
		return path[:len(path)-1]
	}
	return ""
}

// serveHealth serves /healthz and /readyz.
func (s *Server) serveHealth(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		closeBehind(w, r)
		api.Allow(w, r, http.MethodGet, http.MethodHead)
		return
	}
	if healthPath(target(r)) == "/healthz" {
		api.WriteJSON(w, http.StatusOK, []byte(`{"status":"ok"}`))
		return
	}
	ready := readiness{Status: "ready", Configured: s.callbacks != nil || s.relay != nil, Reasons: s.unready()}
	status := http.StatusOK
	if len(ready.Reasons) > 0 {
		status, ready.Status = http.StatusServiceUnavailable, "not_ready"
	}
	body, err := json.Marshal(ready)
	if err != nil {
		panic(err) // a struct of strings
	}
	api.WriteJSON(w, status, body)
}

// unready returns why the gateway is not ready for streams; nothing if it is.
func (s *Server) unready() (reasons []string) {
	if s.callbacks == nil && s.relay == nil {
		reasons = append(reasons, "CALLBACK_URL is not configured")
	}
	if !s.started.Load() {
		reasons = append(reasons, "starting")
	}
	if !s.isLogOpen() || !s.isBrokerReachable() {
		reasons = append(reasons, "broker not reachable")
	}
	if !s.isStateWritable() {
		reasons = append(reasons, "STATE_DIR cannot be written")
	}
	if s.engine != nil {
		if err := s.engine.Stuck(); err != nil {
			reasons = append(reasons, stuck(err))
		}
	}
	if s.node != nil && !s.node.Named() {
		reason := "no number in the cluster"
		if other := s.node.Differs(); other != "" {
			reason = "another node of this NATS_PREFIX has another CALLBACK_URL: " + other
		}
		reasons = append(reasons, reason)
	} else if s.node != nil && !s.node.Holds() {
		reasons = append(reasons, "the lease in the cluster is not renewed")
	}
	if s.gw.Draining() {
		reasons = append(reasons, "draining")
	}
	return reasons
}

// state returns what the metrics show of the server.
func (s *Server) state() metrics.State {
	state := metrics.State{
		Ready: len(s.unready()) == 0, MaxConnections: s.cfg.MaxConnections,
		StreamsFull: s.turnedAway.full.Load(), StreamsNotReady: s.turnedAway.notReady.Load(),
		HasBroker: s.engine != nil, BrokerConnected: s.isLogOpen() && s.isBrokerReachable(),
	}
	if s.disk != nil {
		state.HasState, state.StateWritable = true, s.isStateWritable()
	}
	if e, ok := s.broker.(interface{ ForgottenKeys() uint64 }); ok {
		state.ForgottenKeys = e.ForgottenKeys()
	}
	if s.callbacks != nil {
		state.PendingDisconnects = s.callbacks.Pending()
		state.ConnectsAsking, state.ConnectsWaiting = s.callbacks.Connects()
		state.BackendDown, state.StreamsBackendDown = s.callbacks.Down(), s.callbacks.RefusedConnects()
	}
	if s.limits != nil {
		state.HasAddresses, state.Addresses = true, s.limits.Addresses()
		state.StreamsPerAddress, state.ConnectsPerAddress = s.limits.Refused()
	}
	if s.relay != nil {
		r := s.relay.Stats()
		state.HasRelay, state.Answers, state.AnswersAlone, state.AnswerBytes = true, r.Kept, r.Alone, r.Bytes
		state.AnswersUnkept, state.AnswerReturns = r.Unkept, r.Returns
	}
	if c := s.certificate.Load(); c != nil {
		state.CertificateExpiry = expiry(c.current.Load())
	}
	return state
}
