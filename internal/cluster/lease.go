package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-json-experiment/json"

	"ssegateway/internal/broker"
)

// value is what is in a node's key.
type value struct {
	Name     string    `json:"name"`
	Started  time.Time `json:"started"`
	Instance string    `json:"instance"`
	State    string    `json:"state"`
	By       uint32    `json:"by,omitzero"`      // the node that reports what a lost one held; 0: none yet
	Version  int       `json:"version,omitzero"` // the newest of messages that the node understands
	// LeaseSeconds is the node's lease, rounded up. 0: the same as the reader's.
	LeaseSeconds int      `json:"lease_seconds,omitzero"`
	Backends     []string `json:"backends,omitzero"` // as in Config, once the node is admitted
}

// The states of a node. A node without a key is gone for good.
const (
	live = "live"
	lost = "lost"
	gone = "gone" // never in a key
)

func (v value) encode() []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // every field can be JSON
	}
	return b
}

// decode reads a key's value. ok is false for a value that no node writes. It counts as that of a
// silent node: nobody is taken for gone because of it, and it expires.
func decode(data []byte) (v value, ok bool) {
	if data == nil {
		return value{State: gone}, true
	}
	if json.Unmarshal(data, &v) != nil || v.State != lost && (v.State != live || v.Instance == "") {
		return value{State: live}, false
	}
	return v, true
}

func nameOf(name string, number uint32) string { return fmt.Sprintf("%s/%08x", name, number) }

// tooOld reports whether it is too late to write a number from an earlier store into this one. When
// the store is as old as a lease, other nodes take a number that is not in it for gone, so the
// number has to be written before that.
func (n *Node) tooOld(store broker.Nodes) bool { return store.Age() >= n.cfg.Lease-n.setTimeout() }

const renewRepeat = 300 * time.Millisecond // after a renewal that failed

// The times of a lease. A node renews its key so often that a few lost renewals do no harm. It
// trusts its lease for less time than the others wait. The difference allows for clocks that run at
// different speeds, and for a callback that is on its way to the backend.
func (n *Node) interval() time.Duration   { return n.cfg.Lease / 8 }
func (n *Node) setTimeout() time.Duration { return n.cfg.Lease / 4 }
func (n *Node) trust() time.Duration      { return n.cfg.Lease * 4 / 5 }

// renewLoop renews the key until ctx ends or the store is lost. It draws another number whenever
// its number is taken.
func (n *Node) renewLoop(ctx context.Context, store broker.Nodes) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case l := <-n.leaving:
			l.done <- n.leave(l.ctx, store, l.complete)
			<-ctx.Done()
			return
		case <-n.admitting:
			if n.admit() {
				timer.Reset(0) // to publish its backend
			}
			continue
		case <-timer.C:
		}
		switch err := n.renew(ctx, store); {
		case errors.Is(err, broker.ErrStoreLost):
			return
		case errors.Is(err, errNumberTaken):
			n.onLeaseLost()
			timer.Reset(0)
		case err != nil:
			if ctx.Err() == nil {
				n.doubt.Log(n.cfg.Log, slog.LevelWarn, "the lease cannot be renewed", slog.String("error", err.Error()))
			}
			timer.Reset(min(n.interval(), renewRepeat)) // the broker may be back at any moment
		case n.admit():
			timer.Reset(0)
		default:
			timer.Reset(n.interval())
		}
	}
}

