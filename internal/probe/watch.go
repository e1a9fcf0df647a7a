package probe

import (
	"context"
	"fmt"
	"sync"
	"time"

	"ssegateway/internal/guard"
)

// busyEvery is shorter than any proxy's timeout, which are whole seconds.
const busyEvery = 500 * time.Millisecond

// watch has two streams that are open for long: one to which an event is sent every half second, and one to which nothing is.
// What ends the idle one alone is for want of bytes; what ends both is their age.
type watch struct {
	p          *prober
	busy, idle *stream
	bytes      uint64 // that the gateway had written to the idle one at the beginning
	received   int    // of them
	cancel     context.CancelFunc
	sending    sync.WaitGroup
	sent       []string // beginnings of the events
	err        error    // of sending
}

// beginWatch opens both streams.
func (p *prober) beginWatch(ctx context.Context) (w *watch, err error) {
	w = &watch{p: p}
	if w.busy, err = p.open(ctx, request{}); err != nil {
		return nil, err
	}
	var sending context.Context
	sending, w.cancel = context.WithCancel(ctx)
	w.sending.Go(func() {
		defer guard.Recover()
		w.send(sending)
	})
	if err := w.beginIdle(ctx); err != nil {
		w.stop()
		return nil, err
	}
	return w, nil
}

func (w *watch) beginIdle(ctx context.Context) (err error) {
	if w.idle, err = w.p.open(ctx, request{}); err != nil {
		return err
	}
	w.idle.until(ctx, patience, func() bool { return w.idle.bytes > 0 })
	c, _, err := w.p.look(ctx, w.idle.conn.Token)
	w.bytes, w.received = c.Bytes, w.idle.snapshot().bytes
	return err
}

// send sends an event every half second, until the stream is gone.
func (w *watch) send(ctx context.Context) {
	for n := 0; wait(ctx, busyEvery) == nil; n++ {
		begin := fmt.Sprintf("%s-watch-%d", w.p.nonce, n)
		err := w.p.trySend(ctx, w.busy.conn.Token, event{eventName, begin}, false)
		switch {
		case ctx.Err() != nil, isGone(err):
			return
		case err != nil:
			w.err = err
			return
		}
		w.sent = append(w.sent, begin)
	}
}

// stop ends the sending.
func (w *watch) stop() {
	w.cancel()
	w.sending.Wait()
}

// finish waits until the time is over, or both streams have ended, and says what became of them.
func (w *watch) finish(ctx context.Context) error {
	p := w.p
	for {
		over := time.Since(w.idle.begun)
		if p.Progress != nil {
			p.Progress(min(over, p.For))
		}
		if over >= p.For || w.busy.ended() != nil && w.idle.ended() != nil {
			break
		}
		if err := wait(ctx, min(time.Second, p.For-over)); err != nil {
			return err
		}
	}
	// What the gateway has written so far is given a moment to come.
	c, there, err := p.look(ctx, w.idle.conn.Token)
	if err != nil {
		return err
	}
	if there && c.Bytes > w.bytes {
		w.idle.until(ctx, patience, func() bool { return w.idle.bytes > w.received })
	}
	w.stop()
	if w.err != nil {
		return w.err
	}
	if len(w.sent) > 0 {
		w.busy.get(ctx, w.sent[len(w.sent)-1], patience)
	}
	w.judge(c, there)
	return nil
}

func (w *watch) judge(c connection, there bool) {
	p, busy, idle := w.p, w.busy.snapshot(), w.idle.snapshot()
	busyAge, idleAge := busy.endedAt.Sub(w.busy.begun), idle.endedAt.Sub(w.idle.begun)
	quiet := idle.endedAt.Sub(idle.lastByte)
	switch {
	case busy.err == nil && idle.err == nil:
		p.measured("held", fmt.Sprintf("for %v, and through %v of silence", p.For, max(idle.silence, time.Since(idle.lastByte)).Round(100*time.Millisecond)))
	case busy.err == nil, idle.err != nil && busyAge > idleAge+idleAge/4+time.Second:
		p.found(IdleCut, fmt.Sprintf("a stream ended after %v without a byte (%s), and one with an event every half second lived on", quiet.Round(100*time.Millisecond), endOf(idle.err)))
		if busy.err != nil {
			p.found(LifeCut, fmt.Sprintf("a stream with an event every half second ended after %v (%s)", busyAge.Round(100*time.Millisecond), endOf(busy.err)))
		}
	default:
		p.found(LifeCut, fmt.Sprintf("a stream with an event every half second ended after %v (%s)", busyAge.Round(100*time.Millisecond), endOf(busy.err)))
	}
	if there && idle.err == nil && c.Bytes > w.bytes && idle.bytes == w.received {
		p.found(HeartbeatsLost, fmt.Sprintf("the gateway wrote %d bytes to an idle stream, and none came", c.Bytes-w.bytes))
	}
	if busy.err == nil {
		_ = p.order(w.busy, w.sent)
	}
}

// snapshot is what a stream has come to.
type snapshot struct {
	bytes             int
	lastByte, endedAt time.Time
	silence           time.Duration
	err               error
}

func (s *stream) snapshot() snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return snapshot{s.bytes, s.lastByte, s.endedAt, s.silence, s.err}
}

// endOf says how a stream ended.
func endOf(err error) string {
	if isProper(err) {
		return "as if the gateway had ended it"
	}
	return "cut: " + err.Error()
}
