package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"strings"
	"time"

	"ssegateway/internal/broker"
	"ssegateway/internal/broker/nats"
	"ssegateway/internal/cluster"
	"ssegateway/internal/config"
	"ssegateway/internal/router"
)

// The bound on records that are kept while NATS is down: room for as many connections as there
// may be, with headers of an ordinary size, and for those that come and go meanwhile.
const (
	heldBase = 64 << 20
	heldEach = 1 << 10
)

// newNode makes this gateway a node of the cluster on its NATS.
func newNode(cfg config.Config, conn *nats.Conn, log *slog.Logger) *cluster.Node {
	return cluster.New(cluster.Config{
		Name: hostname(), Lease: cfg.NodeLease, HeldBytes: heldBase + heldEach*int64(cfg.MaxConnections), Version: router.Version, Log: log,
		Backends: backendDigests(cfg), Batch: cfg.CallbackBatch,
		Open: func(ctx context.Context) (broker.Nodes, error) {
			return nats.OpenNodes(ctx, conn, cfg.NATSPrefix, cfg.NATSReplicas)
		},
	})
}

// backendDigests returns digests by which nodes compare their backends. They leave the query out:
// it often holds a secret, which may change.
func backendDigests(cfg config.Config) (digests []string) {
	if cfg.CallbackURL == "" {
		return nil
	}
	for _, address := range []string{cfg.CallbackURL, cfg.CallbackURLBefore} {
		if address, _, _ = strings.Cut(address, "?"); address != "" {
			digest := sha256.Sum256([]byte(address))
			digests = append(digests, hex.EncodeToString(digest[:digestBytes]))
		}
	}
	return digests
}

const digestBytes = 8 // too few to find the address, enough to distinguish a few

// leaveGrace is when, counted as flushGrace is, a node has left its cluster or leaves it
// to the end of its lease.
const leaveGrace = flushGrace + 150*time.Millisecond

// leaveCluster gives the node's number back. The other nodes take over the notifications that
// the backend did not get.
func (s *Server) leaveCluster(begin time.Time, allTold bool) {
	if s.node == nil {
		return
	}
	ctx, cancel := s.behindWindow(begin, leaveGrace)
	defer cancel()
	if err := s.node.Leave(ctx, allTold); err != nil {
		s.log.Warn("the cluster learns by the end of the lease that this node has stopped", "error", err.Error())
	}
}
