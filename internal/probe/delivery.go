package probe

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"ssegateway/sse"
)

// eventName is the name of the probe's events, which no page listens for.
const eventName = "ssegateway-probe"

const (
	pairs      = 24 // of events: the first ones are acknowledged at once by any client's system
	burst      = 50 // events right behind each other
	largeEvent = 100_000
)

// difficult is data that careless proxies change: line ends, blanks, an empty line, a byte order mark, and more than ASCII.
const difficult = "\n  two blanks in front, two behind  \n\ttab\n:colon\ndata: field\n\n\ufeffé ü 漢字 🙂 \\u0041 &amp; <b>\x7f\x00|"

// next returns the next event, which has this data behind its first line.
func (p *prober) next(data string) (e event, begin string) {
	p.events++
	begin = p.nonce + "-" + strconv.Itoa(p.events)
	return event{eventName, begin + data}, begin
}

// hasBegin reports whether the first line of data, up to a blank, is begin.
func hasBegin(data, begin string) bool {
	rest, ok := strings.CutPrefix(data, begin)
	return ok && (rest == "" || rest[0] == '\n' || rest[0] == ' ')
}

// unwrap returns the data and the name that were sent, also of an event in an envelope.
func unwrap(e sse.Event) (data, name string) {
	data, name = payload(e)
	var text string
	if name != e.Name.String() && json.Unmarshal([]byte(data), &text) == nil {
		return text, name
	}
	return data, name
}

// payload returns the data of an event, and of one in an envelope the JSON of its payload, and the name.
func payload(e sse.Event) (data, name string) {
	var envelope struct {
		Type    string         `json:"type"`
		Payload jsontext.Value `json:"payload"`
	}
	if e.Name.String() == "" && strings.HasPrefix(e.Data, `{"type"`) && json.Unmarshal([]byte(e.Data), &envelope) == nil {
		return string(envelope.Payload), envelope.Type
	}
	return e.Data, e.Name.String()
}

// delivery sends events of several kinds. It reports whether they come promptly enough for the other checks.
func (p *prober) delivery(ctx context.Context, s *stream) (prompt bool, err error) {
	first, begin := p.next("")
	if err := p.send(ctx, s.conn.Token, first, true); err != nil {
		return false, err
	}
	sent := time.Now()
	if _, ok := s.get(ctx, begin, patience+p.trip); !ok {
		return false, p.overdue(ctx, s, begin, sent)
	}
	complete, err := p.delays(ctx, s)
	if err == nil && complete {
		err = p.contents(ctx, s)
	}
	return err == nil && s.isOpen(), err
}

// overdue says what became of an event that did not come in time.
func (p *prober) overdue(ctx context.Context, s *stream, begin string, sent time.Time) error {
	if s.isOpen() {
		if a, ok := s.get(ctx, begin, patience); ok {
			p.found(Delayed, fmt.Sprintf("an event came after %v over %s", a.at.Sub(sent).Round(time.Millisecond), s.version.name))
			return nil
		}
	}
	what := "an event"
	if s.answered() == nil {
		what = "the head of the answer"
	}
	return p.heldBack(ctx, s, begin, what, HeldBack)
}

// heldBack finds out what makes an event come that did not: more bytes, or the end of the stream. never is the finding
// if nothing does.
func (p *prober) heldBack(ctx context.Context, s *stream, begin, what string, never ID) error {
	const most = 512 << 10
	total := 0
	for size := 1 << 10; total < most && s.isOpen(); size *= 2 {
		pad, _ := p.next(" " + strings.Repeat("x", size))
		if err := p.send(ctx, s.conn.Token, pad, false); err != nil {
			return err
		}
		total += size
		if _, ok := s.get(ctx, begin, p.trip+300*time.Millisecond); ok {
			p.found(HeldBack, fmt.Sprintf("%s came only when up to %d KiB more were sent, over %s", what, total>>10, s.version.name))
			return nil
		}
	}
	if err := s.ended(); err != nil {
		p.found(EventsCut, fmt.Sprintf("%s did not come, and the stream ended, %s, over %s", what, endOf(err), s.version.name))
		return nil
	}
	if err := p.end(ctx, s.conn.Token); err != nil {
		return err
	}
	if _, ok := s.get(ctx, begin, patience); ok {
		p.found(HeldBack, fmt.Sprintf("%s came only at the end of the stream, and not for %d KiB more, over %s", what, total>>10, s.version.name))
		return nil
	}
	p.found(never, fmt.Sprintf("%s did not come, not for %d KiB more and not at the end of the stream, over %s", what, total>>10, s.version.name))
	return nil
}

