package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"ssegateway/internal/frame"
	"ssegateway/sse"
)

// reply is what a request has got.
type reply struct {
	*recorder

	leave context.CancelFunc
}

// do makes a request to a node.
func (m *model) do(node *modelNode, method, id string) reply {
	m.steps.Add(1)
	ctx, cancel := context.WithCancel(context.Background())
	r, _ := http.NewRequestWithContext(ctx, method, "http://h/a", http.NoBody)
	r.RequestURI = "/a"
	if id != "" {
		r.Header.Set("Last-Event-ID", id)
	}
	rec := &recorder{header: http.Header{}}
	node.relay.ServeHTTP(rec, r)
	if a, ok := askers.LoadAndDelete(r); ok && rec.socket != nil {
		rec.asked, _ = a.(*app)
	}
	return reply{rec, cancel}
}

// asker asks for an answer, reads it, comes back to it, and has others read along.
func (m *model) asker(random *rand.Rand) func() {
	return func() {
		for range 1 + random.IntN(3) {
			time.Sleep(time.Duration(random.IntN(1000)) * time.Millisecond) // fake clock
			m.ask(random)
		}
	}
}

func (m *model) ask(random *rand.Rand) {
	node := m.nodes[random.IntN(len(m.nodes))]
	got := m.do(node, http.MethodPost, "")
	defer got.leave()
	if got.socket == nil {
		if got.status != http.StatusServiceUnavailable || !m.pressure && !m.drained.Load() && !m.died.Load() {
			m.t.Errorf("asked: %d", got.status)
		}
		return
	}
	a := got.asked
	key, _, resumable := strings.Cut(got.header.Get(resumeField), ".")
	if resumable && m.resume == 0 || !resumable && m.resume > 0 && !m.pressure || got.header.Get("Set-Cookie") == "" { // under pressure there may be no room for it
		m.t.Errorf("%v", got.header)
	}
	token := got.socket.conn.Token()
	c := &client{m: m, a: a, key: key, random: random}
	var others sync.WaitGroup
	if resumable {
		for range random.IntN(3) {
			other := &client{m: m, a: a, key: key, random: m.split()}
			others.Go(func() {
				other.stayAway(3000)
				other.comeBack()
			})
		}
	}
	if random.IntN(4) == 0 {
		others.Go(func() {
			time.Sleep(time.Duration(m.split().IntN(5000)) * time.Millisecond) // fake clock
			a.mu.Lock()
			a.tried = time.Now()
			if a.ended.IsZero() && a.stop.IsZero() {
				a.stop = time.Now()
			}
			a.mu.Unlock()
			if found := node.gw.Find(token); found != nil {
				found.Send(frame.Frame{}, true, nil)
			} else if !node.relay.StopAnswer(token) {
				a.mu.Lock()
				a.stop = time.Time{}
				a.mu.Unlock()
			}
		})
	}
	if c.read(got.socket) && resumable {
		c.comeBack()
	}
	others.Wait()
}

// client reads an answer.
type client struct {
	m      *model
	a      *app
	key    string
	random *rand.Rand
	has    int // events
}

// node returns the node that the client comes to.
func (c *client) node() *modelNode { return c.m.nodes[c.random.IntN(len(c.m.nodes))] }

// comeBack comes back until there is no more.
func (c *client) comeBack() {
	for range 4 {
		if c.random.IntN(4) == 0 && c.has > 0 {
			c.has = c.random.IntN(c.has)
		}
		id := c.key + "." + strconv.Itoa(c.has)
		if c.random.IntN(20) == 0 && c.a.stopBy(c, id) {
			continue
		}
		got := c.m.do(c.node(), []string{http.MethodGet, http.MethodPost}[c.random.IntN(2)], id)
		again := false
		if got.socket != nil {
			if got.header.Get("Set-Cookie") != "" {
				c.m.t.Error("a return got a cookie")
			}
			again = c.read(got.socket)
		} else {
			c.refused(got.status)
		}
		got.leave()
		if !again {
			return
		}
		c.stayAway(1500)
	}
}

// stayAway waits for less than so many milliseconds, or until it is about to be too late for what is not kept.
func (c *client) stayAway(most int) {
	d := time.Duration(c.random.IntN(most)) * time.Millisecond
	soon := c.a.soon
	if c.random.IntN(2) == 0 || c.a.isOwn() {
		soon = nil
	}
	select {
	case <-soon:
	case <-time.After(d):
	}
}

// stopBy stops the answer as a client does.
func (a *app) stopBy(c *client, id string) bool {
	node := c.node()
	a.mu.Lock()
	a.tried = time.Now()
	first := a.ended.IsZero() && a.stop.IsZero() && node == a.node
	if first {
		a.stop = time.Now()
	}
	a.maybe = a.maybe || node != a.node
	a.mu.Unlock()
	got := c.m.do(node, http.MethodDelete, id)
	got.leave()
	if got.status == http.StatusNoContent {
		return true
	}
	if first {
		a.mu.Lock()
		if a.ended.IsZero() {
			a.stop = time.Time{}
		}
		a.mu.Unlock()
	}
	c.refused(got.status)
	return false
}

