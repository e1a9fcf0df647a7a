package harness

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// Field is one header field as it is on the wire.
type Field struct{ Name, Value string }

// Request is what a client sends.
type Request struct {
	Method string  // "" is GET
	Target string  // goes out exactly as it is
	Host   string  // "" is the address that is dialled
	Header []Field // in this order; HTTP/2 wants names in lower case
	Body   []byte  // nil: none. HTTP/1 adds a Content-Length unless Header frames it.

	Proto string // HTTP/1 only: "" is HTTP/1.1
	Raw   string // HTTP/1 only: sent instead of all of the above; Method still says how to read the answer
	Extra string // HTTP/1 only: sent in one piece with the request, behind it

	ReceiveBuffer int    // size of the socket's receive buffer; 0 is the system's choice
	StopAfterHead bool   // stop reading once the response head is here; see [Exchange.Stop]
	LocalAddr     string // address to come from; "" is the system's choice
}

// Head is the head of a response.
type Head struct {
	Proto  string // "HTTP/1.1", "HTTP/1.0" or "HTTP/2"
	Status int
	Header []Field // in the order of the wire
	At     time.Time
}

// Values returns the values of all fields of that name, in any case.
func (h *Head) Values(name string) []string {
	var values []string
	for _, f := range h.Header {
		if strings.EqualFold(f.Name, name) {
			values = append(values, f.Value)
		}
	}
	return values
}

// Get returns the values joined, empty where there is none.
func (h *Head) Get(name string) string { return strings.Join(h.Values(name), ", ") }

// Piece is what the peer framed together: a chunk, a DATA frame, or, without
// framing, what one read found.
type Piece struct {
	At   time.Time
	Data string
}

// End is how a response ended.
type End int

// The ends. Only Clean is the server saying that this is all.
const (
	NotEnded  End = iota
	Clean         // last chunk, END_STREAM, full Content-Length; FIN where nothing else frames the body
	Cut           // FIN or RST before that, or a stream reset
	Malformed     // not valid HTTP
)

func (e End) String() string {
	return [...]string{"not ended", "clean end", "cut", "malformed"}[e]
}

// link is the sending side of an exchange: what the client can do to the connection.
type link interface {
	leave()               // as a browser does when the tab closes
	halfClose() error     // no more bytes from here; still reading
	reset() error         // TCP RST
	write(b []byte) error // bytes behind the request
	hangUp()              // FIN of the TCP connection
	stop()                // take no more bytes
	take(n int)           // while stopped
	resume()
}

// Exchange is one request and its response as far as it has come. A goroutine of
// its own reads; all methods may be called from any goroutine.
type Exchange struct {
	link link

	mu      sync.Mutex
	changed chan struct{} // closed and replaced at every change
	head    *Head
	pieces  []Piece
	body    []byte
	taken   int // bytes of body that Next has given out, or that need not be taken

	received int // bytes from the wire
	end      End
	endedAt  time.Time
	endErr   error // what a cut or malformed end looked like
}

func newExchange() *Exchange { return &Exchange{changed: make(chan struct{})} }

// change makes a change under the lock and wakes all who wait.
func (x *Exchange) change(f func()) {
	x.mu.Lock()
	defer x.mu.Unlock()
	f()
	close(x.changed)
	x.changed = make(chan struct{})
}

func (x *Exchange) gotBytes(n int) { x.change(func() { x.received += n }) }

func (x *Exchange) gotHead(h *Head) {
	h.At = time.Now()
	x.change(func() { x.head = h })
}

// Heartbeat is with what a stream begins that has nothing else to begin with. Next and
// Rest leave it out, so that a test of something else need not know whether it is there.
const Heartbeat = ": heartbeat\n\n"

func (x *Exchange) gotPiece(b []byte) {
	x.change(func() {
		x.pieces = append(x.pieces, Piece{time.Now(), string(b)})
		if len(x.body) == 0 && strings.HasPrefix(string(b), Heartbeat) {
			x.taken = len(Heartbeat)
		}
		x.body = append(x.body, b...)
	})
}

// Begin waits for the first n bytes of the body, without taking them.
func (x *Exchange) Begin(n int, patience time.Duration) string {
	x.await(patience, func() bool { return len(x.body) >= n || x.end != NotEnded })
	x.mu.Lock()
	defer x.mu.Unlock()
	return string(x.body[:min(n, len(x.body))])
}

