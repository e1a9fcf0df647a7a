package cluster

import (
	"testing"
	"time"

	"ssegateway/internal/broker"
	"ssegateway/internal/gateway"
)

// open returns a connection to the store beside those of the members.
func (s *site) open() broker.Nodes {
	s.t.Helper()
	ctx, cancel := deadline(time.Second)
	defer cancel()
	store, err := s.store.Link().Open(ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	return store
}

// garble writes a key that no node would.
func (s *site) garble(number uint32, text string) {
	s.t.Helper()
	ctx, cancel := deadline(time.Second)
	defer cancel()
	if _, err := s.open().Set(ctx, number, []byte(text), s.store.Keys()[number].Revision); err != nil {
		s.t.Fatal(err)
	}
}

// garbage is what may be in a key that is not the gateway's work.
var garbage = []string{"x", "{}", `{"state":"asleep","instance":"y"}`, "[]"}

// A node whose key was written over with what nobody can read goes on, and the others go on
// knowing it.
func TestGarbledKeyOfALiveNode(t *testing.T) {
	for _, text := range garbage {
		within(t, func(t *testing.T, s *site) {
			a, b := s.start(answering), s.start(answering)
			sleep(time.Second)
			token, number := b.mustConnect(), b.number()
			s.garble(number, text)
			for range 2 * lease / time.Second {
				s.expectAsk(a, token, nil)
				sleep(time.Second)
			}
			if b.number() != number || !a.sees(number) {
				t.Errorf("%s: the number is %08x, was %08x; seen: %v", text, b.number(), number, a.sees(number))
			}
			s.expectNone(token)
		})
	}
}

// A dead node is told of, though its key cannot be read. That of nobody goes as well.
func TestGarbledKeyOfADeadNode(t *testing.T) {
	for _, text := range garbage {
		within(t, func(t *testing.T, s *site) {
			a, b := s.start(answering), s.start(answering)
			sleep(time.Second)
			token := b.mustConnect()
			b.kill()
			sleep(time.Second)
			s.garble(token.Node(), text)
			s.garble(77, text)
			fresh := s.start(answering)
			sleep(lease / 2)
			s.expectAsk(fresh, token, ErrUnreachable)
			sleep(2 * lease)
			s.expect(nil, "error/gateway_lost", token)
			for number, k := range s.store.Keys() {
				if k.Value != nil && number != a.number() && number != fresh.number() {
					t.Errorf("%s: the key of %08x is there still: %s", text, number, k.Value)
				}
			}
		})
	}
}

// A record that is not the gateway's work is passed over when a dead node is told of, and
// goes.
func TestGarbledRecord(t *testing.T) {
	within(t, func(t *testing.T, s *site) {
		s.start()
		b := s.start()
		sleep(time.Second)
		token := b.mustConnect()
		var garbled []gateway.Token
		for i, text := range []string{"x", `{"url":`, `{"url":"/"}},"action":"x"`} {
			garbled = append(garbled, gateway.Token{0, 0, 0, 1, byte(i)})
			ctx, cancel := deadline(time.Second)
			if err := s.open().Hold(ctx, b.number(), broker.Token(garbled[i]), []byte(text)); err != nil {
				t.Fatal(err)
			}
			cancel()
		}
		b.kill()
		sleep(2 * lease)
		s.expect(nil, "error/gateway_lost", token)
		for _, token := range garbled {
			s.expectNone(token)
		}
		if k := s.store.Keys()[token.Node()]; k.Value != nil || s.store.Records() != 0 {
			t.Errorf("%d records are left, and the key %s", s.store.Records(), k.Value)
		}
	})
}
