package server

import (
	"ssegateway/internal/callback"
	"ssegateway/internal/history"
)

// The results of callbacks that count as failures: there was no answer, or none that a backend gives on purpose.
var (
	failedConnects    = []string{callback.ResultUnreachable, callback.ResultTimeout, callback.ResultUnanswered}
	failedDisconnects = []string{callback.ResultRetry, callback.ResultRejected, callback.ResultGivenUp}
)

// counts returns what the history keeps of this moment.
func (s *Server) counts() history.Counts {
	g := s.gw.Stats()
	c := history.Counts{
		Pending: g.Pending.Load(), Open: g.Open.Load(), Opened: g.Opened.Load(), Events: g.Events.Load(), Bytes: g.Bytes.Load(),
		Queued: s.gw.QueuedBytes(), Dropped: g.Dropped.Load(), Gaps: s.topics.Stats().Gaps.Load(), Edge: s.edge.Stats().Open,
	}
	c.Published, _, _ = s.own.Publishes()
	for r := range c.Closed {
		c.Closed[r] = g.Closed[r].Load()
	}
	c.Callbacks[history.Connect] = s.metrics.Callbacks(callback.ActionConnect, failedConnects)
	c.Callbacks[history.Disconnect] = s.metrics.Callbacks(callback.ActionDisconnect, failedDisconnects)
	if s.cfg.CallbackBatch > 1 {
		c.Callbacks[history.Disconnect].Add(s.metrics.Callbacks(callback.ActionDisconnects, failedDisconnects))
	}
	return c
}
