package relay

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"ssegateway/internal/callback"
)

// app is an answer as the application writes it.
type app struct {
	m      *model
	node   *modelNode
	ctx    context.Context
	random *rand.Rand
	pipe   *io.PipeWriter
	large  bool          // some of its events are larger than what another node gets at a time
	soon   chan struct{} // closed shortly before the first id of its own: who comes then may come too late for what is not kept

	mu      sync.Mutex
	events  []string // their data
	ownID   bool
	ownAt   time.Time // when that was written first
	ownRead time.Time // when the gateway had read that
	readers int
	late    int       // of them, those who may have come too late for what is not kept: they are cut
	afar    bool      // some were on other nodes
	alone   time.Time // when the last one left
	ended   time.Time // zero: it goes on
	state   state
	stop    time.Time // when it was stopped; zero: it was not
	tried   time.Time // when somebody tried last
	maybe   bool      // somebody tried at another node, whose question or its answer may have been lost
}

// mayBeStopped reports whether the gateway may have stopped the answer before it knew of its end: at the same moment, or
// while a slow reader set the pace. The caller holds the lock.
func (a *app) mayBeStopped() bool {
	behind := a.tried.Sub(a.ended)
	return a.state == stopped || a.maybe || !a.tried.IsZero() && (behind.Abs() < time.Millisecond || behind > 0 && (a.m.pressure || a.wait() == 0))
}

// modelApps answers requests.
type modelApps modelNode

// Send implements Forwarder.
func (n *modelApps) Send(r *http.Request, _ func(*http.Response)) (*http.Response, error) {
	a := &app{m: n.m, node: (*modelNode)(n), ctx: r.Context(), random: n.m.split(), soon: make(chan struct{})}
	a.large = len(n.m.nodes) > 1 && a.random.IntN(10) == 0
	if a.random.IntN(3) == 0 {
		select {
		case <-time.After(time.Duration(a.random.IntN(300)) * time.Millisecond):
		case <-a.ctx.Done():
			return nil, callback.ErrUnreachable
		}
	}
	reader, writer := io.Pipe()
	a.pipe = writer
	context.AfterFunc(a.ctx, func() { a.cancelled() })
	h := http.Header{"Content-Type": {"text/event-stream"}, "Set-Cookie": {"a=b"}}
	n.mu.Lock()
	n.apps = append(n.apps, a)
	dead := !n.died.IsZero()
	n.mu.Unlock()
	if dead {
		return nil, callback.ErrUnreachable
	}
	if s := n.m.resume; s > 0 || a.random.IntN(2) == 0 {
		h.Set(resumeField, strconv.Itoa(int(s/time.Second)))
	}
	askers.Store(of(a.ctx).in, a)
	a.m.writers.Go(a.write)
	return &http.Response{StatusCode: http.StatusOK, Header: h, Body: reader, Request: r, ProtoMajor: 1, ProtoMinor: 1}, nil
}

// askers are the answers to requests.
var askers sync.Map

// write writes the answer.
func (a *app) write() {
	ownNext := false // events may have an id of their own
	for n := range a.random.IntN(60) {
		a.m.steps.Add(1)
		if a.random.IntN(2) == 0 {
			time.Sleep(time.Duration(a.random.IntN(400)) * time.Millisecond) // fake clock
		}
		if !ownNext && a.random.IntN(100) == 0 {
			ownNext = true
			close(a.soon)
			time.Sleep(promptly / 5) // fake clock
		}
		text := a.block(n, ownNext)
		for range a.random.IntN(3) * a.random.IntN(2) { // at once
			text += a.block(n, ownNext)
		}
		for len(text) > 0 { // in pieces
			k := 1 + a.random.IntN(len(text))
			if a.random.IntN(3) > 0 {
				k = len(text)
			}
			if _, err := a.pipe.Write([]byte(text[:k])); err != nil {
				return
			}
			text = text[k:]
		}
		a.mu.Lock()
		if a.ownID && a.ownRead.IsZero() {
			a.ownRead = time.Now()
		}
		a.mu.Unlock()
		a.check()
	}
	breaks := a.random.IntN(3) == 0
	a.mu.Lock()
	if a.ended.IsZero() {
		a.ended = time.Now()
		a.state = complete
		if breaks {
			a.state = failed
		}
	}
	a.mu.Unlock()
	if breaks {
		_ = a.pipe.CloseWithError(io.ErrUnexpectedEOF)
	} else {
		_ = a.pipe.Close()
	}
}

