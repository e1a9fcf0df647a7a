package server

import (
	"fmt"
	"runtime"

	"ssegateway/internal/config"
)

// descriptors says how the limit on open files is divided. Every part has a share that no other
// part can take: health and the internal API are answered however many streams are open.
type descriptors struct {
	files       int // the limit
	own         int // the process's own: listeners, logs, epoll sets, NATS, and sockets between two owners
	reserve     int // requests other than streams: health, the internal API, clients that are refused
	concurrency int // callbacks of each action at a time; each takes a descriptor
	streams     int // streams that have a socket of their own: all but those of HTTP/2
}

const (
	// The reserve is an eighth of all within these bounds. Half of it is the share of
	// connections of the internal API.
	minReserve, maxReserve = 32, 320
	// An operator's tails are at most an eighth of the reserve.
	maxTails = 32
	// The default of CALLBACK_CONCURRENCY is a sixteenth of all within these bounds.
	minConcurrency, maxConcurrency = 8, 256
)

// Descriptors returns the limit on open files, and how many streams with a socket of their own it has
// room for. An error says that the settings leave no room for the rest.
func Descriptors(cfg config.Config) (limit, streams int, err error) {
	d, err := shareOut(openFilesLimit(), cfg.MaxConnections, cfg.CallbackConcurrency)
	return d.files, d.streams, err
}

// connections returns how many descriptors accepted connections may have, streams included.
func (d descriptors) connections() int { return d.streams + d.reserve }

// tails returns how many tails there may be. Their descriptors come out of the reserve, so that they
// take no stream's place.
func (d descriptors) tails() int { return min(d.reserve/8, maxTails) }

// shareOut divides the limit on open files. Of the settings MAX_CONNECTIONS and
// CALLBACK_CONCURRENCY, 0 means that it is to be chosen here. One that leaves no room for the
// rest is an error.
func shareOut(files, maxConnections, concurrency int) (descriptors, error) {
	d := descriptors{
		files: files, own: 48 + 4*runtime.GOMAXPROCS(0), // each core has its set of senders
		reserve: min(max(files/8, minReserve), maxReserve), concurrency: concurrency,
	}
	left := d.files - d.own - d.reserve
	if concurrency == 0 {
		d.concurrency = min(max(files/16, minConcurrency), maxConcurrency)
		if maxConnections > 0 { // many streams are allowed as long as some callbacks are left
			d.concurrency = min(d.concurrency, max((left-maxConnections)/2, minConcurrency))
		}
	}
	if d.streams = left - 2*d.concurrency; d.streams > 0 {
		return d, nil
	}
	if concurrency == 0 {
		return d, fmt.Errorf("the limit on open files is %d: raise it to at least %d (ulimit -n)", files, d.own+d.reserve+2*d.concurrency+1)
	}
	return d, fmt.Errorf("CALLBACK_CONCURRENCY: %d takes %d descriptors, two for each, but the limit on open files is %d, of which %d can be had: "+
		"set it to at most %d, or raise the limit (ulimit -n)", concurrency, 2*concurrency, files, max(left, 0), max((left-1)/2, 0))
}
