//go:build linux && !portable

package stream

import (
	"context"
	"slices"
	"sync"
	"time"

	"ssegateway/internal/gateway"
	"ssegateway/internal/guard"
)

// firstContext is the context of a first request. It ends when the client leaves, or sends more than its request, and
// when the request was handled. It is a part of its newcomer, and takes no memory of its own until somebody waits for
// its end. A context that is made of it with a value in between costs a goroutine if it is made to end with it: package context
// looks for AfterFunc in the direct parent only.
type firstContext struct {
	mu     sync.Mutex
	ended  bool
	reason gateway.Reason
	detail gateway.Detail
	done   chan struct{} // nil: Done was not called yet
	after  []*func()     // what is to be called
}

// end ends the context, if it has not ended.
func (c *firstContext) end(reason gateway.Reason, detail gateway.Detail) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	c.ended, c.reason, c.detail = true, reason, detail
	if c.done != nil {
		close(c.done)
	}
	for _, f := range c.after {
		go call(*f)
	}
	c.after = nil
}

func call(f func()) {
	defer guard.Recover()
	f()
}

// Deadline implements context.Context. There is none.
func (*firstContext) Deadline() (deadline time.Time, ok bool) { return time.Time{}, false }

// Done implements context.Context.
func (c *firstContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		c.done = make(chan struct{})
		if c.ended {
			close(c.done)
		}
	}
	return c.done
}

// Err implements context.Context.
func (c *firstContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return context.Canceled
	}
	return nil
}

// Value implements context.Context.
func (c *firstContext) Value(key any) any {
	if key == (firstKey{}) {
		return c
	}
	return nil
}

// Left implements [gateway.Leaver].
func (c *firstContext) Left() (gateway.Reason, gateway.Detail) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reason, c.detail
}

// AfterFunc implements [gateway.Leaver]. [context.AfterFunc] uses it, too.
func (c *firstContext) AfterFunc(f func()) (stop func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		go call(f)
		return func() bool { return false }
	}
	c.after = append(c.after, &f)
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		i := slices.Index(c.after, &f)
		if i < 0 {
			return false
		}
		c.after = slices.Delete(c.after, i, i+1)
		return true
	}
}
