package brokertest

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"ssegateway/internal/broker"
)

// Store is a store of nodes in memory, for tests: all times and faults are the test's.
type Store struct {
	// Unnoticed keeps links from noticing by themselves that the store went back. Only the keys show it.
	Unnoticed bool

	mu sync.Mutex
	state
	epochs   int // that were given out
	restored int // how often
	answers  map[uint32]*answerer
	changed  chan struct{} // closed when something has changed
	limit    int           // of its size in bytes; 0: none
}

// state is what is stored.
type state struct {
	epoch    int
	made     time.Time
	revision uint64
	subjects map[uint64]string // what was written, by its revision
	keys     map[uint32]broker.Key
	records  map[uint32]map[broker.Token]record
}

func (s state) clone() state {
	s.subjects, s.keys, s.records = maps.Clone(s.subjects), maps.Clone(s.keys), maps.Clone(s.records)
	for node, of := range s.records {
		s.records[node] = maps.Clone(of)
	}
	return s
}

type record struct {
	request  []byte
	by       uint32 // who took it over; 0: nobody
	revision uint64
}

type answerer struct {
	link *Link
	f    func(ctx context.Context, message []byte) []byte
}

// NewStore makes an empty Store.
func NewStore() *Store {
	s := &Store{changed: make(chan struct{}), answers: map[uint32]*answerer{}}
	s.clear()
	return s
}

func (s *Store) clear() {
	s.epochs++
	s.state = state{epoch: s.epochs, made: time.Now(), subjects: map[uint64]string{}, keys: map[uint32]broker.Key{}, records: map[uint32]map[broker.Token]record{}}
}

// Save copies the store's content, and returns a function that restores it. Later writes are
// lost then, and their revisions are assigned again.
func (s *Store) Save() (restore func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	saved := s.state.clone()
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.state = saved.clone()
		s.restored++
		s.changeLocked()
	}
}

// Lose loses everything: what was opened before fails with ErrStoreLost.
func (s *Store) Lose() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
	s.changeLocked()
}

// Limit bounds what is stored, as Size counts it; 0: no bound. An eighth is kept for keys,
// and half of that for taking over as well.
func (s *Store) Limit(bytes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit = bytes
}

// eachSize is what everything in the store takes beside its content, in bytes.
const eachSize = 64

// Size returns how many bytes the store holds.
func (s *Store) Size() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sizeLocked()
}

func (s *Store) sizeLocked() (size int) {
	for _, k := range s.keys {
		size += eachSize + len(k.Value)
	}
	for _, of := range s.records {
		for _, r := range of {
			size += eachSize + len(r.request)
		}
	}
	return size
}

// needLocked fails if this many more bytes do not leave a part of the limit, in sixteenths, free.
// A value that is replaced still counts.
func (l *Link) needLocked(bytes, leave int) error {
	if s := l.store; s.limit > 0 && s.sizeLocked()+eachSize+bytes > s.limit-s.limit/16*leave {
		l.full = true
		return broker.ErrFull
	}
	return nil
}

// Keys returns the nodes' keys.
func (s *Store) Keys() map[uint32]broker.Key {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.keys)
}

// Records counts what nodes hold.
func (s *Store) Records() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, of := range s.records {
		for _, r := range of {
			if r.by == 0 {
				n++
			}
		}
	}
	return n
}

func (s *Store) changeLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Fault is a failure of the connection between a node and the store.
type Fault int

// Faults.
const (
	None   Fault = iota
	Down         // everything fails at once
	Cut          // nothing gets through, and nothing reports that
	Deaf         // requests are carried out, but no answer gets through
	Frozen       // the node stands still; its pending requests are carried out afterwards
	Lossy        // requests are carried out, but every other answer comes too late
)

// ErrDown is the error of a link that is Down.
var ErrDown = fmt.Errorf("%w: the store is not connected", broker.ErrUnsent)

// Link is one node's connection to a Store.
type Link struct {
	store *Store
	// Delay, if not nil, says how long each step takes.
	Delay func() time.Duration
	fault Fault // guarded by the store's lock
	deaf  bool  // no answer gets through to the request that is being carried out; guarded by the store's lock
	full  bool  // as Full says; guarded by the store's lock
}

// Link makes a connection to the store.
func (s *Store) Link() *Link { return &Link{store: s} }

// Break sets the fault of the link.
func (l *Link) Break(f Fault) {
	l.store.mu.Lock()
	defer l.store.mu.Unlock()
	l.fault = f
	l.store.changeLocked()
}

const openTimeout = 5 * time.Second // as NATS' client has

