package callback

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"ssegateway/internal/bubble"
	"ssegateway/internal/gateway"
)

// pipeBackend is a backend for the bubbles of synctest: in memory, one goroutine for
// each connection.
type pipeBackend struct {
	t *testing.T

	mu       sync.Mutex
	refusing bool                                   // dials fail
	take     func(head http.Header, raw []byte) int // instead of answer, for any callback; nil: only disconnects come, each alone
	answer   func(b *body, attempt int) int         // the status; 0: none, until the client gives up
	attempts map[string][]time.Duration             // by token, of every attempt
	told     map[string]int                         // by token, how often it was answered 2xx
	conns    map[net.Conn]bool                      // the client's ends that are open
	most     int                                    // of them
	made     int
	refused  int // dials
	start    time.Time
}

func newPipeBackend(t *testing.T) *pipeBackend {
	return &pipeBackend{
		t: t, answer: func(*body, int) int { return 200 }, start: time.Now(),
		attempts: map[string][]time.Duration{}, told: map[string]int{}, conns: map[net.Conn]bool{},
	}
}

func (p *pipeBackend) client(t *testing.T, cfg Config) *Client {
	cfg.URL = "http://backend/"
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c.pool.dial = p.dial
	run(t, c)
	return c
}

func (p *pipeBackend) dial(context.Context, string, string) (net.Conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refusing {
		p.refused++
		return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	}
	ours, theirs := net.Pipe()
	p.conns[ours] = true
	p.most = max(p.most, len(p.conns))
	p.made++
	go p.serve(theirs)
	return pipeConn{ours, p}, nil
}

// pipeConn is the client's end.
type pipeConn struct {
	net.Conn
	p *pipeBackend
}

func (c pipeConn) Close() error {
	c.p.mu.Lock()
	delete(c.p.conns, c.Conn)
	c.p.mu.Unlock()
	return c.Conn.Close()
}

func (p *pipeBackend) serve(c net.Conn) {
	defer c.Close()
	in := bufio.NewReader(c)
	for {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		var status int
		if p.take != nil {
			raw, _ := io.ReadAll(r.Body)
			p.mu.Lock()
			status = p.take(r.Header, raw)
			p.mu.Unlock()
		} else {
			status = p.takeOne(decode(p.t, r.Body))
		}
		if status == 0 {
			_, _ = io.Copy(io.Discard, in)
			return
		}
		if _, err := fmt.Fprintf(c, "HTTP/1.1 %d x\r\nContent-Length: 0\r\n\r\n", status); err != nil {
			return
		}
	}
}

func (p *pipeBackend) takeOne(b body) (status int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.attempts[b.Token] = append(p.attempts[b.Token], time.Since(p.start))
	if status = p.answer(&b, len(p.attempts[b.Token])); 200 <= status && status < 300 {
		p.told[b.Token]++
	}
	return status
}

func (p *pipeBackend) dials() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.made
}

func (p *pipeBackend) open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.conns)
}

func closed() gateway.Notice {
	return gateway.Notice{Token: gateway.NewToken(), Request: request, Reason: gateway.ClientClosed}
}

// There may be a million of them.
func TestNoticeIsSmall(t *testing.T) {
	if size := unsafe.Sizeof(notice{}); size > 80 && unsafe.Sizeof(uintptr(0)) == 8 {
		t.Errorf("%d bytes", size)
	}
}

// The requests of notices count until these are delivered, rejected or given up.
func TestKeptRequests(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		requests := gateway.NewRequests(1)
		statuses := map[string]int{}
		b := newPipeBackend(t)
		b.answer = func(n *body, _ int) int { return statuses[n.Token] }
		c := b.client(t, Config{Requests: requests})
		each := int64(len(request)) + 256
		notices := []gateway.Notice{closed(), closed(), closed()}
		for i, status := range []int{200, 400, 500} {
			statuses[notices[i].Token.String()] = status
		}
		for i, n := range notices {
			c.Disconnect(n)
			if got := requests.Bytes(); got != int64(i+1)*each {
				t.Errorf("%d bytes are kept for %d notices", got, i+1)
			}
		}
		<-time.After(5 * time.Minute)
		if got := requests.Bytes(); got != each {
			t.Errorf("%d bytes are kept for the one that is tried again", got)
		}
		<-time.After(10 * time.Minute)
		if got := requests.Bytes(); got != 0 {
			t.Errorf("%d bytes are kept for none", got)
		}
	})
}

