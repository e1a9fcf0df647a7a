package cluster

import (
	"testing"
	"time"

	"ssegateway/internal/gateway"
)

// The broker is back with an earlier state of the store. What was recorded since is recorded
// anew, so that it is told of should its node die, and no stream ends.
func TestStoreRestored(t *testing.T) {
	for _, since := range []time.Duration{0, 100 * time.Millisecond, 3 * time.Second, 3 * lease} {
		storeRestored(t, since, false)
	}
	for _, since := range []time.Duration{3 * time.Second, 3 * lease} { // keys have been renewed
		storeRestored(t, since, true)
	}
}

func storeRestored(t *testing.T, since time.Duration, unnoticed bool) {
	t.Helper()
	within(t, func(t *testing.T, s *site) {
		s.store.Unnoticed = unnoticed
		a, b := s.start(answering), s.start(answering)
		sleep(time.Second)
		numbers := []uint32{a.number(), b.number()}
		tokens := []gateway.Token{a.mustConnect()}
		restore := s.store.Save()
		for range 5 {
			tokens = append(tokens, a.mustConnect())
		}
		kept := b.mustConnect()
		sleep(since)
		restore()
		for range 5 { // from the first moment on
			tokens = append(tokens, a.mustConnect())
		}
		sleep(lease / 2)
		if n := s.store.Records(); n != len(tokens)+1 {
			t.Errorf("after %v: %d records of %d connections", since, n, len(tokens)+1)
		}
		if a.number() != numbers[0] || b.number() != numbers[1] {
			t.Errorf("after %v: a node has another number", since)
		}
		s.expectAsk(b, tokens[1], nil)
		s.expectAsk(a, kept, nil)
		a.kill()
		sleep(2 * soon)
		s.expect(b, "error/gateway_lost", tokens...)
		s.expectNone(kept)
	})
}

// A node that the earlier state does not know does not go on under its number: others may
// have said that it is gone. It tells of its connections itself.
func TestStoreRestoredFromBeforeANode(t *testing.T) {
	within(t, func(t *testing.T, s *site) {
		a := s.start(answering)
		sleep(2 * lease)
		restore := s.store.Save()
		b := s.start(answering)
		sleep(lease)
		token, kept, number := b.mustConnect(), a.mustConnect(), b.number()
		restore()
		sleep(2 * soon)
		s.expect(b, "error/gateway_lost", token)
		s.expectNone(kept)
		s.expectAsk(a, token, ErrGone)
		if b.gw.Find(token) != nil || b.number() == number || b.number() == 0 {
			t.Errorf("the number is %08x, was %08x", b.number(), number)
		}
	})
}

// A node that was taken for lost stays lost, though it is alive in the earlier state.
func TestStoreRestoredFromBeforeADeath(t *testing.T) {
	within(t, func(t *testing.T, s *site) {
		a, b := s.start(answering), s.start(answering)
		sleep(time.Second)
		token := b.mustConnect()
		restore := s.store.Save()
		b.kill()
		sleep(2 * soon)
		s.expect(a, "error/gateway_lost", token)
		restore()
		for range 3 * lease / time.Second {
			s.expectAsk(a, token, ErrGone)
			sleep(time.Second)
		}
		if n := s.store.Records(); n != 0 {
			t.Errorf("%d records are left", n)
		}
	})
}
