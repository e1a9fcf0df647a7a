package callback

import (
	"container/heap"
	"math/rand/v2"
	"time"

	"ssegateway/internal/gateway"
)

// notice is a disconnect that is to be reported to the backend, or the first of a batch of them. While the backend is down
// there may be very many, so each takes only 80 bytes, without a goroutine or a timer, and
// shares the request's bytes.
type notice struct {
	gateway.Notice
	attempts uint16        // made and failed; of a batch, as first and due
	delayed  bool          // OnDelayed was called
	alone    bool          // it is not to be in a batch
	first    uint32        // when the first attempt failed, in seconds since the notifier's start, rounded up
	due      time.Duration // when the next is due, since the notifier's start
	next     *notice       // in the fifo
	more     *notice       // the rest of the batch, each by its own more
}

// fifo is a queue of notices.
type fifo struct {
	head, tail *notice
	len        int
}

func (q *fifo) push(n *notice) {
	n.next = nil
	if q.tail == nil {
		q.head = n
	} else {
		q.tail.next = n
	}
	q.tail = n
	q.len++
}

// moveTo appends all of q to another.
func (q *fifo) moveTo(other *fifo) {
	if q.head == nil {
		return
	}
	if other.tail == nil {
		other.head = q.head
	} else {
		other.tail.next = q.head
	}
	other.tail = q.tail
	other.len += q.len
	*q = fifo{}
}

func (q *fifo) pop() *notice {
	n := q.head
	if n == nil {
		return nil
	}
	if q.head = n.next; q.head == nil {
		q.tail = nil
	}
	n.next = nil
	q.len--
	return n
}

// schedule is a heap of the notices that wait for their next attempt, the earliest first.
type schedule []*notice

func (s schedule) Len() int           { return len(s) }
func (s schedule) Less(i, j int) bool { return s[i].due < s[j].due }
func (s schedule) Swap(i, j int)      { s[i], s[j] = s[j], s[i] }
func (s *schedule) Push(x any)        { *s = append(*s, x.(*notice)) }

func (s *schedule) Pop() any {
	last := len(*s) - 1
	n := (*s)[last]
	(*s)[last] = nil
	if *s = (*s)[:last]; last == 0 {
		*s = nil // frees the memory that an outage took
	}
	return n
}

// popDue removes and returns the earliest notice if it is due, or returns nil.
func (s *schedule) popDue(now time.Duration) *notice {
	if len(*s) == 0 || (*s)[0].due > now {
		return nil
	}
	return heap.Pop(s).(*notice)
}

// hasten makes all notices due within the given time from now, spread at random.
func (s *schedule) hasten(now, within time.Duration) {
	for _, n := range *s {
		n.due = min(n.due, now+rand.N(within)) //nolint:gosec // to spread, not to hide
	}
	heap.Init(s)
}

const (
	firstDelay = 500 * time.Millisecond
	maxDelay   = 10 * time.Second
	flushDelay = 250 * time.Millisecond
	// giveUpAfter is how long a notice is retried after its first failure.
	giveUpAfter = 10 * time.Minute
)

// delay returns how long to wait after a number of failed attempts: it doubles up to
// maxDelay, minus up to half at random, so that notices that failed together are not
// retried together.
// (cenkalti/backoff keeps a state for each retry, which would double a notice's memory,
// and its jitter goes above the bound.)
func delay(attempts uint16) time.Duration {
	d := maxDelay
	if attempts < 6 {
		d = min(d, firstDelay<<(attempts-1))
	}
	return jitter(d)
}

func jitter(d time.Duration) time.Duration { return d - rand.N(d/2) } //nolint:gosec // to spread, not to hide