// Each failure that may pass is retried: soon at first, then ever more slowly, for ten
// minutes, always with the same body and webhook-id.
func TestRetrySchedule(t *testing.T) {
	for _, status := range []int{0, 408, 429, 500, 503, 599} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				var r results
				var l logBuffer
				b := newPipeBackend(t)
				b.answer = func(*body, int) int { return status }
				c := b.client(t, Config{Observe: r.observe, Log: l.logger()})
				n := closed()
				c.Disconnect(n)
				<-time.After(15 * time.Minute)
				if c.Pending() != 0 {
					t.Errorf("%d pending", c.Pending())
				}
				b.mu.Lock()
				defer b.mu.Unlock()
				at := b.attempts[n.Token.String()]
				took := time.Duration(0)
				if status == 0 {
					took = 5 * time.Second
				}
				for i := 1; i < len(at); i++ {
					last := at[i] - at[i-1] - took
					most := 10 * time.Second
					if i < 6 {
						most = min(most, 500*time.Millisecond<<(i-1))
					}
					if last > most || last < most/2 {
						t.Errorf("attempt %d after %v, want %v to %v", i+1, last, most/2, most)
					}
				}
				if end := at[len(at)-1] - at[0]; end < 10*time.Minute || end > 10*time.Minute+20*time.Second {
					t.Errorf("the last of %d attempts after %v", len(at), end)
				}
				if want := fmt.Sprintf("[disconnect given_up:1 disconnect retry:%d]", len(at)-1); r.String() != want {
					t.Errorf("observed %s, want %s", r.String(), want)
				}
				if strings.Count(l.String(), "level=ERROR") != 1 || strings.Count(l.String(), "level=INFO") != 1 {
					t.Errorf("log: %s", l.String())
				}
			})
		})
	}
}

func TestFinalAnswers(t *testing.T) {
	for _, status := range []int{200, 204, 299, 301, 302, 307, 400, 401, 404, 410, 422} {
		bubble.Test(t, func(t *testing.T) {
			var r results
			b := newPipeBackend(t)
			b.answer = func(*body, int) int { return status }
			c := b.client(t, Config{Observe: r.observe})
			c.Disconnect(closed())
			if n := c.Flush(t.Context()); n != 0 {
				t.Errorf("%d: %d undelivered", status, n)
			}
			want := "[disconnect delivered:1]"
			if status > 299 {
				want = "[disconnect rejected:1]"
			}
			if r.String() != want {
				t.Errorf("%d: observed %s", status, r.String())
			}
		})
	}
}

// The backend is away for 60 s while 10,000 streams close, and one callback hangs for
// twice as long. All are told, the load stays bounded, and so do the goroutines.
func TestOutage(t *testing.T) {
	const (
		notices     = 10000
		concurrency = 256
		outage      = 60 * time.Second
	)
	for name, refusing := range map[string]bool{"refusing": true, "hanging": false} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				var r results
				b := newPipeBackend(t)
				hung := closed()
				var away bool
				var end time.Time
				b.answer = func(body *body, _ int) int {
					if body.Token == hung.Token.String() && time.Since(b.start) < 2*outage || away {
						return 0
					}
					return 200
				}
				c := b.client(t, Config{Concurrency: concurrency, Observe: r.observe})
				c.Disconnect(hung)
				synctest.Wait()

				most := 0
				watch := func(d time.Duration) {
					for range d / (100 * time.Millisecond) {
						<-time.After(100 * time.Millisecond)
						synctest.Wait()
						most = max(most, runtime.NumGoroutine())
					}
				}
				before := runtime.NumGoroutine()
				setAway := func(yes bool) {
					b.mu.Lock()
					b.refusing, away = yes && refusing, yes
					b.mu.Unlock()
				}
				setAway(true)
				for range 100 {
					for range notices / 100 {
						c.Disconnect(closed())
					}
					watch(outage / 100)
				}
				if p := c.Pending(); p != notices+1 {
					t.Errorf("%d pending in the outage", p)
				}
				setAway(false)
				end = time.Now()
				for c.Pending() > 1 {
					watch(100 * time.Millisecond)
					if time.Since(end) > 5*time.Minute {
						t.Fatalf("%d are still pending", c.Pending())
					}
				}
				t.Logf("all but the hung one told %v after the outage", time.Since(end))
				if took := time.Since(end); took > maxDelay+6*time.Second {
					t.Errorf("told only %v after the outage", took)
				}
				watch(2*outage + 20*time.Second)
				if c.Pending() != 0 {
					t.Errorf("%d pending", c.Pending())
				}

				// Workers, and the backend's own for each connection.
				if limit := before + 2*concurrency; most > limit {
					t.Errorf("%d goroutines, want at most %d", most, limit)
				}
				if now := runtime.NumGoroutine(); now > before {
					t.Errorf("%d goroutines at rest, %d before", now, before)
				}
				b.mu.Lock()
				defer b.mu.Unlock()
				if len(b.told) != notices+1 {
					t.Errorf("%d of %d told", len(b.told), notices+1)
				}
				for token, n := range b.told {
					if n != 1 {
						t.Errorf("%s told %d times", token, n)
					}
				}
				if b.most > concurrency {
					t.Errorf("%d connections", b.most)
				}
				t.Logf("most goroutines %d (%d before), most connections %d, results %s", most, before, b.most, r.String())
			})
		})
	}
}

