package bench

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"
)

// portsPerSource is how many streams come from one address, fewer than the usual ephemeral
// range has ports. sources is how many addresses take turns: enough that the port of a
// churned stream is not needed again while it is in TIME_WAIT (60 s).
const (
	portsPerSource = 20_000
	sources        = 250
)

// clockBase is the time of CLOCK_MONOTONIC, which all processes share, when this process started.
var clockBase, begin = func() (int64, time.Time) {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // the clock exists
	return t.Nano(), time.Now()
}()

// clock returns the time in nanoseconds that events carry. It is monotonic.
func clock() int64 { return clockBase + int64(time.Since(begin)) }

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1000, int64(10*patience), 3) // of nanoseconds
}

// record clamps values that the histogram cannot hold, so that the worst are never left out.
func record(h *hdrhistogram.Histogram, d int64) {
	_ = h.RecordValue(min(max(d, 0), h.HighestTrackableValue())) // cannot fail within the bounds
}

// mark waits until a count reaches a target, and records the time at which it did.
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
	default: // reported already
	}
}

// aim sets the target. A late report that an older target was reached does no harm,
// because wait checks the count.
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

// wait waits until the target is reached, and returns the time at which it was. It fails
// when the count has not changed for patience.
func (m *mark) wait(ctx context.Context) (int64, error) {
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

// share is the streams that a process holds: those whose number modulo Of is Process.
type share struct {
	Streams int // of all processes
	Process int
	Of      int
}

// of returns how many of the first n streams are in the share.
func (s share) of(n int) int { return (n - s.Process + s.Of - 1) / s.Of }

// readers hold a process' share of the streams, divided among loops, one for each core.
type readers struct {
	request  *request
	common   bool // whether {channel} in the request is the common one
	resumes  bool // see setup.Resumes
	addr     unix.SockaddrInet4
	loopback bool
	loops    []*loop

	wanted   atomic.Int64 // streams that may be opened: the first so many
	opened   mark         // streams that are open
	arrived  mark         // events
	churning atomic.Pointer[churn]
	// final is the number of the common event that counts on churned streams too. Which
	// other events a churned stream receives cannot be foreseen.
	final    atomic.Int64
	stopping atomic.Bool
	done     sync.WaitGroup
	fail     func(error)
}

// churn closes and reopens one stream of Every when it has been open for Life.
type churn struct {
	Every int
	Life  time.Duration
	// Over: no more streams are closed.
	Over bool
}

func (c *churn) has(stream int) bool { return c != nil && stream%c.Every == c.Every-1 }

func newReaders(fail func(error), s *setup) (*readers, error) {
	cores := max(1, runtime.GOMAXPROCS(0)/s.Share.Of)
	r := &readers{
		request: s.Open.parse(), common: s.Common, resumes: s.Resumes, fail: fail,
		addr: unix.SockaddrInet4{Port: s.Port, Addr: s.Addr}, loopback: s.Addr[0] == 127,
	}
	r.opened.reached, r.arrived.reached = make(chan int64, 1), make(chan int64, 1)
	for i := range cores {
		l := &loop{
			readers: r, addr: r.addr, first: s.Share.Process + i*s.Share.Of, step: cores * s.Share.Of,
			limit: max(1, s.Connecting/(cores*s.Share.Of)), buf: make([]byte, 64<<10),
			connect: newHistogram(), own: newHistogram(), shared: newHistogram(),
		}
		if l.first < s.Share.Streams {
			l.streams = make([]stream, (s.Share.Streams-l.first+l.step-1)/l.step)
		}
		for j := range l.streams {
			l.streams[j].stream, l.streams[j].resumes, l.streams[j].common.anyFirst = l.first+j*l.step, s.Resumes, s.Late
		}
		var err error
		if l.poller, err = newPoller(); err != nil {
			return nil, err
		}
		r.loops = append(r.loops, l)
	}
	for _, l := range r.loops {
		r.done.Go(l.run)
	}
	return r, nil
}

// open opens streams until all processes together have n, and this one has own.
func (r *readers) open(n, own int) {
	r.opened.aim(int64(own))
	r.wanted.Store(int64(n))
	r.wakeAll()
}

// stop closes the streams. Afterwards the checkers belong to the caller.
func (r *readers) stop() {
	if r.stopping.Swap(true) {
		return
	}
	r.wakeAll()
	r.done.Wait()
	for _, l := range r.loops {
		l.close()
	}
}

func (r *readers) wakeAll() {
	for _, l := range r.loops {
		l.ring()
	}
}

// each calls do for each loop, while that loop is paused.
func (r *readers) each(do func(l *loop)) {
	for _, l := range r.loops {
		l.mu.Lock()
		do(l)
		l.mu.Unlock()
	}
}

// setChurn starts the churn. If c.Over, it stops it, and sets opened to wait until all streams are open.
func (r *readers) setChurn(c churn, own int) {
	now := clock()
	r.each(func(l *loop) {
		r.churning.Store(&c)
		l.lives = nil
		if c.Over {
			return
		}
		for i := range l.streams {
			if c.has(l.streams[i].stream) { // spread over the length of a life
				l.lives = append(l.lives, life{i, now + int64(c.Life)*int64(i)/int64(len(l.streams))})
			}
		}
	})
	if c.Over {
		r.opened.aim(int64(own))
	}
	r.wakeAll()
}

// comeBack is when a stream is opened again after it failed in a storm.
const comeBack = time.Second

// storm closes all streams, and opens them again at once, own of them in this process. From then on a stream
// that is refused or ends is counted, and comes back.
func (r *readers) storm(own int) {
	now := clock()
	r.each(func(l *loop) {
		l.storming = true
		for i := range l.streams {
			l.hangUp(i)
			l.opened.add(-1, now)
			l.lives = append(l.lives, life{i, now})
		}
	})
	r.opened.aim(int64(own))
	r.wakeAll()
}

// beats counts the heartbeats, which are comments.
type beats struct {
	Count   int64
	Late    int64         // later than allowed, or missing
	Longest time.Duration // between two
}

// watchBeats returns the beats since the last call, and sets the time allowed between two. 0: any time is.
func (r *readers) watchBeats(allowed time.Duration) (found beats) {
	r.each(func(l *loop) {
		now := clock()
		for i := range l.streams {
			if l.allowed > 0 {
				l.beat(&l.streams[i], now)
			}
			l.streams[i].lastBeat = now
		}
		found.Count += l.beats.Count
		found.Late += l.beats.Late
		found.Longest = max(found.Longest, l.beats.Longest)
		l.beats, l.allowed = beats{}, allowed
	})
	return found
}

// stream is one stream of a loop.
type stream struct {
	checker
	fd       int
	dialled  int64 // when connect began; 0: the first byte was received
	lastBeat int64
}

// life is when churn closes a stream and opens it again. After a storm the stream is closed already.
type life struct {
	index int
	until int64
}

// loop is an epoll set with its streams, and the goroutine that reads them.
type loop struct {
	*readers
	*poller
	addr        unix.SockaddrInet4 // a copy for this loop, because connect writes into it
	first, step int                // numbers of its streams
	limit       int                // of streams being opened at a time
	buf         []byte

	mu         sync.Mutex // held by the goroutine except while it waits
	streams    []stream
	next       int // to open
	connecting int
	dials      int
	lives      []life // ordered by until
	storming   bool   // see readers.storm
	failed     int64  // requests, since the storm began
	allowed    time.Duration
	beats      beats
	connect    *hdrhistogram.Histogram // to the first byte
	own        *hdrhistogram.Histogram // latencies of events to one stream
	shared     *hdrhistogram.Histogram // and of those to everybody
}

func (l *loop) run() {
	defer func() {
		for i := range l.streams {
			if l.streams[i].fd > 0 {
				unix.Close(l.streams[i].fd) //nolint:errcheck // nothing is lost with it
			}
		}
	}()
	var ready []unix.EpollEvent
	for {
		err := l.turn(ready)
		if err == nil {
			ready, err = l.wait()
		}
		if err != nil {
			if !errors.Is(err, errStopped) {
				l.fail(err)
			}
			return
		}
	}
}

var errStopped = errors.New("stopped")

// turn is one turn of the loop. An error ends the loop.
func (l *loop) turn(ready []unix.EpollEvent) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopping.Load() {
		return errStopped
	}
	for _, e := range ready {
		i := int(e.Fd)
		opened := l.streams[i].opened()
		if l.streams[i].fd == 0 {
			continue // it was closed after it had become ready
		}
		switch err := l.handle(i, e.Events); {
		case err == nil:
		case l.storming:
			l.failed++
			l.hangUp(i)
			if opened {
				l.opened.add(-1, 0)
			} else {
				l.connecting--
			}
			l.lives = append(l.lives, life{i, clock() + int64(comeBack)})
		default:
			l.fail(fmt.Errorf("stream %d: %w", l.streams[i].stream, err))
		}
	}
	for l.connecting < l.limit && l.next < len(l.streams) && l.streams[l.next].stream < int(l.wanted.Load()) {
		if err := l.dial(l.next); err != nil {
			return err
		}
		l.next++
	}
	for len(l.lives) > 0 {
		if l.lives[0].until > clock() {
			return l.alarm(l.lives[0].until)
		}
		i := l.lives[0].index
		l.lives = l.lives[1:]
		if err := l.reopen(i); err != nil {
			return err
		}
	}
	return nil
}

