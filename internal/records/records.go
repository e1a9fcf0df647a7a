// Package records keeps a record of each connection of a gateway that is alone, in a store that
// outlives the process. The next process on that store reports to the backend the ends that this
// one could not report. It is for one gateway what package cluster is for several, at the same
// seams: the [gateway.Backend], and the notifier's hooks.
package records

import (
	"context"
	"iter"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"ssegateway/internal/broker"
	"ssegateway/internal/gateway"
	"ssegateway/internal/guard"
)

// Store keeps the records. It is safe for concurrent use.
type Store interface {
	// Put writes the record of a connection, in place of the one that it has. If it fails, that one
	// stays.
	Put(token broker.Token, record []byte) error
	// Delete removes the record of a connection, if there is one. If it fails, the store repeats it
	// by itself.
	Delete(token broker.Token) error
	// Survivors returns the records of former processes. It is for one use.
	Survivors() iter.Seq2[broker.Token, []byte]
}

// settleEvery is how often it is tried to write what could not be written.
const settleEvery = time.Second

// leaveAtOnce is how many ends Leave records at once. A store that forces each write to its disk shares one such write among them.
const leaveAtOnce = 256

// Stats are counters of Records.
type Stats struct {
	Unrecorded atomic.Uint64 // connections that the backend was asked about while no record could be written
	Restored   atomic.Uint64 // ends of former processes' connections that were passed to the notifier
}

// Records are the records of this gateway's connections. Its methods are safe for concurrent use.
type Records struct {
	store Store
	log   *slog.Logger
	stats Stats

	mu   sync.Mutex
	owed map[gateway.Token]debt // records that the store does not have yet
}

// debt is a record that could not be written.
type debt struct {
	record []byte
	held   bool // the store has an older record of the connection
}

// New returns the Records in a store.
func New(store Store, log *slog.Logger) *Records {
	return &Records{store: store, log: log, owed: map[gateway.Token]debt{}}
}

// Stats returns the counters, for reading.
func (r *Records) Stats() *Stats { return &r.stats }

// Owed returns how many records are still to be written.
func (r *Records) Owed() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.owed)
}

// backend writes a record of each connection before it asks the backend about it.
type backend struct {
	gateway.Backend

	records *Records
}

// Backend returns the backend of a gateway, which asks b. Before that it passes to b the ends of all
// connections that former processes have left.
func (r *Records) Backend(b gateway.Backend) gateway.Backend {
	unreadable := 0
	for token, record := range r.store.Survivors() {
		notice, ok := decode(gateway.Token(token), record)
		if !ok {
			unreadable++
			r.remove(notice.Token)
			continue
		}
		r.stats.Restored.Add(1)
		b.Disconnect(notice)
	}
	if n := r.stats.Restored.Load(); n > 0 {
		r.log.Info("the backend is told of connections that the last process has left", "connections", n)
	}
	if unreadable > 0 {
		r.log.Warn("records of connections cannot be read, and are passed over", "records", unreadable)
	}
	return &backend{b, r}
}

// Connect implements gateway.Backend.
func (b *backend) Connect(ctx, client context.Context, token gateway.Token, request []byte) gateway.Answer {
	if !b.records.write(token, request, false) {
		b.records.stats.Unrecorded.Add(1)
	}
	answer := b.Backend.Connect(ctx, client, token, request)
	if !answer.Known() {
		b.records.remove(token)
	}
	return answer
}

// write writes a record. If that fails, it is tried again until the record is removed. held says
// that an earlier record of the connection was to be written.
func (r *Records) write(token gateway.Token, record []byte, held bool) bool {
	before, owed := r.supersede(token)
	if r.store.Put(broker.Token(token), record) == nil {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.owed[token] = debt{record, held && (!owed || before.held)}
	return false
}

// remove removes a record.
func (r *Records) remove(token gateway.Token) {
	r.supersede(token)
	_ = r.store.Delete(broker.Token(token))
}

// supersede forgets what is owed to the store for a connection, since something newer follows, and
// returns it.
func (r *Records) supersede(token gateway.Token) (before debt, owed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before, owed = r.owed[token]
	delete(r.owed, token)
	return before, owed
}

// OnDelayed records why a connection ended, since the first attempt to report that has failed.
func (r *Records) OnDelayed(notice gateway.Notice) {
	if notice.Detail != gateway.GatewayLost { // as every record without a reason
		r.write(notice.Token, encode(notice), true)
	}
}

// OnFinished removes the record of a connection whose end needs no further report.
func (r *Records) OnFinished(notice gateway.Notice, _ bool) { r.remove(notice.Token) }

// Run writes what could not be written before, until ctx ends.
func (r *Records) Run(ctx context.Context) error {
	broker.Every(ctx, settleEvery, r.settle)
	return nil
}

// settle writes what could not be written, until that fails again.
func (r *Records) settle() {
	for r.settleOne() {
	}
}

// settleOne writes one record. It keeps the lock meanwhile, so that the record is not removed before
// it is written.
func (r *Records) settleOne() (more bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for token, owing := range r.owed {
		if r.store.Put(broker.Token(token), owing.record) != nil {
			return false
		}
		delete(r.owed, token)
		break
	}
	if len(r.owed) == 0 {
		r.owed = map[gateway.Token]debt{} // a map never shrinks: release the one that an outage made large
		return false
	}
	return true
}

// Leave records the ends that the backend was not told of, for the next process. each calls its
// argument with all of them. Nothing else may use the Records any more. Leave returns how many the
// next process will not know.
func (r *Records) Leave(each func(func(gateway.Notice))) (left, lost int) {
	var writing sync.WaitGroup
	turns := make(chan struct{}, leaveAtOnce)
	each(func(notice gateway.Notice) {
		left++
		turns <- struct{}{}
		writing.Go(func() {
			defer guard.Recover()
			defer func() { <-turns }()
			r.OnDelayed(notice)
		})
	})
	writing.Wait()
	r.settle()
	for _, owing := range r.owed {
		if !owing.held {
			lost++
		}
	}
	return left, lost
}
