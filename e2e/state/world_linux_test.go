package state

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"ssegateway/e2e/harness"
	"ssegateway/sse"
)

// world is what surrounds the gateway that is killed: a backend, clients, publishers and a sender.
// It records what each of them sees.
type world struct {
	t       *testing.T
	backend *harness.Backend
	url     string // of the gateway
	http    *http.Client

	mu      sync.Mutex
	streams map[string]*opened // by token
	wrong   []string
	events  map[uint64]*published // by offset
	offsets map[string]uint64     // of events, by their data
	last    map[string]uint64     // offset of the last event that was retained under a key, and answered
	epoch   string
	next    int       // number of the next publication
	began   time.Time // when the gateway was started last
	full    bool      // the disk is
	clients []*client
}

// opened is what the backend knows of a stream.
type opened struct {
	asked      time.Time // and accepted
	told       int       // of its end
	unrecorded bool      // its record may be missing, since the disk was full
	sent       int       // number of the last send
}

// published is what is known of the event at an offset.
type published struct {
	data     string
	answered bool // with 200
}

// client is a page that stays: it comes back with the last id that it has.
type client struct {
	w      *world
	number int

	mu      sync.Mutex
	token   string // of its stream; empty: it has none
	lastID  string
	begin   uint64 // the offset where its first stream began
	started bool
	history []uint64 // offsets of the events that it got
	sent    int      // number of the last send on the stream
}

const topic = "t"

func newWorld(t *testing.T) *world {
	t.Helper()
	backend, err := harness.NewBackend()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{
		t: t, backend: backend, streams: map[string]*opened{}, events: map[uint64]*published{}, offsets: map[string]uint64{}, last: map[string]uint64{},
		http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}, Timeout: 10 * time.Second},
	}
	t.Cleanup(func() {
		w.http.CloseIdleConnections()
		backend.Close()
	})
	backend.On("", harness.Script{Connect: w.accept, Disconnect: w.tell})
	backend.On("slow", harness.Script{Connect: func(c *harness.Callback) harness.Answer {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-c.Context.Done():
		}
		return w.accept(c)
	}, Disconnect: w.tell})
	backend.On("refused", harness.Script{Connect: func(*harness.Callback) harness.Answer { return harness.Answer{Status: http.StatusForbidden} }, Disconnect: w.tell})
	return w
}

// fail records an error, of which the test prints the first ones.
func (w *world) failLocked(format string, a ...any) {
	if len(w.wrong) < 20 {
		w.wrong = append(w.wrong, fmt.Sprintf(format, a...))
	}
}

func (w *world) fail(format string, a ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failLocked(format, a...)
}

func (w *world) accept(c *harness.Callback) harness.Answer {
	w.mu.Lock()
	defer w.mu.Unlock()
	o := w.streams[c.Token]
	if o == nil { // else its end was told before
		o = &opened{}
		w.streams[c.Token] = o
	}
	o.asked, o.unrecorded = c.At, w.full
	return harness.Answer{Status: http.StatusOK, Body: `{"topics":["` + topic + `"],"retry_ms":100,"events":[{"name":"token","data":"` + c.Token + `"}]}`}
}

func (w *world) tell(c *harness.Callback) harness.Answer {
	w.mu.Lock()
	defer w.mu.Unlock()
	o := w.streams[c.Token]
	if o == nil {
		o = &opened{}
		w.streams[c.Token] = o
	}
	o.told++
	if c.Detail == "gateway_lost" && o.asked.After(w.began) {
		w.failLocked("token %s was told as gateway_lost, by the gateway that had asked about it", c.Token)
	}
	return harness.Answer{}
}

// picture returns the tokens that the backend takes for open: those whose record was certainly
// written, and the others.
func (w *world) picture() (recorded, others map[string]bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	recorded, others = map[string]bool{}, map[string]bool{}
	for token, o := range w.streams {
		switch {
		case o.asked.IsZero() || o.told > 0:
		case o.unrecorded:
			others[token] = true
		default:
			recorded[token] = true
		}
	}
	return recorded, others
}

