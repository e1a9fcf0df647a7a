package relay

import (
	"container/list"
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"ssegateway/internal/callback"
	"ssegateway/internal/edge"
)

// waiting has the relayed requests whose bodies have not come whole, the oldest first. Their peers have something to do,
// so they make room for others.
type waiting struct {
	most int // how many there may be

	mu    sync.Mutex
	count int
	list  list.List // of *exchange
	going list.List // those that make room, and have not yet
}

// enter reports whether there may be one more. If so, leave has to be called in the end.
func (w *waiting) enter() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.count >= w.most {
		return false
	}
	w.count++
	return true
}

func (w *waiting) leave() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.count--
}

// begin adds a request that has a body. over has to be called in the end.
func (w *waiting) begin(x *exchange) {
	w.mu.Lock()
	defer w.mu.Unlock()
	x.since = time.Now()
	x.place, x.over = w.list.PushBack(x), make(chan struct{})
}

// came is called when the body of x is no longer read.
func (w *waiting) came(x *exchange) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !x.makesRoom && x.place != nil {
		w.list.Remove(x.place)
		x.place = nil
	}
}

// made reports whether x makes room.
func (w *waiting) made(x *exchange) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return x.makesRoom
}

// over is called when x has no descriptor for its request any more.
func (w *waiting) over(x *exchange) {
	w.came(x)
	w.mu.Lock()
	defer w.mu.Unlock()
	if x.makesRoom {
		w.going.Remove(x.place)
	}
	close(x.over)
}

// next returns the oldest request, if it is at least that old. If all are making room already, it returns the one that
// was the first to, and first is false. It returns nil if there is none.
func (w *waiting) next(age time.Duration) (x *exchange, first bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e := w.list.Front(); e != nil {
		x, _ = e.Value.(*exchange)
		if age > 0 && time.Since(x.since) < age {
			return nil, false
		}
		w.list.Remove(e)
		x.place, x.makesRoom = w.going.PushBack(x), true
		return x, true
	}
	if e := w.going.Front(); e != nil {
		x, _ = e.Value.(*exchange)
	}
	return x, false
}

// freshTime is how long a body is waited for before it makes room for another one that is still to come.
const freshTime = 3 * time.Second

// MakeRoom ends the request that has waited the longest for its body, and returns when it takes no room any more. It
// returns false if there is none, or ctx has ended. incomplete says that the room is for another such request: many of
// them must not be busy with taking each other's.
func (r *Relay) MakeRoom(ctx context.Context, incomplete bool) bool {
	age := time.Duration(0)
	if incomplete {
		age = freshTime
	}
	x, first := r.waiting.next(age)
	if x == nil || incomplete && !first {
		return false
	}
	if first {
		edge.Abandon(x.in)
		x.cancel()
	}
	select {
	case <-x.over:
		return true
	case <-ctx.Done():
		return false
	}
}

// readSmall reads a small body before anything else is done for the request, so that one that does not come takes no room.
// It returns nil for any other body.
func readSmall(in *http.Request) ([]byte, error) {
	if in.ContentLength <= 0 || in.ContentLength > callback.SmallBody {
		return nil, nil
	}
	b := make([]byte, in.ContentLength)
	if _, err := io.ReadFull(in.Body, b); err != nil {
		return nil, err
	}
	// The end has to be seen: it is what tells net/http, and the edge, that there is no more.
	if n, err := in.Body.Read(make([]byte, 1)); n > 0 || err != nil && !errors.Is(err, io.EOF) {
		return nil, callback.ErrBody
	}
	return b, nil
}

// Incomplete reports whether a request has a body that is sent on as it comes.
func Incomplete(in *http.Request) bool {
	return in.ContentLength < 0 || in.ContentLength > callback.SmallBody
}

// body is a request's. Close ends reading, from any goroutine.
type body struct {
	in   *http.Request
	come func() // is called when there is no more to read
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.in.Body.Read(p)
	if err != nil {
		b.come()
	}
	return n, err
}

func (b *body) Close() error {
	edge.Stop(b.in)
	return nil
}
