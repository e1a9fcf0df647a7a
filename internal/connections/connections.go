// Package connections defines the operations on connections ([Connections]), and implements
// them for the connections of this node's gateway ([Own]). Package router implements them for
// all nodes. It knows neither HTTP nor JSON.
package connections

import (
	"context"
	"errors"

	"ssegateway/internal/broker"
	"ssegateway/internal/gateway"
	"ssegateway/internal/repeats"
	"ssegateway/sse"
)

// Connections is the set of operations on connections. It is safe for concurrent use. No
// connection has the zero Token.
type Connections interface {
	// SendNow carries a send out if that needs no waiting. Otherwise it does nothing and
	// returns ErrWouldWait; the caller then calls Send on a goroutine that may wait.
	SendNow(ctx context.Context, s Send) (Outcome, error)
	// Send carries a send out.
	Send(ctx context.Context, s Send) (Outcome, error)
	// Batch performs operations in order, each as if it had come alone, and returns one
	// result for each.
	Batch(ctx context.Context, operations []Operation) []Result
	// Close closes a connection after everything that was sent to it before.
	Close(ctx context.Context, token gateway.Token) (Outcome, error)
	// Describe describes a connection.
	Describe(ctx context.Context, token gateway.Token) (Info, error)
	// Change adds topics to a connection, then removes some, and returns the topics that it then has.
	Change(ctx context.Context, token gateway.Token, add, remove []string) (topics []string, err error)
	// Stream returns the Sink for the events of a streaming request. ctx is the request's. The
	// caller must call the Sink's Stop in the end.
	Stream(ctx context.Context, token gateway.Token) (Sink, error)
	// Publish publishes an event.
	Publish(ctx context.Context, p Publication) (Published, error)
	// Retained returns a part of the list of retained events, as far as this node has read the log.
	Retained(q RetainedQuery) RetainedPage
	// Remove removes what a topic retains, of a key or, if that is empty, all, and returns how many events those were.
	Remove(ctx context.Context, topic, key string) (removed int, err error)
	// Position returns the end of the log, as far as this node has read it: never before what it has answered to a publish.
	Position(ctx context.Context) broker.Position
	// List returns a page of the connections that match a query.
	List(ctx context.Context, q Query) Page
	// CloseAll closes the connections that match a filter.
	CloseAll(ctx context.Context, f gateway.Filter) Closed
	// Statistics returns this node's statistics, and in a cluster also the sums over all nodes.
	Statistics(ctx context.Context) Statistics
}

// ErrWouldWait is returned by SendNow for a send that has to wait.
var ErrWouldWait = errors.New("the send has to wait")

// Errors of operations on one connection.
var (
	ErrNotFound      = errors.New("no such connection")
	ErrGone          = errors.New("the client has left")
	ErrDropped       = errors.New("the overflow policy dropped the event") // the connection goes on
	ErrPending       = errors.New("the connection is not open yet")
	ErrRelayed       = errors.New("the backend itself writes the stream")
	ErrBufferFull    = errors.New("the buffer of the pending connection is full")
	ErrWriteFailed   = errors.New("the event could not be written")
	ErrWriteTimeout  = errors.New("the event was not written in time")
	ErrAhead         = errors.New("the event's id is a position that the log has not come to")
	ErrTooManyTopics = errors.New("too many topics")
	// ErrUnreachable: the node that holds the connection did not answer. It is unknown
	// whether it got the request.
	ErrUnreachable = errors.New("the node cannot be reached")
	// ErrTooLarge: the message to another node, or to the log, is larger than the broker accepts.
	ErrTooLarge = broker.ErrTooLarge
	// ErrRetainedFull: the event was not published, since it cannot be retained.
	ErrRetainedFull = broker.ErrRetainedFull
	// ErrKeyReused: something else was asked for with the same idempotency key.
	ErrKeyReused = repeats.ErrReused
)

// Send is an event, a close, or both for one connection.
type Send struct {
	Token    gateway.Token
	Event    sse.Event
	HasEvent bool
	Close    bool // after the event
	Wait     bool // until the event was written
	// IdempotencyKey, if there is one, makes repeats without effect.
	IdempotencyKey string
}

// Outcome is the result of a send that succeeded.
type Outcome uint8

