package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// A worker holds a share of the streams. It reads orders and writes answers as lines of
// JSON, so it can be a process of its own, with descriptors of its own.

// order is one order to a worker.
type order struct {
	ID int64  // the answer has the same
	Do string // one of the following

	Setup *setup        `json:",omitempty"` // start
	N     int64         `json:",omitempty"` // open: streams; aim: events of the worker's streams; final: number of an event
	Churn *churn        `json:",omitempty"` // churn
	Beats time.Duration `json:",omitempty"` // beats: time allowed between two; 0: do not check
	Sent  *sent         `json:",omitempty"` // finish
}

const (
	doStart  = "start"
	doOpen   = "open"   // waits until the streams are open
	doChurn  = "churn"  // if it is over: waits until all streams are open
	doStorm  = "storm"  // waits until the streams are open again
	doAim    = "aim"    // sets the number of events for doAwait
	doAwait  = "await"  // waits for the events
	doFinal  = "final"  // see readers.final
	doBeats  = "beats"  // returns the heartbeats since the last doBeats
	doTake   = "take"   // returns the latencies since the last doTake
	doFinish = "finish" // interrupts the current order, closes the streams, and returns the result of the checks
)

// setup describes the streams that a worker holds.
type setup struct {
	Share  share
	Open   requestSpec
	Common bool // {channel} is the common one
	// Resumes: a stream that was closed is opened again with its position, so that it gets every
	// event to all streams, and it has a new token, so that its own events are numbered from 1 again.
	Resumes bool
	// Late: streams are opened between the events to all, so the first that a stream gets may have any number.
	Late       bool
	Addr       [4]byte
	Port       int
	Connecting int
}

// sent is how many events each stream must have received in the end.
type sent struct {
	Own    []uint64 // by stream; empty: no stream was sent any of its own
	Common uint64
}

func (s *sent) own(stream int) uint64 {
	if stream >= len(s.Own) {
		return 0
	}
	return s.Own[stream]
}

// answer is a worker's answer to an order, or with ID 0 a report without an order.
type answer struct {
	ID    int64
	Error string `json:",omitempty"` // with ID 0: the scenario has failed

	At                   int64                  `json:",omitempty"` // await: when the last event was received; storm: when the last stream was open
	Failed               int64                  `json:",omitempty"` // storm: requests
	Connect, Own, Common *hdrhistogram.Snapshot `json:",omitempty"` // take
	Beats                *beats                 `json:",omitempty"`
	Check                *Check                 `json:",omitempty"` // finish
	State                *state                 `json:",omitempty"` // twice a second
}

// state is the progress of a worker.
type state struct{ Open, Events, Beats, Opens int64 }

// Work executes the orders from in until in ends, and writes the answers to out.
func Work(in io.Reader, out io.Writer) error {
	w := &worker{out: bufio.NewWriter(out)}
	w.enc = json.NewEncoder(w.out)
	ctx, cancel := context.WithCancel(context.Background())
	orders := make(chan order)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for o := range orders {
			w.say(w.obey(ctx, o))
		}
		if w.readers != nil {
			w.readers.stop()
		}
	}()
	var err error
	for dec := json.NewDecoder(in); ; {
		var o order
		if err = dec.Decode(&o); err != nil {
			break
		}
		if o.Do == doFinish {
			cancel()
		}
		orders <- o
	}
	cancel()
	close(orders)
	<-done
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe) {
		return nil
	}
	return err
}

type worker struct {
	mu  sync.Mutex
	out *bufio.Writer
	enc *json.Encoder

	share   share
	readers *readers
}

// say ignores errors: a write fails only if the pool has gone, and then the orders end too.
func (w *worker) say(a answer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	_ = w.enc.Encode(a)
	_ = w.out.Flush()
}

func (w *worker) obey(ctx context.Context, o order) answer {
	a, err := w.do(ctx, o)
	a.ID = o.ID
	if err != nil {
		a.Error = err.Error()
	}
	return a
}

func (w *worker) do(ctx context.Context, o order) (a answer, err error) {
	r := w.readers
	switch o.Do {
	case doStart:
		w.share = o.Setup.Share
		w.readers, err = newReaders(func(err error) { w.say(answer{Error: err.Error()}) }, o.Setup)
		if err == nil {
			go w.tell(ctx)
		}
		return a, err
	case doOpen:
		r.open(int(o.N), w.share.of(int(o.N)))
		if _, err := r.opened.wait(ctx); err != nil {
			return a, fmt.Errorf("opening streams: %w", err)
		}
	case doChurn:
		r.setChurn(*o.Churn, w.share.of(w.share.Streams))
		if !o.Churn.Over {
			return a, nil
		}
		if _, err := r.opened.wait(ctx); err != nil {
			return a, fmt.Errorf("opening streams again: %w", err)
		}
	case doStorm:
		r.storm(w.share.of(w.share.Streams))
		a.At, err = r.opened.wait(ctx)
		r.each(func(l *loop) { a.Failed += l.failed })
		if err != nil {
			return a, fmt.Errorf("opening streams again, %d requests failed: %w", a.Failed, err)
		}
	case doAim:
		r.arrived.aim(o.N)
	case doAwait:
		if a.At, err = r.arrived.wait(ctx); err != nil {
			return a, fmt.Errorf("deliveries: %w", err)
		}
	case doFinal:
		r.final.Store(o.N)
	case doBeats:
		b := r.watchBeats(o.Beats)
		a.Beats = &b
	case doTake:
		a.Connect, a.Own, a.Common = r.take()
	case doFinish:
		a.Check = new(Check)
		if r == nil {
			return a, nil // doStart has failed or never came
		}
		r.stop()
		r.each(func(l *loop) {
			for i := range l.streams {
				s := &l.streams[i]
				a.Check.add(s.finish(o.Sent.own(s.stream), o.Sent.Common))
			}
		})
	}
	return a, nil
}

// tell reports the worker's state twice a second.
func (w *worker) tell(ctx context.Context) {
	ticker := time.NewTicker(500 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			w.say(answer{State: w.readers.state()})
		}
	}
}

func (r *readers) state() *state {
	s := &state{Open: r.opened.count.Load(), Events: r.arrived.count.Load()}
	r.each(func(l *loop) {
		s.Beats += l.beats.Count
		s.Opens += int64(l.dials)
	})
	return s
}

// take returns the latencies since the last call.
func (r *readers) take() (connect, own, common *hdrhistogram.Snapshot) {
	c, o, s := newHistogram(), newHistogram(), newHistogram()
	r.each(func(l *loop) {
		for to, from := range map[*hdrhistogram.Histogram]*hdrhistogram.Histogram{c: l.connect, o: l.own, s: l.shared} {
			to.Merge(from)
			from.Reset()
		}
	})
	return c.Export(), o.Export(), s.Export()
}