// renew writes the key once. ErrConflict may be caused by an earlier write of this node that was
// not acknowledged, so only the value of the key shows whether the lease was taken.
func (n *Node) renew(ctx context.Context, store broker.Nodes) error {
	ctx, cancel := context.WithTimeout(ctx, n.setTimeout())
	defer cancel()
	n.mu.Lock()
	if n.number == 0 {
		n.number, n.revision = n.draw(), 0
	}
	number, revision := n.number, n.revision
	late := n.claimed && revision == 0 && n.tooOld(store)
	if since := later(n.ownSeen, n.watched); n.revision > n.ownFrom && n.rewatch != nil && time.Since(since) > n.cfg.Lease/4 {
		n.rewatch() // the watch should have seen what was acknowledged
	}
	var backends []string
	if n.admitted {
		backends = n.cfg.Backends
	}
	n.mu.Unlock()

	sent := time.Now()
	v := value{LeaseSeconds: int((n.cfg.Lease + time.Second - 1) / time.Second), Backends: backends, Name: n.cfg.Name, Started: n.started, Instance: n.instance, State: live, Version: n.cfg.Version}
	next, err := uint64(0), broker.ErrConflict
	if !late {
		next, err = store.Set(ctx, number, v.encode(), revision)
	}
	if errors.Is(err, broker.ErrConflict) {
		k, err := store.Get(ctx, number)
		if err != nil {
			return err
		}
		if k.Revision < revision && n.hasGoneBack(ctx, store, number, revision) {
			return broker.ErrStoreLost
		}
		if !n.isMine(k) {
			return errNumberTaken
		}
		sent = time.Now()
		next, err = store.Set(ctx, number, v.encode(), k.Revision)
		if err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	n.renewed(store, number, next, sent)
	return nil
}

// isMine reports whether a key that has changed is still this node's. A value that cannot be read
// gives the number to nobody.
func (n *Node) isMine(k broker.Key) bool {
	found, ok := decode(k.Value)
	if !ok {
		_, certain := n.lease(k.Node)
		return certain
	}
	return found.Instance == n.instance && found.State == live
}

// renewed records an acknowledged renewal.
func (n *Node) renewed(store broker.Nodes, number uint32, revision uint64, sent time.Time) {
	n.mu.Lock()
	n.revision, n.certain = revision, sent.Add(n.trust())
	first := !n.claimed
	n.claimed = true
	if first {
		n.session, n.end = context.WithCancel(context.Background())
	}
	silent, admitted := n.silence == nil, n.admitted
	n.mu.Unlock()

	n.ledger.confirm(number, sent)
	if silent && n.answer != nil {
		if stop, err := store.Answer(number, n.answer); err == nil {
			n.mu.Lock()
			n.silence = stop
			n.mu.Unlock()
		}
	}
	if first {
		n.cfg.Log.Info("lease held", "node", nameOf(n.cfg.Name, number), "lease", n.cfg.Lease.String())
		if admitted {
			n.gw.SetNumber(number)
		}
		signal(n.disputes)
	}
	if n.teller != nil {
		n.teller.Resume()
	}
}

// onLeaseLost gives up the number: others took this node for dead, and report the ends of what it
// held.
func (n *Node) onLeaseLost() {
	n.mu.Lock()
	number, had := n.number, n.claimed
	n.number, n.revision, n.claimed, n.certain = 0, 0, false, time.Time{}
	n.contact, n.ownSeen, n.ownFrom = time.Time{}, time.Time{}, 0
	if k, ok := n.keys[number]; ok && had {
		if k.State == live {
			k.State = lost
		}
		k.alive = time.Time{}
		n.keys[number] = k
	}
	for token := range n.adopted {
		n.orphaned[token] = number
	}
	clear(n.adopted)
	clear(n.unsure)
	if _, outlived := n.outlived[number]; had && !outlived && n.keys[number].State != gone { // others have yet to find all
		n.handed[number] = nil
	}
	n.slots = newSlots(n.cfg)
	n.end()
	if n.silence != nil {
		n.silence()
		n.silence = nil
	}
	n.mu.Unlock()
	if !had {
		return // the number was another node's from the beginning
	}
	n.cfg.Log.Warn("lease lost: all streams end", "node", nameOf(n.cfg.Name, number))
	n.gw.Abandon()
	if n.teller != nil {
		n.teller.Resume() // what waited for the lease is denied now
	}
}

// leave asks renewLoop to end the lease.
type leave struct {
	ctx      context.Context
	complete bool // every end was reported
	done     chan error
}

// Leave gives the number back. complete says that every end was reported; otherwise the other nodes
// report the rest. Run continues until its context ends.
func (n *Node) Leave(ctx context.Context, complete bool) error {
	l := leave{ctx, complete, make(chan error, 1)}
	select {
	case n.leaving <- l:
	case <-ctx.Done():
		return ctx.Err()
	}
	return <-l.done
}

func (n *Node) leave(ctx context.Context, store broker.Nodes, complete bool) error {
	complete = complete && n.ledger.flush(ctx)
	n.mu.Lock()
	n.retired = true
	taking := n.taking > 0
	n.mu.Unlock()
	if taking { // nobody would find what is being taken over at this moment
		select {
		case <-n.taken:
		case <-ctx.Done():
			return ctx.Err() // the lease ends by itself
		}
	}
	n.mu.Lock()
	number, revision, claimed := n.number, n.revision, n.claimed
	complete = complete && len(n.disputed) == 0 && len(n.adopted) == 0
	n.claimed = false // nothing is reported from now on
	n.mu.Unlock()
	switch {
	case !claimed:
		return nil
	case complete:
		if err := store.Forget(ctx, number); err != nil {
			return err
		}
		return store.Remove(ctx, number, revision)
	default:
		n.cfg.Log.Warn("the other nodes are left to tell what is left", "node", nameOf(n.cfg.Name, number))
		v := value{Name: n.cfg.Name, Started: n.started, Instance: n.instance, State: lost}
		_, err := store.Set(ctx, number, v.encode(), revision)
		return err
	}
}
