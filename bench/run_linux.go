package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"
)

// Run measures. The report has the scenarios that were run, the failed one too.
func Run(ctx context.Context, o Options) (Report, error) {
	var report Report
	if err := o.check(); err != nil {
		return report, err
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return report, fmt.Errorf("limit on open files: %w", err)
	}
	// Callbacks and publishers have sockets too.
	if most := int64(limit.Cur) - 100 - 2*int64(o.Senders); int64(o.Streams) > most {
		return report, fmt.Errorf("--streams: the limit of %d open files allows %d", limit.Cur, max(most, 0))
	}
	for _, name := range Scenarios {
		if !o.runs(name) {
			continue
		}
		if o.Progress != nil {
			fmt.Fprintf(o.Progress, "bench: %s, %d streams\n", name, o.Streams)
		}
		result, err := o.scenario(ctx, name)
		if err != nil {
			err = fmt.Errorf("%s: %w", name, err)
			result.Error = err.Error()
		}
		report.Results = append(report.Results, result)
		if err != nil {
			return report, err
		}
	}
	return report, nil
}

// run is one scenario while it runs.
type run struct {
	*Options
	ctx     context.Context
	server  *server
	readers *readers
	sent    func(stream int) uint64 // events that the stream has to have in the end
	result  *Result
}

func (o *Options) scenario(ctx context.Context, name string) (result Result, err error) {
	result = Result{Scenario: name, Streams: o.Streams}
	s, err := startServer(ctx, o, name)
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	r := &run{Options: o, ctx: ctx, server: s, sent: func(int) uint64 { return 0 }, result: &result}
	if r.readers, err = newReaders(ctx, fail, o, s.url); err != nil {
		return result, err
	}
	began := time.Now()
	err = map[string]func() error{"connect": r.connect, "idle": r.idle, "fanout": r.fanout, "unicast": r.unicast}[name]()
	result.Seconds = time.Since(began).Seconds()
	r.readers.stop()
	for i := range r.readers.checks {
		result.Check.add(r.readers.checks[i].finish(r.sent(i)))
	}
	return result, errors.Join(err, result.Check.err())
}

// warm opens the first streams, so that what a server needs whatever the number of
// streams is there before anything is measured.
func (r *run) warm() (opened int, err error) {
	opened = min(100, r.Streams/10)
	err = r.readers.open(r.ctx, opened)
	r.readers.take()
	return opened, err
}

// measured says what f used of the processor, here and at the server.
func (r *run) measured(f func() error) (took, server, own time.Duration, err error) {
	server0, err0 := cpuOf(r.server.pids...)
	own0, err1 := cpuOf(0)
	began := time.Now()
	err = f()
	took = time.Since(began)
	server1, err2 := cpuOf(r.server.pids...)
	own1, err3 := cpuOf(0)
	return took, server1 - server0, own1 - own0, errors.Join(err, err0, err1, err2, err3)
}

// cost adds the processor time of a unit of work.
func (r *run) cost(of string, server, own time.Duration, n int64) {
	micros := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 / float64(max(n, 1)) }
	if len(r.server.pids) > 0 {
		r.result.add("server CPU per "+of, "µs", micros(server))
	}
	r.result.add("bench CPU per "+of, "µs", micros(own))
}

func (r *run) latency(what string, h *hdrhistogram.Histogram) {
	for _, p := range []float64{50, 99, 99.9, 100} {
		name := fmt.Sprintf("%s p%v", what, p)
		if p == 100 {
			name = what + " max"
		}
		r.result.add(name, "ms", float64(h.ValueAtQuantile(p))/1e6)
	}
}

func (r *run) connect() error {
	warm, err := r.warm()
	if err != nil {
		return err
	}
	took, server, own, err := r.measured(func() error { return r.readers.open(r.ctx, r.Streams) })
	if err != nil {
		return err
	}
	n := r.Streams - warm
	first, _ := r.readers.take()
	r.result.add("streams opened", "1/s", float64(n)/took.Seconds())
	r.latency("first byte", first)
	r.cost("stream", server, own, int64(n))
	return nil
}

