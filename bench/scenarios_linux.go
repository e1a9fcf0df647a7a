package bench

import (
	"context"
	"errors"
	"fmt"
	"time"
)

func (r *run) connect() error {
	// Warm up, so that what a server allocates once is not measured.
	warm := min(100, r.streams/10)
	if err := r.pool.open(warm); err != nil {
		return err
	}
	if _, err := r.pool.take(); err != nil {
		return err
	}
	took, used, err := r.measured(func() error { return r.pool.open(r.streams) })
	if err != nil {
		return err
	}
	l, err := r.pool.take()
	if err != nil {
		return err
	}
	n := int64(r.streams - warm)
	r.result.add("streams opened", "1/s", float64(n)/took.Seconds())
	r.latency("first byte", l.connect)
	r.cost("stream", used, n)
	return nil
}

// storm closes all streams and opens all again at once. The backend's part is over when it knows of the end of each stream that was closed.
func (r *run) storm() error {
	if err := r.pool.open(r.streams); err != nil {
		return err
	}
	before, err := r.backendUsed()
	if err != nil {
		return err
	}
	began := clock()
	var back, failed int64
	_, used, err := r.measured(func() (err error) {
		if back, failed, err = r.pool.storm(); err == nil && r.server.backend != nil {
			err = r.server.backend.wait(r.ctx, r.streams)
		}
		return err
	})
	if err != nil {
		return err
	}
	after, err := r.backendUsed()
	if err != nil {
		return err
	}
	r.result.add("all are back after", "ms", float64(back-began)/1e6)
	r.result.add("failed requests", "", float64(failed))
	r.cost("reconnect", used, int64(r.streams))
	r.result.add("backend CPU per reconnect", "µs", float64((after-before).Nanoseconds())/1e3/float64(r.streams))
	return nil
}

// churn opens streams and closes them as soon as they are open, as many at a time as there are streams.
func (r *run) churn() error {
	var l latencies
	took, used, err := r.measured(func() (err error) {
		if err := r.pool.open(r.streams); err != nil {
			return err
		}
		if err := r.pool.churn(churn{Every: 1}); err != nil {
			return err
		}
		if err := r.rest(r.Duration); err != nil {
			return err
		}
		if err := r.pool.churn(churn{Every: 1, Over: true}); err != nil {
			return err
		}
		if l, err = r.pool.take(); err != nil {
			return err
		}
		return r.end()
	})
	if err != nil {
		return err
	}
	n, only := l.connect.TotalCount(), ""
	if r.server.backend == nil {
		only = ", connect and close only"
	}
	r.result.add("cycles"+only, "1/s", float64(n)/took.Seconds())
	r.latency("first byte", l.connect)
	r.cost("cycle"+only, used, n)
	return nil
}

// rest waits for a while, unless the run ends before.
func (r *run) rest(d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-r.ctx.Done():
		return context.Cause(r.ctx)
	case <-timer.C:
		return nil
	}
}

func (r *run) idle() error {
	// Before any stream, so that what the first one makes the server allocate counts too.
	before, err := memoryOf(r.server.pids)
	if err != nil {
		return err
	}
	began := time.Now()
	const steps = 20
	for i := range steps + 1 {
		n := r.streams * i / steps
		if err := errors.Join(r.pool.open(n), r.sampleMemory(began, n)); err != nil {
			return err
		}
	}
	var after memory
	took, used, err := r.measured(func() error {
		if err := r.rest(r.Settle); err != nil {
			return err
		}
		after, err = memoryOf(r.server.pids)
		return err
	})
	if err != nil {
		return err
	}
	grown := after.minus(before)
	perStream := func(name string, bytes int64) {
		r.result.add(name, "bytes", float64(bytes)/float64(r.streams))
	}
	if len(r.server.pids) > 0 {
		r.result.add("server RSS before any stream", "MB", float64(before.resident)/1e6)
		perStream("server RSS per stream", grown.resident)
		perStream("server PSS per stream", grown.proportional)
		r.result.add("server CPU at rest", "%", 100*used.server.Seconds()/took.Seconds())
	}
	r.result.add("bench CPU at rest", "%", 100*used.own.Seconds()/took.Seconds())
	perStream("kernel socket buffers per stream, both ends", grown.sockets)
	perStream("kernel slab per stream, both ends", grown.slab)
	return r.sampleMemory(began, r.streams)
}

