package gateway

import (
	"context"

	"ssegateway/internal/broker"
)

// Backend is the application on whose behalf connections are held. For each connection it is called
// at most twice: asked at the start, and notified once at the end. Implementations are safe for
// concurrent use.
type Backend interface {
	// Connect asks whether a connection may open. It blocks until the backend has answered, the
	// callback has timed out, or ctx has ended, and is never retried. request is the JSON object
	// for the callback's field "request". client ends when the client leaves: if that is before the
	// backend was asked, it is not asked.
	Connect(ctx, client context.Context, token Token, request []byte) Answer

	// Disconnect takes over the duty to notify the backend that a connection ended. It never
	// blocks; the implementation retries.
	Disconnect(Notice)
}

// Notice says that a connection ended, and why.
type Notice struct {
	Token   Token
	Request []byte // as given to Connect; shared, so it must not be changed
	Reason  Reason
	Detail  Detail
}

// Permission is whether a node of a cluster may report the end of a connection to the backend.
type Permission uint8

const (
	// Granted: it may.
	Granted Permission = iota
	// Deferred: not before it is certain that no other node reports it.
	Deferred
	// Denied: it must not, since another node reports it.
	Denied
)

// Answer is the result of asking the backend.
type Answer struct {
	Outcome Outcome
	Status  int             // the HTTP status of the backend's answer; 0 if there was none
	Body    []byte          // with Accepted: what was received of the answer's body
	Header  []Field         // of the answer, for the client; small, without control characters
	Asked   broker.Position // of the log, before the backend was asked; zero: unknown
	Unsent  bool            // with TimedOut: the time ran out before anything was sent, so the backend cannot have received it
}

// Known reports whether the backend may know the connection, so that it has to be notified of the end.
func (a Answer) Known() bool {
	switch a.Outcome {
	case Accepted, Unanswered:
		return true
	case TimedOut:
		return !a.Unsent
	case Refused, Unreachable, Unasked:
	}
	return false
}

// Field is a field of an HTTP header.
type Field struct{ Name, Value string }

// Outcome classifies an Answer by what the gateway has to do.
type Outcome uint8

const (
	// Accepted: the backend answered 2xx.
	Accepted Outcome = iota + 1
	// Refused: the backend answered anything else.
	Refused
	// Unreachable: the backend cannot have received the callback (no connection was made).
	Unreachable
	// TimedOut: no answer in time; the backend may have received the callback.
	TimedOut
	// Unanswered: the connection broke before an answer; the backend may have received the callback.
	Unanswered
	// Unasked: the backend was not asked, since the client left before, or was told to come back
	// later.
	Unasked
)
