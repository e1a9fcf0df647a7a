package gateway

import (
	"sync/atomic"
	"time"

	"ssegateway/internal/logging"
)

// Requests bounds the bytes of clients' requests that are kept: as long as a connection
// lasts, and from then on until the backend was told of its end. Strangers decide how large
// they are, and how long the second takes is the backend's business.
type Requests struct {
	limit   int64 // 0: none
	bytes   atomic.Int64
	refused atomic.Uint64
	full    *logging.Throttle // of the lines about refusals
}

const (
	// keptOverhead is what a kept request costs beside its bytes: the connection, or the
	// notice, and their entries in tables.
	keptOverhead = 256
	// sayEvery is the least time between two lines about refusals.
	sayEvery = 10 * time.Second
)

// NewRequests makes a bound of so many bytes; 0 is none.
func NewRequests(limit int64) *Requests {
	return &Requests{limit: limit, full: logging.Every(sayEvery)}
}

// Bytes is how many are kept now, bookkeeping included.
func (r *Requests) Bytes() int64 { return r.bytes.Load() }

// Refused is how many connections were refused for the bound.
func (r *Requests) Refused() uint64 { return r.refused.Load() }

// Keep takes note of a request that is kept, whatever the bound: of what was accepted.
func (r *Requests) Keep(request []byte) { r.bytes.Add(int64(len(request)) + keptOverhead) }

// Release takes note that a request is kept no more.
func (r *Requests) Release(request []byte) { r.bytes.Add(-int64(len(request)) - keptOverhead) }

// admit is Keep if there is room.
func (r *Requests) admit(request []byte) bool {
	r.Keep(request)
	if r.limit == 0 || r.bytes.Load() <= r.limit {
		return true
	}
	r.Release(request)
	r.refused.Add(1)
	return false
}
