package gateway

import (
	"sync/atomic"
	"time"

	"ssegateway/internal/logging"
)

// Requests bounds the bytes of clients' requests that are kept. A request is kept as long as its
// connection lasts, and then until the backend was notified of the end. Strangers decide how large
// requests are, and the backend decides how long a notification takes.
type Requests struct {
	limit   int64 // 0: none
	bytes   atomic.Int64
	refused atomic.Uint64
	full    *logging.Throttle // of the lines about refusals
}

const (
	// keptOverhead is what a kept request costs in bytes beside its own: the connection, or the
	// notice, and their entries in tables.
	keptOverhead = 256
	// sayEvery is the least time between two lines about refusals.
	sayEvery = 10 * time.Second
)

// NewRequests returns a bound of that many bytes; 0 is no bound.
func NewRequests(limit int64) *Requests {
	return &Requests{limit: limit, full: logging.Every(sayEvery)}
}

// Bytes returns how many bytes are kept now, overhead included.
func (r *Requests) Bytes() int64 { return r.bytes.Load() }

// Refused returns how many connections were refused because of the bound.
func (r *Requests) Refused() uint64 { return r.refused.Load() }

// Keep counts a request that was accepted, even beyond the bound.
func (r *Requests) Keep(request []byte) { r.bytes.Add(int64(len(request)) + keptOverhead) }

// Release uncounts a request.
func (r *Requests) Release(request []byte) { r.bytes.Add(-int64(len(request)) - keptOverhead) }

// admit calls Keep if there is room.
func (r *Requests) admit(request []byte) bool {
	r.Keep(request)
	if r.limit == 0 || r.bytes.Load() <= r.limit {
		return true
	}
	r.Release(request)
	r.refused.Add(1)
	return false
}
