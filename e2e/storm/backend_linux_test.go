package storm

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ssegateway/e2e/harness"
)

// timeout is what callbacks have by default.
const timeout = 5 * time.Second

// retryMillis is when clients come back, unless the gateway says something else.
const retryMillis = 1000

// mood is how the backend is.
type mood struct {
	fails     float64       // part of the callbacks that fail, in all ways
	delay     time.Duration // before each answer
	status    int           // of every answer instead; 0: as it should be
	silent    bool          // it answers nothing
	held      bool          // it answers when the mood is over
	untilOver <-chan struct{}
}

// backend is a backend that is bad at times, with a ledger.
type backend struct {
	*harness.Backend

	ledger harness.Ledger
	mood   atomic.Pointer[mood]

	going sync.RWMutex // held while an answer goes out, and to leave: so each answer is whole, or there is none
	lives int          // how often the backend came back; guarded by going
	away  bool         // guarded by going

	over            chan struct{} // closed by calm: what is silent ends
	asking, telling busy
	asked           struct {
		sync.Mutex
		at map[string]time.Time // by request.url
	}
	random struct {
		sync.Mutex
		*rand.Rand
	}
}

// busy counts what is under way.
type busy struct{ now, most atomic.Int64 }

func (b *busy) begin() (end func()) {
	n := b.now.Add(1)
	for most := b.most.Load(); n > most && !b.most.CompareAndSwap(most, n); most = b.most.Load() {
	}
	return func() { b.now.Add(-1) }
}

func newBackend(of *harness.Backend, seed uint64) *backend {
	b := &backend{Backend: of}
	b.ledger.Timeout = timeout
	b.random.Rand = rand.New(rand.NewPCG(seed, 1))
	b.asked.at = map[string]time.Time{}
	b.turn(mood{})
	of.Forget()
	of.On("", harness.Script{Connect: b.connect, Disconnect: b.disconnect})
	return b
}

// turn changes how the backend is. What was silent before breaks off.
func (b *backend) turn(m mood) {
	over := make(chan struct{})
	m.untilOver = over
	b.mood.Store(&m)
	if b.over != nil {
		close(b.over)
	}
	b.over = over
}

// concurrency is the gateway's default for CALLBACK_CONCURRENCY.
const concurrency = 256

// leave takes the backend away. No answer is half out then.
func (b *backend) leave() {
	b.going.Lock()
	defer b.going.Unlock()
	b.away = true
	b.ledger.Lose(concurrency)
	b.Leave()
}

func (b *backend) comeBack(t *testing.T) {
	t.Helper()
	b.going.Lock()
	defer b.going.Unlock()
	b.away = false
	b.lives++
	if err := b.ComeBack(); err != nil {
		t.Fatal(err)
	}
}

// askedAbout returns when it was asked about a client last, by the target of its request.
func (b *backend) askedAbout(target string) (at time.Time, ok bool) {
	b.asked.Lock()
	defer b.asked.Unlock()
	at, ok = b.asked.at[target]
	return at, ok
}

func (b *backend) life() int {
	b.going.RLock()
	defer b.going.RUnlock()
	return b.lives
}

// whole is an answer that goes out as a whole, and is recorded before. If the backend has left meanwhile there is none, and lost is called.
func (b *backend) whole(life, status int, body string, record, lost func()) harness.Answer {
	return harness.Answer{Write: func(w http.ResponseWriter) {
		b.going.RLock()
		defer b.going.RUnlock()
		if b.away || b.lives != life {
			lost()
			panic(http.ErrAbortHandler) // its connection is closed
		}
		record()
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
		_ = http.NewResponseController(w).Flush()
	}}
}

// broken is an answer that breaks off behind some bytes.
func broken(begin string) harness.Answer {
	return harness.Answer{Write: func(w http.ResponseWriter) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, begin)
	}}
}

// The ways in which a callback fails.
const (
	failsNot    = iota
	failsStatus // 500
	failsNever  // no answer
	failsLate   // an answer after the time is over
	failsAtOnce // the connection breaks without a byte
	failsHead   // it breaks within the head
	failsBody   // it breaks within the body
	failures
)

func (b *backend) failure(part float64) int {
	b.random.Lock()
	defer b.random.Unlock()
	if b.random.Float64() >= part {
		return failsNot
	}
	return 1 + b.random.IntN(failures-1)
}

// await waits until the gateway has given up, and then is the failure as it was. If the mood is over before, it is a connection that breaks.
func await(c *harness.Callback, m *mood, failure int) int {
	select {
	case <-c.Context.Done():
		return failure
	case <-m.untilOver:
		return failsAtOnce
	}
}

func (b *backend) connect(c *harness.Callback) harness.Answer {
	defer b.asking.begin()()
	life, m := b.life(), b.mood.Load()
	b.ledger.Ask(c.Token, c.Header.Get("webhook-id"))
	b.asked.Lock()
	b.asked.at[c.URL] = c.At
	b.asked.Unlock()
	pause(c, m)
	grant := fmt.Sprintf(`{"retry_ms":%d,"events":[{"name":"token","data":%q}]}`, retryMillis, c.Token)
	unanswered := func() { b.ledger.Answer(c.Token, harness.Unanswered) }
	refuse := func(status int) harness.Answer {
		return b.whole(life, status, "{}", func() { b.ledger.Answer(c.Token, harness.Refused) }, unanswered)
	}
	failure := b.failure(m.fails)
	switch {
	case m.silent:
		failure = failsNever
	case m.status != 0:
		return refuse(m.status)
	}
	switch failure {
	case failsNot:
		return b.whole(life, http.StatusOK, grant, func() { b.ledger.Answer(c.Token, harness.Accepted) }, unanswered)
	case failsStatus:
		return refuse(http.StatusInternalServerError)
	case failsNever, failsLate:
		failure = await(c, m, failure)
	}
	unanswered()
	return begun(failure, grant)
}

func (b *backend) disconnect(c *harness.Callback) harness.Answer {
	defer b.telling.begin()()
	life, m := b.life(), b.mood.Load()
	b.ledger.Tell(c.Token, c.Header.Get("webhook-id"), c.Reason, c.Detail)
	pause(c, m)
	failure := b.failure(m.fails)
	switch {
	case m.silent:
		failure = failsNever
	case m.status != 0:
		return b.whole(life, m.status, "{}", func() {}, func() {})
	}
	switch failure {
	case failsNot:
		return b.whole(life, http.StatusOK, "{}", func() { b.ledger.Take(c.Token) }, func() {})
	case failsStatus:
		return b.whole(life, http.StatusInternalServerError, "{}", func() {}, func() {})
	case failsNever, failsLate:
		failure = await(c, m, failure)
	case failsBody:
		// The status decides, so the end was taken; whether the gateway waits for the body is its own affair.
		failure = failsHead
	}
	return begun(failure, "{}")
}

// pause waits as long as the backend is slow.
func pause(c *harness.Callback, m *mood) {
	if m.held {
		select {
		case <-m.untilOver:
		case <-c.Context.Done():
		}
	}
	if m.delay == 0 {
		return
	}
	slow := time.NewTimer(m.delay)
	defer slow.Stop()
	select {
	case <-slow.C:
	case <-c.Context.Done():
	case <-m.untilOver:
	}
}

// begun is what goes out of an answer that fails.
func begun(failure int, body string) harness.Answer {
	head := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(body))
	switch failure {
	case failsLate:
		return broken(head + body)
	case failsHead:
		return broken(head[:len(head)/2])
	case failsBody:
		return broken(head + body[:len(body)/2])
	default:
		return broken("")
	}
}
