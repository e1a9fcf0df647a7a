package cluster

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"ssegateway/internal/broker"
	"ssegateway/internal/gateway"
	"ssegateway/internal/guard"
)

const (
	// holdTimeout bounds how long a client waits for its record to be written. After that the
	// stream opens, and the record is written later.
	holdTimeout = time.Second

	ledgerTimeout = 2 * time.Second // for one operation
	ledgerAtOnce  = 64              // operations under way
	ledgerRepeat  = time.Second     // between two tries of what failed
)

// ledger keeps this node's records in the store up to date. It remembers only what is not settled
// with the store. A record that was written while the lease held for certain is settled: whoever
// takes this node for lost finds it.
type ledger struct {
	// lease reports whether a number is this node's, and whether for certain. It may be called
	// under mu.
	lease func(node uint32) (own, certain bool)
	// full reports whether the store takes no more records. It may be called under mu.
	full func() bool
	wake chan struct{}
	// resume retries what Permit has deferred.
	resume func()

	// bytes is the sum of the costs in open; written under mu.
	bytes atomic.Int64

	mu      sync.Mutex
	store   broker.Nodes // nil: none
	open    map[gateway.Token]*operation
	todo    []gateway.Token // of open, to be done next
	drained chan struct{}   // closed when open is empty; nil: nobody waits
}

// operation writes or removes the record of a token. It replaces the operation before it.
type operation struct {
	node    uint32     // whose record it is
	request []byte     // of a record to write; nil: the record is to be removed
	unsure  []byte     // of a record to remove that may still be on its way to the store
	done    func()     // called when the operation is acknowledged, or replaced while under way; may be nil
	busy    bool       // under way
	sent    bool       // the record, or one before it, may have reached the store
	asked   bool       // neverSent was called while it was busy: resume is due
	stored  time.Time  // when the record was acknowledged while the lease was in doubt
	after   *operation // the operation before, which may be under way
}

// operationOverhead is about what an operation takes beside its requests, in bytes: itself, its
// entries in open and todo, and what waits for it.
const operationOverhead = 256

// cost returns what an operation takes, in bytes.
func (op *operation) cost() int64 {
	return int64(operationOverhead + len(op.request) + len(op.unsure))
}

var errNoStore = errors.New("the store of the nodes is not open")

func (l *ledger) init(lease func(node uint32) (own, certain bool), full func() bool, resume func()) {
	l.lease, l.full, l.resume = lease, full, resume
	l.wake, l.open = make(chan struct{}, 1), map[gateway.Token]*operation{}
}

func (l *ledger) size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.open)
}

// add adds an operation, to be done soon.
func (l *ledger) add(token gateway.Token, op *operation) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.addLocked(token, op)
	l.todo = append(l.todo, token)
	signal(l.wake)
}

func (l *ledger) addLocked(token gateway.Token, op *operation) {
	if before := l.open[token]; before != nil {
		op.sent = before.sent || before.busy || before.request == nil
		if op.node == before.node {
			op.unsure = before.unsure
			if before.request != nil && before.stored.IsZero() && op.sent {
				op.unsure = before.request
			}
		}
		if before.busy {
			op.after = before
		} else {
			op.after, op.done = before.after, chain(before.done, op.done)
		}
		before.after = nil
	}
	if before := l.open[token]; before != nil {
		l.bytes.Add(-before.cost())
	}
	l.open[token] = op
	l.bytes.Add(op.cost())
}

// hold writes a record, and returns when it is written or holdTimeout is over. known says that the
// store may have a record of the connection already. While the store is full only records of
// connections that are taken over are written.
func (l *ledger) hold(ctx context.Context, node uint32, token gateway.Token, request []byte, known bool) error {
	if node == token.Node() && l.full() {
		return broker.ErrFull
	}
	ctx, cancel := context.WithTimeout(ctx, holdTimeout)
	defer cancel()
	op := &operation{node: node, request: request, busy: true, sent: known}
	l.mu.Lock()
	l.addLocked(token, op)
	store := l.store
	l.mu.Unlock()
	return l.perform(ctx, store, token, op)
}

// release removes a record. If it was never sent, there is nothing to remove.
func (l *ledger) release(node uint32, token gateway.Token, done func()) {
	l.mu.Lock()
	op := l.open[token]
	unsent := op != nil && op.isUnsent()
	if unsent {
		l.removeLocked(token)
	}
	l.mu.Unlock()
	switch {
	case !unsent:
		l.add(token, &operation{node: node, done: done})
	case done != nil:
		done()
	}
}

// isUnsent reports whether the store certainly has no record of the connection.
func (op *operation) isUnsent() bool { return op.request != nil && !op.sent && !op.busy }

// neverSent reports whether the store certainly has no record of a connection, so that no other
// node can report its end. If that is about to be known, resume is called then.
func (l *ledger) neverSent(token gateway.Token) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	op := l.open[token]
	if op == nil {
		return false
	}
	if op.request != nil && !op.sent && op.busy {
		op.asked = true
	}
	return op.isUnsent()
}

// drop forgets an operation without doing it.
func (l *ledger) drop(token gateway.Token) {
	l.mu.Lock()
	var done func()
	if op := l.open[token]; op != nil && !op.busy {
		done, op.done = op.done, nil
	}
	l.removeLocked(token)
	l.mu.Unlock()
	if done != nil {
		done()
	}
}

