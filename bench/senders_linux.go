package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// outbox counts what was sent so far. Each stream's own series belongs to one sender, so
// that its events have an order.
type outbox struct {
	size      int // bytes of an event's data
	token     func(stream int) string
	sequences []uint64              // by stream: of its current token
	tokens    []string              // by stream: to which its last event was sent
	common    uint64                // to all streams
	gone      int64                 // sends to a stream that was closed
	leaves    func(stream int) bool // whether the stream may be closed at any time
}

// event appends the next event for the stream to the body of a request.
func (x *outbox) event(r *request, body []byte, v *values, at int64) []byte {
	n := &x.common
	if v.stream != everybody {
		n = &x.sequences[v.stream]
	}
	*n++
	v.data = appendData(v.data[:0], v.stream, *n, at, x.size)
	return r.addEvent(body, v)
}

// part is the task of a group of senders.
type part struct {
	request  *request
	senders  int
	rate     int  // requests a second; 0: each one as soon as the last was answered
	events   int  // of each request
	single   bool // all of them are for one stream
	common   bool // they are for all streams
	duration time.Duration
}

// job is one sender with its share of a part.
type job struct {
	sender
	*part
	index int
	at    int   // the next stream
	turn  int64 // the number of the next request
	due   int64 // when that is due
	since int64 // when the current request began; 0: there is none
	left  bool  // the stream of this request may be closed
	v     values
	body  []byte
}