// heartbeat measures heartbeats on streams to which nothing else is sent.
func (r *run) heartbeat() error {
	if err := r.pool.open(r.streams); err != nil {
		return err
	}
	interval := time.Duration(r.Heartbeat) * time.Second
	allowed := interval*3/2 + time.Second
	if r.Duration <= allowed {
		return fmt.Errorf("--duration: %v is too short to miss a beat; with an interval of %v it has to be more than %v", r.Duration, interval, allowed)
	}
	if _, err := r.pool.beats(allowed); err != nil {
		return err
	}
	var b beats
	took, used, err := r.measured(func() (err error) {
		if err := r.rest(r.Duration); err != nil {
			return err
		}
		b, err = r.pool.beats(0)
		return err
	})
	if err != nil {
		return err
	}
	r.result.add("beats", "1/s", float64(b.Count)/took.Seconds())
	r.result.add("longest time between beats", "s", b.Longest.Seconds())
	r.result.add("beats late or missing", "", float64(b.Late))
	r.cost("beat", used, b.Count)
	if b.Late > 0 {
		return fmt.Errorf("heartbeats: %d times none within %v; the longest time was %v", b.Late, allowed, b.Longest)
	}
	return nil
}

func (r *run) fanout() error {
	if err := r.pool.open(r.streams); err != nil {
		return err
	}
	x, p, err := r.outbox(r.server.publish)
	if err != nil {
		return err
	}
	if err := p.connect(); err != nil {
		return fmt.Errorf("connecting to publish: %w", err)
	}
	defer p.close()
	request := r.server.publish.parse()
	v := values{stream: everybody, common: true}
	last := newHistogram()
	took, used, err := r.measured(func() error {
		for n := range uint64(r.Events) {
			if err := r.pool.aim(func(int) uint64 { return n + 1 }); err != nil {
				return err
			}
			at := clock()
			r.sent.Common = n + 1
			p.out = request.append(p.out[:0], &v, x.event(request, nil, &v, at))
			a, err := p.do()
			if err := errors.Join(err, a.err()); err != nil {
				return err
			}
			read, err := r.pool.await()
			if err != nil {
				return err
			}
			record(last, read-at)
		}
		return nil
	})
	if err != nil {
		return err
	}
	l, err := r.pool.take()
	if err != nil {
		return err
	}
	deliveries := int64(r.Events) * int64(r.streams)
	r.result.add("deliveries", "1/s", float64(deliveries)/took.Seconds())
	r.latency("last stream has it", last)
	r.latency("each stream has it", l.common)
	r.cost("delivery", used, deliveries)
	return nil
}

// readers publishes to all streams at a steady rate, to one stream at first, then to ten times as many in each part, up to all.
func (r *run) readers() error {
	x, to, err := r.outbox(r.server.publish)
	if err != nil {
		return err
	}
	publish := r.server.publish.parse()
	due := make([]uint64, r.streams) // events, by stream
	for n := 1; ; n = min(10*n, r.streams) {
		if err := r.pool.open(n); err != nil {
			return err
		}
		p := &part{request: publish, senders: 1, rate: r.PublishRate, events: 1, common: true, duration: r.Duration}
		var events []int64
		_, used, err := r.measured(func() (err error) {
			if events, err = x.run(r.ctx, to.addr, p); err != nil {
				return err
			}
			for i := range due[:n] {
				due[i] += uint64(events[0])
			}
			if err := r.pool.aim(func(stream int) uint64 { return due[stream] }); err != nil {
				return err
			}
			_, err = r.pool.await()
			return err
		})
		r.sent.Common = x.common
		if err != nil {
			return fmt.Errorf("%d readers: %w", n, err)
		}
		l, err := r.pool.take()
		if err != nil {
			return err
		}
		r.latency(fmt.Sprintf("latency to %d", n), l.common)
		r.cost(fmt.Sprintf("delivery to %d", n), used, events[0]*int64(n))
		if n == r.streams {
			return nil
		}
	}
}

// outbox returns an empty outbox, and an unconnected sender for the request's server.
func (r *run) outbox(to *requestSpec) (*outbox, *sender, error) {
	host, port, err := to.address()
	if err != nil {
		return nil, nil, err
	}
	addr, err := resolve(host, port)
	if err != nil {
		return nil, nil, err
	}
	x := &outbox{
		size: r.Size, token: r.server.backend.token, sequences: make([]uint64, r.streams), tokens: make([]string, r.streams),
		leaves: func(int) bool { return false },
	}
	r.sent.Own = x.sequences
	return x, &sender{addr: addr}, nil
}

// The number of events in a request: a batch has one for each of as many streams, a streaming request has all for one stream.
const (
	batchSize  = 64
	streamSize = 1000
)

