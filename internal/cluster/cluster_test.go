package cluster

import (
	"context"
	"testing"
	"time"

	"ssegateway/internal/broker"
	"ssegateway/internal/broker/brokertest"
	"ssegateway/internal/gateway"
)

// soon is when whatever a lease's end brings has happened: the wait, the rounds in
// which it is noticed and told.
const soon = lease + lease/2

func TestNumbers(t *testing.T) {
	within(t, func(t *testing.T, s *site) {
		seen := map[uint32]bool{}
		for range 5 {
			m := s.start()
			sleep(time.Second)
			token := m.mustConnect()
			if n := m.number(); n == 0 || seen[n] || token.Node() != n {
				t.Errorf("number %08x, token %v", n, token)
			}
			seen[m.number()] = true
		}
		sleep(3 * lease)
		for _, m := range s.members {
			if !m.node.Holds() || len(m.node.Peers()) != 4 {
				t.Errorf("%s: holds %v, sees %v", m.name, m.node.Holds(), m.node.Peers())
			}
		}
		if len(s.told) != 0 {
			t.Errorf("told %v", s.told)
		}
	})
}

// An end is told by the node that held the connection, and leaves no record.
func TestOwnEnd(t *testing.T) {
	within(t, func(t *testing.T, s *site) {
		m := s.start()
		sleep(time.Second)
		token := m.mustConnect()
		if n := s.store.Records(); n != 1 {
			t.Errorf("%d records, want 1", n)
		}
		m.leave(token)
		sleep(time.Second)
		s.expect(m, "client_closed", token)
		if n := s.store.Records(); n != 0 {
			t.Errorf("%d records, want 0", n)
		}
	})
}

// Of a client that left before the backend was asked no record stays, and nobody is told.
func TestLeftUnasked(t *testing.T) {
	within(t, func(t *testing.T, s *site) {
		a := s.start()
		sleep(time.Second)
		a.beforeAsking = make(chan struct{})
		client, leave := context.WithCancel(t.Context())
		answer := make(chan gateway.Answer)
		go func() {
			_, asked, _ := a.gw.Connect(client, []byte(`{"url":"/","headers":{}}`))
			answer <- asked
		}()
		sleep(time.Millisecond)
		if n := s.store.Records(); n != 1 {
			t.Errorf("%d records while the connect waits for its turn, want 1", n)
		}
		leave()
		if asked := <-answer; asked.Outcome != gateway.Unasked {
			t.Errorf("outcome %d", asked.Outcome)
		}
		sleep(time.Millisecond)
		if n := s.store.Records(); n != 0 {
			t.Errorf("%d records of a client that left unasked", n)
		}
	})
}

// What a killed node held is told by one of the others, within a lease and a bit.
func TestKilled(t *testing.T) {
	within(t, func(t *testing.T, s *site) {
		a, b, c := s.start(), s.start(), s.start()
		sleep(time.Second)
		var tokens []gateway.Token
		for range 2000 {
			token, ok := a.connect()
			if ok {
				tokens = append(tokens, token)
			}
		}
		others := []gateway.Token{b.mustConnect(), c.mustConnect()}
		a.kill()
		sleep(lease*4/5 - time.Second)
		for _, token := range tokens {
			s.expectNone(token)
		}
		sleep(lease)
		s.expect(nil, "error/gateway_lost", tokens...)
		for _, token := range others {
			s.expectNone(token)
		}
		if n := s.store.Records(); n != len(others) {
			t.Errorf("%d records, want %d", n, len(others))
		}
		if k := s.store.Keys()[tokens[0].Node()]; k.Value != nil {
			t.Errorf("the key is still there: %s", k.Value)
		}
	})
}