func TestNoticesBeforeRun(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := newPipeBackend(t)
		c, err := New(Config{URL: "http://backend/"})
		if err != nil {
			t.Fatal(err)
		}
		c.pool.dial = b.dial
		c.Disconnect(closed())
		synctest.Wait()
		if c.Pending() != 1 || b.dials() != 0 {
			t.Error("delivered before Run")
		}
		run(t, c)
		if n := c.Flush(t.Context()); n != 0 || len(b.told) != 1 {
			t.Errorf("%d undelivered", n)
		}
	})
}

// A flush does not wait out the pauses of an outage that is over.
func TestFlushHastensRetries(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := newPipeBackend(t)
		b.refusing = true
		c := b.client(t, Config{})
		for range 1000 {
			c.Disconnect(closed())
		}
		<-time.After(time.Minute) // pauses are long by now
		start := time.Now()
		time.AfterFunc(time.Second, func() {
			b.mu.Lock()
			b.refusing = false
			b.mu.Unlock()
		})
		ctx, cancel := context.WithTimeout(t.Context(), 4500*time.Millisecond)
		defer cancel()
		if n := c.Flush(ctx); n != 0 {
			t.Errorf("%d undelivered", n)
		}
		if took := time.Since(start); took > 1300*time.Millisecond {
			t.Errorf("flushed %v after the backend's return", took-time.Second)
		}
	})
}

func TestFlushTellsWhatIsUndelivered(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := newPipeBackend(t)
		hung := closed()
		b.answer = func(b *body, _ int) int {
			if b.Token == hung.Token.String() {
				return 0
			}
			return 200
		}
		c := b.client(t, Config{})
		c.Disconnect(hung)
		for range 999 {
			c.Disconnect(closed())
		}
		ctx, cancel := context.WithTimeout(t.Context(), 4500*time.Millisecond)
		defer cancel()
		if n := c.Flush(ctx); n != 1 {
			t.Errorf("%d undelivered, want 1", n)
		}
		if len(b.told) != 999 {
			t.Errorf("%d told", len(b.told))
		}
	})
}

// A drain of 10,000 streams to a backend that takes 50 ms for each callback.
func TestFlushOfTenThousand(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := newPipeBackend(t)
		c := b.client(t, Config{})
		plain := c.pool.dial
		c.pool.dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := plain(ctx, network, addr)
			return slowConn{conn}, err
		}
		start := time.Now()
		for range 10000 {
			c.Disconnect(closed())
		}
		if n := c.Flush(t.Context()); n != 0 {
			t.Errorf("%d undelivered", n)
		}
		if took := time.Since(start); took > 2500*time.Millisecond {
			t.Errorf("took %v", took)
		}
	})
}

// slowConn delays each message.
type slowConn struct{ net.Conn }

func (c slowConn) Write(p []byte) (int, error) {
	<-time.After(50 * time.Millisecond)
	return c.Conn.Write(p)
}

// What the end of Run cuts short is neither told nor lost count of.
func TestRunEndsWhileACallbackHangs(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var r results
		b := newPipeBackend(t)
		b.answer = func(*body, int) int { return 0 }
		c, err := New(Config{URL: "http://backend/", Observe: r.observe})
		if err != nil {
			t.Fatal(err)
		}
		c.pool.dial = b.dial
		stop := run(t, c)
		c.Disconnect(closed())
		synctest.Wait()
		start := time.Now()
		stop()
		if time.Since(start) != 0 {
			t.Errorf("took %v", time.Since(start))
		}
		synctest.Wait()
		if c.Pending() != 1 || b.open() != 0 || r.String() != "[]" {
			t.Errorf("%d pending, %d connections, observed %s", c.Pending(), b.open(), r.String())
		}
		c.Disconnect(closed()) // late, but it does not block
		if c.Pending() != 2 {
			t.Errorf("%d pending", c.Pending())
		}
	})
}

