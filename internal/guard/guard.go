// Package guard catches panics. A panic that is not recovered ends the process at once. Here
// it is reported instead, so that the process can shut down in order: clients get the end of
// their streams, the backend its disconnects.
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

// Error returns the panic's value as text, without the stack.
func (p *Panic) Error() string { return fmt.Sprintf("panic: %v", p.Value) }

// Run calls f, and returns its error, or a *Panic if it panicked.
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

type watch struct{ report func(*Panic) }

// Watch has report called with each panic that Recover stops. report must not block. After
// a panic the process is in an unknown state and must shut down.
func Watch(report func(*Panic)) (stop func()) {
	w := &watch{report}
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

// Recover must be the first deferred call of every goroutine. A panic then ends only that
// goroutine, and is reported to every Watch. Without a Watch, as in most tests, the panic
// ends the process as usual.
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
		w.report(p)
	}
}
