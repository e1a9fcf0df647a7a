package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"
)

// maxWorkers bounds the processes, in case the number of streams is a mistake.
const maxWorkers = 200

// pool is all the workers.
type pool struct {
	ctx     context.Context
	streams int
	workers []*remote

	mu     sync.Mutex
	pids   []int         // of worker processes, until they end
	spent  time.Duration // processor time of those that have ended
	lastID atomic.Int64
	over   atomic.Bool // workers may end now
}

// remote is the pool's side of a worker.
type remote struct {
	share   share
	in      io.WriteCloser
	answers chan answer
	state   atomic.Pointer[state]
	ended   func() error // waits for the worker to end, once in is closed
}

// workersFor returns how many processes so many streams need. It is 0 if this process
// has enough descriptors for them beside its others.
func (o *Options) workersFor(streams int) (int, error) {
	var limit unix.Rlimit
	// Go has raised the soft limit to the hard one by now.
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("limit on open files: %w", err)
	}
	here := int(min(limit.Cur, 1<<30)) - 200
	each := here
	if o.StreamsPerProcess > 0 {
		here, each = o.StreamsPerProcess, o.StreamsPerProcess
	}
	if streams <= here-2*o.Senders || o.StreamsPerProcess > 0 && streams <= here {
		return 0, nil
	}
	if each < 1 || (streams+each-1)/each > maxWorkers {
		return 0, fmt.Errorf("--streams: %d open files a process would take more than %d processes", limit.Cur, maxWorkers)
	}
	return (streams + each - 1) / each, nil
}

// startPool starts the workers: one in this process, or as many processes as are needed.
// It passes errors of streams to fail.
func startPool(ctx context.Context, fail context.CancelCauseFunc, o *Options, scenario string, streams int, s *server) (*pool, error) {
	host, port, err := s.open.address()
	if err != nil {
		return nil, err
	}
	ips, err := net.DefaultResolver.LookupIP(ctx, "ip4", host)
	if err != nil {
		return nil, err
	}
	processes, err := o.workersFor(streams)
	if err != nil {
		return nil, err
	}
	if scenario == "storm" {
		processes = max(processes, 1) // so that what this process uses is the backend's
	}
	p := &pool{ctx: ctx, streams: streams}
	for i := range max(processes, 1) {
		r := &remote{share: share{streams, i, max(processes, 1)}, answers: make(chan answer, 1)}
		var out io.Reader
		if processes == 0 {
			out = r.here()
		} else if out, err = p.startProcess(r, o.Worker); err != nil {
			_, _ = p.finish(&sent{}) // it closes the others
			return nil, err
		}
		go p.listen(r, out, fail)
		p.workers = append(p.workers, r)
	}
	_, err = p.all(p.ctx, func(r *remote) order {
		return order{Do: doStart, Setup: &setup{
			Share: r.share, Open: s.open, Common: common(scenario), Resumes: s.backend != nil, Late: scenario == "readers",
			Addr: [4]byte(ips[0].To4()), Port: port, Connecting: o.Connecting,
		}}
	})
	return p, err
}

// here runs a worker in this process.
func (r *remote) here() (out io.Reader) {
	orders, in := io.Pipe()
	out, answers := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := Work(orders, answers)
		_ = answers.Close() // a pipe in memory
		done <- err
	}()
	r.in, r.ended = in, func() error { return <-done }
	return out
}

func (p *pool) startProcess(r *remote, command []string) (out io.Reader, err error) {
	cmd := exec.Command(command[0], command[1:]...) // ends when its input ends
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var stderr tail
	cmd.Stderr = &stderr
	if r.in, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	// The pipe of StdoutPipe is closed by Wait, which would race with its reader.
	out, stdout := io.Pipe()
	cmd.Stdout = stdout
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p.pids = append(p.pids, cmd.Process.Pid)
	done := make(chan error, 1)
	go func() {
		err := cmd.Wait()
		if err != nil {
			err = fmt.Errorf("a worker: %w\n%s", err, stderr.text())
		}
		_ = stdout.CloseWithError(errors.Join(err, io.EOF))
		done <- err
	}()
	r.ended = func() error { return <-done }
	return out, nil
}

// tail keeps the end of a process' output.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, b...)
	if over := len(t.buf) - 16<<10; over > 0 {
		t.buf = t.buf[over:]
	}
	return len(b), nil
}

func (t *tail) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}

// listen passes on the worker's answers until it ends.
func (p *pool) listen(r *remote, out io.Reader, fail context.CancelCauseFunc) {
	defer close(r.answers)
	for dec := json.NewDecoder(bufio.NewReader(out)); ; {
		var a answer
		switch err := dec.Decode(&a); {
		case err != nil:
			if !p.over.Load() {
				fail(fmt.Errorf("a worker ended: %w", err))
			}
			return
		case a.ID != 0:
			r.answers <- a
		case a.State != nil:
			r.state.Store(a.State)
		default:
			fail(errors.New(a.Error))
		}
	}
}

