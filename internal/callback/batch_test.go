package callback

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-json-experiment/json"

	"ssegateway/internal/bubble"
	"ssegateway/internal/gateway"
)

// event is an end in a batch, as a backend decodes it.
type event struct {
	ID string `json:"webhook_id"`
	body
}

// post is a callback that a backend has got.
type post struct {
	at     time.Duration
	id     string
	raw    string
	action string
	events []event // of a batch, or the one that is alone
}

func decodePost(t testing.TB, head http.Header, raw []byte) post {
	t.Helper()
	var b struct {
		Events []event `json:"events"`
		body
	}
	if err := json.Unmarshal(raw, &b); err != nil {
		t.Errorf("the callback's body: %v", err)
	}
	p := post{id: head.Get("Webhook-Id"), raw: string(raw), action: b.Action, events: b.Events}
	if b.Events == nil {
		p.events = []event{{p.id, b.body}}
	}
	return p
}

// record makes the backend keep each callback, and answer it as asked.
func (p *pipeBackend) record(answer func(post) int) (posts func() []post) {
	var all []post
	p.take = func(head http.Header, raw []byte) int {
		got := decodePost(p.t, head, raw)
		got.at = time.Since(p.start)
		all = append(all, got)
		return answer(got)
	}
	return func() []post {
		p.mu.Lock()
		defer p.mu.Unlock()
		return slices.Clone(all)
	}
}

// batchOf returns a batch.
func batchOf(ends ...gateway.Notice) (batch *notice) {
	for _, n := range slices.Backward(ends) {
		batch = &notice{Notice: n, more: batch}
	}
	return batch
}

func always(status int) func(post) int { return func(post) int { return status } }

func sizes(posts []post) (n []int) {
	for _, p := range posts {
		n = append(n, len(p.events))
	}
	return n
}

// A batch as it is on the wire.
func TestBatchOnTheWire(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := newPipeBackend(t)
		posts := b.record(always(200))
		c := b.client(t, Config{Batch: 3})
		all := []gateway.Notice{closed(), closed(), closed()}
		all[1].Reason, all[1].Detail = gateway.Error, gateway.Stalled
		all[2].Request = []byte(`{"url":"/x","headers":{}}`)
		for _, n := range all {
			c.Disconnect(n)
		}
		synctest.Wait()
		want := fmt.Sprintf(`{"action":"disconnects","events":[`+
			`{"webhook_id":"%[1]v-disconnect","token":"%[1]v","reason":"client_closed","request":%[4]s},`+
			`{"webhook_id":"%[2]v-disconnect","token":"%[2]v","reason":"error","detail":"stalled","request":%[4]s},`+
			`{"webhook_id":"%[3]v-disconnect","token":"%[3]v","reason":"client_closed","request":{"url":"/x","headers":{}}}]}`,
			all[0].Token, all[1].Token, all[2].Token, request)
		got := posts()
		if len(got) != 1 || got[0].raw != want {
			t.Fatalf("%+v\nwant %s", got, want)
		}
		if id := got[0].id; len(id) != 32+len("-disconnects") || !strings.HasSuffix(id, "-disconnects") || strings.ContainsAny(id, ". ") {
			t.Errorf("webhook-id %q", id)
		}
	})
}

// The id of a batch is of what it says, whoever says it: another node may know another reason.
func TestBatchID(t *testing.T) {
	c, err := New(Config{URL: "http://h/", Batch: 2})
	if err != nil {
		t.Fatal(err)
	}
	tokens := [...]gateway.Token{gateway.NewToken(), gateway.NewToken(), gateway.NewToken()}
	id := func(detail gateway.Detail, which ...int) string {
		var ends []gateway.Notice
		for _, i := range which {
			ends = append(ends, gateway.Notice{Token: tokens[i], Request: request, Reason: gateway.Error, Detail: detail})
		}
		head, _, _ := strings.Cut(string(c.appendDisconnects(nil, batchOf(ends...), "")), "\r\n\r\n")
		_, id, _ := strings.Cut(head, "webhook-id: ")
		return id
	}
	ids := map[string]bool{}
	for range 2 {
		ids[id(gateway.Stalled, 0, 1)], ids[id(gateway.GatewayLost, 0, 1)], ids[id(gateway.Stalled, 0)], ids[id(gateway.Stalled, 0, 2)] = true, true, true, true
	}
	if len(ids) != 4 {
		t.Errorf("%d ids of 4 sets: %v", len(ids), ids)
	}
}

// A batch goes out when it is full, by number or by size, or 50 ms after its first end.
func TestBatchIsComplete(t *testing.T) {
	for name, test := range map[string]struct {
		batch, ends int
		every       time.Duration
		request     int // bytes
		want        []int
		last        time.Duration // when the last is sent
	}{
		"one":            {10, 1, 0, 0, []int{1}, gatherTime},
		"full":           {10, 30, 0, 0, []int{10, 10, 10}, 0},
		"a rest":         {10, 25, 0, 0, []int{10, 10, 5}, gatherTime},
		"slow":           {1000, 10, 20 * time.Millisecond, 0, []int{3, 3, 3, 1}, 180*time.Millisecond + gatherTime},
		"large requests": {1000, 40, 0, 64 << 10, []int{15, 15, 10}, gatherTime},
		"off":            {1, 3, 0, 0, []int{1, 1, 1}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				b := newPipeBackend(t)
				posts := b.record(always(200))
				c := b.client(t, Config{Batch: test.batch})
				for range test.ends {
					n := closed()
					if test.request > 0 {
						n.Request = []byte(`{"url":"` + strings.Repeat("x", test.request-len(`{"url":""}`)) + `"}`)
					}
					c.Disconnect(n)
					<-time.After(test.every)
				}
				<-time.After(time.Second)
				got := posts()
				slices.SortStableFunc(got, func(a, b post) int { return int(a.at - b.at) })
				if n := sizes(got); !slices.Equal(n, test.want) {
					t.Errorf("batches of %v, want %v", n, test.want)
				}
				if at := got[len(got)-1].at; at != test.last {
					t.Errorf("the last at %v, want %v", at, test.last)
				}
				for _, p := range got {
					if len(p.raw) > batchLimit {
						t.Errorf("a body of %d bytes", len(p.raw))
					}
					if alone := p.action == ActionDisconnect; alone != (test.batch == 1) {
						t.Errorf("action %s", p.action)
					}
				}
			})
		})
	}
}