// Time spent waiting for a turn is not the backend's.
func TestTurnIsNotTheBackendsTime(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := newPipeBackend(t)
		b.answer = func(body *body, _ int) int { return 0 }
		c := b.client(t, Config{Concurrency: 1})
		var all sync.WaitGroup
		var mu sync.Mutex
		got := map[string]int{}
		for range 20 {
			all.Go(func() {
				start := time.Now()
				a := c.Connect(t.Context(), context.Background(), gateway.NewToken(), request)
				mu.Lock()
				got[fmt.Sprintf("%v unsent=%v", time.Since(start), a.Unsent)]++
				mu.Unlock()
			})
		}
		all.Wait()
		// One after another for as long as their patience of 50 s lasts.
		for n := 1; n <= 9; n++ {
			if got[fmt.Sprintf("%v unsent=false", time.Duration(n)*5*time.Second)] != 1 {
				t.Error(got)
			}
		}
		if n := got["50s unsent=true"]; n < 9 {
			t.Errorf("%d gave up waiting: %v", n, got)
		}
	})
}

// One that is not permitted yet holds up no other.
func TestPermitOfOne(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		deferred := map[gateway.Token]bool{}
		b := newPipeBackend(t)
		c := b.client(t, Config{
			Concurrency: 2,
			Permit: func(token gateway.Token) gateway.Permission {
				mu.Lock()
				defer mu.Unlock()
				if deferred[token] {
					return gateway.Deferred
				}
				return gateway.Granted
			},
		})
		const each = 10
		var told []gateway.Notice
		for range each {
			later, now := closed(), closed()
			mu.Lock()
			deferred[later.Token] = true
			mu.Unlock()
			c.Disconnect(later)
			c.Disconnect(now)
			told = append(told, now)
		}
		<-time.After(time.Minute)
		synctest.Wait()
		for _, n := range told {
			if b.told[n.Token.String()] != 1 {
				t.Errorf("%v was not told", n.Token)
			}
		}
		if len(b.told) != each || c.Pending() != each {
			t.Errorf("%d told, %d pending, want %d each", len(b.told), c.Pending(), each)
		}
		mu.Lock()
		clear(deferred)
		mu.Unlock()
		c.Resume()
		synctest.Wait()
		if len(b.told) != 2*each || c.Pending() != 0 {
			t.Errorf("%d told, %d pending", len(b.told), c.Pending())
		}
	})
}

// A disconnect is not sent before it is permitted, nor one that is denied at all.
func TestPermit(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		permission := gateway.Deferred
		finished := map[gateway.Token]bool{}
		b := newPipeBackend(t)
		denied := closed()
		c := b.client(t, Config{
			Permit: func(token gateway.Token) gateway.Permission {
				mu.Lock()
				defer mu.Unlock()
				if token == denied.Token {
					return gateway.Denied
				}
				return permission
			},
			OnFinished: func(n gateway.Notice, denied bool) {
				mu.Lock()
				defer mu.Unlock()
				finished[n.Token] = denied
			},
		})
		c.Disconnect(denied)
		var told []gateway.Notice
		for range 1000 {
			told = append(told, closed())
			c.Disconnect(told[len(told)-1])
		}
		<-time.After(time.Hour)
		if len(b.attempts) != 0 || c.Pending() != len(told) && c.Pending() != len(told)+1 {
			t.Errorf("%d attempts, %d pending", len(b.attempts), c.Pending())
		}
		mu.Lock()
		permission = gateway.Granted
		mu.Unlock()
		c.Resume()
		synctest.Wait()
		if len(b.told) != len(told) || c.Pending() != 0 || b.told[denied.Token.String()] != 0 {
			t.Errorf("%d told, %d pending", len(b.told), c.Pending())
		}
		for _, n := range told {
			if denied, ok := finished[n.Token]; !ok || denied {
				t.Errorf("finished %v, denied %v", ok, denied)
			}
		}
		if denied, ok := finished[denied.Token]; !ok || !denied {
			t.Errorf("finished %v, denied %v", ok, denied)
		}
	})
}