// all sends each worker an order, and waits for the answers of all.
func (p *pool) all(ctx context.Context, tell func(r *remote) order) (answers []answer, err error) {
	if ctx.Err() != nil { // a worker that is still busy with an order accepts only doFinish
		return nil, context.Cause(ctx)
	}
	id := p.lastID.Add(1)
	for _, r := range p.workers {
		o := tell(r)
		o.ID = id
		text, err := json.Marshal(o)
		if err != nil {
			return nil, err
		}
		if _, err := r.in.Write(append(text, '\n')); err != nil {
			return nil, fmt.Errorf("a worker: %w", err)
		}
	}
	for _, r := range p.workers {
		for answered := false; !answered; {
			select {
			case a, ok := <-r.answers:
				switch {
				case !ok:
					return nil, errors.New("a worker ended")
				case a.ID != id: // to an order that was given up
				case a.Error != "":
					return nil, errors.New(a.Error)
				default:
					answers, answered = append(answers, a), true
				}
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
	}
	return answers, nil
}

// open opens streams until there are n, and waits for them.
func (p *pool) open(n int) error {
	_, err := p.all(p.ctx, func(*remote) order { return order{Do: doOpen, N: int64(n)} })
	return err
}

func (p *pool) churn(c churn) error {
	_, err := p.all(p.ctx, func(*remote) order { return order{Do: doChurn, Churn: &c} })
	return err
}

// storm closes all streams, and opens all again at once. It returns when the last one was open, and how many requests failed until then.
func (p *pool) storm() (at, failed int64, err error) {
	answers, err := p.all(p.ctx, func(*remote) order { return order{Do: doStorm} })
	for _, a := range answers {
		at, failed = max(at, a.At), failed+a.Failed
	}
	return at, failed, err
}

// aim sets how many events each stream must have received since the beginning. await waits for them.
func (p *pool) aim(events func(stream int) uint64) error {
	_, err := p.all(p.ctx, func(r *remote) order {
		sum := uint64(0)
		for n := r.share.Process; n < p.streams; n += r.share.Of {
			sum += events(n)
		}
		return order{Do: doAim, N: int64(sum)}
	})
	return err
}

// await waits for the events of aim, and returns when the last one was received.
func (p *pool) await() (at int64, err error) {
	answers, err := p.all(p.ctx, func(*remote) order { return order{Do: doAwait} })
	for _, a := range answers {
		at = max(at, a.At)
	}
	return at, err
}

// final sets the number of the event to all streams that await waits for on churned streams too.
func (p *pool) final(number uint64) error {
	_, err := p.all(p.ctx, func(*remote) order { return order{Do: doFinal, N: int64(number)} })
	return err
}

// beats returns the heartbeats since the last call, and sets the time allowed between two from now on.
func (p *pool) beats(allowed time.Duration) (sum beats, err error) {
	answers, err := p.all(p.ctx, func(*remote) order { return order{Do: doBeats, Beats: allowed} })
	for _, a := range answers {
		sum.Count += a.Beats.Count
		sum.Late += a.Beats.Late
		sum.Longest = max(sum.Longest, a.Beats.Longest)
	}
	return sum, err
}

// latencies are those since the last take.
type latencies struct{ connect, own, common *hdrhistogram.Histogram }

func (p *pool) take() (l latencies, err error) {
	l = latencies{newHistogram(), newHistogram(), newHistogram()}
	answers, err := p.all(p.ctx, func(*remote) order { return order{Do: doTake} })
	for _, a := range answers {
		l.connect.Merge(hdrhistogram.Import(a.Connect))
		l.own.Merge(hdrhistogram.Import(a.Own))
		l.common.Merge(hdrhistogram.Import(a.Common))
	}
	return l, err
}

// state returns the sum of the states that the workers last reported.
func (p *pool) state() (sum state) {
	for _, r := range p.workers {
		if s := r.state.Load(); s != nil {
			sum.Open += s.Open
			sum.Events += s.Events
			sum.Beats += s.Beats
			sum.Opens += s.Opens
		}
	}
	return sum
}

// cpu returns the processor time of the worker processes.
func (p *pool) cpu() (time.Duration, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now, err := CPUOf(p.pids...)
	return p.spent + now, err
}

// finish closes the streams, ends the workers, and returns the result of their checks,
// even if the run has failed.
func (p *pool) finish(s *sent) (sum Check, err error) {
	ctx, cancel := context.WithTimeoutCause(context.Background(), patience, fmt.Errorf("the workers did not end within %v", patience))
	defer cancel()
	p.over.Store(true)
	answers, err := p.all(ctx, func(*remote) order { return order{Do: doFinish, Sent: s} })
	for _, a := range answers {
		sum.add(*a.Check)
	}
	spent, cpuErr := p.cpu()
	p.mu.Lock()
	p.spent, p.pids = spent, nil
	p.mu.Unlock()
	err = errors.Join(err, cpuErr)
	for _, r := range p.workers {
		_ = r.in.Close() // this ends the worker
		err = errors.Join(err, r.ended())
	}
	return sum, err
}