func (r *run) idle() error {
	warm, err := r.warm()
	if err != nil {
		return err
	}
	before, err := memoryOf(r.server.pids)
	if err != nil {
		return err
	}
	if err := r.readers.open(r.ctx, r.Streams); err != nil {
		return err
	}
	var after memory
	took, server, own, err := r.measured(func() error {
		select {
		case <-r.ctx.Done():
			return context.Cause(r.ctx)
		case <-time.After(r.Settle):
		}
		after, err = memoryOf(r.server.pids)
		return err
	})
	if err != nil {
		return err
	}
	grown := after.minus(before)
	perStream := func(name string, bytes int64) {
		r.result.add(name, "bytes", float64(bytes)/float64(r.Streams-warm))
	}
	if len(r.server.pids) > 0 {
		perStream("server RSS per stream", grown.resident)
		perStream("server PSS per stream", grown.proportional)
		r.result.add("server CPU at rest", "%", 100*server.Seconds()/took.Seconds())
	}
	r.result.add("bench CPU at rest", "%", 100*own.Seconds()/took.Seconds())
	perStream("kernel socket buffers per stream, both ends", grown.sockets)
	perStream("kernel slab per stream, both ends", grown.slab)
	return nil
}

func (r *run) fanout() error {
	if err := r.readers.open(r.ctx, r.Streams); err != nil {
		return err
	}
	p, err := newPublisher(r.ctx, r.Options, r.server)
	if err != nil {
		return err
	}
	defer p.conn.Close()
	last := newHistogram()
	sequence := uint64(0)
	r.sent = func(int) uint64 { return sequence }
	took, server, own, err := r.measured(func() error {
		for range r.Events {
			sequence++
			r.readers.arrived.aim(int64(sequence) * int64(r.Streams))
			sent := clock()
			if err := p.publish(everybody, sequence, sent); err != nil {
				return err
			}
			at, err := r.readers.wait(r.ctx, &r.readers.arrived)
			if err != nil {
				return fmt.Errorf("deliveries: %w", err)
			}
			record(last, at-sent)
		}
		return nil
	})
	if err != nil {
		return err
	}
	_, each := r.readers.take()
	deliveries := int64(r.Events) * int64(r.Streams)
	r.result.add("deliveries", "1/s", float64(deliveries)/took.Seconds())
	r.latency("last stream has it", last)
	r.latency("each stream has it", each)
	r.cost("delivery", server, own, deliveries)
	return nil
}

func (r *run) unicast() error {
	if err := r.readers.open(r.ctx, r.Streams); err != nil {
		return err
	}
	u := &unicast{sequences: make([]uint64, r.Streams)}
	r.sent = func(stream int) uint64 { return u.sequences[stream] }
	for range min(r.Senders, r.Streams) {
		p, err := newPublisher(r.ctx, r.Options, r.server)
		if err != nil {
			return err
		}
		u.publishers = append(u.publishers, p)
	}
	defer func() {
		for _, p := range u.publishers {
			p.conn.Close()
		}
	}()
	all := int64(0)
	for _, part := range []struct {
		name string
		rate int
	}{{"paced", r.Rate}, {"saturated", 0}} {
		var sends int64
		r.readers.take()
		took, server, own, err := r.measured(func() (err error) {
			if sends, err = u.run(r.ctx, r.Duration, part.rate); err != nil {
				return err
			}
			all += sends
			r.readers.arrived.aim(all)
			if _, err = r.readers.wait(r.ctx, &r.readers.arrived); err != nil {
				return fmt.Errorf("deliveries: %w", err)
			}
			return nil
		})
		if err != nil {
			return err
		}
		_, latency := r.readers.take()
		r.result.add(part.name+" sends", "1/s", float64(sends)/took.Seconds())
		r.latency(part.name+" latency", latency)
		r.cost(part.name+" send", server, own, sends)
	}
	return nil
}
