// Package broker is the port between nodes: the log of what was published. It has
// the engine for one node, in memory; other engines pass the same suite (brokertest).
package broker

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"ssegateway/internal/frame"
	"ssegateway/sse"
)

// Position is a place in a log: right behind the record with that offset. Offset 0
// is the beginning. The epoch says which log: it is a new one when the log was
// lost, so that an old position is never taken for one of the new log.
type Position struct {
	Epoch  string
	Offset uint64
}

// String is the position as clients get it for an id: "epoch-offset".
func (p Position) String() string { return p.Epoch + "-" + strconv.FormatUint(p.Offset, 10) }

// ParsePosition reads what String writes, and nothing else.
func ParsePosition(s string) (Position, bool) {
	epoch, digits, ok := strings.Cut(s, "-")
	offset, err := strconv.ParseUint(digits, 10, 64)
	p := Position{epoch, offset}
	return p, ok && err == nil && epoch != "" && p.String() == s
}

// Publication is an event on its way into the log.
type Publication struct {
	Topics []string
	Event  sse.Event // its ID is set by the log
	// Store keeps the event for clients that come back. Without it the event has
	// no id, but its place in the order.
	Store bool
	// Ref comes back in the record, on every node, for the publisher to know it again. 0:
	// nobody waits.
	Ref uint64
}

// Record is a published event. It is shared by all who read it and never changes, but
// for the count of the queues in which its frame waits.
type Record struct {
	Offset uint64 // of this record, or, if it is not stored, of the last stored one before it
	Topics []string
	Frame  frame.Shared
	Stored bool
	Ref    uint64
	Seq    uint64 // in the order of all records, stored or not, of this node's log; from 1
}

// Engine keeps the log. It is safe for concurrent use.
type Engine interface {
	// Append adds to the log, durably as far as the engine goes, and returns the
	// event's position. After an error it is unknown whether it was added.
	// What one publisher appends, each after the return of the one before, is in
	// that order for every reader.
	Append(ctx context.Context, p Publication) (Position, error)

	// Log is what this node has of the log. It gets every record that any node
	// appended, in the one order that is the same for all, while Run runs. If the log
	// is lost, or this node has missed a part of it, another one replaces it.
	Log() *Log

	// Run keeps the log until ctx ends.
	Run(ctx context.Context) error
}

// Errors of Append, by which nothing was added.
var (
	ErrClosed      = errors.New("the broker is closed")
	ErrUnavailable = errors.New("the log is not there")
)
