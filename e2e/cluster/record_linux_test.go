package cluster

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"ssegateway/internal/broker"
)

// record is what clients, backend, publishers and senders observed. The oracle checks it.
type record struct {
	mu           sync.RWMutex
	epochs       []string // in the order in which they were first seen
	publications []*publication
	connections  map[string]*connection // by token
}

func newRecord() *record { return &record{connections: map[string]*connection{}} }

// position is a place in one of the logs. Positions are ordered.
type position struct {
	epoch  int // index of record.epochs
	offset uint64
}

func (p position) before(q position) bool {
	return p.epoch < q.epoch || p.epoch == q.epoch && p.offset < q.offset
}

func (r *record) position(id string) (position, bool) {
	p, ok := broker.ParsePosition(id)
	if !ok {
		return position{}, false
	}
	r.mu.RLock()
	epoch := indexOf(r.epochs, p.Epoch)
	r.mu.RUnlock()
	if epoch < 0 {
		r.mu.Lock()
		defer r.mu.Unlock()
		if epoch = indexOf(r.epochs, p.Epoch); epoch < 0 {
			epoch = len(r.epochs)
			r.epochs = append(r.epochs, strings.Clone(p.Epoch))
		}
	}
	return position{epoch, p.Offset}, true
}

// indexOf returns the index of an epoch, or -1. It searches from the end, where the current one is.
func indexOf(epochs []string, epoch string) int {
	for i := len(epochs) - 1; i >= 0; i-- {
		if epochs[i] == epoch {
			return i
		}
	}
	return -1
}

// everybody is the number of the topic of all clients. The other numbers are rooms.
const everybody = 0

// publication is an event for a topic. Its number, the index in record.publications,
// is its data.
type publication struct {
	topic     int
	publisher int
	answered  atomic.Bool  // with 200; else it is unknown whether it is in the log
	at        position     // valid once answered
	had       atomic.Int32 // clients that stay and have received it
}

func (r *record) publish(topic, publisher int) (number int, p *publication) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p = &publication{topic: topic, publisher: publisher}
	r.publications = append(r.publications, p)
	return len(r.publications) - 1, p
}

func (r *record) publication(number int) *publication {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if number < 0 || number >= len(r.publications) {
		return nil
	}
	return r.publications[number]
}

// connection is what the backend, the senders and the client know of one stream.
type connection struct {
	token  string
	client int

	mu      sync.Mutex
	node    int       // that asked; -1: none has asked yet, but the disconnect was reported
	asked   time.Time // when the backend was asked, and accepted
	told    []telling
	sending bool      // one send at a time, so that their order is known
	sent    []outcome // by the number of the send
	gone    time.Time // of the first 404

	// The client's side. The client learns the token from the stream's first event.
	opened time.Time
	last   time.Time // when the last event came
	ended  bool
	got    []int // numbers of the sends that came
}

type outcome uint8

const (
	unknown  outcome = iota
	accepted         // 200
	refused          // 404: it was not sent
)

// telling is a disconnect callback.
type telling struct {
	at             time.Time
	node           int // that made it
	reason, detail string
}

func (r *record) connection(token string) *connection {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.connections[token]
}

func (r *record) all() []*connection {
	r.mu.RLock()
	defer r.mu.RUnlock()
	list := make([]*connection, 0, len(r.connections))
	for _, c := range r.connections {
		list = append(list, c)
	}
	return list
}

// endKnownLocked reports whether the backend knows of the disconnect. A disconnect callback
// from another node before the connect callback does not count: the backend would consider
// the connection open again. One from the same node counts: a backend that is busy for 5 s
// may see the disconnect first.
func (c *connection) endKnownLocked() bool {
	for _, t := range c.told {
		if t.node == c.node || t.at.After(c.asked) {
			return true
		}
	}
	return false
}

// untold returns the chosen connections whose disconnect the backend does not know.
func (r *record) untold(chosen func(*connection) bool) (list []*connection) {
	for _, c := range r.all() {
		c.mu.Lock()
		if !c.endKnownLocked() && chosen(c) {
			list = append(list, c)
		}
		c.mu.Unlock()
	}
	return list
}