// settle returns when all that happens at this moment has happened: the clock of a bubble stands still until then.
func settle() {
	time.Sleep(time.Microsecond) // fake clock
}

// refused checks that a return was refused for a reason.
func (c *client) refused(status int) {
	settle()
	a := c.a
	a.mu.Lock()
	defer a.mu.Unlock()
	over, alone := !a.ended.IsZero(), a.readers == 0 && !a.alone.IsZero()
	switch status {
	case http.StatusServiceUnavailable:
		if !c.m.pressure && !c.m.drained.Load() && len(c.m.nodes) == 1 {
			c.m.t.Error("refused with 503")
		}
	case http.StatusGone:
		if c.m.pressure || a.ownID || c.m.drained.Load() || c.m.died.Load() {
			return
		}
		if !(over && time.Since(a.ended) >= c.m.resume) && !(alone && time.Since(a.alone) >= c.m.resume) {
			c.m.t.Errorf("gone %v after the end (%v, state %v), %v after the last reader left (%v)", time.Since(a.ended), over, stateNames[a.state], time.Since(a.alone), alone)
		}
	case http.StatusNoContent:
		if !over || !a.mayBeStopped() && (a.state != complete || c.has != len(a.events)) {
			c.m.t.Errorf("204 behind event %d of %d, %v", c.has, len(a.events), stateNames[a.state])
		}
	default:
		c.m.t.Errorf("refused with %d", status)
	}
}

// read reads a stream for a while, and checks it. It returns whether the client can come back for more.
func (c *client) read(s *socket) (again bool) {
	var wire []byte
	until := time.Now().Add(time.Duration(c.random.IntN(8000)) * time.Millisecond)
	leaver := time.AfterFunc(time.Until(until), s.leave)
	if c.random.IntN(2) == 0 {
		leaver.Stop() // to the end
	}
	defer leaver.Stop()
	slow, still := c.random.IntN(3) == 0, time.Duration(0)
	for {
		if slow {
			pause := time.Duration(c.random.IntN(2000)) * time.Millisecond
			if c.random.IntN(20) == 0 {
				pause = 12 * time.Second
			}
			still = max(still, pause)
			time.Sleep(pause) // fake clock
		}
		p := s.take(1 + c.random.IntN(1<<c.random.IntN(17)))
		if len(p) == 0 {
			break
		}
		wire = append(wire, p...)
	}
	s.mu.Lock()
	left := s.left
	s.mu.Unlock()
	if !left {
		leaver.Stop()
	}
	body, clean := s.content(wire)
	c.check(body)
	settle()
	a := c.a
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case left:
	case clean:
		if !a.mayBeStopped() && (a.state != complete || c.has != len(a.events)) {
			c.m.t.Errorf("a proper end behind event %d of %d, state %s", c.has, len(a.events), stateNames[a.state])
		}
		return false
	case a.ownID && !s.opened.Before(a.ownAt): // it came too late for what is not kept
	case c.m.drained.Load(), c.m.died.Load(), a.state == failed, still >= 10*time.Second, c.m.pressure:
		if a.state == failed && !c.m.pressure && !c.m.drained.Load() && !c.m.died.Load() && still < 10*time.Second && !a.mayBeStopped() && c.has != len(a.events) {
			c.m.t.Errorf("cut behind event %d of %d that the backend had written: %v ago, on %d of %d, %d bytes, slow %v %v, resume %v", c.has, len(a.events), time.Since(a.ended), s.conn.Token().Node(), a.node.gw.Number(), len(wire), slow, still, c.m.resume)
		}
	default:
		c.m.t.Errorf("cut behind event %d of %d, state %s: on %d of %d, %d bytes, open for %v, slow %v %v, ids of its own %v, resume %v", c.has, len(a.events), stateNames[a.state], s.conn.Token().Node(), a.node.gw.Number(), len(wire), time.Since(s.opened), slow, still, a.ownID, c.m.resume)
	}
	return true
}

// check checks what has come behind what the client has.
func (c *client) check(body string) {
	d := sse.NewDecoder(bytes.NewReader([]byte(body)))
	for {
		e, err := d.Next()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				c.m.t.Errorf("%v", err)
			}
			return
		}
		c.a.mu.Lock()
		want := ""
		if c.has < len(c.a.events) {
			want = c.a.events[c.has]
		}
		own := c.a.ownID
		c.a.mu.Unlock()
		c.has++
		if e.Data != want {
			c.m.t.Errorf("event %d is %.50q, want %.50q: %.1500q", c.has, e.Data, want, body)
			return
		}
		if id := fmt.Sprint(c.key, ".", c.has); c.key != "" && e.ID.String() != id && !own {
			c.m.t.Errorf("event %d has the id %q", c.has, e.ID.String())
		}
	}
}