// hangUp closes a stream from the client's side, so that it can be opened again.
func (l *loop) hangUp(i int) {
	s := &l.streams[i]
	unix.Close(s.fd) //nolint:errcheck // nothing is lost with it
	s.fd = 0
	s.reopen()
}

// reopen opens a stream again, and closes it before that if it is open.
func (l *loop) reopen(i int) error {
	if l.streams[i].fd != 0 {
		l.hangUp(i)
		l.opened.add(-1, 0)
	}
	return l.dial(i)
}

func (l *loop) dial(i int) error {
	if err := l.tryDial(i); err != nil {
		return fmt.Errorf("stream %d: %w", l.streams[i].stream, err)
	}
	return nil
}

// tryDial begins to connect. The request is sent when the socket is writable.
func (l *loop) tryDial(i int) error {
	s := &l.streams[i]
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	s.fd = fd
	if l.loopback {
		// The port is chosen at connect, so it has to be unique only for this destination.
		if err := unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
			return fmt.Errorf("setsockopt: %w", err)
		}
		source := byte(1 + (l.first+l.dials*l.step)/portsPerSource%sources)
		if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, source}}); err != nil {
			return fmt.Errorf("bind: %w", err)
		}
	}
	l.dials++
	s.dialled = clock()
	l.connecting++
	if err := unix.Connect(fd, &l.addr); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return fmt.Errorf("connect: %w", err)
	}
	return l.watch(unix.EPOLL_CTL_ADD, fd, i, unix.EPOLLOUT)
}