// held returns the node whose record of a token is not known to be written, if there is one.
func (l *ledger) held(token gateway.Token) (node uint32, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	op := l.open[token]
	if op == nil || op.request == nil {
		return 0, false
	}
	return op.node, true
}

// confirm settles the records that were written before an acknowledged renewal, because the lease
// was not taken then. Since the store answers, what failed is tried again at once.
func (l *ledger) confirm(node uint32, sent time.Time) {
	l.mu.Lock()
	for token, op := range l.open {
		if op.node == node && !op.stored.IsZero() && op.stored.Before(sent) {
			l.removeLocked(token)
		}
	}
	l.mu.Unlock()
	l.again()
	signal(l.wake)
}

func (l *ledger) removeLocked(token gateway.Token) {
	if op := l.open[token]; op != nil {
		l.bytes.Add(-op.cost())
		delete(l.open, token)
	}
	if len(l.open) > 0 {
		return
	}
	l.open = map[gateway.Token]*operation{} // a map never shrinks: release the one that an outage made large
	if l.drained != nil {
		close(l.drained)
		l.drained = nil
	}
}

// flush waits until nothing is open. It returns false if ctx ends first.
func (l *ledger) flush(ctx context.Context) bool {
	l.mu.Lock()
	if len(l.open) == 0 {
		l.mu.Unlock()
		return true
	}
	if l.drained == nil {
		l.drained = make(chan struct{})
	}
	settled := l.drained
	l.mu.Unlock()
	select {
	case <-settled:
		return true
	case <-ctx.Done():
		return false
	}
}

// run does the operations, and repeats those that failed, until ctx ends.
func (l *ledger) run(ctx context.Context, store broker.Nodes) {
	l.use(store)
	defer l.use(nil)
	var group sync.WaitGroup
	defer group.Wait()
	slots := make(chan struct{}, ledgerAtOnce)
	repeat := time.NewTicker(ledgerRepeat)
	defer repeat.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.wake:
		case <-repeat.C:
			l.again()
		}
		for token, op := l.next(); op != nil; token, op = l.next() {
			slots <- struct{}{}
			group.Go(func() {
				defer guard.Recover()
				defer func() { <-slots }()
				ctx, cancel := context.WithTimeout(ctx, ledgerTimeout)
				defer cancel()
				if l.perform(ctx, store, token, op) != nil {
					l.giveWay()
				}
			})
		}
	}
}

func (l *ledger) use(store broker.Nodes) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.store = store
	for _, op := range l.open {
		op.stored = time.Time{} // it may have been another store
	}
}

// again schedules everything that is open, unless something waits for its first try.
func (l *ledger) again() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.todo) > 0 {
		return
	}
	for token := range l.open {
		l.todo = append(l.todo, token)
	}
}

// giveWay leaves the rest for the next repetition, because one failure is followed by others.
func (l *ledger) giveWay() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.todo = nil
}

// next returns an operation that can be done now. A record for a number that was lost is not
// written, since it is in dispute.
func (l *ledger) next() (token gateway.Token, op *operation) {
	l.mu.Lock()
	defer l.mu.Unlock()
	full := l.full()
	for len(l.todo) > 0 {
		token = l.todo[0]
		l.todo = l.todo[1:]
		op = l.open[token]
		if op == nil || op.busy || !op.stored.IsZero() || op.after != nil && op.after.busy {
			continue
		}
		if own, _ := l.lease(op.node); op.request != nil && (!own || full) {
			continue
		}
		op.busy, op.after = true, nil
		return token, op
	}
	l.todo = nil
	return token, nil
}

// remove removes a record. A record that was written without an answer may still be on its way, and
// arrive after the removal. So it is written once more, with an answer, before it is removed.
func remove(ctx context.Context, store broker.Nodes, token gateway.Token, op *operation) error {
	if op.unsure != nil {
		// A full store takes no record, and nothing stays on its way for long to a store that answers.
		if err := store.Hold(ctx, op.node, broker.Token(token), op.unsure); err != nil && !errors.Is(err, broker.ErrFull) {
			return err
		}
	}
	return store.Release(ctx, op.node, broker.Token(token))
}

// perform does an operation, and records the result.
func (l *ledger) perform(ctx context.Context, store broker.Nodes, token gateway.Token, op *operation) error {
	err := errNoStore
	switch {
	case store == nil:
	case op.request != nil:
		err = store.Hold(ctx, op.node, broker.Token(token), op.request)
	default:
		err = remove(ctx, store, token, op)
	}
	_, certain := l.lease(op.node)
	l.mu.Lock()
	op.busy = false
	if store != nil && !errors.Is(err, broker.ErrUnsent) && !errors.Is(err, broker.ErrFull) {
		op.sent = true
	}
	resume := op.asked && op.isUnsent()
	op.asked = false
	over := err == nil || errors.Is(err, broker.ErrTaken)
	switch {
	case l.open[token] != op:
		over = true
		if next := l.open[token]; next != nil && err == nil {
			l.bytes.Add(-next.cost())
			next.unsure = nil
			l.bytes.Add(next.cost())
		}
		l.todo = append(l.todo, token) // the next operation may wait for this one
		signal(l.wake)
	case err == nil && (op.request == nil || certain), err != nil && over:
		l.removeLocked(token)
	case err == nil:
		op.stored = time.Now()
	}
	var done func()
	if over {
		done, op.done = op.done, nil // the operation may stay until it is replaced, so done is called once
	}
	l.mu.Unlock()
	if done != nil {
		done()
	}
	if resume {
		l.resume()
	}
	return err
}
