package callback

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ssegateway/internal/bubble"
	"ssegateway/internal/gateway"
)

// TestBatchModel compares with the truth, for any batch, backend and permissions: each end is told at least once, under
// its one id, none behind an answer of 2xx, those that are denied are not, and the same set has the same id on every attempt.
func TestBatchModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		batch := rapid.IntRange(1, 7).Draw(rt, "batch")
		concurrency := rapid.IntRange(1, 3).Draw(rt, "concurrency")
		pauses := rapid.SliceOfN(rapid.IntRange(0, 120), 1, 40).Draw(rt, "pauses") // ms behind each end
		// Answers in turn, then 200 for ever; 0: none.
		answers := rapid.SliceOfN(rapid.SampledFrom([]int{200, 200, 204, 500, 503, 429, 404, 301, 0}), 0, 60).Draw(rt, "answers")
		down := rapid.Bool().Draw(rt, "down") // at first, long enough to count as such
		if down {
			pauses = rapid.SliceOfN(rapid.IntRange(int(gatherTime/time.Millisecond)+1, 120), 2*downAfter, 3*downAfter).Draw(rt, "pauses while it is down") // each on its own
			answers = append(slices.Repeat([]int{503}, rapid.IntRange(2*downAfter, 200).Draw(rt, "failures")), answers...)
		}
		permissions := rapid.SliceOfN(rapid.SampledFrom([]gateway.Permission{gateway.Granted, gateway.Granted, gateway.Deferred, gateway.Denied}), len(pauses), len(pauses)).Draw(rt, "permissions")
		resumes := rapid.SliceOfN(rapid.IntRange(0, 20), 0, 3).Draw(rt, "resumes") // seconds
		var fault string
		bubble.Test(t, func(t *testing.T) { fault = batchModel(t, batch, concurrency, pauses, answers, permissions, resumes) })
		if fault != "" {
			rt.Fatal(fault)
		}
	})
}

func batchModel(t *testing.T, batch, concurrency int, pauses, answers []int, permissions []gateway.Permission, resumes []int) (fault string) {
	var mu sync.Mutex
	wrong := func(format string, args ...any) {
		if fault == "" {
			fault = fmt.Sprintf(format, args...)
		}
	}
	permission := map[gateway.Token]gateway.Permission{}
	known := map[string]bool{}   // ends that were passed to the client
	settled := map[string]bool{} // answered for good
	sets := map[string]string{}  // by webhook-id
	ids := map[string]string{}   // by set
	finished := map[gateway.Token]bool{}
	delayed := map[gateway.Token]int{}

	next := func() int {
		if len(answers) == 0 {
			return 200
		}
		answer := answers[0]
		answers = answers[1:]
		return answer
	}
	b := newPipeBackend(t)
	b.take = func(head http.Header, raw []byte) int {
		mu.Lock()
		defer mu.Unlock()
		p := decodePost(t, head, raw)
		if p.action == ActionDisconnects && (len(p.events) > batch || batch == 1) {
			wrong("%d ends at once", len(p.events))
		}
		if set, ok := sets[p.id]; ok && set != p.raw {
			wrong("%s names %s\nand %s", p.id, set, p.raw)
		}
		if id, ok := ids[p.raw]; ok && id != p.id {
			wrong("%s and %s name one set", id, p.id)
		}
		sets[p.id], ids[p.raw] = p.raw, p.id
		answer := next()
		for _, e := range p.events {
			if e.ID != e.Token+"-"+ActionDisconnect || !known[e.Token] {
				wrong("%s is told as %s", e.Token, e.ID)
			}
			if settled[e.Token] {
				wrong("%s is told again", e.Token)
			}
			final := 200 <= answer && answer < 300 || p.action == ActionDisconnect && (answer == 404 || answer == 301)
			settled[e.Token] = final
		}
		return answer
	}
	c, err := New(Config{
		URL: "http://backend/", Batch: batch, Concurrency: concurrency,
		Permit: func(token gateway.Token) gateway.Permission {
			mu.Lock()
			defer mu.Unlock()
			return permission[token]
		},
		OnFinished: func(n gateway.Notice, denied bool) {
			mu.Lock()
			defer mu.Unlock()
			if finished[n.Token] || denied != (permission[n.Token] == gateway.Denied) || denied == settled[n.Token.String()] {
				wrong("%v is finished, again %v, denied %v, answered for good %v", n.Token, finished[n.Token], denied, settled[n.Token.String()])
			}
			finished[n.Token] = true
		},
		OnDelayed: func(n gateway.Notice) {
			mu.Lock()
			defer mu.Unlock()
			if delayed[n.Token]++; delayed[n.Token] > 1 || finished[n.Token] {
				wrong("%v is delayed %d times, finished %v", n.Token, delayed[n.Token], finished[n.Token])
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	c.pool.dial = b.dial
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = c.Run(ctx) })
	for i, pause := range pauses {
		n := closed()
		n.Request = fmt.Appendf(nil, `{"url":"/%d%s"}`, i, bytes.Repeat([]byte("x"), i))
		mu.Lock()
		permission[n.Token], known[n.Token.String()] = permissions[i], true
		mu.Unlock()
		c.Disconnect(n)
		<-time.After(time.Duration(pause) * time.Millisecond)
	}
	for _, seconds := range resumes { // nothing has changed
		<-time.After(time.Duration(seconds) * time.Second)
		c.Resume()
	}
	<-time.After(time.Minute)
	mu.Lock()
	for token, p := range permission {
		if p == gateway.Deferred {
			permission[token] = gateway.Granted
		}
	}
	mu.Unlock()
	c.Resume()
	<-time.After(time.Hour)
	mu.Lock()
	if c.Pending() != 0 || len(finished) != len(pauses) {
		wrong("%d pending, %d of %d finished", c.Pending(), len(finished), len(pauses))
	}
	mu.Unlock()
	cancel()
	running.Wait()
	return fault
}
