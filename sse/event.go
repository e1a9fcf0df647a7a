package sse

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxIDLen is the longest id that [NewID] takes, in bytes. Clients send it back
// in the Last-Event-ID header at every reconnect.
const MaxIDLen = 128

// Event is one event. The zero value is an unnamed event with empty data.
type Event struct {
	Name  Name
	ID    ID
	Retry Retry
	Data  string // any line ends; see the package comment
}

// Name is the type of an event. The zero value is no name, which clients
// dispatch as "message".
//
// A Name never holds CR or LF. One made by [NewName] is valid UTF-8 without any
// control character; one read by a [Decoder] may hold the other controls.
type Name struct{ s string }

// NewName refuses control characters and invalid UTF-8. The empty string gives
// the zero Name.
func NewName(s string) (Name, error) {
	if !utf8.ValidString(s) {
		return Name{}, errors.New("sse: event name is not valid UTF-8")
	}
	if strings.ContainsFunc(s, unicode.IsControl) {
		return Name{}, errors.New("sse: event name contains a control character")
	}
	return Name{s}, nil
}

func (n Name) String() string { return n.s }

// ID is what a client remembers as its last event id. The zero value is no id,
// which leaves the client's as it is; an ID that is set but empty resets it, so
// that the client's next request has no Last-Event-ID header.
//
// An ID never holds CR, LF or NUL. One made by [NewID] has at most [MaxIDLen]
// bytes; one read by a [Decoder] may be longer.
type ID struct {
	s   string
	set bool
}

// NewID refuses CR, LF, NUL, invalid UTF-8 and more than [MaxIDLen] bytes. The
// result is set, even where s is empty.
func NewID(s string) (ID, error) {
	if len(s) > MaxIDLen {
		return ID{}, fmt.Errorf("sse: event id is over %d bytes", MaxIDLen)
	}
	if !utf8.ValidString(s) {
		return ID{}, errors.New("sse: event id is not valid UTF-8")
	}
	if strings.ContainsAny(s, "\r\n\x00") {
		return ID{}, errors.New("sse: event id contains CR, LF or NUL")
	}
	return ID{s, true}, nil
}

func (id ID) String() string { return id.s }

// IsSet reports whether there is an id, which may be empty.
func (id ID) IsSet() bool { return id.set }

// Retry is the time after which a client reconnects. The zero value is no
// retry, which leaves the client's as it is; [RetryMillis](0) means at once.
type Retry struct {
	ms  uint64
	set bool
}

// RetryMillis returns a reconnection time in whole milliseconds. Any value is valid
// on the wire.
func RetryMillis(ms uint64) Retry { return Retry{ms, true} }

// Millis returns the reconnection time, or 0 if none is set.
func (r Retry) Millis() uint64 { return r.ms }

// IsSet reports whether there is a retry, which may be 0.
func (r Retry) IsSet() bool { return r.set }
