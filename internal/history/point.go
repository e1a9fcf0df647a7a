package history

import (
	"math"
	"time"

	"github.com/go-json-experiment/json"

	"ssegateway/internal/edge"
	"ssegateway/internal/gateway"
)

// Counts are the gauges and counters of one moment. Counters are those since the start.
type Counts struct {
	Pending, Open int64                      // connections
	Opened        uint64                     // streams
	Closed        [gateway.Error + 1]uint64  // by gateway.Reason: ends that the backend is told of
	Events, Bytes uint64                     // written
	Queued        int64                      // bytes
	Dropped       uint64                     // events
	Gaps          uint64                     // that clients were given
	Published     uint64                     // events, by this node
	Edge          [edge.StateHTTP2 + 1]int   // connections that are not streams, by edge.State
	Callbacks     [len(actionNames)]Attempts // by Action
}

// Action is what a callback is about.
type Action int

// The actions.
const (
	Connect    Action = iota
	Disconnect        // a batch of them counts once
)

var actionNames = [...]string{Connect: "connect", Disconnect: "disconnect"}

// Bounds are the upper bounds of the buckets of a callback's duration, in seconds.
var Bounds = [...]float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}

// Attempts are the attempts of callbacks.
type Attempts struct {
	Count, Failed uint64
	Buckets       [len(Bounds)]uint64 // those that took at most Bounds
}

// Point is what a plot has of one moment.
type Point struct {
	time    time.Time
	counts  Counts
	latency [len(actionNames)]latency
}

// latency tells how long the callbacks took that were answered since the point before; 0: there were none.
type latency struct{ median, p99 float64 } // seconds

func pointOf(now time.Time, c, before Counts) Point {
	p := Point{time: now, counts: c}
	for a := range c.Callbacks {
		since := c.Callbacks[a].since(before.Callbacks[a])
		p.latency[a] = latency{since.quantile(.5), since.quantile(.99)}
	}
	return p
}

// Add adds other attempts.
func (a *Attempts) Add(other Attempts) {
	a.Count += other.Count
	a.Failed += other.Failed
	for i := range a.Buckets {
		a.Buckets[i] += other.Buckets[i]
	}
}

func (a Attempts) since(before Attempts) Attempts {
	a.Count -= before.Count
	for i := range a.Buckets {
		a.Buckets[i] -= before.Buckets[i]
	}
	return a
}

// quantile estimates a quantile of the durations in seconds, by interpolation within its bucket, as Prometheus does.
func (a Attempts) quantile(q float64) float64 {
	if a.Count == 0 {
		return 0
	}
	rank := q * float64(a.Count)
	low, below := 0.0, 0.0
	for i, high := range Bounds {
		n := float64(a.Buckets[i])
		if n >= rank {
			return math.Round(1e6*(low+(high-low)*(rank-below)/(n-below))) / 1e6
		}
		low, below = high, n
	}
	return low
}

type pointForm struct {
	Time        string            `json:"time"`
	Connections connectionsForm   `json:"connections"`
	Opened      uint64            `json:"streams_opened"`
	Closed      map[string]uint64 `json:"connections_closed"`
	Events      uint64            `json:"events_written"`
	Bytes       uint64            `json:"bytes_written"`
	Queued      int64             `json:"bytes_queued"`
	Dropped     uint64            `json:"events_dropped"`
	Gaps        uint64            `json:"gaps"`
	Published   uint64            `json:"events_published"`

	Callbacks map[string]callbacksForm `json:"callbacks"`
	Edge      map[string]int           `json:"edge_connections"`
}

type connectionsForm struct {
	Pending int64 `json:"pending"`
	Open    int64 `json:"open"`
}

type callbacksForm struct {
	Attempts uint64  `json:"attempts"`
	Failed   uint64  `json:"failed"`
	Median   float64 `json:"p50_seconds"`
	P99      float64 `json:"p99_seconds"`
}

// JSON returns the point as the internal API shows it.
func (p Point) JSON() []byte {
	c := p.counts
	f := pointForm{
		Time: p.time.Format(time.RFC3339), Connections: connectionsForm{c.Pending, c.Open}, Opened: c.Opened, Closed: map[string]uint64{},
		Events: c.Events, Bytes: c.Bytes, Queued: c.Queued, Dropped: c.Dropped, Gaps: c.Gaps, Published: c.Published,
		Callbacks: map[string]callbacksForm{}, Edge: map[string]int{},
	}
	for _, r := range gateway.Reasons() {
		f.Closed[r.String()] = c.Closed[r]
	}
	for a, name := range actionNames {
		f.Callbacks[name] = callbacksForm{c.Callbacks[a].Count, c.Callbacks[a].Failed, p.latency[a].median, p.latency[a].p99}
	}
	for _, s := range edge.States() {
		f.Edge[s.String()] = c.Edge[s]
	}
	text, err := json.Marshal(f, json.Deterministic(true))
	if err != nil {
		panic(err) // nothing in it can fail
	}
	return text
}
