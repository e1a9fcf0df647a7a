package cluster

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"ssegateway/e2e/harness"
)

const (
	rooms      = 20
	publishers = 6 // two through each node
	senders    = 4

	publishEvery = 50 * time.Millisecond // each publisher, at most
	sendEvery    = 20 * time.Millisecond // each sender
	leaveEvery   = 250 * time.Millisecond

	opening = 64 // clients that open their first stream at a time
)

// open opens the streams of n clients through nginx, of which most stay.
func (s *site) open(n int) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s.leave = cancel
	s.t.Cleanup(func() {
		cancel()
		s.present.Wait()
	})
	turn := make(chan struct{}, opening)
	var opened sync.WaitGroup
	for i := range n {
		c := s.newClient(i, i%10 != 0)
		s.clients = append(s.clients, c)
		turn <- struct{}{}
		s.present.Go(func() { c.run(ctx) })
		opened.Go(func() {
			within(harness.Patience, c.connected)
			<-turn
		})
	}
	opened.Wait()
	for _, c := range s.clients {
		if !c.connected() {
			s.t.Fatalf("client %d has no stream: %q", c.number, c.denied)
		}
	}
}

func (s *site) newClient(number int, stays bool) *client {
	return &client{
		record: s.record, addr: net.JoinHostPort(addresses[nginxHost][front], "80"), number: number,
		topics: []int{everybody, 1 + number%rooms}, stays: stays,
	}
}

func (c *client) connected() bool { return c.stream() != nil }

// stream returns the client's stream, if it has one.
func (c *client) stream() *connection {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.current
}

// staying returns how many clients stay.
func (s *site) staying() (n int) {
	for _, c := range s.everyone() {
		if c.stays {
			n++
		}
	}
	return n
}

// everyone returns all clients, including those that have left.
func (s *site) everyone() []*client {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.clients[:len(s.clients):len(s.clients)]
}

// traffic publishes, sends, and replaces clients, until stop is called.
func (s *site) traffic() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	every := func(interval time.Duration, act func()) {
		wg.Go(func() {
			ticker := time.NewTicker(interval)
			defer ticker.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-ticker.C:
					act()
				}
			}
		})
	}
	for p := range publishers {
		every(publishEvery, func() { s.publish(p%nodeCount, p, 1+rand.IntN(rooms)) })
	}
	for range senders {
		every(sendEvery, s.sendOne)
	}
	guests := 0
	leaving := make(chan context.CancelFunc, 10)
	every(leaveEvery, func() {
		guest, leave := context.WithCancel(ctx)
		c := s.newClient(len(s.everyone()), false)
		s.mu.Lock()
		s.clients = append(s.clients, c)
		s.mu.Unlock()
		s.present.Go(func() { c.run(guest) })
		leaving <- leave
		if guests++; guests >= cap(leaving) {
			(<-leaving)()
		}
	})
	return func() {
		cancel()
		wg.Wait()
	}
}

// sendOne sends to one connection, through a random node or nginx.
func (s *site) sendOne() {
	everyone := s.everyone()
	c := everyone[rand.IntN(len(everyone))].stream()
	if c == nil {
		return
	}
	c.mu.Lock()
	if c.sending {
		c.mu.Unlock()
		return
	}
	c.sending = true
	number := len(c.sent)
	c.sent = append(c.sent, unknown)
	c.mu.Unlock()

	body := map[string]any{"token": c.token, "event": map[string]string{"name": "sent", "data": strconv.Itoa(number)}}
	if rand.IntN(8) == 0 {
		body["wait"] = "written"
	}
	status, answer := s.post(internal(rand.IntN(nodeCount+1))+"/internal/send", body)

	c.mu.Lock()
	defer c.mu.Unlock()
	c.sending = false
	switch status {
	case http.StatusOK:
		c.sent[number] = accepted
		if answer["status"] == nil {
			s.t.Errorf("send was answered %v", answer)
		}
	case http.StatusNotFound:
		c.sent[number] = refused
		if c.gone.IsZero() {
			c.gone = time.Now()
		}
	}
}

// converge waits until all nodes are ready. Then it publishes to everybody through each node,
// in rounds, until in one round all three answer 200 and are still ready, and all clients
// that stay have received the three events. At last it waits until each node has recorded its
// connections. It does not publish before all nodes are ready, because rounds of events to
// thousands of clients would themselves be a load.
func (s *site) converge(patience time.Duration) bool {
	deadline := time.Now().Add(patience)
	staying := int32(s.staying())
	if !everyNode(deadline, s.ready) {
		return false
	}
	for {
		var wg sync.WaitGroup
		var marks [nodeCount]*publication
		for i := range nodeCount {
			wg.Go(func() {
				if p, ok := s.publish(i, publishers+i, everybody); ok && s.ready(i) {
					marks[i] = p
				}
			})
		}
		wg.Wait()
		all := func() bool {
			for _, p := range marks {
				if p == nil || p.had.Load() < staying {
					return false
				}
			}
			return true
		}
		answered := marks[0] != nil && marks[1] != nil && marks[2] != nil
		if answered && within(time.Until(deadline), all) {
			break
		}
		if time.Now().After(deadline) {
			return false
		}
		<-time.After(50 * time.Millisecond)
	}
	return everyNode(deadline, s.recorded)
}

// everyNode waits until is returns true for one node after the other, and reports whether it did.
func everyNode(deadline time.Time, is func(node int) bool) bool {
	for i := range nodeCount {
		if !within(time.Until(deadline), func() bool { return is(i) }) {
			return false
		}
	}
	return true
}

// recorded reports whether a node has recorded all its connections. If it dies before, the
// other nodes cannot report the disconnects.
func (s *site) recorded(node int) bool {
	resp, err := s.http.Get(internal(node) + "/metrics")
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return err == nil && strings.Contains(string(text), "\nssegateway_cluster_ledger_backlog 0\n")
}
