package main

import (
	"log/slog"
	"math"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// goShare is what Go may take of a limit on memory. The kernel's sockets count towards the limit too, and take about as
// much as the gateway itself.
const goShare = 0.5

// memoryLimit returns the limit on the memory of this process and others of its cgroup, in bytes. 0: there is none.
func memoryLimit() int64 {
	limit, err := memlimit.FromCgroup()
	if err != nil || limit > math.MaxInt64 {
		return 0
	}
	return int64(limit)
}

// limitGo has the garbage collector run more often near Go's share of a limit on memory, in bytes, if the environment
// variable GOMEMLIMIT does not say something else.
func limitGo(limit int64, log *slog.Logger) {
	most, err := memlimit.Set(memlimit.WithProvider(memlimit.Limit(uint64(limit))), memlimit.WithRatio(goShare)) //nolint:gosec // is positive
	if err != nil {
		log.Warn("the memory limit of Go is not set", "error", err.Error())
		return
	}
	log.Info("memory is limited: the defaults of what is kept fit into it", "limit_bytes", limit, "go_bytes", most)
}
