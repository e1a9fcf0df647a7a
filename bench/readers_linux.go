package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"
)

// portsPerSource is how many streams come from one address, below what the usual
// ephemeral range holds.
const portsPerSource = 20_000

// begin is when the clock of the events starts.
var begin = time.Now()

// clock is the time in nanoseconds that events carry. It never goes back.
func clock() int64 { return int64(time.Since(begin)) }

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1000, int64(10*patience), 3) // of nanoseconds
}

// record clamps what the histogram cannot hold, so that the worst is never left out.
func record(h *hdrhistogram.Histogram, d int64) {
	_ = h.RecordValue(min(max(d, 0), h.HighestTrackableValue())) // cannot fail within the bounds
}

// mark waits for a count to reach a target, and knows when it did.
type mark struct {
	count, target atomic.Int64
	reached       chan int64 // the time
}

func (m *mark) add(n, now int64) {
	count, target := m.count.Add(n), m.target.Load()
	if count >= target && count-n < target {
		m.tell(now)
	}
}

func (m *mark) tell(now int64) {
	select {
	case m.reached <- now:
	default: // told already
	}
}

// aim sets the target. What a slow reader has to tell of an older one is no harm:
// wait looks at the count.
func (m *mark) aim(target int64) {
	select {
	case <-m.reached:
	default:
	}
	m.target.Store(target)
	if m.count.Load() >= target {
		m.tell(clock())
	}
}

// readers hold the streams, divided among one epoll set for each core.
type readers struct {
	url      string
	loopback bool
	checks   []checker
	workers  []*worker

	wanted   atomic.Int64 // streams that may be opened: the first so many
	opened   mark
	arrived  mark // events
	stopping atomic.Bool
	done     sync.WaitGroup
	fail     context.CancelCauseFunc // of the scenario
}

type worker struct {
	*readers
	addr        unix.SockaddrInet4 // one's own: connect writes into it
	epoll, wake int
	limit       int // of streams being opened at a time
	next        int // the stream to open next
	connecting  int
	buf         []byte
	fds         map[int]int   // by stream
	began       map[int]int64 // by stream that has had no byte yet

	mu              sync.Mutex
	connect, events *hdrhistogram.Histogram
}

// newReaders starts them. What goes wrong with a stream goes to fail.
func newReaders(ctx context.Context, fail context.CancelCauseFunc, o *Options, target string) (*readers, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, err
	}
	port := u.Port()
	if port == "" {
		port = "80"
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, err
	}
	ips, err := net.DefaultResolver.LookupIP(ctx, "ip4", u.Hostname())
	if err != nil {
		return nil, err
	}
	r := &readers{url: target, checks: make([]checker, o.Streams), fail: fail}
	addr := unix.SockaddrInet4{Port: int(number), Addr: [4]byte(ips[0].To4())}
	r.loopback = ips[0].IsLoopback()
	r.opened.reached, r.arrived.reached = make(chan int64, 1), make(chan int64, 1)
	cores := runtime.GOMAXPROCS(0)
	for i := range cores {
		w := &worker{
			readers: r, addr: addr, limit: max(1, o.Connecting/cores), next: i, buf: make([]byte, 64<<10),
			fds: map[int]int{}, began: map[int]int64{}, connect: newHistogram(), events: newHistogram(),
		}
		if w.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
			return nil, err
		}
		if w.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
			return nil, err
		}
		if err := w.watch(unix.EPOLL_CTL_ADD, w.wake, -1, unix.EPOLLIN); err != nil {
			return nil, err
		}
		r.workers = append(r.workers, w)
	}
	for i := range r.checks {
		r.checks[i].stream = i
	}
	for _, w := range r.workers {
		r.done.Go(w.run)
	}
	return r, nil
}

// open opens streams until there are n, and waits for them.
func (r *readers) open(ctx context.Context, n int) error {
	r.opened.aim(int64(n))
	r.wanted.Store(int64(n))
	r.wakeAll()
	if _, err := r.wait(ctx, &r.opened); err != nil {
		return fmt.Errorf("opening streams: %w", err)
	}
	return nil
}

// wait is over when the mark is reached; it says at what time that was. It gives up
// when nothing has come for a while.
func (r *readers) wait(ctx context.Context, m *mark) (int64, error) {
	ticker := time.NewTicker(patience)
	defer ticker.Stop()
	for before := int64(-1); ; {
		select {
		case at := <-m.reached:
			if m.count.Load() >= m.target.Load() {
				return at, nil
			}
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-ticker.C:
			count := m.count.Load()
			if count == before {
				return 0, fmt.Errorf("%d of %d, and no more within %v", count, m.target.Load(), patience)
			}
			before = count
		}
	}
}

// take returns the latencies since it was last called: to the first byte, and of events.
func (r *readers) take() (connect, events *hdrhistogram.Histogram) {
	connect, events = newHistogram(), newHistogram()
	for _, w := range r.workers {
		w.mu.Lock()
		connect.Merge(w.connect)
		events.Merge(w.events)
		w.connect.Reset()
		w.events.Reset()
		w.mu.Unlock()
	}
	return connect, events
}