func (r *run) unicast() error {
	if err := r.pool.open(r.streams); err != nil {
		return err
	}
	x, to, err := r.outbox(r.server.send)
	if err != nil {
		return err
	}
	one := r.server.send.parse()
	senders := min(r.Senders, r.streams)
	type measurement struct {
		name, of string
		part
	}
	parts := []measurement{
		{"paced sends", "paced send", part{request: one, rate: r.Rate, events: 1}},
		{"saturated sends", "saturated send", part{request: one, events: 1}},
	}
	if r.server.batch != nil {
		batch := r.server.batch.parse().withEvents(`{"operations":[`, ",", "]}")
		stream := r.server.stream.parse().withEvents("", "\n", "\n")
		parts = append(parts,
			measurement{"batched events", "batched event", part{request: batch, events: batchSize}},
			measurement{"streamed events", "streamed event", part{request: stream, events: streamSize, single: true}})
	}
	for _, m := range parts {
		m.senders, m.duration = senders, r.Duration
		var events []int64
		took, used, err := r.measured(func() (err error) {
			if events, err = x.run(r.ctx, to.addr, &m.part); err != nil {
				return err
			}
			if err := r.pool.aim(func(n int) uint64 { return x.sequences[n] }); err != nil {
				return err
			}
			_, err = r.pool.await()
			return err
		})
		if err != nil {
			return err
		}
		l, err := r.pool.take()
		if err != nil {
			return err
		}
		r.result.add(m.name, "1/s", float64(events[0])/took.Seconds())
		if m.part.events == 1 {
			r.latency(m.name[:len(m.name)-len(" sends")]+" latency", l.own)
		}
		r.cost(m.of, used, events[0])
	}
	return nil
}

// In mixed, every tenth stream is closed by its client after a second, and opened again.
const (
	mixedChurn = 10
	mixedLife  = time.Second
)

func (r *run) mixed() error {
	if err := r.pool.open(r.streams); err != nil {
		return err
	}
	x, to, err := r.outbox(r.server.send)
	if err != nil {
		return err
	}
	churned := churn{Every: mixedChurn, Life: mixedLife}
	x.leaves = churned.has
	publish := r.server.publish.parse()
	sends := &part{request: r.server.send.parse(), senders: min(r.Senders, r.streams), rate: r.Rate, events: 1, duration: r.Duration}
	publishes := &part{request: publish, senders: 1, rate: r.PublishRate, events: 1, common: true, duration: r.Duration}
	if _, err := r.pool.take(); err != nil {
		return err
	}
	if _, err := r.pool.beats(0); err != nil {
		return err
	}
	began := time.Now()
	var events []int64
	took, used, err := r.measured(func() error {
		return r.during(max(r.Duration/120, 50*time.Millisecond), func() error { return r.sampleMemory(began, int(r.pool.state().Open)) }, func() (err error) {
			if err := r.pool.churn(churned); err != nil {
				return err
			}
			if events, err = x.run(r.ctx, to.addr, sends, publishes); err != nil {
				return err
			}
			churned.Over = true
			return r.pool.churn(churned)
		})
	})
	r.sent.Common = x.common
	if err != nil {
		return err
	}
	// All streams are open and nothing is being sent. Which events a churned stream receives
	// cannot be foreseen, but a last event to all streams comes after them.
	if err := r.pool.final(x.common + 1); err != nil {
		return err
	}
	for n := range x.sequences {
		if churned.has(n) && x.token(n) != x.tokens[n] {
			x.sequences[n] = 0 // nothing was sent to it since it was opened again
		}
	}
	if err := r.pool.aim(func(n int) uint64 {
		if churned.has(n) {
			return 1
		}
		return x.sequences[n] + x.common + 1
	}); err != nil {
		return err
	}
	last := &part{request: publish, senders: 1, events: 1, common: true, rate: 1, duration: time.Nanosecond}
	if _, err := x.run(r.ctx, to.addr, last); err != nil {
		return err
	}
	r.sent.Common = x.common
	if _, err := r.pool.await(); err != nil {
		return err
	}
	l, err := r.pool.take()
	if err != nil {
		return err
	}
	b, err := r.pool.beats(0)
	if err != nil {
		return err
	}
	r.result.add("sends", "1/s", float64(events[0])/took.Seconds())
	r.latency("send latency", l.own)
	r.result.add("publishes", "1/s", float64(events[1])/took.Seconds())
	r.latency("publish latency", l.common)
	r.result.add("sends to a stream that had left", "", float64(x.gone))
	r.result.add("streams reopened", "1/s", float64(l.connect.TotalCount())/took.Seconds())
	r.result.add("beats", "1/s", float64(b.Count)/took.Seconds())
	if len(r.server.pids) > 0 {
		r.result.add("server CPU", "%", 100*used.server.Seconds()/took.Seconds())
		r.result.memory()
	}
	r.result.add("bench CPU", "%", 100*used.own.Seconds()/took.Seconds())
	return nil
}