// settled records that the gateway has written all that it owed.
func (w *world) settled() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, o := range w.streams {
		o.unrecorded = false
	}
}

func (w *world) setFull(full bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.full = full
}

// post posts a JSON body to /internal. The status is 0 if there was no answer.
func (w *world) post(path string, body any) (status int, answer map[string]any) {
	return harness.PostJSON(w.http, w.url+path, body)
}

// publish publishes the next event, and reports whether the answer was 200.
func (w *world) publish(size int) (id string, ok bool) {
	data := w.nextData(size)
	return w.try(data, map[string]any{"topic": topic, "event": map[string]string{"name": "published", "data": data}})
}

// retain publishes the next event, to be retained.
func (w *world) retain(key string) {
	data := w.nextData(100)
	id, ok := w.try(data, map[string]any{"topic": topic, "event": map[string]string{"name": "published", "data": data}, "retain": true, "key": key})
	if !ok {
		return
	}
	offset := w.at(id, data, true)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last[key] = max(w.last[key], offset)
}

// repeat publishes the next event until the answer is 200, by an idempotency key: it is published once.
func (w *world) repeat(ctx context.Context, size int) {
	data := w.nextData(size)
	key, _, _ := strings.Cut(data, " ")
	body := map[string]any{"topic": topic, "event": map[string]string{"name": "published", "data": data}, "idempotency_key": key}
	for ctx.Err() == nil {
		if _, ok := w.try(data, body); ok {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// nextData returns the data of the next event.
func (w *world) nextData(size int) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.next++
	return strconv.Itoa(w.next) + " " + strings.Repeat("x", size)
}

func (w *world) try(data string, body map[string]any) (id string, ok bool) {
	status, answer := w.post("/internal/publish", body)
	if status != http.StatusOK {
		if status != 0 && status != http.StatusServiceUnavailable {
			w.fail("a publish is answered %d %v", status, answer)
		}
		return "", false
	}
	id, _ = answer["id"].(string)
	w.at(id, data, true)
	return id, true
}

// checkRetained checks that of each key the last event is retained whose publish was answered, or a later one.
func (w *world) checkRetained() {
	w.t.Helper()
	resp, err := w.http.Get(w.url + "/internal/retained?limit=1000&topic=" + topic)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct{ Retained []struct{ Key, ID string } }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		w.t.Fatal(err)
	}
	has := map[string]uint64{}
	for _, r := range answer.Retained {
		has[r.Key] = w.at(r.ID, "", false)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for key, offset := range w.last {
		if has[key] < offset {
			w.t.Errorf("under %s event %d is retained, and %d was answered", key, has[key], offset)
		}
	}
}

// at records which event has an id. No id means two.
func (w *world) at(id, data string, answered bool) (offset uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	epoch, digits, _ := strings.Cut(id, "-")
	offset, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		w.failLocked("the id %q", id)
		return 0
	}
	if w.epoch == "" {
		w.epoch = epoch
	}
	if w.epoch != epoch {
		w.failLocked("the epoch is %s, and was %s", epoch, w.epoch)
	}
	if data == "" { // only a position
		return offset
	}
	e := w.events[offset]
	if e == nil {
		e = &published{data: data}
		w.events[offset] = e
	}
	if e.data != data {
		w.failLocked("the id %s means two events: %.20q and %.20q", id, e.data, data)
	}
	if before, ok := w.offsets[data]; ok && before != offset {
		w.failLocked("an event is at %d and at %d: %.20q", before, offset, data)
	}
	w.offsets[data] = offset
	e.answered = e.answered || answered
	return offset
}

// traffic publishes, sends, and opens streams of guests who leave, until stop is called.
// What is repeated is repeated until the gateway answers, also after stop.
func (w *world) traffic(repeating context.Context, seed uint64) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	every := func(least, more time.Duration, act func(*rand.Rand)) {
		seed++
		random := rand.New(rand.NewPCG(seed, 1))
		group.Go(func() {
			for ctx.Err() == nil {
				act(random)
				select {
				case <-ctx.Done():
				case <-time.After(least + time.Duration(random.Int64N(int64(more)))):
				}
			}
		})
	}
	for range 2 {
		every(time.Millisecond, 15*time.Millisecond, func(r *rand.Rand) { w.publish(r.IntN(1500)) })
	}
	every(time.Millisecond, 15*time.Millisecond, func(r *rand.Rand) { w.repeat(repeating, r.IntN(1500)) })
	every(time.Millisecond, 15*time.Millisecond, func(r *rand.Rand) { w.retain("k" + strconv.Itoa(r.IntN(20))) })
	every(time.Millisecond, 10*time.Millisecond, func(r *rand.Rand) { w.send(w.clients[r.IntN(len(w.clients))]) })
	for _, key := range []string{"", "", "slow", "slow", "refused"} {
		every(0, 10*time.Millisecond, func(r *rand.Rand) {
			visit, leave := context.WithTimeout(ctx, time.Duration(r.Int64N(int64(60*time.Millisecond))))
			defer leave()
			if body := w.get(visit, key, ""); body != nil {
				_, _ = io.Copy(io.Discard, body)
				_ = body.Close()
			}
		})
	}
	return func() {
		cancel()
		group.Wait()
	}
}

