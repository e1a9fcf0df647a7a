package harness

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// Field is one header field, as on the wire.
type Field struct{ Name, Value string }

// Request is a client's request.
type Request struct {
	Method string  // "" is GET
	Target string  // sent unchanged
	Host   string  // "" is the address of the endpoint
	Header []Field // sent in this order; HTTP/2 requires names in lower case
	Body   []byte  // nil: none. HTTP/1 adds a Content-Length unless Header declares a framing.

	Proto string // HTTP/1 only: "" is HTTP/1.1
	Raw   string // HTTP/1 only: sent instead of all of the above; Method still decides how to read the answer
	Extra string // HTTP/1 only: sent after the request, in the same write

	ReceiveBuffer int    // size of the socket's receive buffer; 0 is the system's choice
	StopAfterHead bool   // stop reading after the response head; see [Exchange.Stop]
	LocalAddr     string // address to connect from; "" is the system's choice
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

// Get returns the values joined, or "" if there are none.
func (h *Head) Get(name string) string { return strings.Join(h.Values(name), ", ") }

// Piece is the content of a chunk or of a DATA frame or, without framing, the result of
// one read.
type Piece struct {
	At   time.Time
	Data string
}

// End is the way in which a response ended.
type End int

// The ends. Only with Clean has the server declared the response complete.
const (
	NotEnded  End = iota
	Clean         // last chunk, END_STREAM, full Content-Length; FIN where nothing else frames the body
	Cut           // FIN or RST before that, or a stream reset
	Malformed     // not valid HTTP
)

func (e End) String() string {
	return [...]string{"not ended", "clean end", "cut", "malformed"}[e]
}

// link is the client's side of an exchange: what it can do to the connection.
type link interface {
	leave()               // as a browser does when the tab closes
	halfClose() error     // send no more bytes, but go on reading
	reset() error         // TCP RST
	write(b []byte) error // bytes after the request
	hangUp()              // FIN of the TCP connection
	stop()                // read no more bytes
	take(n int)           // while stopped: read n more bytes
	resume()
}

// Exchange is one request, and its response as far as it was received. It reads in its own
// goroutine. All methods may be called from any goroutine.
type Exchange struct {
	link link

	mu      sync.Mutex
	changed chan struct{} // closed and replaced at every change
	head    *Head
	pieces  []Piece
	body    []byte
	taken   int // bytes of body that Next has returned, or that it leaves out

	received int // bytes from the wire
	end      End
	endedAt  time.Time
	endErr   error // the reason of a cut or malformed end
}

func newExchange() *Exchange { return &Exchange{changed: make(chan struct{})} }

// change calls f under the lock, and wakes everything that waits.
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

// Heartbeat is the comment with which a stream begins if there is no event to begin with.
// Next and Rest leave it out, so that tests of other things need not know about it.
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

// Begin waits for the first n bytes of the body. Next returns them again.
func (x *Exchange) Begin(n int, patience time.Duration) string {
	x.await(patience, func() bool { return len(x.body) >= n || x.end != NotEnded })
	x.mu.Lock()
	defer x.mu.Unlock()
	return string(x.body[:min(n, len(x.body))])
}

// gotEnd records the end. The first one counts, unless it was Clean and more bytes followed.
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

// ErrTimeout is the error of a wait that took too long.
var ErrTimeout = errors.New("timeout")

// await waits until ready, which it calls under the lock, returns true.
func (x *Exchange) await(patience time.Duration, ready func() bool) bool {
	look := func() (ok bool, changed <-chan struct{}) {
		x.mu.Lock()
		defer x.mu.Unlock()
		return ready(), x.changed
	}
	ok, changed := look()
	if ok {
		return true // without a timer: bytes that are there may be read one by one
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for !ok {
		select {
		case <-changed:
		case <-timer.C:
			return false
		}
		ok, changed = look()
	}
	return true
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

// Next waits for n more bytes of the body, and returns them. With an error it returns the
// bytes that were received.
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

// Rest waits for the end, and returns it with the bytes that Next has not returned.
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

// Received returns how many bytes were received so far, framing included.
func (x *Exchange) Received() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.received
}

// AwaitReceived waits until more than n bytes were received, framing included.
func (x *Exchange) AwaitReceived(n int, patience time.Duration) error {
	if !x.await(patience, func() bool { return x.received > n }) {
		return fmt.Errorf("not more than %d bytes: %w after %v", n, ErrTimeout, patience)
	}
	return nil
}

// Pieces returns all pieces of the body so far.
func (x *Exchange) Pieces() []Piece { return x.PiecesFrom(0) }

// PiecesFrom returns the pieces except the first n.
func (x *Exchange) PiecesFrom(n int) []Piece {
	x.mu.Lock()
	defer x.mu.Unlock()
	return append([]Piece(nil), x.pieces[n:]...)
}

// EndedAt returns when the end was received.
func (x *Exchange) EndedAt() time.Time {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.endedAt
}

// Leave does what a browser does when its tab closes: it closes the connection
// (HTTP/1) or cancels the stream (HTTP/2).
func (x *Exchange) Leave() { x.link.leave() }

// HalfClose closes the client's sending side. The client goes on reading.
func (x *Exchange) HalfClose() error { return x.link.halfClose() }

// Reset ends the TCP connection with an RST.
func (x *Exchange) Reset() error { return x.link.reset() }

// Write sends bytes after the request. HTTP/1 only.
func (x *Exchange) Write(b []byte) error { return x.link.write(b) }

// HangUp closes the TCP connection, with all exchanges on it.
func (x *Exchange) HangUp() { x.link.hangUp() }

// Stop makes the client stop receiving. Over HTTP/1 it stops reading its socket, after the
// read that may be under way. Over HTTP/2 it grants no more window.
func (x *Exchange) Stop() { x.link.stop() }

// Take reads n more bytes while the client is stopped: framing included, and over TLS whole
// records.
func (x *Exchange) Take(n int) { x.link.take(n) }

// Resume ends Stop.
func (x *Exchange) Resume() { x.link.resume() }
