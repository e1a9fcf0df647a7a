package broker

import (
	"context"
	"encoding/binary"
	"errors"
	"time"
)

// Nodes connects a node to the others of a cluster: it has a key for each node, a record for
// each connection that a node holds, and messages between nodes. Keys and records are in one
// store with one order. If that is lost and made anew, it is another store, and Nodes that
// were opened on the old one fail with ErrStoreLost. It is safe for concurrent use.
type Nodes interface {
	// Age returns how long the store has existed. A record that is not in it may have been in
	// an earlier store, which was lost. The broker's clock measures the age up to the opening.
	Age() time.Duration
	// Set writes the key of a node if its last revision is the given one (0: there is
	// none), and returns the new one. Otherwise it fails with ErrConflict. After
	// any other error it is unknown whether the key was written.
	Set(ctx context.Context, node uint32, value []byte, last uint64) (revision uint64, err error)
	// Get returns a node's current key.
	Get(ctx context.Context, node uint32) (Key, error)
	// Remove removes the key under the same condition as Set. A trace of it stays for an hour.
	Remove(ctx context.Context, node uint32, last uint64) error
	// Watch calls f with every existing key, then with every change, in the order of
	// revisions, until ctx ends or an error occurs. A second call begins anew.
	Watch(ctx context.Context, f func(Key)) error

	// Hold writes the record of a connection that a node holds, if there is none. It
	// fails with ErrTaken if another node has taken the connection over. If another node made
	// the token, the record may use the storage that Reserve keeps.
	Hold(ctx context.Context, node uint32, token Token, request []byte) error
	// Release removes a record. On a store that was lost, both Release and Forget may return
	// nil, since it has no record.
	Release(ctx context.Context, node uint32, token Token) error
	// TakeOver removes a record, whether there is one or not, in the name of another
	// node, and leaves a trace of that for an hour. It reports whether the trace names
	// that node, and whether it was there before: only one node can take a record over,
	// however often it tries.
	TakeOver(ctx context.Context, node uint32, token Token, by uint32) (taken, before bool, err error)
	// Held calls f with the records of a node, until f fails. f may take long. Held fails if
	// no records come for some seconds, even if ctx allows more.
	Held(ctx context.Context, node uint32, f func(token Token, request []byte) error) error
	// Forget removes all records of a node, and their traces.
	Forget(ctx context.Context, node uint32) error

	// Reserve keeps storage for keys and for taking over, and fails with ErrFull if there is
	// no room beyond that. Call it at the start, and again while Full returns true.
	Reserve(ctx context.Context) error
	// Full reports whether a write has failed with ErrFull and no Reserve has succeeded
	// since. Meanwhile no record should be written.
	Full() bool

	// Ask sends a message to a node and waits for the answer. It fails with ErrNobody
	// if the node does not listen, and after any other error it is unknown whether
	// the node got the message.
	Ask(ctx context.Context, node uint32, message []byte) (answer []byte, err error)
	// Answer calls f, concurrently, for each message to a node, until stop is called.
	Answer(node uint32, f func(ctx context.Context, message []byte) []byte) (stop func(), err error)
	// MaxMessage returns how many bytes a message or an answer may have.
	MaxMessage() int
}

// Token names a connection. It begins with the number of the node that made it.
type Token = [16]byte

// NodeOf returns the number of the node that made a token.
func NodeOf(token Token) uint32 { return binary.BigEndian.Uint32(token[:]) }

// Key is a node's key in the store. Revision 0: there is neither a key nor a trace of one.
type Key struct {
	Node     uint32
	Revision uint64
	Value    []byte // nil: removed
}

// Errors of Nodes.
var (
	ErrConflict  = errors.New("the key has another revision")
	ErrTaken     = errors.New("another node has taken the record over")
	ErrStoreLost = errors.New("the store of the nodes was lost or made anew")
	ErrNobody    = errors.New("the node does not listen")
	ErrTooLarge  = errors.New("the message is larger than the broker accepts")
	// ErrUnsent is an error of Hold: the record was certainly not sent.
	ErrUnsent = errors.New("not sent to the broker")
	ErrFull   = errors.New("the broker's storage is full") // nothing was written
)