// delays sends events in pairs, of which the second is right behind the first. It reports whether all have come.
func (p *prober) delays(ctx context.Context, s *stream) (complete bool, err error) {
	var firsts, seconds, trips []time.Duration
	joined := 0
	transport := p.transport(s.version)
	defer transport.CloseIdleConnections()
	for i := range pairs {
		var came [2]arrival
		var begins [2]string
		var sent [2]time.Time
		for j := range begins {
			var e event
			e, begins[j] = p.next("")
			sent[j] = time.Now()
			if err := p.send(ctx, s.conn.Token, e, false); err != nil {
				return false, err
			}
		}
		for j, begin := range begins {
			a, ok := s.get(ctx, begin, 2*patience+p.trip)
			if err := s.ended(); !ok && err != nil {
				p.found(LifeCut, fmt.Sprintf("a stream ended after %v, while events were sent (%s)", s.snapshot().endedAt.Sub(s.begun).Round(100*time.Millisecond), endOf(err)))
				return false, nil
			}
			if !ok {
				p.found(EventsLost, fmt.Sprintf("an event did not come within %v over %s", 2*patience, s.version.name))
				return false, nil
			}
			came[j] = a
		}
		firsts, seconds = append(firsts, came[0].at.Sub(sent[0])), append(seconds, came[1].at.Sub(sent[1]))
		if len(trips) == i {
			if took, err := p.head(ctx, transport); err == nil {
				trips = append(trips, took)
			}
		}
		if came[0].read == came[1].read {
			joined++
		}
		if err := wait(ctx, pairGap); err != nil {
			return false, err
		}
	}
	p.measured("delay", fmt.Sprintf("%v, half of the events; a short request and its answer take %v (%s)",
		quantile(firsts, 2).Round(10*time.Microsecond), p.trip.Round(10*time.Microsecond), s.version.name))
	// Three quarters of the second half come late, and requests that were made between them do not: that is no accident.
	trip := p.trip
	if len(trips) == pairs {
		trip = max(trip, quantile(trips[pairs/2:], 2))
	}
	slow := max(quantile(firsts[pairs/2:], 4), quantile(seconds[pairs/2:], 4)) - trip
	if slow < late {
		return true, nil
	}
	detail := fmt.Sprintf("events come %v late over %s", slow.Round(time.Millisecond), s.version.name)
	if joined > pairs/2 {
		detail += ", and two that were sent one after the other come together"
	}
	p.found(Delayed, detail)
	return true, nil
}

// quantile returns the value that one nth of them do not exceed.
func quantile(values []time.Duration, n int) time.Duration {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/n]
}

// contents sends what is difficult or large, and then many, and looks whether it comes as it was sent.
func (p *prober) contents(ctx context.Context, s *stream) error {
	for _, c := range []struct{ what, data string }{
		{"an event with lines, blanks and other than ASCII", difficult},
		{"an event of 100 kB", " " + strings.Repeat("0123456789", largeEvent/10)},
	} {
		e, begin := p.next(c.data)
		if err := p.send(ctx, s.conn.Token, e, false); err != nil {
			return err
		}
		a, ok := s.getLarge(ctx, begin)
		if !ok {
			return p.heldBack(ctx, s, begin, c.what, EventsCut)
		}
		if data, name := unwrap(a.event); data != e.Data || name != eventName {
			p.found(EventsChanged, fmt.Sprintf("%s came as %s over %s", c.what, difference(data, e.Data), s.version.name))
		}
	}
	begins := make([]string, burst)
	for i := range begins {
		var e event
		e, begins[i] = p.next("")
		if err := p.send(ctx, s.conn.Token, e, false); err != nil {
			return err
		}
	}
	s.getLarge(ctx, begins[burst-1])
	return p.order(s, begins)
}

// order looks whether events came once each, in the order of these beginnings.
func (p *prober) order(s *stream, begins []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var got []string
	for _, a := range s.arrivals {
		if data, _ := unwrap(a.event); slices.Contains(begins, data) {
			got = append(got, data)
		}
	}
	switch missing := len(begins) - len(slices.Compact(slices.Sorted(slices.Values(got)))); {
	case missing > 0:
		p.found(EventsLost, fmt.Sprintf("%d of %d events did not come over %s", missing, len(begins), s.version.name))
	case !slices.Equal(got, begins):
		p.found(EventsChanged, fmt.Sprintf("%d events came in another order, or more than once, over %s", len(begins), s.version.name))
	}
	return nil
}

// difference says where two texts differ first.
func difference(got, want string) string {
	at := 0
	for at < len(got) && at < len(want) && got[at] == want[at] {
		at++
	}
	return fmt.Sprintf("%.20q, where %.20q was sent, at byte %d", got[at:], want[at:], at)
}

// ending closes the stream at the gateway, and looks whether its end comes through.
func (p *prober) ending(ctx context.Context, s *stream) error {
	if !s.isOpen() {
		return nil // before its time: watching finds out why
	}
	if err := p.end(ctx, s.conn.Token); err != nil {
		return err
	}
	if !s.until(ctx, patience+p.trip, func() bool { return s.err != nil }) {
		p.found(EndHidden, fmt.Sprintf("the gateway closed the stream, and over %s it stayed open for %v", s.version.name, patience))
		return nil
	}
	if err := s.ended(); !isProper(err) {
		p.found(EndCut, fmt.Sprintf("the gateway closed the stream properly, and over %s that looks like a cut: %v", s.version.name, err))
	}
	return nil
}