// Open opens the store in its current state.
func (l *Link) Open(ctx context.Context) (broker.Nodes, error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	o := &opened{Link: l}
	err := o.do(ctx, func(s *Store) error {
		o.epoch, o.made, o.acked, o.restored = s.epoch, s.made, s.revision, s.restored
		return nil
	})
	return o, err
}

type opened struct {
	*Link

	epoch    int // 0: not opened yet
	made     time.Time
	acked    uint64 // the highest revision that is known; guarded by the store's lock
	wrote    uint64 // the last one that this node wrote; guarded by the store's lock
	subject  string // of that one; guarded by the store's lock
	restored int    // of the store, when that was looked at last; guarded by the store's lock
	back     bool   // the store has gone back behind it; guarded by the store's lock
}

// isBack reports whether the store has lost a revision that this node knows or wrote last.
func (o *opened) isBack() bool {
	if o.restored != o.store.restored && !o.store.Unnoticed {
		o.restored = o.store.restored
		o.back = o.back || o.store.revision < o.acked || o.wrote > 0 && o.store.subjects[o.wrote] != o.subject
	}
	return o.back
}

// write records a write that has just got a revision.
func (o *opened) write(s *Store, subject string) error {
	s.revision++
	s.subjects[s.revision] = subject
	if o.back = o.back || s.revision <= o.acked && !s.Unnoticed; o.back {
		return broker.ErrStoreLost
	}
	o.found(subject, s.revision)
	return nil
}

// found records something that this node wrote, as soon as it knows of it.
func (o *opened) found(subject string, revision uint64) {
	if o.deaf {
		return
	}
	o.acked = max(o.acked, revision)
	if revision > o.wrote {
		o.wrote, o.subject = revision, subject
	}
}

func recordSubject(node uint32, token broker.Token) string { return fmt.Sprintf("%d/%x", node, token) }

var _ broker.Nodes = (*opened)(nil)

// thaw waits until the node no longer stands still, and takes the store's lock.
func (l *Link) thaw() {
	l.store.mu.Lock()
	for l.fault == Frozen {
		changed := l.store.changed
		l.store.mu.Unlock()
		<-changed
		l.store.mu.Lock()
	}
}

func (o *opened) do(ctx context.Context, f func(s *Store) error) error {
	if o.Delay != nil {
		time.Sleep(o.Delay()) // fake clock
	}
	o.thaw()
	fault := o.fault
	o.deaf = fault == Deaf || fault == Lossy && rand.IntN(2) == 0
	deaf, err := o.deaf, ErrDown
	if fault != Down && fault != Cut {
		if o.epoch != 0 && (o.epoch != o.store.epoch || o.isBack()) {
			err = broker.ErrStoreLost
		} else {
			err = f(o.store)
		}
	}
	o.store.mu.Unlock()
	if fault == Cut || deaf {
		<-ctx.Done()
		return ctx.Err()
	}
	if ctx.Err() != nil {
		return ctx.Err() // the answer came too late
	}
	return err
}

func (o *opened) Age() time.Duration { return time.Since(o.made) }

func (o *opened) set(ctx context.Context, node uint32, value []byte, last uint64) (revision uint64, err error) {
	err = o.do(ctx, func(s *Store) error {
		if k := s.keys[node]; k.Revision != last {
			return broker.ErrConflict
		}
		if err := o.needLocked(len(value), 0); err != nil {
			return err
		}
		err := o.write(s, fmt.Sprint(node))
		revision = s.revision
		s.keys[node] = broker.Key{Node: node, Revision: revision, Value: bytes.Clone(value)}
		s.changeLocked()
		return err
	})
	return revision, err
}

func (o *opened) Set(ctx context.Context, node uint32, value []byte, last uint64) (uint64, error) {
	return o.set(ctx, node, value, last)
}

func (o *opened) Remove(ctx context.Context, node uint32, last uint64) error {
	_, err := o.set(ctx, node, nil, last)
	return err
}

func (o *opened) Get(ctx context.Context, node uint32) (k broker.Key, err error) {
	err = o.do(ctx, func(s *Store) error {
		k = s.keys[node]
		return nil
	})
	return k, err
}

