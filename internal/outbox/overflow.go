package outbox

import "slices"

// Overflow is what happens when an outbox is full.
type Overflow uint8

const (
	// Disconnect cuts the connection (error, slow_consumer).
	Disconnect Overflow = iota
	// DropOldest drops the events that wait longest.
	DropOldest
	// Latest drops events that have a newer one of their name behind them, then the oldest.
	Latest
)

var overflowNames = [...]string{Disconnect: "disconnect", DropOldest: "drop_oldest", Latest: "latest"}

// String is the form in which the backend names it.
func (o Overflow) String() string { return overflowNames[o] }

// ParseOverflow reads what String writes.
func ParseOverflow(s string) (Overflow, bool) {
	i := slices.Index(overflowNames[:], s)
	return Overflow(max(i, 0)), i >= 0 //nolint:gosec // a few
}
