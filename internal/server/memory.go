package server

import (
	"context"
	"runtime/debug"
	"time"
)

const (
	memoryTick = 100 * time.Millisecond

	// A storm is over when for two seconds fewer connections than this came or went a second.
	reclaimCalm = 32
	// Fewer connections than this since the last time are not worth a collection.
	reclaimWorth = 500

	// While this many bytes wait for slow clients the collector runs at
	// queuesPercent: as garbage comes beside them (each send makes some), the heap
	// would else grow to twice what the queues' budget says. They have no pointers
	// and cost a collection next to nothing.
	queuesWorth   = 16 << 20
	queuesPercent = 25
)

// keepMemory keeps resident memory near what is in use, until ctx ends.
func (s *Server) keepMemory(ctx context.Context) error {
	ticker := time.NewTicker(memoryTick)
	defer ticker.Stop()
	var storm storm
	normal, strict := 0, false
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		switch queued := s.gw.QueuedBytes(); {
		case queued >= queuesWorth && !strict:
			normal, strict = debug.SetGCPercent(queuesPercent), true
		case queued < queuesWorth/2 && strict:
			debug.SetGCPercent(normal)
			strict = false
		}
		if i%int(time.Second/memoryTick) == 0 && storm.isOver(s.gw.Stats().Turnover()) {
			debug.FreeOSMemory()
		}
	}
}

// storm detects the end of a time in which many connections came or went. Each of them
// leaves some 8 kB of garbage, which would not be collected while the streams are idle.
type storm struct {
	last, reclaimed uint64
	calm            int // seconds
}

// isOver is called once a second with the number of connections that have come and gone so far.
func (s *storm) isOver(turnover uint64) bool {
	if s.calm++; turnover-s.last >= reclaimCalm {
		s.calm = 0
	}
	s.last = turnover
	if s.calm < 2 || turnover-s.reclaimed < reclaimWorth {
		return false
	}
	s.reclaimed = turnover
	return true
}
