package probe

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"ssegateway/internal/guard"
	"ssegateway/sse"
)

// stream is a stream through the path.
type stream struct {
	version   version
	conn      connection // at the gateway; without a Token: not found there
	transport *http.Transport
	cancel    context.CancelFunc

	mu       sync.Mutex
	changed  chan struct{} // closed at each change of what follows
	head     *head
	body     []byte // of an answer that is no stream
	arrivals []arrival
	reads    int
	bytes    int
	comments int
	lastByte time.Time
	begun    time.Time
	silence  time.Duration // the longest so far
	err      error         // why it ended: io.EOF if properly; nil: it has not
	endedAt  time.Time
}

// head is that of an answer.
type head struct {
	status int
	proto  string
	old    bool // older than HTTP/1.1
	fields http.Header
}

// arrival is an event that came.
type arrival struct {
	event sse.Event
	at    time.Time
	read  int // the number of the read that completed it
}

// maxEvent bounds an event: no event of the probe is as large.
const maxEvent = 1 << 20

// do makes the request, and reads the stream to its end.
func (s *stream) do(req *http.Request) {
	defer guard.Recover()
	resp, err := s.transport.RoundTrip(req)
	if err == nil {
		defer resp.Body.Close()
		s.change(func() { s.head = &head{resp.StatusCode, resp.Proto, !resp.ProtoAtLeast(1, 1), resp.Header} })
		err = s.read(resp)
	}
	s.change(func() { s.err, s.endedAt = err, time.Now() })
}

func (s *stream) read(resp *http.Response) error {
	body := &timed{s: s, body: resp.Body, line: true}
	if resp.StatusCode != http.StatusOK || encoding(resp.Header) != "" {
		text, err := io.ReadAll(io.LimitReader(body, answerLimit))
		s.change(func() { s.body = text })
		if err == nil {
			err = io.EOF
		}
		return err
	}
	d := sse.NewDecoderMax(body, maxEvent)
	for {
		e, isEvent, err := d.NextBlock()
		if isEvent {
			s.change(func() { s.arrivals = append(s.arrivals, arrival{e, s.lastByte, s.reads}) })
		}
		if err != nil {
			return err
		}
	}
}

// change changes what is guarded by mu, and wakes who waits.
func (s *stream) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.changed)
	s.changed = make(chan struct{})
}

// until waits until f returns true, which is called under the lock. It returns false after the time, or when ctx ends.
func (s *stream) until(ctx context.Context, d time.Duration, f func() bool) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		s.mu.Lock()
		ok, changed := f(), s.changed
		s.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-changed:
		case <-timer.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// get returns the event with this beginning of its data, if it comes in time.
func (s *stream) get(ctx context.Context, begin string, d time.Duration) (a arrival, ok bool) {
	ok = s.until(ctx, d, func() bool {
		for _, a = range s.arrivals {
			if data, _ := unwrap(a.event); hasBegin(data, begin) {
				return true
			}
		}
		return false
	})
	return a, ok
}

// getLarge returns the event, which may take longPast, as long as bytes come.
func (s *stream) getLarge(ctx context.Context, begin string) (a arrival, ok bool) {
	for deadline := time.Now().Add(longPast); time.Now().Before(deadline); {
		before := s.snapshot().bytes
		if a, ok = s.get(ctx, begin, patience); ok || s.snapshot().bytes == before {
			break
		}
	}
	return a, ok
}

// answered returns the head of the answer, or nil.
func (s *stream) answered() *head {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.head
}

// ended returns why the stream ended, or nil.
func (s *stream) ended() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *stream) isOpen() bool { return s.ended() == nil }

// leave goes away, as a browser does whose page is closed.
func (s *stream) leave() { s.cancel() }

// isProper reports whether a stream ended as its sender ends it.
func isProper(err error) bool { return errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) }

// timed notes when bytes come, and counts comments.
type timed struct {
	s    *stream
	body io.Reader
	line bool // a line begins with the next byte
}

func (t *timed) Read(b []byte) (int, error) {
	n, err := t.body.Read(b)
	if n == 0 {
		return n, err
	}
	t.s.change(func() {
		now := time.Now()
		if !t.s.lastByte.IsZero() {
			t.s.silence = max(t.s.silence, now.Sub(t.s.lastByte))
		}
		t.s.lastByte = now
		t.s.reads++
		t.s.bytes += n
		if t.line && b[0] == ':' {
			t.s.comments++
		}
		t.s.comments += bytes.Count(b[:n], []byte("\n:"))
		t.line = b[n-1] == '\n'
	})
	return n, err
}