// run runs the parts in loops of their own, and returns how many events were sent in
// each. With a rate, each event carries the time at which it was due, not the one at which
// it was sent, so that an event that had to wait for a slow answer counts as slow too.
func (x *outbox) run(ctx context.Context, addr unix.SockaddrInet4, parts ...*part) (events []int64, err error) {
	var jobs []*job
	defer func() {
		for _, j := range jobs {
			j.close()
		}
	}()
	for _, p := range parts {
		for i := range p.senders {
			j := &job{sender: sender{addr: addr}, part: p, index: i, at: i}
			jobs = append(jobs, j)
			if err := j.connect(); err != nil {
				return nil, fmt.Errorf("connecting to publish: %w", err)
			}
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	loops := make([]*sendLoop, min(max(1, runtime.GOMAXPROCS(0)/2), len(jobs)))
	for i := range loops {
		loops[i] = &sendLoop{outbox: x, from: clock(), sends: map[*part]int64{}}
	}
	for i, j := range jobs {
		l := loops[i%len(loops)]
		l.jobs = append(l.jobs, j)
	}
	var wg sync.WaitGroup
	for _, l := range loops {
		wg.Go(func() {
			if err := l.run(ctx); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	for _, p := range parts {
		sum := int64(0)
		for _, l := range loops {
			sum += l.sends[p]
		}
		events = append(events, sum)
	}
	for _, l := range loops {
		x.gone += l.gone
	}
	return events, context.Cause(ctx)
}

// sendLoop is an epoll set of senders.
type sendLoop struct {
	*outbox
	*poller
	from  int64
	jobs  []*job
	busy  int
	sends map[*part]int64 // events
	gone  int64
}

// lookEvery is how often a loop checks for a timeout and for the end of its context.
const lookEvery = int64(100 * time.Millisecond)

func (l *sendLoop) run(ctx context.Context) (err error) {
	if l.poller, err = newPoller(); err != nil {
		return err
	}
	defer l.close()
	for i, j := range l.jobs {
		if err := l.adopt(i, j); err != nil {
			return err
		}
	}
	for looked := l.from; ; {
		now := clock()
		if now-looked > lookEvery {
			looked = now
			for _, j := range l.jobs {
				if j.since > 0 && now-j.since > int64(patience) {
					return fmt.Errorf("a publisher was not answered within %v", patience)
				}
			}
		}
		if ctx.Err() != nil {
			return nil // the caller knows why
		}
		next, err := l.beginDue(now)
		if err != nil || next == 0 && l.busy == 0 {
			return err
		}
		if next == 0 || next > now+lookEvery {
			next = now + lookEvery
		}
		if err := l.alarm(next); err != nil {
			return err
		}
		ready, err := l.wait()
		if err != nil {
			return err
		}
		for _, e := range ready {
			if err := l.handle(int(e.Fd), e.Events); err != nil {
				return fmt.Errorf("publishing: %w", err)
			}
		}
	}
}

func (l *sendLoop) adopt(i int, j *job) error {
	if err := unix.SetNonblock(j.fd, true); err != nil {
		return err
	}
	return l.watch(unix.EPOLL_CTL_ADD, j.fd, i, unix.EPOLLIN)
}

// beginDue begins the requests that are due, and returns when the next request of an idle
// sender is due; 0: there is none.
func (l *sendLoop) beginDue(now int64) (next int64, err error) {
	for i, j := range l.jobs {
		if j.since > 0 {
			continue
		}
		if j.rate > 0 {
			j.due = l.from + (j.turn*int64(j.senders)+int64(j.index))*int64(time.Second)/int64(j.rate)
		} else {
			j.due = now
		}
		switch {
		case j.due-l.from >= int64(j.duration):
		case j.due <= now:
			if err := l.begin(i, j); err != nil {
				return 0, fmt.Errorf("publishing: %w", err)
			}
		case next == 0 || j.due < next:
			next = j.due
		}
	}
	return next, nil
}

// begin sends the job's next request.
func (l *sendLoop) begin(i int, j *job) error {
	j.v.common, j.body = j.common, j.body[:0]
	for k := range j.part.events {
		if k == 0 || !j.single {
			j.choose(l.outbox)
		}
		j.body = l.event(j.request, j.body, &j.v, j.due)
	}
	j.turn++
	j.since = clock()
	j.out, j.sent = j.request.append(j.out[:0], &j.v, j.body), 0
	l.busy++
	l.sends[j.part] += int64(j.part.events)
	return l.write(i, j)
}

// choose chooses the stream of the next event.
func (j *job) choose(x *outbox) {
	if j.common {
		j.v.stream = everybody
		return
	}
	j.v.stream = j.at
	j.v.token = x.token(j.at)
	if j.left = x.leaves(j.at); j.left && j.v.token != x.tokens[j.at] {
		x.tokens[j.at], x.sequences[j.at] = j.v.token, 0 // it was opened again
	}
	if j.at += j.senders; j.at >= len(x.sequences) {
		j.at = j.index
	}
}

// write sends as much of a request as the socket takes, and watches for when it takes more.
func (l *sendLoop) write(i int, j *job) error {
	waited := j.sent > 0
	if err := j.write(); err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
		return err
	}
	switch whole := j.sent == len(j.out); {
	case !whole && !waited:
		return l.watch(unix.EPOLL_CTL_MOD, j.fd, i, unix.EPOLLIN|unix.EPOLLOUT)
	case whole && waited:
		return l.watch(unix.EPOLL_CTL_MOD, j.fd, i, unix.EPOLLIN)
	}
	return nil
}

func (l *sendLoop) handle(i int, ready uint32) error {
	j := l.jobs[i]
	if ready&unix.EPOLLOUT != 0 && j.sent < len(j.out) {
		if err := l.write(i, j); err != nil {
			return err
		}
	}
	if ready&^unix.EPOLLOUT == 0 {
		return nil
	}
	a, done, err := j.read()
	switch {
	case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
		return nil
	case err != nil && j.since == 0: // the server closed an idle connection
		return l.reconnect(i, j)
	case err != nil:
		return err
	case !done:
		return nil
	case j.left && (a.status == 404 || a.status == 500): // it is being closed, or was
		l.gone++
		if j.v.token != "" {
			l.sequences[j.v.stream]-- // nobody has got that event
		}
	case a.err() != nil:
		return a.err()
	case j.part.events > 1 && bytes.Contains(a.body, []byte(`"error"`)):
		return fmt.Errorf("a request with several events was answered %.200s", a.body)
	}
	j.since = 0
	l.busy--
	if a.closes {
		return l.reconnect(i, j)
	}
	return nil
}

func (l *sendLoop) reconnect(i int, j *job) error {
	j.close()
	return errors.Join(j.connect(), l.adopt(i, j))
}