// The repeats of a batch are the same set, with the same id. Another set has another.
func TestBatchIsRepeated(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := newPipeBackend(t)
		var r results
		var l logBuffer
		var posts func() []post
		n := 0
		posts = b.record(func(post) int { n++; return []int{500, 503, 429, 0, 200, 200}[n-1] })
		c := b.client(t, Config{Batch: 5, Observe: r.observe, Log: l.logger()})
		for range 5 {
			c.Disconnect(closed())
		}
		<-time.After(time.Minute)
		c.Disconnect(closed())
		<-time.After(time.Second)
		got := posts()
		if len(got) != 6 {
			t.Fatalf("%d callbacks", len(got))
		}
		for _, p := range got[1:5] {
			if p.raw != got[0].raw || p.id != got[0].id {
				t.Errorf("%s\nis no repeat of\n%s", p.raw, got[0].raw)
			}
		}
		if got[5].id == got[0].id {
			t.Error("another set has the same id")
		}
		if want := "[disconnects delivered:2 disconnects retry:4]"; r.String() != want {
			t.Errorf("observed %s, want %s", r.String(), want)
		}
		if text := l.String(); strings.Count(text, "action=disconnects status=200 result=delivered ms=0 events=5 attempt=5") != 1 || strings.Contains(text, "token=") {
			t.Error(text)
		}
	})
}

// A batch that is refused for good, or not taken for ten minutes, is told one by one. Each is then on its own.
func TestBatchComesApart(t *testing.T) {
	for _, status := range []int{302, 400, 404, 410, 422, 500} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				const ends = 10
				b := newPipeBackend(t)
				var r results
				bad := closed()
				finished := map[gateway.Token]int{}
				var mu sync.Mutex
				posts := b.record(func(p post) int {
					switch {
					case p.action == ActionDisconnects:
						return status
					case p.events[0].Token == bad.Token.String():
						return 400
					}
					return 200
				})
				requests := gateway.NewRequests(1)
				c := b.client(t, Config{Batch: ends, Observe: r.observe, Requests: requests, OnFinished: func(n gateway.Notice, _ bool) {
					mu.Lock()
					defer mu.Unlock()
					finished[n.Token]++
				}})
				c.Disconnect(bad)
				for range ends - 1 {
					c.Disconnect(closed())
				}
				<-time.After(15 * time.Minute)
				all := posts()
				batch := all[0]
				told := map[string]int{}
				for _, p := range all {
					if p.action == ActionDisconnects {
						if p.raw != batch.raw {
							t.Errorf("another batch: %s", p.raw)
						}
						continue
					}
					told[p.id]++
				}
				for _, e := range batch.events {
					if told[e.ID] != 1 {
						t.Errorf("%s was told %d times alone", e.ID, told[e.ID])
					}
				}
				if len(told) != ends || len(finished) != ends || c.Pending() != 0 || requests.Bytes() != 0 {
					t.Errorf("%d told, %d finished, %d pending, %d bytes", len(told), len(finished), c.Pending(), requests.Bytes())
				}
				want := "disconnect delivered:9 disconnect rejected:1 disconnects rejected:1]"
				if status == 500 {
					want = "disconnect delivered:9 disconnect rejected:1 disconnects given_up:1"
				}
				if !strings.Contains(r.String(), want) {
					t.Errorf("observed %s", r.String())
				}
			})
		})
	}
}

// What the end of Run leaves of batches is undelivered.
func TestUndeliveredOfBatches(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := newPipeBackend(t)
		b.record(always(0))
		c, err := New(Config{URL: "http://backend/", Batch: 10})
		if err != nil {
			t.Fatal(err)
		}
		c.pool.dial = b.dial
		stop := run(t, c)
		want := map[gateway.Token]bool{}
		for range 25 {
			n := closed()
			want[n.Token] = true
			c.Disconnect(n)
		}
		synctest.Wait()
		stop()
		c.Undelivered(func(n gateway.Notice) {
			if !want[n.Token] {
				t.Errorf("%v twice, or of no end", n.Token)
			}
			delete(want, n.Token)
		})
		if len(want) > 0 {
			t.Errorf("%d are missing", len(want))
		}
	})
}

// A drain of a hundred thousand takes two hundred callbacks, and does not wait for a batch to fill.
func TestFlushOfBatches(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := newPipeBackend(t)
		n := 0
		b.take = func(http.Header, []byte) int { n++; return 200 }
		c := b.client(t, Config{Batch: 500})
		start := time.Now()
		for range 100_001 {
			c.Disconnect(closed())
		}
		if left := c.Flush(t.Context()); left != 0 || time.Since(start) != 0 {
			t.Errorf("%d undelivered after %v", left, time.Since(start))
		}
		if n != 201 {
			t.Errorf("%d callbacks", n)
		}
	})
}
