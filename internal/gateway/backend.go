package gateway

import "context"

// Backend is the application on whose behalf connections are held. It is told of
// each connection twice at most: asked at the start, told once of the end.
// Implementations are safe for concurrent use.
type Backend interface {
	// Connect asks whether a connection may open. It blocks until the backend
	// answered, the callback timed out, or ctx ended, and is never retried.
	// request is the JSON object of the callback's field "request". client ends when
	// the client leaves: the backend is not asked any more about a client that left
	// before it was asked.
	Connect(ctx, client context.Context, token Token, request []byte) Answer

	// Disconnect takes over the duty to tell the backend that a connection
	// ended. It never blocks; retries are the implementation's business.
	Disconnect(Notice)
}

// Notice says that a connection ended, and why.
type Notice struct {
	Token   Token
	Request []byte // as given to Connect; shared, not to be changed
	Reason  Reason
	Detail  Detail
}

// Permission says whether a node of a cluster may tell the backend of the end of a
// connection.
type Permission uint8

const (
	// Granted: it may.
	Granted Permission = iota
	// Deferred: not before it is certain that no other node does.
	Deferred
	// Denied: it must not, since it is another node's to tell.
	Denied
)

// Answer is what came of asking the backend.
type Answer struct {
	Outcome Outcome
	Status  int     // the HTTP status of the backend's answer; 0 if there was none
	Body    []byte  // with Accepted: the body of the answer, as far as it came
	Header  []Field // of the answer, for the client; small, without control characters
	Unsent  bool    // with TimedOut: the time ran out before anything was sent, so the backend cannot have received it
}

// Field is a field of an HTTP header.
type Field struct{ Name, Value string }

// Outcome classes an Answer by what the gateway has to do.
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
	// Unasked: the backend was not asked, since the client left before, or is to come back.
	Unasked
)