// stop closes the streams. After it, the checkers belong to the caller.
func (r *readers) stop() {
	r.stopping.Store(true)
	r.wakeAll()
	r.done.Wait()
}

func (r *readers) wakeAll() {
	for _, w := range r.workers {
		_, _ = unix.Write(w.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // fails only where it is awake
	}
}

func (w *worker) watch(op, fd, stream int, events uint32) error {
	return unix.EpollCtl(w.epoll, op, fd, &unix.EpollEvent{Events: events, Fd: int32(stream)})
}

func (w *worker) run() {
	defer func() {
		for _, fd := range w.fds {
			unix.Close(fd) //nolint:errcheck // nothing is lost with it
		}
		unix.Close(w.wake)  //nolint:errcheck // as above
		unix.Close(w.epoll) //nolint:errcheck // as above
	}()
	ready := make([]unix.EpollEvent, 256)
	for {
		for w.connecting < w.limit && w.next < int(w.wanted.Load()) {
			if err := w.dial(w.next); err != nil {
				w.fail(fmt.Errorf("stream %d: %w", w.next, err))
				return
			}
			w.next += len(w.workers)
		}
		n, err := unix.EpollWait(w.epoll, ready, -1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			w.fail(fmt.Errorf("epoll_wait: %w", err))
			return
		}
		if w.stopping.Load() {
			return
		}
		w.mu.Lock()
		for _, e := range ready[:max(n, 0)] {
			if e.Fd < 0 {
				_, _ = unix.Read(w.wake, w.buf[:8])
			} else if err := w.handle(int(e.Fd), e.Events); err != nil {
				w.fail(fmt.Errorf("stream %d: %w", e.Fd, err))
			}
		}
		w.mu.Unlock()
	}
}

// dial begins to connect; the request is sent when the socket can be written to.
func (w *worker) dial(stream int) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	w.fds[stream] = fd
	if w.loopback {
		// The port is chosen at connect: so it is unique for the pair only.
		if err := unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
			return fmt.Errorf("setsockopt: %w", err)
		}
		source := byte(1 + stream/portsPerSource)
		if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, source}}); err != nil {
			return fmt.Errorf("bind: %w", err)
		}
	}
	w.began[stream] = clock()
	w.connecting++
	if err := unix.Connect(fd, &w.addr); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return fmt.Errorf("connect: %w", err)
	}
	return w.watch(unix.EPOLL_CTL_ADD, fd, stream, unix.EPOLLOUT)
}

func (w *worker) handle(stream int, ready uint32) error {
	fd, c := w.fds[stream], &w.checks[stream]
	if ready&unix.EPOLLOUT != 0 {
		return w.request(stream, fd)
	}
	n, err := unix.Read(fd, w.buf)
	now := clock()
	switch {
	case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
		return nil
	case err != nil:
		return w.drop(fd, fmt.Errorf("read: %w", err))
	case n == 0:
		return w.drop(fd, errors.New("the server ended the stream"))
	}
	opened := c.opened()
	if from, first := w.began[stream]; first {
		record(w.connect, now-from)
		delete(w.began, stream)
	}
	events := int64(0)
	if err := c.feed(w.buf[:n], func(sent int64) {
		events++
		record(w.events, now-sent)
	}); err != nil {
		return w.drop(fd, err)
	}
	if c.phase == atEnd {
		return w.drop(fd, errors.New("the server ended the stream"))
	}
	if !opened && c.opened() {
		w.connecting--
		w.opened.add(1, now)
	}
	if events > 0 {
		w.arrived.add(events, now)
	}
	return nil
}

// request sends the request on a socket that may be connected, and has it read from now on.
func (w *worker) request(stream, fd int) error {
	code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && code != 0 {
		err = unix.Errno(code)
	}
	if err != nil {
		return w.drop(fd, fmt.Errorf("connect: %w", err))
	}
	u, err := url.Parse(strings.ReplaceAll(w.url, "{n}", strconv.Itoa(stream)))
	if err != nil {
		return err
	}
	text := "GET " + u.RequestURI() + " HTTP/1.1\r\nHost: " + u.Host + "\r\nAccept: text/event-stream\r\n\r\n"
	if n, err := unix.Write(fd, []byte(text)); err != nil || n != len(text) {
		return w.drop(fd, fmt.Errorf("wrote %d of %d bytes of the request: %w", n, len(text), err))
	}
	return w.watch(unix.EPOLL_CTL_MOD, fd, stream, unix.EPOLLIN)
}

// drop has a socket that is of no use watched no longer.
func (w *worker) drop(fd int, err error) error {
	return errors.Join(err, unix.EpollCtl(w.epoll, unix.EPOLL_CTL_DEL, fd, nil))
}
