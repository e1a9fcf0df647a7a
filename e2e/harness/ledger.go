package harness

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// Fate is how a connect callback ended, as the backend knows.
type Fate int

// The fates.
const (
	Asked      Fate = iota // it is not answered yet
	Accepted               // a whole 2xx went out
	Refused                // another whole answer went out
	Unanswered             // no whole answer went out in time: the gateway has to reckon with a 2xx
)

func (f Fate) String() string {
	return [...]string{"not answered", "accepted", "refused", "without an answer"}[f]
}

// Ledger is what a backend knows of connections by callbacks alone. It knows at every moment which tokens the
// backend has to believe open, and notes every callback that the contract does not allow. A backend records in it
// what it is asked and told, and what it answers before the answer goes out. All methods may be called at the same time.
type Ledger struct {
	// Timeout is what a connect callback has. Within half of it, which leaves time for a busy machine, no gateway gives up.
	Timeout time.Duration

	mu       sync.Mutex
	accounts map[string]*account
	fates    [Unanswered + 1]int
	tellings int
	lost     int // connect callbacks that may have been lost on their way into the backend
	wrong    []string
}

// account is what is known of one connection.
type account struct {
	asked, answered time.Time // zero: not yet
	connectID       string
	fate            Fate

	told       time.Time // first; zero: not yet
	id, reason string    // of the first
	taken      bool      // the backend has acknowledged that
}

// Lose says that up to n connect callbacks may be lost on their way into the backend, which leaves. The gateway has to reckon
// with a 2xx of each.
func (l *Ledger) Lose(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lost += n
}

// Ask records a connect callback with its webhook-id.
func (l *Ledger) Ask(token, id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.accountLocked(token)
	if !a.asked.IsZero() {
		l.failLocked("token %s: asked about again", token)
		return
	}
	a.asked, a.connectID = time.Now(), id
	l.fates[Asked]++
}

// Answer records how the connect callback of a token ends. It is called before the answer goes out.
func (l *Ledger) Answer(token string, fate Fate) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.accountLocked(token)
	l.fates[a.fate]--
	l.fates[fate]++
	a.fate, a.answered = fate, time.Now()
}

// Tell records an attempt to tell of an end.
func (l *Ledger) Tell(token, id, reason, detail string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tellings++
	a := l.accountLocked(token)
	timedOut, broken := detail == "connect_timeout", detail == "connect_unanswered"
	waited := a.answered.Sub(a.asked)
	if a.answered.IsZero() {
		waited = time.Since(a.asked)
	}
	switch {
	case a.asked.IsZero():
		if !a.told.IsZero() {
			break // a repeat
		}
		if l.lost--; l.lost < 0 || !timedOut && !broken && reason != "client_closed" {
			l.failLocked("token %s: told of its end (%s %s), and never asked about it", token, reason, detail)
		}
	case timedOut && a.fate != Unanswered && waited < l.Timeout/2:
		l.failLocked("token %s: told as %s, and was %s within %v", token, detail, a.fate, waited)
	case timedOut:
	case a.fate == Asked && !broken && waited < l.Timeout/2: // later the gateway has given up
		l.failLocked("token %s: told of its end (%s %s) before its connect was answered", token, reason, detail)
	case a.fate == Refused:
		l.failLocked("token %s: told of its end (%s %s), and was refused", token, reason, detail)
	case a.fate == Accepted && broken:
		l.failLocked("token %s: told as %s, and was accepted", token, detail)
	case a.fate == Unanswered && !broken && reason != "client_closed":
		l.failLocked("token %s: told as %s %s, and was never answered", token, reason, detail)
	}
	switch said := reason + " " + detail; {
	case id == "" || id == a.connectID:
		l.failLocked("token %s: its end has the webhook-id %q, its connect had %q", token, id, a.connectID)
	case a.told.IsZero():
		a.told, a.id, a.reason = time.Now(), id, said
	case a.taken:
		l.failLocked("token %s: told again of its end, which was acknowledged", token)
	case a.id != id || a.reason != said:
		l.failLocked("token %s: told of its end as %q (%s), and before as %q (%s)", token, said, id, a.reason, a.id)
	}
}

// Take records that the backend acknowledges the end of a token. It is called before that goes out.
func (l *Ledger) Take(token string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.accountLocked(token).taken = true
}

func (l *Ledger) accountLocked(token string) *account {
	a := l.accounts[token]
	if a == nil {
		if l.accounts == nil {
			l.accounts = map[string]*account{}
		}
		a = &account{}
		l.accounts[token] = a
	}
	return a
}

func (l *Ledger) failLocked(format string, args ...any) {
	if len(l.wrong) < 20 {
		l.wrong = append(l.wrong, fmt.Sprintf(format, args...))
	}
}

// Hold holds the ledger against the tokens that the gateway lists, with their states. begun is when it was asked for
// the list. What it lists as open was accepted, and the backend was not told of its end before.
func (l *Ledger) Hold(listed map[string]string, begun time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for token, state := range listed {
		a := l.accounts[token]
		switch {
		case a == nil && state == "pending": // it waits for its turn
		case a == nil || state == "open" && a.fate != Accepted:
			l.failLocked("token %s: listed as %s, and was not accepted", token, state)
		case !a.told.IsZero() && a.told.Before(begun):
			l.failLocked("token %s: listed as %s, and its end was told before", token, state)
		}
	}
}

// Open returns the tokens that the backend has to believe open: it has accepted them, and has acknowledged no end.
func (l *Ledger) Open() map[string]bool {
	return l.tokens(func(a *account) bool { return a.fate == Accepted && !a.taken })
}

// Owed returns the tokens whose end is still to be told: those that are open, and those that the gateway has to take for accepted.
func (l *Ledger) Owed() map[string]bool {
	return l.tokens(func(a *account) bool { return (a.fate == Accepted || a.fate == Unanswered) && !a.taken })
}

func (l *Ledger) tokens(chosen func(*account) bool) map[string]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	tokens := map[string]bool{}
	for token, a := range l.accounts {
		if chosen(a) {
			tokens[token] = true
		}
	}
	return tokens
}

// Fate returns how the connect callback of a token ended. ok is false for a token that the backend was never asked about.
func (l *Ledger) Fate(token string) (fate Fate, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.accounts[token]
	if a == nil || a.asked.IsZero() {
		return Asked, false
	}
	return a.fate, true
}

// Count returns how many connects had that fate so far.
func (l *Ledger) Count(fate Fate) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fates[fate]
}

// Connects returns how many connects the backend was asked about so far.
func (l *Ledger) Connects() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, count := range l.fates {
		n += count
	}
	return n
}

// Tellings returns how often the backend was told of an end so far, repeats included.
func (l *Ledger) Tellings() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tellings
}

// Ends returns how many tokens' ends were told, by reason and detail with a blank between.
func (l *Ledger) Ends() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	ends := map[string]int{}
	for _, a := range l.accounts {
		if !a.told.IsZero() {
			ends[strings.TrimSuffix(a.reason, " ")]++
		}
	}
	return ends
}

// Wrong returns what the contract does not allow, the first 20.
func (l *Ledger) Wrong() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.wrong...)
}
