package server

import (
	"errors"
	"net/http"

	"github.com/go-json-experiment/json"

	"ssegateway/internal/api"
	"ssegateway/internal/broker"
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

// serveHealth serves /healthz and /readyz.
func (s *Server) serveHealth(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		closeBehind(w, r)
		api.Allow(w, r, http.MethodGet, http.MethodHead)
		return
	}
	if target(r) == "/healthz" {
		api.WriteJSON(w, http.StatusOK, []byte(`{"status":"ok"}`))
		return
	}
	ready := readiness{Status: "ready", Configured: s.callbacks != nil}
	if !ready.Configured {
		ready.Reasons = append(ready.Reasons, "CALLBACK_URL is not configured")
	}
	if !s.started.Load() {
		ready.Reasons = append(ready.Reasons, "starting")
	}
	if !s.isLogOpen() || !s.isBrokerReachable() {
		ready.Reasons = append(ready.Reasons, "broker not reachable")
	}
	if s.engine != nil {
		if err := s.engine.Stuck(); err != nil {
			ready.Reasons = append(ready.Reasons, stuck(err))
		}
	}
	if s.node != nil && !s.node.Named() {
		reason := "no number in the cluster"
		if other := s.node.Differs(); other != "" {
			reason = "another node of this NATS_PREFIX has another CALLBACK_URL: " + other
		}
		ready.Reasons = append(ready.Reasons, reason)
	} else if s.node != nil && !s.node.Holds() {
		ready.Reasons = append(ready.Reasons, "the lease in the cluster is not renewed")
	}
	if s.gw.Draining() {
		ready.Reasons = append(ready.Reasons, "draining")
	}
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