// gotEnd records the end; the first one counts, unless it turns out not to have been one.
func (x *Exchange) gotEnd(e End, err error) {
	if err == nil {
		err = io.EOF
	}
	x.change(func() {
		if x.end == NotEnded || x.end == Clean && e == Malformed {
			x.end, x.endErr, x.endedAt = e, err, time.Now()
		}
	})
}

// ErrTimeout is returned when what was waited for did not come in time.
var ErrTimeout = errors.New("timeout")

// await waits until ready, called under the lock, says so.
func (x *Exchange) await(patience time.Duration, ready func() bool) bool {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		x.mu.Lock()
		ok, changed := ready(), x.changed
		x.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-changed:
		case <-timer.C:
			return false
		}
	}
}

// Head waits for the response head.
func (x *Exchange) Head(patience time.Duration) (*Head, error) {
	ok := x.await(patience, func() bool { return x.head != nil || x.end != NotEnded })
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.head != nil:
		return x.head, nil
	case !ok:
		return nil, fmt.Errorf("no response head: %w after %v", ErrTimeout, patience)
	default:
		return nil, fmt.Errorf("no response head: %v: %w", x.end, x.endErr)
	}
}

// Next waits for n more bytes of the body and takes them. Beside an error it
// returns, and takes, what there is.
func (x *Exchange) Next(n int, patience time.Duration) (string, error) {
	ok := x.await(patience, func() bool { return len(x.body)-x.taken >= n || x.end != NotEnded })
	x.mu.Lock()
	defer x.mu.Unlock()
	available := min(n, len(x.body)-x.taken)
	got := string(x.body[x.taken : x.taken+available])
	x.taken += available
	switch {
	case available == n:
		return got, nil
	case !ok:
		return got, fmt.Errorf("%w after %v", ErrTimeout, patience)
	default:
		return got, fmt.Errorf("%v: %w", x.end, x.endErr)
	}
}

// Rest waits for the end and returns it with the bytes that were not taken yet.
func (x *Exchange) Rest(patience time.Duration) (string, End, error) {
	x.await(patience, func() bool { return x.end != NotEnded })
	x.mu.Lock()
	defer x.mu.Unlock()
	rest := string(x.body[x.taken:])
	x.taken = len(x.body)
	if x.end == NotEnded {
		return rest, NotEnded, fmt.Errorf("no end: %w after %v", ErrTimeout, patience)
	}
	return rest, x.end, x.endErr
}

// Received returns how many bytes came from the wire so far, framing included.
func (x *Exchange) Received() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.received
}

// AwaitReceived waits until more than n bytes came from the wire.
func (x *Exchange) AwaitReceived(n int, patience time.Duration) error {
	if !x.await(patience, func() bool { return x.received > n }) {
		return fmt.Errorf("not more than %d bytes: %w after %v", n, ErrTimeout, patience)
	}
	return nil
}

// Pieces returns the pieces of the body so far, taken or not.
func (x *Exchange) Pieces() []Piece { return x.PiecesFrom(0) }

// PiecesFrom returns the pieces without the first n.
func (x *Exchange) PiecesFrom(n int) []Piece {
	x.mu.Lock()
	defer x.mu.Unlock()
	return append([]Piece(nil), x.pieces[n:]...)
}

// EndedAt is when the end was seen.
func (x *Exchange) EndedAt() time.Time {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.endedAt
}

// Leave does what a browser does when its tab closes: it closes the connection
// (HTTP/1) or cancels the stream (HTTP/2).
func (x *Exchange) Leave() { x.link.leave() }

// HalfClose says that no more bytes will come from the client, which still reads.
func (x *Exchange) HalfClose() error { return x.link.halfClose() }

// Reset ends the TCP connection with an RST.
func (x *Exchange) Reset() error { return x.link.reset() }

// Write sends bytes behind the request. HTTP/1 only.
func (x *Exchange) Write(b []byte) error { return x.link.write(b) }

// HangUp closes the TCP connection, with whatever is on it.
func (x *Exchange) HangUp() { x.link.hangUp() }

// Stop makes the client take no more bytes: over HTTP/1 it does not read its socket
// (beyond the read that may be under way), over HTTP/2 it grants no more window.
func (x *Exchange) Stop() { x.link.stop() }

// Take takes n more bytes off the connection while it is stopped (framing included,
// and over TLS whole records).
func (x *Exchange) Take(n int) { x.link.take(n) }

// Resume ends Stop.
func (x *Exchange) Resume() { x.link.resume() }
