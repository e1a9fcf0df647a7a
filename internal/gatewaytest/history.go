package gatewaytest

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"ssegateway/internal/frame"
	"ssegateway/internal/gateway"
)

// History records what was done to one connection and the answers.
type History struct {
	Number int // of the connection, in its request and its events

	// Loose histories take no times. They know less of the order of things, but
	// their bookkeeping does not order what they watch, so that the race detector
	// sees more of it.
	Loose bool

	// Budgeted: the connection may be cut because of bytes that wait for others.
	Budgeted bool

	// Known is closed when the token is known, or is certain never to be.
	Known chan struct{}
	token gateway.Token // fixed when Known is closed

	// Told is closed when the backend is notified of the end.
	Told chan struct{}

	// clock orders: what has finished before something else began has the
	// smaller time.
	clock atomic.Int64

	senders []*Sender // each its own goroutine's until all is over

	mu sync.Mutex
	// Guarded by mu.
	asked    int // connect callbacks
	answered bool
	answer   gateway.Answer
	notices  []notice
	causes   []cause
	opening  span
	opened   bool
}

// span is the time from the beginning to the end of an action.
type span struct{ start, finish int64 }

const never = math.MaxInt64

// before reports whether s is known to have ended before other began.
func (s span) before(other span) bool { return s.finish < other.start }

// cause is something that may end the connection. When its time is over the
// connection has certainly closed, for this or for an earlier cause.
type cause struct {
	reason gateway.Reason
	detail gateway.Detail
	span
}

type notice struct {
	gateway.Notice
	early bool // before the answer to the connect
}

// NewHistory makes the history of the connection with this number, which no
// other connection of the test has.
func NewHistory(number, senders int) *History {
	h := &History{Number: number, Known: make(chan struct{}), Told: make(chan struct{})}
	for i := range senders {
		h.senders = append(h.senders, &Sender{history: h, number: i})
	}
	return h
}

// Path returns the path of the connection's request.
func (h *History) Path() string { return "/" + strconv.Itoa(h.Number) }

// Request returns what callbacks repeat, as a gateway without HTTP in front needs it.
func (h *History) Request() []byte {
	return []byte(`{"url":"` + h.Path() + `","headers":{}}`)
}

// numberOf returns the connection's number in a callback's request.
func numberOf(request []byte) (int, error) {
	_, after, _ := strings.Cut(string(request), `"url":"/`)
	digits, _, _ := strings.Cut(after, `"`)
	return strconv.Atoi(digits)
}

// Begin returns the time for an action that begins now.
func (h *History) Begin() int64 {
	if h.Loose {
		return 0
	}
	return h.clock.Add(1)
}

// Finish returns the time for an action that ended now.
func (h *History) Finish() int64 {
	if h.Loose {
		return never
	}
	return h.clock.Add(1)
}

// Happened records a cause for the connection to end, existing since start, with the reason
// and detail that the gateway should report.
func (h *History) Happened(r gateway.Reason, d gateway.Detail, start int64) {
	h.note(cause{r, d, span{start, never}})
}

// Closed records a cause like Happened, one that is certain to have closed the connection by
// now.
func (h *History) Closed(r gateway.Reason, d gateway.Detail, start int64) {
	h.note(cause{r, d, span{start, h.Finish()}})
}

func (h *History) note(c cause) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.causes = append(h.causes, c)
}

// Open opens the connection with f, which is [gateway.Conn.Open] or leads to it. If
// f panics, the connection may have been open.
func (h *History) Open(f func() bool) bool {
	start := h.Begin()
	h.setOpening(span{start, never}, true)
	ok := f()
	h.setOpening(span{start, h.Finish()}, ok)
	return ok
}

func (h *History) setOpening(s span, opened bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.opening, h.opened = s, opened
}

// Token returns the connection's token. Call it after Known is closed.
func (h *History) Token() gateway.Token { return h.token }

// Unasked records that the gateway refused the connection without asking the backend.
func (h *History) Unasked() { close(h.Known) }

// Ends returns the reasons and details that the backend was notified of so far.
func (h *History) Ends() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var ends []string
	for _, n := range h.notices {
		ends = append(ends, n.Reason.String()+"/"+n.Detail.String())
	}
	return ends
}

// Sender is what one goroutine sends to the connection, one after the other.
type Sender struct {
	history *History
	number  int
	sends   []send
}

// Sender returns one of the connection's senders.
func (h *History) Sender(i int) *Sender { return h.senders[i] }

type send struct {
	span
	event  Event
	is     bool // there is an event
	end    bool
	done   chan error
	result gateway.Result
}

// Send sends an event with a filler of size bytes, or none if size is negative,
// and closes the connection behind it if end is set. wait requests a
// notification when the event was written.
func (s *Sender) Send(gw *gateway.Gateway, size int, end, wait bool) gateway.Result {
	h := s.history
	w := send{event: Event{h.Number, s.number, len(s.sends), size}, is: size >= 0, end: end}
	var f frame.Frame
	if w.is {
		f = w.event.Frame()
		if wait {
			w.done = make(chan error, 2) // room for one too many, to see it
		}
	}
	w.start = h.Begin()
	w.result = gateway.Gone
	if c := gw.Find(h.Token()); c != nil {
		w.result = c.Send(f, end, w.done)
	}
	w.finish = h.Finish()
	s.sends = append(s.sends, w)
	return w.result
}

// Done waits for the notification of the last event sent, if one was requested.
func (s *Sender) Done() error {
	w := &s.sends[len(s.sends)-1]
	if w.done == nil || !w.accepted() {
		return nil
	}
	err := <-w.done
	w.done <- err // Check counts it
	return err
}

// Results returns the answers so far.
func (s *Sender) Results() []gateway.Result {
	var all []gateway.Result
	for _, w := range s.sends {
		all = append(all, w.result)
	}
	return all
}

func (w *send) accepted() bool { return w.result == gateway.Sent || w.result == gateway.Buffered }

// String returns the whole history as text.
func (h *History) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.textLocked()
}

func (h *History) textLocked() string {
	var b strings.Builder
	fmt.Fprintf(&b, "connection %d: answered %v %+v, opening %v %v\n", h.Number, h.answered, h.answer, h.opening.times(), h.opened)
	for _, c := range h.causes {
		fmt.Fprintf(&b, "  cause %v/%v %v\n", c.reason, c.detail, c.times())
	}
	for _, n := range h.notices {
		fmt.Fprintf(&b, "  notice %v/%v\n", n.Reason, n.Detail)
	}
	for _, s := range h.senders {
		for _, w := range s.sends {
			fmt.Fprintf(&b, "  send %d.%d size %d end %v wait %v: %v %v\n", s.number, w.event.Seq, w.event.Size, w.end, w.done != nil, resultName(w.result), w.times())
		}
	}
	return b.String()
}

func (s span) times() string {
	if s.finish == never {
		return fmt.Sprintf("[%d, …]", s.start)
	}
	return fmt.Sprintf("[%d, %d]", s.start, s.finish)
}

func resultName(r gateway.Result) string {
	return [...]string{"none", "Sent", "Buffered", "Gone", "Full", "Failed"}[r]
}
