// Package guard catches panics. Go ends a process at once for one that no goroutine
// recovers from; here it is told of, so that it can end in order: streams with a word to
// their clients, the backend with its disconnects.
package guard

import (
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
)

// Panic is what a goroutine panicked with, as an error.
type Panic struct {
	Value any
	Stack []byte
}

// Error says what the panic said, in one line as a rule, without the stack.
func (p *Panic) Error() string { return fmt.Sprintf("panic: %v", p.Value) }

// Run calls f, and returns its error, or its panic as one.
func Run(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &Panic{v, debug.Stack()}
		}
	}()
	return f()
}

var (
	watched atomic.Bool
	mu      sync.Mutex
	watches = map[*watch]struct{}{}
)

type watch struct{ tell func(*Panic) }

// Watch has tell called with each panic that Recover stops. tell must not block. The
// process is in an unknown state from then on: it is to end.
func Watch(tell func(*Panic)) (stop func()) {
	w := &watch{tell}
	mu.Lock()
	defer mu.Unlock()
	watches[w] = struct{}{}
	watched.Store(true)
	return func() {
		mu.Lock()
		defer mu.Unlock()
		delete(watches, w)
		watched.Store(len(watches) > 0)
	}
}

// Recover stands as the first deferred call of everything that runs as a goroutine of its
// own. A panic ends only that goroutine, and who watches is told. Where nobody watches,
// as in most tests, it ends the process as ever.
func Recover() {
	if !watched.Load() {
		return
	}
	v := recover() //nolint:revive // this is the deferred function
	if v == nil {
		return
	}
	p := &Panic{v, debug.Stack()}
	mu.Lock()
	defer mu.Unlock()
	for w := range watches {
		w.tell(p)
	}
}
