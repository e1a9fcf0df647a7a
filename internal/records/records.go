// Package records keeps a record of each connection of a gateway that is alone, in a store that
// outlives the process. The next process on that store reports to the backend the ends that this
// one could not report. It is for one gateway what package cluster is for several, at the same
// seams: the [gateway.Backend], and the notifier's hooks.
package records

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"ssegateway/internal/broker"
	"ssegateway/internal/gateway"
	"ssegateway/internal/logging"
)

// Store keeps the records. It is safe for concurrent use. After an error it is unknown whether the
// store has done what it was asked.
type Store interface {
	// Put writes the record of a connection, in place of the one that it has.
	Put(token broker.Token, record []byte) error
	// Delete removes the record of a connection, if there is one.
	Delete(token broker.Token) error
	// Found calls f with each record of former processes, which f may keep. It is called once.
	Found(f func(token broker.Token, record []byte))
}

// settleEvery is how often it is tried to write what could not be written.
const settleEvery = time.Second

// Stats are counters of Records.
type Stats struct {
	Unrecorded atomic.Uint64 // connections that the backend was asked about while no record could be written
	Restored   atomic.Uint64 // ends of former processes' connections that were passed to the notifier
}

// Records are the records of this gateway's connections. Its methods are safe for concurrent use.
type Records struct {
	store  Store
	log    *slog.Logger
	faults *logging.Throttle
	stats  Stats

	mu   sync.Mutex
	owed map[gateway.Token][]byte // what the store does not have yet; nil: a record to be removed
}

// New returns the Records in a store.
func New(store Store, log *slog.Logger) *Records {
	return &Records{store: store, log: log, faults: logging.Every(10 * time.Second), owed: map[gateway.Token][]byte{}}
}

// Stats returns the counters, for reading.
func (r *Records) Stats() *Stats { return &r.stats }

// Owed returns how many records are still to be written or removed.
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
	r.store.Found(func(token broker.Token, record []byte) {
		notice, ok := decode(gateway.Token(token), record)
		if !ok {
			r.faults.Log(r.log, slog.LevelWarn, "a connection's record cannot be read, and is passed over", slog.Int("bytes", len(record)))
			r.remove(notice.Token)
			return
		}
		r.stats.Restored.Add(1)
		b.Disconnect(notice)
	})
	if n := r.stats.Restored.Load(); n > 0 {
		r.log.Info("the backend is told of the connections that the last process has left", "connections", n)
	}
	return &backend{b, r}
}

// Connect implements gateway.Backend.
func (b *backend) Connect(ctx, client context.Context, token gateway.Token, request []byte) gateway.Answer {
	if !b.records.write(token, request) {
		b.records.stats.Unrecorded.Add(1)
	}
	answer := b.Backend.Connect(ctx, client, token, request)
	if !answer.Known() {
		b.records.remove(token)
	}
	return answer
}

// write writes a record. If that fails, it is tried again until the record is removed.
func (r *Records) write(token gateway.Token, record []byte) bool {
	r.supersede(token)
	err := r.store.Put(broker.Token(token), record)
	if err != nil {
		r.owe(token, record, err)
	}
	return err == nil
}

// remove removes a record. If that fails, it is tried again.
func (r *Records) remove(token gateway.Token) {
	r.supersede(token)
	if err := r.store.Delete(broker.Token(token)); err != nil {
		r.owe(token, nil, err)
	}
}

// supersede forgets what is owed to the store for a connection, since something newer follows.
func (r *Records) supersede(token gateway.Token) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.owed, token)
}

func (r *Records) owe(token gateway.Token, record []byte, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.owed[token] = record
	r.complain(err)
}

func (r *Records) complain(err error) {
	r.faults.Log(r.log, slog.LevelWarn, "the record of a connection cannot be written: after a kill the backend may not be told of its end", slog.String("error", err.Error()))
}

// OnDelayed records why a connection ended, since the first attempt to report that has failed.
func (r *Records) OnDelayed(notice gateway.Notice) {
	if notice.Detail != gateway.GatewayLost { // as every record without a reason
		r.write(notice.Token, encode(notice))
	}
}

// OnFinished removes the record of a connection whose end needs no further report.
func (r *Records) OnFinished(notice gateway.Notice, _ bool) { r.remove(notice.Token) }

// Run writes what could not be written before, until ctx ends.
func (r *Records) Run(ctx context.Context) error {
	tick := time.NewTicker(settleEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			r.settle()
		}
	}
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
	for token, record := range r.owed {
		var err error
		if record == nil {
			err = r.store.Delete(broker.Token(token))
		} else {
			err = r.store.Put(broker.Token(token), record)
		}
		if err != nil {
			return false
		}
		delete(r.owed, token)
		break
	}
	if len(r.owed) == 0 {
		r.owed = map[gateway.Token][]byte{} // a map never shrinks: release the one that an outage made large
		return false
	}
	return true
}

// Leave records the ends that the backend was not told of, for the next process. each calls its
// argument with all of them. Nothing else may use the Records any more. Leave returns how many the
// next process will not know.
func (r *Records) Leave(each func(func(gateway.Notice))) (left, lost int) {
	each(func(notice gateway.Notice) {
		left++
		r.OnDelayed(notice)
	})
	r.settle()
	for _, record := range r.owed {
		if record != nil {
			lost++
		}
	}
	return left, lost
}
