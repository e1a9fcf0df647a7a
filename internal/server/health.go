package server

import (
	"net/http"

	"github.com/go-json-experiment/json"

	"ssegateway/internal/api"
)

// readiness is the answer of /readyz.
type readiness struct {
	Status     string   `json:"status"`
	Configured bool     `json:"configured"`
	Reasons    []string `json:"reasons,omitempty"`
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
	if s.node != nil && !s.node.Named() {
		reason := "no number in the cluster"
		if other := s.node.Differs(); other != "" {
			reason = "another node of this NATS_PREFIX has another CALLBACK_URL: " + other
		}
		ready.Reasons = append(ready.Reasons, reason)
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
