// Package connections says what can be done with connections, whoever holds them, and
// does it with those of this node's gateway ([Own]). A router does it with those of
// other nodes as well. Values go in and out, no HTTP and no JSON.
package connections

import (
	"context"
	"errors"

	"ssegateway/internal/broker"
	"ssegateway/internal/gateway"
	"ssegateway/sse"
)

// Connections is what can be done with connections. It is safe for concurrent use. The zero
// Token is nobody's.
type Connections interface {
	// SendNow carries a send out if that needs no waiting. Otherwise it has done nothing and
	// returns ErrWouldWait; Send is to be called, on a goroutine that may wait.
	SendNow(s Send) (Outcome, error)
	// Send carries a send out.
	Send(ctx context.Context, s Send) (Outcome, error)
	// Batch performs operations in order, each as if it had come alone, and tells of each
	// what came of it.
	Batch(ctx context.Context, operations []Operation) []Result
	// Close closes a connection behind what was sent to it.
	Close(ctx context.Context, token gateway.Token) (Outcome, error)
	// Describe describes a connection.
	Describe(ctx context.Context, token gateway.Token) (Info, error)
	// Change adds topics to a connection's, then removes some, and returns what it then has.
	Change(ctx context.Context, token gateway.Token, add, remove []string) (topics []string, err error)
	// Stream is where the events of a streaming request go. ctx is the request's. The Sink's
	// Stop has to be called in the end.
	Stream(ctx context.Context, token gateway.Token) (Sink, error)
	// Publish publishes an event.
	Publish(ctx context.Context, p Publication) (Published, error)
	// List returns a page of the connections that fit a query.
	List(ctx context.Context, q Query) Page
	// CloseAll closes the connections that fit.
	CloseAll(ctx context.Context, f gateway.Filter) Closed
	// Statistics are this node's, and in a cluster those of all.
	Statistics(ctx context.Context) Statistics
}

// ErrWouldWait is what SendNow returns for a send that has to wait.
var ErrWouldWait = errors.New("the send has to wait")

// Errors of what is done with one connection.
var (
	ErrNotFound      = errors.New("no such connection")
	ErrGone          = errors.New("the client has left")
	ErrDropped       = errors.New("the overflow policy dropped the event") // the connection goes on
	ErrPending       = errors.New("the connection is not open yet")
	ErrBufferFull    = errors.New("the buffer of the pending connection is full")
	ErrWriteFailed   = errors.New("the event could not be written")
	ErrWriteTimeout  = errors.New("the event was not written in time")
	ErrAhead         = errors.New("the event's id is a position that the log has not come to")
	ErrTooManyTopics = errors.New("too many topics")
	// ErrUnreachable: the node that holds the connection did not answer. It is unknown
	// whether it got the request.
	ErrUnreachable = errors.New("the node cannot be reached")
	// ErrTooLarge: what has to go to another node, or to the log, is larger than the broker takes.
	ErrTooLarge = broker.ErrTooLarge
)

// Send is an event, a close, or both for one connection.
type Send struct {
	Token    gateway.Token
	Event    sse.Event
	HasEvent bool
	Close    bool // behind the event
	Wait     bool // until the event was written
}

// Outcome is what became of a send that succeeded.
type Outcome uint8

const (
	// Sent: written, or queued in order.
	Sent Outcome = iota + 1
	// Buffered: the connection is pending; it is written first once that opens.
	Buffered
	// Written to the client's socket.
	Written
	// Dropped by the connection's overflow policy. The connection goes on.
	Dropped
)

// Operation is one of a batch: a publish if Publish is not nil, else a send.
type Operation struct {
	Send    Send
	Publish *Publication
}

// Result is what came of an operation.
type Result struct {
	Outcome   Outcome // of a send
	Published Published
	Err       error
}

// Publication is an event for all connections that have any of some topics.
type Publication struct {
	Topics []string
	Event  sse.Event
	Store  bool // for clients that come back
	All    bool // count the connections of all nodes
}

// Published is what came of a Publication.
type Published struct {
	Position    broker.Position
	Receivers   int      // connections that it went to
	Unreachable []string // nodes whose connections are not counted
}

// Query is what to list.
type Query struct {
	gateway.Filter

	After gateway.Token // where the page before ended
	Limit int           // of connections in the page
	Bytes int           // about how large the page may be, unless it has one connection only
}

// Page is a page of a list, in the order of the tokens.
type Page struct {
	Connections []Info
	Next        gateway.Token // to go on after; zero: there is nothing more
	Unreachable []string      // nodes whose connections are not in the page
}

// Info describes a connection and names the node that holds it. All of it is valid UTF-8.
type Info struct {
	gateway.Info

	Node string
}

// Closed says how many connections were closed.
type Closed struct {
	Count       int
	Unreachable []string // nodes whose connections were not
}

// Counts are what a node, or a cluster, has and has done.
type Counts struct {
	Pending, Open int64  // connections
	Opened        uint64 // streams
	Events, Bytes uint64 // written
	Queued        int64  // bytes
	EventsDropped uint64
}

// Add adds another node's.
func (c *Counts) Add(other Counts) {
	c.Pending += other.Pending
	c.Open += other.Open
	c.Opened += other.Opened
	c.Events += other.Events
	c.Bytes += other.Bytes
	c.Queued += other.Queued
	c.EventsDropped += other.EventsDropped
}

// Statistics are a node's.
type Statistics struct {
	Node string
	Counts

	Log     broker.Stats
	Cluster *Totals // nil: there are no other nodes
}

// Totals are the sums of the nodes that are named.
type Totals struct {
	Nodes       []string
	Unreachable []string
	Counts
}

// Block is an event of a streaming request, or, where it is bare, only an id and a retry,
// which make no event for a client.
type Block struct {
	sse.Event

	Bare bool
}

// Sink is a connection that a streaming request writes to.
type Sink interface {
	// Gone is closed when the connection has closed.
	Gone() <-chan struct{}
	// IsAhead says whether an event has an id that Write would refuse with ErrAhead. Only
	// the node that holds the connection knows; any other answers false.
	IsAhead(e sse.Event) bool
	// Write writes blocks at once, closes the connection behind them if end is set, and
	// waits until that is done. It returns ErrDropped where the overflow policy dropped
	// them.
	Write(blocks []Block, end bool) error
	// Stop ends the use of the Sink.
	Stop()
}
