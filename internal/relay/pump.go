package relay

import (
	"encoding/hex"
	"errors"
	"io"
	"runtime"
	"strconv"
	"sync"

	"ssegateway/internal/frame"
	"ssegateway/internal/gateway"
	"ssegateway/internal/guard"
)

// firstBuffer is the size of a stream's buffer as long as its blocks fit, in bytes.
const firstBuffer = 2 << 10

// pump reads a stream of the backend's, keeps its events if it may, and gives its blocks to those who read it. What is
// kept waits for nobody. Of what is not kept it waits for each piece until all have taken it, so the slowest client's
// pace becomes the backend's.
func (r *Relay) pump(a *answer, body io.ReadCloser) {
	defer r.streams.Done()
	defer guard.Recover()
	defer body.Close()
	defer a.end(failed) // unless it has ended
	buf, filled := make([]byte, firstBuffer), 0
	var s scanner
	for {
		if filled == len(buf) {
			if int64(filled) >= r.cfg.MaxBody {
				r.cfg.Log.Warn("a relayed stream is cut: one of its blocks is larger than MAX_BODY_BYTES", "token", a.token.String(), "max_body_bytes", r.cfg.MaxBody)
				return
			}
			larger := make([]byte, min(2*int64(len(buf)), r.cfg.MaxBody))
			copy(larger, buf)
			buf = larger
		}
		n, err := body.Read(buf[filled:])
		rest := a.take(&s, buf[:filled+n])
		filled = copy(buf, rest)
		if len(buf) > firstBuffer && filled < firstBuffer {
			buf = append(make([]byte, 0, firstBuffer), buf[:filled]...)[:firstBuffer]
		}
		select {
		case <-a.ended:
			return
		default:
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				a.end(complete)
			}
			return
		}
	}
}

// take gives the blocks in p to the readers, and returns what is left of p.
func (a *answer) take(s *scanner, p []byte) (rest []byte) {
	all, from := p, -1 // what is not kept begins there
	var withIDs []byte // the same with ids; nil: none has got one yet
	events := 0
	for {
		b, ok := s.next(p)
		if !ok {
			break
		}
		one := p[:b.end]
		p = p[b.end:]
		if b.mark {
			continue
		}
		if b.ownID && a.ids {
			a.ids = false
			a.drop("the application has ids of its own")
		}
		if a.keeping {
			if !b.data {
				a.offer()
				a.aside(&frame.Shared{Frame: frame.Blocks(one, 0)})
				continue
			}
			if a.keep(one[:b.id], one[b.id:]) {
				continue
			}
		}
		if from < 0 {
			from = len(all) - len(p) - len(one)
		}
		if b.data {
			events++
		}
		if a.ids && b.data {
			if withIDs == nil {
				withIDs = append(make([]byte, 0, 2*len(all)), all[from:len(all)-len(p)-len(one)]...)
			}
			a.number++
			withIDs = append(append(append(withIDs, one[:b.id]...), a.id(a.number)...), one[b.id:]...)
		} else if withIDs != nil {
			withIDs = append(withIDs, one...)
		}
	}
	a.offer()
	switch {
	case from < 0:
	case withIDs != nil:
		a.write(&frame.Shared{Frame: frame.Blocks(withIDs, events)})
	default:
		a.write(&frame.Shared{Frame: frame.Blocks(all[from:len(all)-len(p)], events)})
	}
	return p
}

// id returns the line with the id of the n-th event.
func (a *answer) id(n uint64) []byte {
	a.idLine = append(a.idLine[:0], "id: "...)
	a.idLine = hex.AppendEncode(a.idLine, a.key[:])
	a.idLine = append(a.idLine, '.')
	a.idLine = append(strconv.AppendUint(a.idLine, n, 10), '\n')
	return a.idLine
}

// offer tells the readers what has been kept since the call before.
func (a *answer) offer() {
	if a.fresh == 0 {
		return
	}
	a.mu.Lock()
	n := uint64(len(a.events))
	if n == 0 { // it has ended meanwhile, and nobody reads it
		a.fresh = 0
		a.mu.Unlock()
		return
	}
	var event *frame.Shared
	if a.fresh == 1 {
		event = a.events[n-1]
	}
	a.offered, a.fresh = n, 0
	a.some = append(a.some[:0], a.readers...)
	a.mu.Unlock()
	each(a.some, func(c *gateway.Conn) { c.Offer(n, event) })
	clear(a.some)
}

// fewReaders are given an event by one goroutine. More share the processors.
const fewReaders = 64

// each calls f for each of some connections.
func each(conns []*gateway.Conn, f func(*gateway.Conn)) {
	parts := 1
	if len(conns) > fewReaders {
		parts = min(runtime.GOMAXPROCS(0), len(conns)/fewReaders+1)
	}
	var others sync.WaitGroup
	for i := 1; i < parts; i++ {
		part := conns[i*len(conns)/parts : (i+1)*len(conns)/parts]
		others.Go(func() {
			defer guard.Recover()
			for _, c := range part {
				f(c)
			}
		})
	}
	for _, c := range conns[:len(conns)/parts] {
		f(c)
	}
	others.Wait()
}

// aside gives blocks that are not kept to the readers who are there.
func (a *answer) aside(blocks *frame.Shared) {
	a.mu.Lock()
	a.bytes += int64(blocks.Len())
	a.some = append(a.some[:0], a.readers...)
	a.mu.Unlock()
	defer clear(a.some)
	for _, c := range a.some {
		c.Aside(a.offered, blocks, nil)
	}
}

// write gives blocks that are not kept to the readers, and waits until all have taken them. Nobody else comes to them.
func (a *answer) write(blocks *frame.Shared) {
	a.mu.Lock()
	a.loose = true
	a.bytes += int64(blocks.Len())
	a.some = append(a.some[:0], a.readers...)
	kept, pieces := len(a.events) > 0, a.passLocked(blocks)
	a.mu.Unlock()
	defer clear(a.some)
	if cap(a.done) < len(a.some) {
		a.done = make(chan error, len(a.some))
	}
	waiting := 0
	for _, c := range a.some {
		if c.Aside(a.offered, blocks, a.done) {
			waiting++
		}
	}
	for range waiting {
		select {
		case <-a.done: //nolint:errcheck // who has left is no reader any more
		case <-a.ended:
			a.done = nil // some may still tell it
			return
		}
	}
	if pieces > 0 && !a.awaitPulls(pieces) {
		return
	}
	if kept {
		a.relay.shrink(a)
	}
}
