package gateway

import "slices"

// Reason is why a connection ended, as the backend sees it. The set is closed: Details distinguish
// further.
type Reason uint8

const (
	// ClientClosed: the client went away (FIN, half-close, RST, HTTP/2 reset).
	ClientClosed Reason = iota + 1
	// ServerClosed: the backend asked for it, or the gateway is shutting down.
	ServerClosed
	// Error: a write failure, a slow consumer, a lost peer, any other fault.
	Error
)

var reasonNames = [...]string{ClientClosed: "client_closed", ServerClosed: "server_closed", Error: "error"}

// String returns the form used in callbacks, logs and metrics.
func (r Reason) String() string { return reasonNames[r] }

// Reasons lists every Reason, for the metrics.
func Reasons() []Reason { return []Reason{ClientClosed, ServerClosed, Error} }

// Detail says more about a Reason. The zero Detail is none.
type Detail uint8

const (
	// Draining: the gateway is shutting down (server_closed).
	Draining Detail = iota + 1
	// MaxAge: the stream is as old as the backend lets it become (server_closed).
	MaxAge
	// SlowConsumer: what waited for the client exceeded its queue or the budget of all queues (error).
	SlowConsumer
	// Stalled: the client took not one byte for the stall deadline while bytes waited (error).
	Stalled
	// UnexpectedData: the client sent bytes after its request (error).
	UnexpectedData
	// WriteFailed: the socket refused a write (error).
	WriteFailed
	// ConnectionLost: the network reports the client as unreachable (error).
	ConnectionLost
	// ConnectTimeout: the connect callback was not answered in time; its outcome is unknown (error).
	ConnectTimeout
	// ConnectUnanswered: the connect callback's connection broke before an answer; its outcome is unknown (error).
	ConnectUnanswered
	// OpenFailed: the stream could not be set up after the backend had accepted it (error).
	OpenFailed
	// GatewayLost: the node that held the connection died, or was cut off for so long that other
	// nodes took it for dead (error).
	GatewayLost
)

var detailNames = [...]string{
	0: "", Draining: "draining", MaxAge: "max_age", SlowConsumer: "slow_consumer", Stalled: "stalled",
	UnexpectedData: "unexpected_data", WriteFailed: "write_failed", ConnectionLost: "connection_lost", ConnectTimeout: "connect_timeout",
	ConnectUnanswered: "connect_unanswered", OpenFailed: "open_failed", GatewayLost: "gateway_lost",
}

// String returns the form used in callbacks and logs; it is empty for the zero Detail.
func (d Detail) String() string { return detailNames[d] }

// ParseEnd parses the results of Reason.String and Detail.String.
func ParseEnd(reason, detail string) (Reason, Detail, bool) {
	r, d := slices.Index(reasonNames[:], reason), slices.Index(detailNames[:], detail)
	return Reason(max(r, 0)), Detail(max(d, 0)), r > 0 && d >= 0 //nolint:gosec // indices of short arrays
}
