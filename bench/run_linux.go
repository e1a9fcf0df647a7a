package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"
)

// Run measures the scenarios. The report has those that ran, including a failed one.
func Run(ctx context.Context, o Options) (Report, error) {
	report := Report{Machine: thisMachine(), Started: time.Now().UTC().Truncate(time.Second), Version: o.Version}
	if err := o.check(); err != nil {
		return report, err
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return report, fmt.Errorf("limit on open files: %w", err)
	}
	if most := int64(limit.Max) - 100; o.starts() && int64(o.Streams) > most {
		return report, fmt.Errorf("--streams: the limit of %d open files allows the gateway %d", limit.Max, max(most, 0))
	}
	for _, name := range Scenarios {
		if !o.runs(name) {
			continue
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

// thisMachine describes this machine.
func thisMachine() Machine {
	m := Machine{Cores: runtime.NumCPU()}
	var u unix.Utsname
	if unix.Uname(&u) == nil { // the report can do without
		m.Kernel = string(bytes.TrimRight(u.Release[:], "\x00"))
	}
	text, _ := os.ReadFile("/proc/cpuinfo") // as above
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			m.CPU = strings.TrimSpace(value)
			break
		}
	}
	return m
}

// run is the state of a running scenario.
type run struct {
	*Options
	ctx     context.Context
	server  *server
	streams int
	pool    *pool
	sent    sent // what the streams must have received in the end
	ended   bool
	result  *Result
}

var scenarios = map[string]func(*run) error{
	"connect": (*run).connect, "storm": (*run).storm, "churn": (*run).churn, "idle": (*run).idle, "heartbeat": (*run).heartbeat,
	"fanout": (*run).fanout, "readers": (*run).readers, "unicast": (*run).unicast, "mixed": (*run).mixed,
}

func (o *Options) scenario(ctx context.Context, name string) (result Result, err error) {
	result = Result{Scenario: name, Streams: o.Streams}
	if name == "churn" {
		result.Streams = o.Connecting
	}
	if o.Progress != nil {
		fmt.Fprintf(o.Progress, "bench: %s, %d streams\n", name, result.Streams)
	}
	s, err := startServer(ctx, o, name, result.Streams)
	if err != nil {
		return result, err
	}
	defer func() {
		err = errors.Join(err, s.stop())
		if s.backend != nil {
			// A gateway that has ended cannot send any more callbacks.
			if err == nil {
				err = s.backend.err()
			}
			s.backend.close()
		}
	}()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	r := &run{Options: o, ctx: ctx, server: s, streams: result.Streams, result: &result}
	if r.pool, err = startPool(ctx, fail, o, name, r.streams, s); err != nil {
		return result, err
	}
	began := time.Now()
	progress := r.showProgress()
	err = scenarios[name](r)
	progress()
	result.Seconds = time.Since(began).Seconds()
	return result, errors.Join(err, r.end(), result.Check.err())
}

// end closes the streams, and waits until the backend was notified of each disconnect.
func (r *run) end() (err error) {
	if r.ended {
		return nil
	}
	r.ended = true
	if r.result.Check, err = r.pool.finish(&r.sent); err == nil && r.server.backend != nil {
		err = r.server.backend.wait(r.ctx, 0)
	}
	return err
}

// used is the processor time of the server, and of all of bench's processes.
type used struct{ server, own time.Duration }

func (r *run) used() (u used, err error) {
	server, err1 := CPUOf(r.server.pids...)
	own, err2 := CPUOf(0)
	workers, err3 := r.pool.cpu()
	return used{server, own + workers}, errors.Join(err1, err2, err3)
}

// backendUsed returns the processor time of whom the server asks. If that is this process, it is that of all that the process does.
func (r *run) backendUsed() (time.Duration, error) {
	if r.server.backend != nil {
		return CPUOf(0)
	}
	return CPUOf(r.BackendPIDs...)
}

// measured returns the processor time that was used while f ran.
func (r *run) measured(f func() error) (took time.Duration, u used, err error) {
	before, err1 := r.used()
	began := time.Now()
	err = f()
	took = time.Since(began)
	after, err2 := r.used()
	return took, used{after.server - before.server, after.own - before.own}, errors.Join(err, err1, err2)
}

// cost adds the processor time for each unit of work.
func (r *run) cost(of string, u used, n int64) {
	micros := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 / float64(max(n, 1)) }
	if len(r.server.pids) > 0 {
		r.result.add("server CPU per "+of, "µs", micros(u.server))
	}
	r.result.add("bench CPU per "+of, "µs", micros(u.own))
}

func (r *run) latency(what string, h *hdrhistogram.Histogram) {
	for _, p := range []float64{50, 90, 99, 99.9, 100} {
		name := fmt.Sprintf("%s p%v", what, p)
		if p == 100 {
			name = what + " max"
		}
		r.result.add(name, "ms", float64(h.ValueAtQuantile(p))/1e6)
	}
	if h.TotalCount() > 0 {
		r.result.distributions = append(r.result.distributions, distributionOf(what, h))
	}
}

// during calls look at intervals while f runs, and once before and after.
func (r *run) during(every time.Duration, look func() error, f func() error) error {
	if err := look(); err != nil {
		return err
	}
	over, looked := make(chan struct{}), make(chan error)
	go func() {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-over:
				looked <- look()
				return
			case <-ticker.C:
				if err := look(); err != nil {
					<-over
					looked <- err
					return
				}
			}
		}
	}()
	err := f()
	close(over)
	return errors.Join(err, <-looked)
}

// sampleMemory adds the server's current memory to the result.
func (r *run) sampleMemory(began time.Time, streams int) error {
	if len(r.server.pids) == 0 {
		return nil
	}
	rss, err := residentOf(r.server.pids)
	r.result.Memory = append(r.result.Memory, Sample{time.Since(began).Seconds(), streams, rss})
	return err
}

// showProgress prints the progress of the scenario every second, until the returned function is called.
func (r *run) showProgress() (end func()) {
	if r.Progress == nil || !r.Live {
		return func() {}
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		before, at := r.pool.state(), time.Now()
		u, _ := r.used() // 0 if a process has ended
		for {
			select {
			case <-stop:
				return
			case now := <-ticker.C:
				s := r.pool.state()
				v, _ := r.used()
				seconds := now.Sub(at).Seconds()
				fmt.Fprintf(r.Progress, "bench: %s, %d streams open, %.0f opened/s, %.0f events/s, %.0f beats/s, CPU %.0f %% server, %.0f %% bench\n",
					r.result.Scenario, s.Open, float64(s.Opens-before.Opens)/seconds, float64(s.Events-before.Events)/seconds,
					float64(max(s.Beats-before.Beats, 0))/seconds,
					100*(v.server-u.server).Seconds()/seconds, 100*(v.own-u.own).Seconds()/seconds)
				before, at, u = s, now, v
			}
		}
	}()
	return func() {
		close(stop)
		<-stopped
	}
}
