package records

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"ssegateway/internal/broker"
	"ssegateway/internal/bubble"
	"ssegateway/internal/gateway"
)

// store is a Store that can be full.
type store struct {
	mu     sync.Mutex
	full   bool
	has    map[broker.Token]string
	synced chan struct{} // Put waits for it; nil: it does not
}

var errFull = errors.New("no space left")

func newStore() *store { return &store{has: map[broker.Token]string{}} }

func (s *store) Put(token broker.Token, record []byte) error {
	if s.synced != nil {
		<-s.synced
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.full {
		return errFull
	}
	s.has[token] = string(record)
	return nil
}

func (s *store) Delete(token broker.Token) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.full {
		return errFull
	}
	delete(s.has, token)
	return nil
}

func (s *store) Survivors() iter.Seq2[broker.Token, []byte] {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := maps.Clone(s.has)
	return func(yield func(broker.Token, []byte) bool) {
		for token, record := range found {
			if !yield(token, []byte(record)) {
				return
			}
		}
	}
}

func (s *store) becomes(full bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.full = full
}

// wants checks what is in the store.
func (s *store) wants(t *testing.T, want map[broker.Token]string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if diff := cmp.Diff(want, s.has); diff != "" {
		t.Errorf("-want +stored:\n%s", diff)
	}
}

// asked is a backend that gives one answer, and records what it is told.
type asked struct {
	answer gateway.Answer
	during func() // called within Connect; may be nil
	told   []gateway.Notice
}

func (a *asked) Connect(context.Context, context.Context, gateway.Token, []byte) gateway.Answer {
	if a.during != nil {
		a.during()
	}
	return a.answer
}

func (a *asked) Disconnect(n gateway.Notice) { a.told = append(a.told, n) }

const request = `{"url":"/","headers":{}}`

func connect(t *testing.T, b gateway.Backend, token gateway.Token) gateway.Answer {
	t.Helper()
	return b.Connect(t.Context(), t.Context(), token, []byte(request))
}

var one, two = gateway.Token{1}, gateway.Token{2}

// The record is there before the backend is asked, and stays where the backend may know the connection.
func TestRecordBeforeAsking(t *testing.T) {
	for _, test := range []struct {
		answer gateway.Answer
		stays  bool
	}{
		{gateway.Answer{Outcome: gateway.Accepted, Status: 200}, true},
		{gateway.Answer{Outcome: gateway.Unanswered}, true},
		{gateway.Answer{Outcome: gateway.TimedOut}, true},
		{gateway.Answer{Outcome: gateway.TimedOut, Unsent: true}, false},
		{gateway.Answer{Outcome: gateway.Refused, Status: 403}, false},
		{gateway.Answer{Outcome: gateway.Unreachable}, false},
		{gateway.Answer{Outcome: gateway.Unasked}, false},
	} {
		s := newStore()
		r := New(s, slog.New(slog.DiscardHandler))
		there := map[broker.Token]string{broker.Token(one): request}
		b := r.Backend(&asked{answer: test.answer, during: func() { s.wants(t, there) }})
		if got := connect(t, b, one); got.Outcome != test.answer.Outcome {
			t.Errorf("the answer %v became %v", test.answer, got)
		}
		want := map[broker.Token]string{}
		if test.stays {
			want = there
		}
		s.wants(t, want)
		r.OnFinished(gateway.Notice{Token: one}, false)
		s.wants(t, map[broker.Token]string{})
	}
}