func (l *loop) handle(i int, ready uint32) error {
	s := &l.streams[i]
	if ready&unix.EPOLLOUT != 0 {
		return l.ask(i, s)
	}
	n, err := unix.Read(s.fd, l.buf)
	now := clock()
	switch {
	case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
		return nil
	case err != nil:
		return l.drop(s.fd, fmt.Errorf("read: %w", err))
	case n == 0:
		return l.drop(s.fd, errors.New("the server ended the stream"))
	}
	opened, comments := s.opened(), s.comments
	if s.dialled != 0 {
		record(l.connect, now-s.dialled)
		s.dialled = 0
	}
	churned := l.churning.Load().has(s.stream)
	events := int64(0)
	if err := s.feed(l.buf[:n], func(common bool, number uint64, sent int64) {
		if !churned || common && int64(number) == l.final.Load() {
			events++
		}
		if common {
			record(l.shared, now-sent)
		} else {
			record(l.own, now-sent)
		}
	}); err != nil {
		return l.drop(s.fd, err)
	}
	if s.phase == atEnd {
		return l.drop(s.fd, errors.New("the server ended the stream"))
	}
	if came := s.comments - comments; came > 0 {
		l.beats.Count += came
		l.beat(s, now)
	}
	if events > 0 {
		l.arrived.add(events, now)
	}
	if !opened && s.opened() {
		l.connecting--
		l.opened.add(1, now)
		return l.live(i, churned, now)
	}
	return nil
}

// live schedules when churn closes a stream that was just opened, or reopens it at once.
func (l *loop) live(i int, churned bool, now int64) error {
	switch c := l.churning.Load(); {
	case !churned || c.Over:
	case c.Life == 0:
		return l.reopen(i)
	default:
		l.lives = append(l.lives, life{i, now + int64(c.Life)})
	}
	return nil
}

func (l *loop) beat(s *stream, now int64) {
	passed := time.Duration(now - s.lastBeat)
	s.lastBeat = now
	l.beats.Longest = max(l.beats.Longest, passed)
	if l.allowed > 0 && passed > l.allowed {
		l.beats.Late++
	}
}

// ask sends the request once connect has ended, and starts to watch for the answer.
func (l *loop) ask(i int, s *stream) error {
	code, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && code != 0 {
		err = unix.Errno(code)
	}
	if err != nil {
		return l.drop(s.fd, fmt.Errorf("connect: %w", err))
	}
	v := values{stream: s.stream, common: l.common}
	text := l.request.append(l.buf[:0], &v, l.request.addEvent(nil, &v))
	if l.resumes && len(s.id) > 0 && !l.request.body {
		text = append(text[:len(text)-len("\r\n")], "Last-Event-ID: "...)
		text = append(append(text, s.id...), "\r\n\r\n"...)
	}
	if n, err := unix.Write(s.fd, text); err != nil || n != len(text) {
		return l.drop(s.fd, fmt.Errorf("wrote %d of %d bytes of the request: %w", n, len(text), err))
	}
	return l.watch(unix.EPOLL_CTL_MOD, s.fd, i, unix.EPOLLIN)
}

// drop stops watching a broken socket, and returns err.
func (l *loop) drop(fd int, err error) error {
	return errors.Join(err, l.ignore(fd))
}