// The same connections may be recorded for two lost nodes, of which one died while it
// took over from the other. Nothing is left behind of that.
func TestRecordedTwice(t *testing.T) {
	within(t, func(t *testing.T, s *site) {
		a := s.start()
		sleep(time.Second)
		store, err := s.store.Link().Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var tokens []gateway.Token
		for range reapAtOnce / 2 {
			tokens = append(tokens, gateway.NewToken())
		}
		s.away = true
		for _, node := range []uint32{1, 2} {
			for _, token := range tokens {
				if err := store.Hold(t.Context(), node, broker.Token(token), []byte(`{}`)); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := store.Set(t.Context(), node, value{State: lost}.encode(), 0); err != nil {
				t.Fatal(err)
			}
		}
		sleep(lease)
		s.mu.Lock()
		s.away = false
		s.mu.Unlock()
		sleep(soon)
		for _, token := range tokens {
			if len(s.of(token)) == 0 {
				t.Errorf("of %v was told nothing", token)
			}
		}
		if n := s.store.Records(); n != 0 || len(a.node.slots) != 0 {
			t.Errorf("%d records are left, and %d connections that are being told of", n, len(a.node.slots))
		}
		for node, k := range s.store.Keys() {
			if node <= 2 && k.Value != nil {
				t.Errorf("the key of node %d is still there", node)
			}
		}
	})
}

// A node that stands still between a connection's record and the question to the
// backend may ask when others have told of that connection. It tells anew: the backend
// takes the connection for open.
func TestAskedAfterOthersTold(t *testing.T) {
	within(t, func(t *testing.T, s *site) {
		a, b := s.start(), s.start()
		sleep(time.Second)
		ask := a.connectHeldBack()
		sleep(time.Second)
		a.link.Break(brokertest.Cut)
		sleep(lease + soon)
		s.expectToldAnew(a, b, ask())
	})
}

// connectHeldBack connects up to the question to the backend, which is asked by ask.
func (m *member) connectHeldBack() (ask func() gateway.Token) {
	asking := make(chan struct{})
	m.mu.Lock()
	m.beforeAsking = asking
	m.mu.Unlock()
	asked := make(chan gateway.Token)
	go func() { asked <- m.mustConnect() }()
	return func() gateway.Token {
		close(asking)
		return <-asked
	}
}

// expectToldAnew wants a to tell of a connection of its own, of which b has told, once a is
// back on the store.
func (s *site) expectToldAnew(a, b *member, token gateway.Token) {
	s.t.Helper()
	s.expect(b, "error/gateway_lost", token)
	a.link.Break(brokertest.None)
	sleep(lease)
	if told := s.of(token); len(told) != 2 || told[1].by != a {
		s.t.Errorf("of %v, asked late, was told %v", token, told)
	}
}

// The same, where the lease is in doubt already when the connection comes, and its record
// reaches the store without an answer.
func TestRecordedInDoubtAndAskedAfterOthersTold(t *testing.T) {
	within(t, func(t *testing.T, s *site) {
		a, b := s.start(), s.start()
		sleep(time.Second)
		a.link.Break(brokertest.Deaf)
		sleep(a.node.trust())
		if a.node.Holds() {
			t.Fatal("the lease is not in doubt")
		}
		ask := a.connectHeldBack()
		sleep(soon)
		s.expectToldAnew(a, b, ask())
	})
}

func (s *site) expectNone(tokens ...gateway.Token) {
	s.t.Helper()
	for _, token := range tokens {
		if told := s.of(token); len(told) != 0 {
			s.t.Errorf("of %v was told %v, want nothing", token, told)
		}
	}
}

// A node that comes back and finds its lease taken closes its streams, takes another
// number, and tells of nothing that others told.
func TestCutAndBack(t *testing.T) {
	for _, fault := range []brokertest.Fault{brokertest.Down, brokertest.Cut, brokertest.Deaf, brokertest.Frozen} {
		within(t, func(t *testing.T, s *site) {
			a, b := s.start(), s.start()
			sleep(time.Second)
			first := a.number()
			kept, ended := a.mustConnect(), a.mustConnect()
			sleep(2 * time.Second)
			a.link.Break(fault)
			sleep(lease) // the lease is in doubt
			if fault != brokertest.Frozen {
				a.leave(ended)
			}
			sleep(soon)
			s.expect(b, "error/gateway_lost", kept, ended)
			a.link.Break(brokertest.None)
			sleep(lease)
			s.expect(b, "error/gateway_lost", kept, ended)
			if n := a.number(); n == 0 || n == first {
				t.Errorf("fault %d: the number is %08x, was %08x", fault, n, first)
			}
			if a.gw.Find(kept) != nil {
				t.Errorf("fault %d: a stream goes on", fault)
			}
			token := a.mustConnect()
			a.leave(token)
			sleep(time.Second)
			s.expect(a, "client_closed", token)
		})
	}
}

// A connection whose record nobody could find is told of by the node itself.
func TestUnrecorded(t *testing.T) {
	for _, fault := range []brokertest.Fault{brokertest.Down, brokertest.Cut, brokertest.Deaf} {
		within(t, func(t *testing.T, s *site) {
			a, b := s.start(), s.start()
			sleep(time.Second)
			recorded := a.mustConnect()
			a.link.Break(fault)
			early := a.mustConnect()
			sleep(lease)
			late, ended := a.mustConnect(), a.mustConnect()
			a.leave(ended)
			sleep(soon)
			a.link.Break(brokertest.None)
			sleep(2 * lease)
			s.expect(b, "error/gateway_lost", recorded)
			if fault == brokertest.Deaf { // the records were written
				s.expect(nil, "error/gateway_lost", early)
			} else {
				s.expect(a, "error/gateway_lost", early)
			}
			for _, token := range []gateway.Token{late, ended} {
				// Of what was recorded in doubt others may have told before the backend was asked.
				if told := s.of(token); len(told) != 1 && (len(told) != 2 || fault != brokertest.Deaf) {
					t.Errorf("fault %d: told %v", fault, told)
				}
			}
			if n := s.store.Records(); n != 0 {
				t.Errorf("fault %d: %d records are left", fault, n)
			}
		})
	}
}

// A connection whose record was certainly never sent is nobody else's to tell of: the node
// tells at once, also without a lease. One whose record may have arrived waits.
func TestNeverSent(t *testing.T) {
	for _, fault := range []brokertest.Fault{brokertest.Down, brokertest.Cut, brokertest.Deaf} {
		for _, doubt := range []bool{false, true} {
			within(t, func(t *testing.T, s *site) {
				a := s.start()
				sleep(time.Second)
				recorded := a.mustConnect()
				if doubt {
					a.link.Break(fault)
					sleep(2 * lease)
				}
				a.link.Break(brokertest.Cut)
				sent := a.mustConnect()
				a.link.Break(fault)
				unsent := a.mustConnect()
				if !doubt {
					sleep(lease)
				}
				for _, token := range []gateway.Token{recorded, unsent, sent} {
					a.leave(token)
				}
				sleep(2 * time.Second)
				s.expectNone(recorded)
				s.expectNone(sent)
				if fault == brokertest.Down {
					s.expect(a, "client_closed", unsent)
				} else {
					s.expectNone(unsent)
				}
				a.link.Break(brokertest.None)
				sleep(lease)
				s.expect(a, "client_closed", recorded, unsent, sent)
				if n := s.store.Records(); n != 0 || a.node.Backlog() != 0 {
					t.Errorf("fault %d: %d records are left, %d to be written", fault, n, a.node.Backlog())
				}
			})
		}
	}
}

// A planned stop while the broker is away: the ends of all connections that came meanwhile are told.
func TestStopWhileBrokerIsAway(t *testing.T) {
	within(t, func(t *testing.T, s *site) {
		a := s.start(func(m *member) { m.link.Delay = func() time.Duration { return jitter(20 * time.Millisecond) } })
		sleep(time.Second)
		recorded := a.mustConnect()
		a.link.Break(brokertest.Down)
		sleep(lease)
		var fresh []gateway.Token
		for range 20 {
			fresh = append(fresh, a.mustConnect())
		}
		sleep(ledgerRepeat - 10*time.Millisecond) // records are being tried as the streams end
		a.leaveInOrder()
		s.expect(a, "server_closed/draining", fresh...)
		s.expectNone(recorded)
		b := s.start()
		sleep(2 * soon)
		s.expect(b, "error/gateway_lost", recorded)
		s.expect(a, "server_closed/draining", fresh...)
	})
}

// After the broker was away, every node has the length of a lease to renew.
func TestBrokerAway(t *testing.T) {
	within(t, func(t *testing.T, s *site) {
		a, b := s.start(), s.start()
		sleep(time.Second)
		numbers := []uint32{a.number(), b.number()}
		kept, ended := a.mustConnect(), a.mustConnect()
		for _, m := range s.members {
			m.link.Break(brokertest.Down)
		}
		sleep(5 * lease)
		a.leave(ended)
		sleep(time.Second)
		s.expectNone(ended) // it waits for the lease
		b.link.Break(brokertest.None)
		sleep(lease - time.Second)
		a.link.Break(brokertest.None)
		sleep(2 * lease)
		s.expect(a, "client_closed", ended)
		s.expectNone(kept)
		if a.number() != numbers[0] || b.number() != numbers[1] {
			t.Error("a node has another number")
		}
	})
}

// Who was to tell dies itself: the next one does.
func TestReaperDies(t *testing.T) {
	within(t, func(t *testing.T, s *site) {
		a := s.start()
		sleep(time.Second)
		var tokens []gateway.Token
		for range 3 * reapAtOnce / 2 {
			if token, ok := a.connect(); ok {
				tokens = append(tokens, token)
			}
		}
		b := s.start()
		sleep(time.Second)
		s.mu.Lock()
		s.away = true
		s.mu.Unlock()
		a.kill()
		sleep(soon)
		if n := len(b.node.adopted); n != reapAtOnce {
			t.Errorf("%d are being told of, want %d", n, reapAtOnce)
		}
		b.kill()
		c := s.start()
		sleep(soon)
		s.mu.Lock()
		s.away = false
		s.mu.Unlock()
		sleep(soon)
		s.expect(c, "error/gateway_lost", tokens...)
		if n := s.store.Records(); n != 0 {
			t.Errorf("%d records are left", n)
		}
	})
}

// What was accepted while the broker was away is recorded as soon as it is back: until
// then nobody else could tell of it.
func TestRecordedOnReturn(t *testing.T) {
	within(t, func(t *testing.T, s *site) {
		a := s.start()
		sleep(time.Second)
		a.link.Break(brokertest.Down)
		a.mustConnect()
		sleep(lease)
		a.link.Break(brokertest.None)
		sleep(lease / 20)
		if n := s.store.Records(); n != 1 {
			t.Errorf("%d records, want 1", n)
		}
	})
}

// A node that leaves in order takes its key along, or leaves the rest to the others.
func TestLeave(t *testing.T) {
	within(t, func(t *testing.T, s *site) {
		a, b := s.start(), s.start()
		sleep(time.Second)
		token := a.mustConnect()
		number := a.number()
		a.leave(token)
		sleep(time.Second)
		if err := a.node.Leave(t.Context(), true); err != nil {
			t.Error(err)
		}
		if k := s.store.Keys()[number]; k.Value != nil {
			t.Errorf("the key is still there: %s", k.Value)
		}
		a.kill()
		sleep(soon)
		s.expect(a, "client_closed", token)

		c := s.start()
		sleep(time.Second)
		s.mu.Lock()
		s.away = true
		s.mu.Unlock()
		token = c.mustConnect()
		c.leave(token)
		sleep(time.Second)
		if err := c.node.Leave(t.Context(), false); err != nil {
			t.Error(err)
		}
		c.kill()
		s.mu.Lock()
		s.away = false
		s.mu.Unlock()
		sleep(lease / 2) // nobody has to wait for the lease
		s.expect(b, "error/gateway_lost", token)
	})
}

// A store that was lost is filled again, and no stream ends for it.
func TestStoreLost(t *testing.T) {
	within(t, func(t *testing.T, s *site) {
		a, b := s.start(), s.start()
		sleep(time.Second)
		token, number := a.mustConnect(), a.number()
		s.store.Lose()
		sleep(soon)
		if a.number() != number || a.gw.Find(token) == nil || s.store.Records() != 1 {
			t.Errorf("number %08x, was %08x, %d records", a.number(), number, s.store.Records())
		}
		s.expectNone(token)
		a.kill()
		sleep(soon)
		s.expect(b, "error/gateway_lost", token)
	})
}
