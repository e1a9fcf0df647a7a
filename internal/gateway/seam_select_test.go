package gateway_test

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"ssegateway/internal/broker"
)

// selecting is an engine whose log has the events of one topic only where that is followed. All are in truth.
type selecting struct {
	random *rand.Rand // of those who follow

	following sync.Mutex // one after the other

	mu     sync.Mutex
	truth  *broker.Log
	log    *broker.Log
	all    []broker.Publication
	unread []bool         // for each of all
	held   map[string]int // by the topics that are followed: how many hold them
}

func newSelecting(random *rand.Rand) *selecting {
	s := &selecting{random: random, truth: broker.NewLog(lagEpoch, math.MaxInt64, math.MaxInt64), held: map[string]int{}}
	s.log = broker.NewLog(lagEpoch, math.MaxInt64, math.MaxInt64)
	s.truth.LimitRetained(math.MaxInt64)
	s.log.LimitRetained(math.MaxInt64)
	return s
}

func (s *selecting) Log() *broker.Log { return s.log }

func (s *selecting) Run(context.Context) error { return nil }

func (s *selecting) published() []broker.Publication {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.all)
}

// count returns how many publications there are.
func (s *selecting) count() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return uint64(len(s.all))
}

func isSingle(p broker.Publication) bool { return len(p.Topics) == 1 && !p.Retain && !p.Remove }

func (s *selecting) Append(_ context.Context, p broker.Publication) (broker.Position, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, p)
	number := uint64(len(s.all))
	at, _ := s.truth.AppendAt(p, number, time.Now()) // it is open
	s.truth.Reach(number)                            // so each event has a number that is at least a position before it
	_, followed := s.held[first(p.Topics)]
	unread := isSingle(p) && !followed
	if s.unread = append(s.unread, unread); unread {
		return at, broker.ErrUnread
	}
	return s.log.AppendAt(p, number, time.Now())
}

func first(topics []string) string {
	if len(topics) == 0 {
		return ""
	}
	return topics[0]
}

// Follow implements [broker.Selective]. As on a real one, what a topic had before is there later than what comes.
func (s *selecting) Follow(_ context.Context, topics []string, _ uint64) (release func(), err error) {
	s.following.Lock()
	defer s.following.Unlock()
	s.mu.Lock()
	var fresh []string
	for _, t := range topics {
		if _, followed := s.held[t]; !followed {
			fresh = append(fresh, t)
		}
		s.held[t]++
	}
	var past []broker.Past
	for i, p := range s.all {
		if isSingle(p) && p.Store && slices.Contains(fresh, p.Topics[0]) {
			past = append(past, broker.Past{Publication: p, Offset: uint64(i + 1), At: time.Now()})
		}
	}
	s.log.Reach(uint64(len(s.all)))
	s.mu.Unlock()
	sometimes(s.random)
	s.log.Insert(past, 0)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, t := range topics {
			s.held[t]--
		}
	}, nil
}

// End implements [broker.Selective].
func (s *selecting) End(context.Context) (broker.Position, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log.Reach(uint64(len(s.all)))
	return broker.Position{Epoch: lagEpoch, Offset: uint64(len(s.all))}, nil
}

// Selects implements [broker.Selective].
func (s *selecting) Selects() bool { return true }

// Prune implements [broker.Selective].
func (s *selecting) Prune(used func(topic string) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for t, held := range s.held {
		if held == 0 && !used(t) {
			delete(s.held, t)
		}
	}
}
