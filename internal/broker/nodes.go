package broker

import (
	"context"
	"encoding/binary"
	"errors"
	"time"
)

// Nodes is the port to the other nodes of a cluster: a key for each node, a record for
// each connection that a node holds, and messages. Keys and records are in one store
// with one order; if it is lost and made anew, it is another one, and what was opened
// on the old one fails with ErrStoreLost. It is safe for concurrent use.
type Nodes interface {
	// Age is for how long the store has been there: what it does not know may be known by
	// a store before it, which was lost. It is by the broker's clock up to the opening.
	Age() time.Duration
	// Set writes the key of a node where its last revision is as given (0: there is
	// none), and returns the new one. Otherwise it fails with ErrConflict, and after
	// any other error it is unknown whether the key was written.
	Set(ctx context.Context, node uint32, value []byte, last uint64) (revision uint64, err error)
	// Get is a node's key as it is now.
	Get(ctx context.Context, node uint32) (Key, error)
	// Remove is Set, but leaves nothing behind except a trace, for an hour.
	Remove(ctx context.Context, node uint32, last uint64) error
	// Watch calls f with every key there is, then with every change, in the order of
	// revisions, until ctx ends or something fails. Called again, it begins anew.
	Watch(ctx context.Context, f func(Key)) error

	// Hold writes the record of a connection that a node holds, if there is none. It
	// fails with ErrTaken where another node has taken it over. That of a token that another
	// node made may use what Reserve keeps.
	Hold(ctx context.Context, node uint32, token Token, request []byte) error
	// Release removes a record. On a store that was lost, where there is none, it may
	// answer nil, as may Forget.
	Release(ctx context.Context, node uint32, token Token) error
	// TakeOver removes a record, whether there is one or not, in the name of another
	// node, and leaves a trace of that for an hour. It answers whether the trace is of
	// that node: only one can take a record over, however often it tries.
	TakeOver(ctx context.Context, node uint32, token Token, by uint32) (taken bool, err error)
	// Held calls f with the records of a node, until f fails, which may take long. Where
	// no records come for some seconds it fails, whatever ctx allows.
	Held(ctx context.Context, node uint32, f func(token Token, request []byte) error) error
	// Forget removes all records of a node, and traces.
	Forget(ctx context.Context, node uint32) error

	// Reserve keeps storage for keys and for taking over, and fails with ErrFull where there
	// is no more room than that. It is to be called at first, and repeated while Full.
	Reserve(ctx context.Context) error
	// Full says that something was not written, by ErrFull, and no Reserve was a success
	// since: no record is to be written.
	Full() bool

	// Ask sends a message to a node and waits for the answer. It fails with ErrNobody
	// if the node does not listen, and after any other error it is unknown whether
	// the node got the message.
	Ask(ctx context.Context, node uint32, message []byte) (answer []byte, err error)
	// Answer lets f answer what a node is asked, many at once, until stop is called.
	Answer(node uint32, f func(ctx context.Context, message []byte) []byte) (stop func(), err error)
	// MaxMessage is the most bytes that a message or an answer may have.
	MaxMessage() int
}

// Token names a connection. It begins with the number of the node that made it.
type Token = [16]byte

// NodeOf is the number of the node that made a token.
func NodeOf(token Token) uint32 { return binary.BigEndian.Uint32(token[:]) }

// Key is a node's, as it is in the store. Revision 0: there is none, nor a trace of one.
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
	ErrTooLarge  = errors.New("the message is larger than the broker takes")
	// ErrUnsent is an error of Hold: the record was certainly not sent.
	ErrUnsent = errors.New("not sent to the broker")
	ErrFull   = errors.New("the broker's storage is full") // nothing was written
)