// block returns a random block. Half of the events that may have an id of their own have one.
func (a *app) block(n int, ownNext bool) string {
	end := [...]string{"\n", "\r\n", "\r"}[a.random.IntN(3)]
	if a.random.IntN(5) == 0 {
		return ": comment" + end + end
	}
	most := 1 << a.random.IntN(13)
	if a.large && a.random.IntN(10) == 0 {
		most = 2 * pullBytes
	}
	data := fmt.Sprintf("%d %s", n, strings.Repeat("x", a.random.IntN(most)))
	text := "data: " + data + end
	a.mu.Lock()
	defer a.mu.Unlock()
	a.events = append(a.events, data)
	if ownNext && a.random.IntN(2) == 0 {
		if !a.ownID {
			a.ownID, a.ownAt = true, time.Now()
		}
		text += "id: own" + end
	}
	return text + end
}

func (a *app) isOwn() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ownID
}

func (a *app) running() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ended.IsZero()
}

// came counts a reader. gone uncounts it.
func (a *app) came(afar bool) (gone func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	late := 0
	if a.ownID {
		late = 1
	}
	a.readers++
	a.late += late
	a.afar = a.afar || afar
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.late -= late
		if a.readers--; a.readers == 0 {
			a.alone = time.Now()
		}
	}
}

// die is the end of the answer with its node.
func (a *app) die() {
	a.mu.Lock()
	if a.ended.IsZero() {
		a.ended, a.state = time.Now(), gone
	}
	a.mu.Unlock()
	_ = a.pipe.CloseWithError(io.ErrUnexpectedEOF)
}

// wait returns how long the answer is read on for nobody.
func (a *app) wait() time.Duration {
	if a.ownID {
		return 0
	}
	return a.m.resume
}

// longest is until when the answer is read on for nobody.
func (a *app) longest() time.Duration {
	if a.afar {
		return a.m.longest()
	}
	return a.m.resume + promptly
}

// check checks that the answer is not written for nobody.
func (a *app) check() {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case !a.ended.IsZero() || a.m.drained.Load():
	case !a.stop.IsZero() && time.Since(a.stop) > promptly:
		a.m.t.Errorf("not cancelled %v after it was stopped", time.Since(a.stop))
	case !a.ownRead.IsZero() && !a.afar && a.readers == 0 && !a.alone.IsZero() && min(time.Since(a.alone), time.Since(a.ownRead)) > promptly:
		a.m.t.Errorf("not cancelled %v after the last reader left of what is not kept", time.Since(a.alone))
	case a.readers == 0 && !a.alone.IsZero() && time.Since(a.alone) > a.longest():
		a.m.t.Errorf("not cancelled %v after the last reader left, %v to wait", time.Since(a.alone), a.m.resume)
	}
}

// cancelled is called when the gateway cancels the answer.
func (a *app) cancelled() {
	_ = a.pipe.CloseWithError(context.Canceled)
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.ended.IsZero() {
		return
	}
	a.ended, a.state = time.Now(), gone
	since := time.Since(a.alone)
	switch {
	case !a.stop.IsZero():
		a.state = stopped
		if time.Since(a.stop) > promptly {
			a.m.t.Errorf("cancelled %v after it was stopped", time.Since(a.stop))
		}
	case a.maybe:
		a.state = stopped
	case a.m.drained.Load(), a.m.pressure, a.alone.IsZero() && a.readers == 0:
	case a.readers > 0 && a.readers == a.late: // they may be none
	case a.readers > 0 && !a.m.died.Load():
		a.m.t.Errorf("cancelled with %d readers", a.readers)
	case !a.ownRead.IsZero() && !a.afar && min(since, time.Since(a.ownRead)) > promptly:
		a.m.t.Errorf("cancelled %v after the last reader left of what is not kept", since)
	case since < a.wait(), since > a.longest():
		a.m.t.Errorf("cancelled %v after the last reader left, %v to wait", since, a.wait())
	}
}