func (o *opened) Watch(ctx context.Context, f func(broker.Key)) error {
	var seen uint64
	restored := -1
	for ctx.Err() == nil {
		var fresh []broker.Key
		o.thaw()
		changed, fault, lost := o.store.changed, o.fault, o.epoch != o.store.epoch
		if restored < 0 {
			restored = o.store.restored
		}
		if restored != o.store.restored { // the broker was away for that
			o.store.mu.Unlock()
			return ErrDown
		}
		if (fault == None || fault == Lossy) && !lost {
			for _, k := range o.store.keys {
				if k.Revision > seen {
					fresh = append(fresh, k)
				}
			}
		}
		o.store.mu.Unlock()
		if lost {
			return broker.ErrStoreLost
		}
		if fault == Down {
			return ErrDown
		}
		slices.SortFunc(fresh, func(a, b broker.Key) int { return int(a.Revision) - int(b.Revision) })
		for _, k := range fresh {
			if o.Delay != nil {
				time.Sleep(o.Delay()) // fake clock
			}
			seen = k.Revision
			f(k)
		}
		if len(fresh) > 0 {
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}

// put sets a record, or, with nil, removes it.
func (s *Store) put(node uint32, token broker.Token, r *record) {
	if s.records[node] == nil {
		s.records[node] = map[broker.Token]record{}
	}
	if r == nil {
		delete(s.records[node], token)
	} else {
		s.records[node][token] = *r
	}
}

func (o *opened) Hold(ctx context.Context, node uint32, token broker.Token, request []byte) error {
	return o.do(ctx, func(s *Store) error {
		r, ok := s.records[node][token]
		if r.by != 0 {
			return broker.ErrTaken
		}
		if ok {
			o.found(recordSubject(node, token), r.revision)
			return nil
		}
		leave := 2
		if broker.NodeOf(token) != node {
			leave = 1 // it is taken over
		}
		if err := o.needLocked(len(request), leave); err != nil {
			return err
		}
		err := o.write(s, recordSubject(node, token))
		s.put(node, token, &record{request: bytes.Clone(request), revision: s.revision})
		return err
	})
}

func (o *opened) Release(ctx context.Context, node uint32, token broker.Token) error {
	return o.do(ctx, func(s *Store) error {
		s.put(node, token, nil)
		return nil
	})
}

func (o *opened) TakeOver(ctx context.Context, node uint32, token broker.Token, by uint32) (taken, before bool, err error) {
	err = o.do(ctx, func(s *Store) error {
		r := s.records[node][token]
		before, taken = r.by != 0, r.by == by
		switch {
		case taken:
			o.found(recordSubject(node, token), r.revision)
			return nil
		case before:
			return nil
		}
		if err := o.needLocked(0, 1); err != nil {
			return err
		}
		taken = true
		err := o.write(s, recordSubject(node, token))
		s.put(node, token, &record{by: by, revision: s.revision})
		return err
	})
	return taken && err == nil, before && err == nil, err
}

// heldTimeout is how long a read of records waits for the first, as broker.Nodes wants.
const heldTimeout = 5 * time.Second

func (o *opened) Held(ctx context.Context, node uint32, f func(broker.Token, []byte) error) error {
	all := map[broker.Token]record{}
	reading, cancel := context.WithTimeout(ctx, heldTimeout)
	defer cancel()
	err := o.do(reading, func(s *Store) error {
		maps.Copy(all, s.records[node])
		return nil
	})
	for token, r := range all {
		if err == nil && r.by == 0 {
			err = f(token, r.request)
		}
	}
	return err
}

func (o *opened) Forget(ctx context.Context, node uint32) error {
	return o.do(ctx, func(s *Store) error {
		delete(s.records, node)
		return nil
	})
}

func (o *opened) Reserve(ctx context.Context) error {
	return o.do(ctx, func(*Store) error {
		o.full = false
		return o.needLocked(0, 3)
	})
}

func (o *opened) Full() bool {
	o.store.mu.Lock()
	defer o.store.mu.Unlock()
	return o.full
}

func (o *opened) Ask(ctx context.Context, node uint32, message []byte) ([]byte, error) {
	if len(message) > o.MaxMessage() {
		return nil, broker.ErrTooLarge
	}
	var a *answerer
	err := o.do(ctx, func(s *Store) error {
		if a = s.answers[node]; a == nil {
			return broker.ErrNobody
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	done := make(chan struct{})
	var answer []byte
	var reached bool
	go func() {
		defer close(done)
		other := &opened{Link: a.link}
		if reached = other.do(ctx, func(*Store) error { return nil }) == nil; reached {
			answer = a.f(ctx, message)
		}
	}()
	select {
	case <-done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if !reached {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return answer, o.do(ctx, func(*Store) error { return nil })
}

func (o *opened) Answer(node uint32, f func(ctx context.Context, message []byte) []byte) (func(), error) {
	o.store.mu.Lock()
	defer o.store.mu.Unlock()
	a := &answerer{o.Link, f}
	o.store.answers[node] = a
	return func() {
		o.store.mu.Lock()
		defer o.store.mu.Unlock()
		if o.store.answers[node] == a {
			delete(o.store.answers, node)
		}
	}, nil
}

func (o *opened) MaxMessage() int { return 1 << 20 }