// send sends the next number to a client's stream.
func (w *world) send(c *client) {
	c.mu.Lock()
	token := c.token
	c.mu.Unlock()
	if token == "" {
		return
	}
	w.mu.Lock()
	o := w.streams[token]
	o.sent++
	number := o.sent
	w.mu.Unlock()
	w.post("/internal/send", map[string]any{"token": token, "event": map[string]string{"name": "sent", "data": strconv.Itoa(number)}})
}

// get opens a stream; nil: there is none.
func (w *world) get(ctx context.Context, key, lastID string) io.ReadCloser {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url+"/events", nil)
	if err != nil {
		w.fail("%v", err)
		return nil
	}
	r.Header.Set(harness.KeyHeader, key)
	if lastID != "" {
		r.Header.Set("Last-Event-ID", lastID)
	}
	resp, err := w.streaming().Do(r)
	if err != nil {
		return nil
	}
	want := http.StatusOK
	if key == "refused" {
		want = http.StatusForbidden
	}
	if resp.StatusCode != want && resp.StatusCode != http.StatusServiceUnavailable {
		w.fail("a stream is answered %s", resp.Status)
	}
	return resp.Body
}

// streaming returns a client without a timeout, and with a connection for each stream.
func (w *world) streaming() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
}

// stay opens one stream after the other until ctx ends.
func (c *client) stay(ctx context.Context) {
	for ctx.Err() == nil {
		c.mu.Lock()
		lastID := c.lastID
		c.mu.Unlock()
		if body := c.w.get(ctx, "", lastID); body != nil {
			c.read(body)
			_ = body.Close()
		}
		c.mu.Lock()
		c.token, c.sent = "", 0
		c.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// read records what a stream brings.
func (c *client) read(body io.Reader) {
	d := sse.NewDecoder(body)
	for {
		e, isEvent, err := d.NextBlock()
		if err != nil {
			return
		}
		c.take(e, isEvent, d.LastEventID().String())
	}
}

func (c *client) take(e sse.Event, isEvent bool, lastID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch name := e.Name.String(); {
	case !isEvent && lastID != "" && !c.started:
		c.begin, c.started = c.w.at(lastID, "", false), true
	case !isEvent:
	case name == "token":
		c.token = e.Data
	case name == "sent":
		number, err := strconv.Atoi(e.Data)
		if err != nil || number <= c.sent {
			c.w.fail("client %d: send %q after %d", c.number, e.Data, c.sent)
		}
		c.sent = number
	case name == "published":
		c.history = append(c.history, c.w.at(lastID, e.Data, false))
	default:
		c.w.fail("client %d, which has %s, got %q with the data %q", c.number, c.lastID, name, e.Data)
	}
	if lastID != "" {
		c.lastID = lastID
	}
}
