package gateway

import (
	"errors"
	"fmt"
)

// Result is the result of a send.
type Result uint8

const (
	// Sent: written, or queued in order behind what could not be written yet.
	Sent Result = iota + 1
	// Buffered: the connection is pending; the frame is written when it opens.
	Buffered
	// Gone: the connection is closed, or was never there.
	Gone
	// Full: the buffer of a pending connection is full; nothing was kept.
	Full
	// Failed: the frame could not be written, and the connection has ended because of that.
	Failed
	// Relayed: the backend itself writes this stream; nothing was done.
	Relayed
)

// Errors for the waiter of an event that was not written. The others are of the kind ErrNotWritten.
var (
	// ErrNotWritten: the connection ended first.
	ErrNotWritten = errors.New("the event was not written")
	// ErrLeft: it ended because the client left.
	ErrLeft = fmt.Errorf("%w: the client has left", ErrNotWritten)
	// ErrDropped: the overflow policy dropped the event. The connection goes on.
	ErrDropped = fmt.Errorf("%w: the overflow policy dropped it", ErrNotWritten)
)
