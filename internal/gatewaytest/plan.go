package gatewaytest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"ssegateway/internal/gateway"
)

// Plan is everything that is to happen to one connection. Its times are in ticks, whose
// length the test chooses. Actions with the same tick happen concurrently.
type Plan struct {
	Begin    int // the client's request
	AskAt    int // when its connect has its turn
	Answer   gateway.Answer
	AnswerAt int
	OpenAt   int
	Opening  Opening
	Senders  [][]Step // each a goroutine
	Client   []Act
}

// Step is something sent.
type Step struct {
	At        int
	Size      int // of the event's filler; negative for no event
	End, Wait bool
}

// Opening is the outcome of the attempt to open the stream.
type Opening uint8

// The openings.
const (
	Opens Opening = iota
	GivenUp
	StartFails
)

// Act is a deed of the client and its time.
type Act struct {
	At   int
	Deed Deed
}

// Deed is what a client does.
type Deed uint8

// The deeds. A client that pauses stops reading until it hurries; one that hangs
// never reads again.
const (
	FIN Deed = iota + 1
	RST
	Byte
	Pause
	Hurry
	Hang
)

var deedNames = [...]string{FIN: "FIN", RST: "RST", Byte: "byte", Pause: "pause", Hurry: "hurry", Hang: "hang"}

func (d Deed) String() string { return deedNames[d] }

// Scope bounds what plans may hold.
type Scope struct {
	Ticks   int  // the last tick at which a connection begins
	Size    int  // of the largest filler
	MayLast bool // the connection need not end by itself
	Hangs   bool // the client may stop reading for good
	Opening bool // the opening may fail
	Unknown bool // the answer to the connect may be anything but accepted
}

// NewPlan makes a plan. Unless it MayLast, it ends its connection.
func (o Scope) NewPlan(r *rand.Rand) Plan {
	p := Plan{Begin: r.IntN(o.Ticks + 1), Answer: gateway.Answer{Outcome: gateway.Accepted, Status: 200}}
	p.AskAt = p.Begin + soon(r)
	p.AnswerAt = p.AskAt + soon(r)
	p.OpenAt = p.AnswerAt
	if r.IntN(3) == 0 {
		p.OpenAt += soon(r)
	}
	if o.Unknown && r.IntN(6) == 0 {
		p.Answer = [...]gateway.Answer{
			{Outcome: gateway.Refused, Status: 403},
			{Outcome: gateway.Unreachable},
			{Outcome: gateway.TimedOut},
			{Outcome: gateway.TimedOut, Unsent: true},
			{Outcome: gateway.Unanswered},
		}[r.IntN(5)]
	}
	if o.Opening && r.IntN(20) == 0 {
		p.Opening = GivenUp + Opening(r.IntN(2))
	}
	for range 1 + r.IntN(3) {
		p.Senders = append(p.Senders, o.steps(r, p.Begin))
	}
	if r.IntN(8) == 0 {
		at := p.Begin + soon(r)
		p.Client = append(p.Client, Act{at, Pause}, Act{at + soon(r), Hurry})
	}
	if o.MayLast && r.IntN(3) == 0 {
		return p
	}
	for range 1 + r.IntN(2) {
		o.addEnd(r, &p)
	}
	slices.SortStableFunc(p.Client, func(a, b Act) int { return a.At - b.At })
	return p
}

// soon returns a random number of ticks, often 0, so that many actions are concurrent.
func soon(r *rand.Rand) int {
	if r.IntN(2) == 0 {
		return 0
	}
	return r.IntN(5)
}

func (o Scope) steps(r *rand.Rand, at int) []Step {
	var steps []Step
	for range 1 + r.IntN(4) {
		at += soon(r)
		s := Step{At: at, Size: r.IntN(60), Wait: r.IntN(3) == 0, End: r.IntN(24) == 0}
		switch r.IntN(12) {
		case 0:
			s.Size = -1
		case 1, 2, 3:
			s.Size = r.IntN(o.Size)
		}
		steps = append(steps, s)
	}
	return steps
}

// addEnd adds an action that ends the connection.
func (o Scope) addEnd(r *rand.Rand, p *Plan) {
	at := p.Begin + 1 + soon(r) + soon(r)
	client := func(deeds ...Deed) {
		for _, d := range deeds {
			p.Client = append(p.Client, Act{at, d})
		}
	}
	switch n := r.IntN(10); {
	case n < 4: // a bare close, so that a full buffer does not refuse it; sometimes two at once
		for range 1 + r.IntN(2) {
			p.Senders = append(p.Senders, []Step{{At: at, Size: -1, End: true}})
		}
	case n < 6:
		client(FIN)
	case n < 7:
		client(RST)
	case n < 8:
		client(Byte)
	case n < 9 || !o.Hangs:
		client(Byte, FIN)
	default:
		client(Hang)
	}
}

// String returns the plan as text.
func (p Plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "plan: begin at %d, asked at %d, answer %+v at %d, open %d at %d\n", p.Begin, p.AskAt, p.Answer, p.AnswerAt, p.Opening, p.OpenAt)
	for i, steps := range p.Senders {
		for _, s := range steps {
			fmt.Fprintf(&b, "  sender %d at %d: size %d end %v wait %v\n", i, s.At, s.Size, s.End, s.Wait)
		}
	}
	for _, a := range p.Client {
		fmt.Fprintf(&b, "  client at %d: %v\n", a.At, a.Deed)
	}
	return b.String()
}