const (
	// Sent: written, or queued in order.
	Sent Outcome = iota + 1
	// Buffered: the connection is pending; the event is written first when the connection opens.
	Buffered
	// Written to the client's socket.
	Written
	// Dropped by the connection's overflow policy. The connection goes on.
	Dropped

	// Duplicate is added to one of these by a repeat. That did nothing: the Outcome is the first one's.
	Duplicate Outcome = 8
)

// Operation is one of a batch: a publish if Publish is not nil, else a send.
type Operation struct {
	Send    Send
	Publish *Publication
}

// Result is the result of an operation.
type Result struct {
	Outcome   Outcome // of a send
	Published Published
	Err       error
}

// Publication is an event for all connections that have any of some topics.
type Publication struct {
	Topics []string
	Event  sse.Event
	Store  bool // for clients that reconnect
	All    bool // count the connections of all nodes
	Retain bool // as the last of each topic and Key
	Key    string
	// IdempotencyKey, if there is one, makes repeats without effect.
	IdempotencyKey string
}

// Published is the result of a Publication.
type Published struct {
	Position    broker.Position
	Receivers   int      // connections that it went to
	Unreachable []string // nodes whose connections are not counted
	Duplicate   bool     // a repeat, which did nothing: the result is the first one's
	Uncounted   bool     // of a Duplicate: Receivers is not known here
}

// RetainedQuery selects the retained events to list.
type RetainedQuery struct {
	Topic string // "": of all topics
	After broker.RetainedCursor
	Limit int
	Bytes int // about how large the page may be, unless it has one event only
}

// RetainedPage is a page of the list of retained events, in the order of the log.
type RetainedPage struct {
	Events []broker.Retained
	Next   broker.RetainedCursor // RetainedQuery.After of the next page
	More   bool                  // there is one
}

// Query selects the connections to list.
type Query struct {
	gateway.Filter

	After gateway.Token // the last token of the previous page
	Limit int           // of connections in the page
	Bytes int           // about how large the page may be, unless it has one connection only
}

// Page is a page of a list, in the order of the tokens.
type Page struct {
	Connections []Info
	Next        gateway.Token // Query.After of the next page; zero: this is the last page
	Unreachable []string      // nodes whose connections are not in the page
}

// Info describes a connection and names the node that holds it. All of it is valid UTF-8.
type Info struct {
	gateway.Info

	Node string
}

// Closed reports how many connections were closed.
type Closed struct {
	Count       int
	Unreachable []string // nodes whose connections were not closed
}

// Counts are the gauges and counters of a node, or their sums over a cluster.
type Counts struct {
	Pending, Open int64  // connections
	Opened        uint64 // streams
	Events, Bytes uint64 // written
	Queued        int64  // bytes
	EventsDropped uint64
}

// Add adds the counts of another node.
func (c *Counts) Add(other Counts) {
	c.Pending += other.Pending
	c.Open += other.Open
	c.Opened += other.Opened
	c.Events += other.Events
	c.Bytes += other.Bytes
	c.Queued += other.Queued
	c.EventsDropped += other.EventsDropped
}

// Statistics are those of one node.
type Statistics struct {
	Node string
	Counts

	Log     broker.Stats
	Cluster *Totals // nil: there are no other nodes
}

// Totals are the sums over Nodes.
type Totals struct {
	Nodes       []string
	Unreachable []string
	Counts
	ByNode []NodeCounts // in the order of Nodes
}

// NodeCounts are the counts of one node.
type NodeCounts struct {
	Node string
	Counts
}

// Block is an event of a streaming request. A bare one has only an id and a retry, which the
// client does not dispatch as an event.
type Block struct {
	sse.Event

	Bare bool
}

// Sink is a connection that a streaming request writes to.
type Sink interface {
	// Gone is closed when the connection has closed.
	Gone() <-chan struct{}
	// IsAhead reports whether an event has an id that Write would refuse with ErrAhead. Only
	// the node that holds the connection knows that; on any other node it returns false.
	IsAhead(e sse.Event) bool
	// Write writes blocks in one piece, closes the connection after them if end is set, and
	// waits until that is done. It returns ErrDropped if the overflow policy dropped them.
	Write(blocks []Block, end bool) error
	// Stop releases the Sink.
	Stop()
}
