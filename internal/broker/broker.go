// Package broker defines what nodes share: the log of published events ([Engine]) and the
// store of nodes and connections ([Nodes]). It has the engine for one node, in memory. Every
// engine passes the same suite (brokertest).
package broker

import (
	"context"
	"crypto/rand"
	"errors"
	"strconv"
	"strings"

	"ssegateway/internal/frame"
	"ssegateway/internal/repeats"
	"ssegateway/sse"
)

// Position is a place in a log: right after the record with that offset. Offset 0
// is the beginning. The epoch identifies the log. A log that replaces a lost one has a new
// epoch, so that an old position is never taken for one of the new log.
type Position struct {
	Epoch  string
	Offset uint64
}

// String returns the position as an event's id: "epoch-offset".
func (p Position) String() string {
	var space [32]byte
	return string(p.AppendTo(space[:0]))
}

// AppendTo appends the result of String.
func (p Position) AppendTo(dst []byte) []byte {
	dst = append(append(dst, p.Epoch...), '-')
	return strconv.AppendUint(dst, p.Offset, 10)
}

// ParsePosition parses the result of String. It returns false for anything else.
func ParsePosition(s string) (Position, bool) {
	epoch, digits, ok := strings.Cut(s, "-")
	offset, err := strconv.ParseUint(digits, 10, 64)
	p := Position{epoch, offset}
	return p, ok && err == nil && epoch != "" && p.String() == s
}

// NewEpoch returns the epoch of a new log: 10 characters, each one of A to Z and 2 to 7.
func NewEpoch() string { return rand.Text()[:epochLen] }

const epochLen = 10

// IsPosition reports whether a string has the form of a position of a log with an epoch by NewEpoch.
func IsPosition(s string) bool {
	p, ok := ParsePosition(s)
	return ok && len(p.Epoch) == epochLen && !strings.ContainsFunc(p.Epoch, func(c rune) bool {
		return (c < 'A' || 'Z' < c) && (c < '2' || '7' < c)
	})
}

// Publication is an event on its way into the log.
type Publication struct {
	Topics []string
	Event  sse.Event // its ID is set by the log
	// Store keeps the event for clients that reconnect. Without it the event has
	// no id, but still has its place in the order.
	Store bool
	// Retain keeps a stored event as the last of each topic and Key, beyond the bounds of the log, until another
	// takes its place or it is removed.
	Retain bool
	// Remove makes this a removal instead: of the retained event of each topic and Key, or with an empty Key of all
	// that the topics have. A removal has an offset, and its place in the order, but is delivered to nobody.
	Remove bool
	// Key distinguishes the retained events of a topic. It may be empty.
	Key string
	// Ref is in the record on every node, so that the publisher recognises it. 0: nobody
	// waits for it.
	Ref uint64
	// IdempotencyKey, if there is one, makes Append add the event only once: see [Engine]. Its bytes are
	// used again when Append has returned, so an engine keeps a clone.
	IdempotencyKey string
	// Digest is what publications with the same IdempotencyKey must have in common.
	Digest repeats.Digest
}

// Record is a published event. All readers share it. It never changes, except for the count of
// the queues in which its frame waits.
type Record struct {
	Offset  uint64   // of this record, or, if it is neither stored nor a removal, how far the log had come
	Topics  []string // none of a removal
	Frame   frame.Shared
	Stored  bool
	Removed uint32 // by a removal: how many retained events, each counted for each of its topics
	Ref     uint64
	Seq     uint64 // in the order of all records, stored or not, of this node's log; from 1
}

// Engine keeps the log. It is safe for concurrent use.
type Engine interface {
	// Append adds an event to the log, as durably as the engine can, and returns the
	// event's position. After an error it is unknown whether it was added, but for those below.
	// If a publisher appends one event after another has returned, every reader gets
	// them in that order.
	//
	// Where an event was added with the same IdempotencyKey within [KeyLife], Append adds
	// nothing. It returns ErrRepeated and that event's position, or ErrKeyReused if the Digest is
	// another one. While that event is being added Append waits for it. After an error of
	// unknown outcome a repeat adds the event only if it was not added.
	Append(ctx context.Context, p Publication) (Position, error)

	// Log returns this node's copy of the log. While Run runs it gets the records of all
	// nodes, in the same order on every node. If the log is lost, or this node has missed a
	// part of it, another Log replaces it.
	Log() *Log

	// Run keeps the log up to date until ctx ends.
	Run(ctx context.Context) error
}

// Selective is an Engine whose log has only the events of some topics: of those that are followed, and all that
// every node reads. Whoever reads the log for a topic follows it first.
type Selective interface {
	Engine

	// Follow has the log contain all that is kept of these topics, and from then on all that is added. When it
	// returns, the log has everything that was added to topics before the call which were not followed then, and has come to
	// the offset upto, if there is one. The topics are followed at least until release is called, and then until Prune.
	Follow(ctx context.Context, topics []string, upto uint64) (release func(), err error)

	// End returns the position of the log's end, which is not before anything that was added before the call.
	End(ctx context.Context) (Position, error)

	// Selects reports whether the log lacks topics that are not followed. It may have all of them for a while.
	Selects() bool

	// Prune gives up the topics that are not in use. used is called with a lock that Follow takes too.
	Prune(used func(topic string) bool)
}

// ErrUnread is returned by Append when the event was added, and this node does not read its topic.
var ErrUnread = errors.New("the event was added, and this node does not read its topic")

// Errors of Append after which certainly nothing was added.
var (
	ErrRepeated    = errors.New("the event was added before")
	ErrKeyReused   = repeats.ErrReused
	ErrClosed      = errors.New("the broker is closed")
	ErrUnavailable = errors.New("the log is unavailable")
	// ErrRetainedFull means that the event cannot be retained within the bound of all retained events.
	ErrRetainedFull = errors.New("there is no room for another retained event")
)
