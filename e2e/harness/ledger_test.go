package harness

import (
	"strings"
	"testing"
	"time"
)

// The ledger finds what it exists for.
func TestLedger(t *testing.T) {
	ask := func(l *Ledger) { l.Ask("a", "a-connect") }
	answer := func(f Fate) func(*Ledger) { return func(l *Ledger) { l.Answer("a", f) } }
	tell := func(reason, detail string) func(*Ledger) {
		return func(l *Ledger) { l.Tell("a", "a-disconnect", reason, detail) }
	}
	take := func(l *Ledger) { l.Take("a") }
	listed := func(state string) func(*Ledger) {
		return func(l *Ledger) { l.Hold(map[string]string{"a": state}, time.Now().Add(time.Nanosecond)) }
	}
	left := tell("client_closed", "")
	for _, test := range []struct {
		name string
		do   []func(*Ledger)
		want string // part of what is wrong; empty: nothing is
	}{
		{"a life", []func(*Ledger){ask, listed("pending"), answer(Accepted), listed("open"), left, take}, ""},
		{"one that waits for its turn", []func(*Ledger){listed("pending")}, ""},
		{"a repeat", []func(*Ledger){ask, answer(Accepted), left, left, take}, ""},
		{"no answer", []func(*Ledger){ask, answer(Unanswered), tell("error", "connect_unanswered"), take}, ""},
		{"lost on its way", []func(*Ledger){func(l *Ledger) { l.Lose(1) }, tell("error", "connect_unanswered"), take}, ""},
		{"asked twice", []func(*Ledger){ask, ask}, "asked about again"},
		{"told of one not asked about", []func(*Ledger){left}, "never asked"},
		{"told before the answer", []func(*Ledger){ask, left}, "before its connect was answered"},
		{"told of a refused one", []func(*Ledger){ask, answer(Refused), left}, "was refused"},
		{"told at once that it timed out", []func(*Ledger){ask, answer(Accepted), tell("error", "connect_timeout")}, "was accepted within"},
		{"told that it broke", []func(*Ledger){ask, answer(Accepted), tell("error", "connect_unanswered")}, "was accepted"},
		{"told as open", []func(*Ledger){ask, answer(Unanswered), tell("error", "stalled")}, "never answered"},
		{"told again", []func(*Ledger){ask, answer(Accepted), left, take, left}, "acknowledged"},
		{"another reason", []func(*Ledger){ask, answer(Accepted), left, tell("error", "stalled")}, "and before as"},
		{"another id", []func(*Ledger){ask, answer(Accepted), left, func(l *Ledger) { l.Tell("a", "b", "client_closed", "") }}, "and before as"},
		{"the id of the connect", []func(*Ledger){ask, answer(Accepted), func(l *Ledger) { l.Tell("a", "a-connect", "client_closed", "") }}, "webhook-id"},
		{"listed and never asked about", []func(*Ledger){listed("open")}, "was not accepted"},
		{"listed and refused", []func(*Ledger){ask, answer(Refused), listed("open")}, "was not accepted"},
		{"listed and ended", []func(*Ledger){ask, answer(Accepted), left, listed("open")}, "told before"},
	} {
		l := &Ledger{Timeout: time.Hour}
		for _, do := range test.do {
			do(l)
		}
		got := strings.Join(l.Wrong(), "; ")
		if (got == "") != (test.want == "") || !strings.Contains(got, test.want) {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

func TestLedgerBelieves(t *testing.T) {
	l := &Ledger{Timeout: time.Hour}
	for token, fate := range map[string]Fate{"accepted": Accepted, "refused": Refused, "unanswered": Unanswered, "told": Accepted, "ended": Accepted} {
		l.Ask(token, token+"-connect")
		l.Answer(token, fate)
	}
	l.Tell("told", "t", "client_closed", "")
	l.Tell("ended", "e", "client_closed", "")
	l.Take("ended")
	if open := l.Open(); len(open) != 2 || !open["accepted"] || !open["told"] {
		t.Errorf("open: %v", open)
	}
	if owed := l.Owed(); len(owed) != 3 || !owed["unanswered"] {
		t.Errorf("owed: %v", owed)
	}
	if n := l.Ends()["client_closed"]; n != 2 || l.Connects() != 5 || l.Count(Accepted) != 3 || l.Tellings() != 2 {
		t.Errorf("%d ends, %d connects, %d accepted, %d tellings", n, l.Connects(), l.Count(Accepted), l.Tellings())
	}
}