// The next process tells why a connection ended, or that it was lost with its gateway.
func TestNextProcessTells(t *testing.T) {
	s := newStore()
	r := New(s, slog.New(slog.DiscardHandler))
	b := r.Backend(&asked{answer: gateway.Answer{Outcome: gateway.Accepted}})
	tokens := map[gateway.Token]gateway.Notice{}
	add := func(token byte, reason gateway.Reason, detail gateway.Detail) (n gateway.Notice) {
		n = gateway.Notice{Token: gateway.Token{token}, Request: []byte(request), Reason: reason, Detail: detail}
		tokens[n.Token] = n
		connect(t, b, n.Token)
		return n
	}
	r.OnDelayed(add(1, gateway.ClientClosed, 0))
	r.OnDelayed(add(2, gateway.Error, gateway.SlowConsumer))
	left := add(3, gateway.ServerClosed, gateway.Draining)
	add(4, gateway.Error, gateway.GatewayLost) // open when the process ended
	if n, lost := r.Leave(func(f func(gateway.Notice)) { f(left) }); n != 1 || lost != 0 {
		t.Errorf("%d left, %d lost", n, lost)
	}
	s.has[broker.Token{5}] = "elsewhere far\n" + request // by a newer version
	tokens[gateway.Token{5}] = gateway.Notice{Token: gateway.Token{5}, Request: []byte(request), Reason: gateway.Error, Detail: gateway.GatewayLost}
	s.has[broker.Token{6}] = "nonsense"

	next := &asked{}
	r = New(s, slog.New(slog.DiscardHandler))
	r.Backend(next)
	got := map[gateway.Token]gateway.Notice{}
	for _, n := range next.told {
		got[n.Token] = n
	}
	if diff := cmp.Diff(tokens, got); diff != "" || len(next.told) != len(tokens) {
		t.Errorf("told %d times; -want +told:\n%s", len(next.told), diff)
	}
	if n := r.Stats().Restored.Load(); n != uint64(len(tokens)) {
		t.Errorf("%d are counted, want %d", n, len(tokens))
	}
	for _, n := range next.told {
		r.OnFinished(n, false)
	}
	s.wants(t, map[broker.Token]string{})
}

// While the store is full connections open without a record, which is written when there is room,
// unless the connection has ended.
func TestFullStore(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newStore()
		r := New(s, slog.New(slog.DiscardHandler))
		b := r.Backend(&asked{answer: gateway.Answer{Outcome: gateway.Accepted}})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = r.Run(ctx) }()
		s.becomes(true)
		for _, token := range []gateway.Token{one, two} {
			if got := connect(t, b, token); got.Outcome != gateway.Accepted {
				t.Errorf("the answer is %v", got)
			}
		}
		time.Sleep(3 * settleEvery) // fake clock
		if n, owed := r.Stats().Unrecorded.Load(), r.Owed(); n != 2 || owed != 2 {
			t.Errorf("%d are counted, %d are owed, want 2", n, owed)
		}
		r.OnFinished(gateway.Notice{Token: two}, false)
		s.becomes(false)
		time.Sleep(2 * settleEvery) // fake clock
		s.wants(t, map[broker.Token]string{broker.Token(one): request})
		if owed := r.Owed(); owed != 0 {
			t.Errorf("%d are owed", owed)
		}
	})
}

// What a full store has no record of is lost at the end. Where it has an older one that is not so.
func TestLeaveFullStore(t *testing.T) {
	s := newStore()
	r := New(s, slog.New(slog.DiscardHandler))
	b := r.Backend(&asked{answer: gateway.Answer{Outcome: gateway.Accepted}})
	connect(t, b, one)
	s.becomes(true)
	connect(t, b, two)
	drained := func(token gateway.Token) gateway.Notice {
		return gateway.Notice{Token: token, Request: []byte(request), Reason: gateway.ServerClosed, Detail: gateway.Draining}
	}
	r.OnDelayed(drained(two))
	left, lost := r.Leave(func(f func(gateway.Notice)) {
		f(drained(one))
		f(drained(two))
	})
	if left != 2 || lost != 1 {
		t.Errorf("%d left, %d lost, want 2 and 1", left, lost)
	}
	s.wants(t, map[broker.Token]string{broker.Token(one): request})
}

// TestLeaveAtOnce: ends are recorded together, since a store may force each write to its disk.
func TestLeaveAtOnce(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newStore()
		s.synced = make(chan struct{})
		r := New(s, slog.New(slog.DiscardHandler))
		want := map[broker.Token]string{}
		var called atomic.Int64
		over := make(chan struct{})
		go func() {
			defer close(over)
			if left, lost := r.Leave(func(f func(gateway.Notice)) {
				for i := range 100 {
					n := gateway.Notice{Token: gateway.Token{byte(i)}, Request: []byte(request), Reason: gateway.ServerClosed, Detail: gateway.Draining}
					want[broker.Token(n.Token)] = string(encode(n))
					f(n)
					called.Add(1)
				}
			}); left != 100 || lost != 0 {
				t.Errorf("%d left, %d lost", left, lost)
			}
		}()
		synctest.Wait()
		if n := called.Load(); n != 100 {
			t.Errorf("after %d ends it waits for the store", n)
		}
		close(s.synced)
		<-over
		s.wants(t, want)
	})
}
