package brokertest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ssegateway/internal/broker"
)

// TestComeAndGo has topics come to a node and go, while everything is published on: on that node, and on
// another one that reads all. Both engines run already. Between two visits disturb is called, if it is not nil: it may cut the node off for a while.
func TestComeAndGo(t *testing.T, all broker.Engine, some broker.Selective, visits int, disturb func()) {
	v := &visited{t: t, all: all, some: some, log: some.Log(), cut: disturb != nil}
	v.changed.L = &v.mu
	for range 6 {
		v.topics = append(v.topics, &visitedTopic{name: "topic " + strconv.Itoa(len(v.topics))})
	}
	tailer, _ := v.log.Tail()
	ctx, cancel := context.WithCancel(t.Context())
	var tailing, publishing, visiting sync.WaitGroup
	tailing.Go(func() {
		for r := tailer.Next(ctx); r != nil; r = tailer.Next(ctx) {
			v.came(r)
		}
	})
	defer tailing.Wait()
	defer cancel()

	var over atomic.Bool
	for _, topic := range v.topics {
		publishing.Go(func() { v.publish(topic, &over) })
	}
	for range 3 {
		random := rand.New(rand.NewPCG(rand.Uint64(), 0))
		visiting.Go(func() {
			for range visits {
				v.visit(v.topics[random.IntN(len(v.topics))], random)
				if disturb != nil && random.IntN(10) == 0 {
					disturb()
				}
			}
		})
	}
	visiting.Wait()
	over.Store(true)
	publishing.Wait()
	if v.some.Log() != v.log {
		t.Error("the log was replaced")
	}
}

// visited is a node and its topics.
type visited struct {
	t    *testing.T
	all  broker.Engine
	some broker.Selective
	log  *broker.Log // of some
	cut  bool        // the node may be cut off

	topics []*visitedTopic

	mu      sync.Mutex
	changed sync.Cond
	last    uint64 // offset of the last record
}

type visitedTopic struct {
	name     string
	answered atomic.Int64 // how many events were published, each with its number from 1 on
	live     []liveEvent  // that the node's log was appended; guarded by visited.mu
}

type liveEvent struct {
	number int64
	offset uint64
}

func (v *visited) came(r *broker.Record) {
	v.mu.Lock()
	defer v.mu.Unlock()
	defer v.changed.Broadcast()
	if len(r.Topics) == 0 {
		return
	}
	if r.Offset <= v.last {
		v.t.Errorf("%d comes behind %d", r.Offset, v.last)
	}
	v.last = r.Offset
	i := slices.IndexFunc(v.topics, func(t *visitedTopic) bool { return t.name == r.Topics[0] })
	v.topics[i].live = append(v.topics[i].live, liveEvent{numberOf(r), r.Offset})
}

func numberOf(r *broker.Record) int64 {
	n, _ := strconv.ParseInt(text(r), 10, 64)
	return n
}

// publish publishes one event after the other, on one node or the other.
func (v *visited) publish(topic *visitedTopic, over *atomic.Bool) {
	for n := int64(1); !over.Load(); n++ {
		p := broker.Publication{Topics: []string{topic.name}, Event: event(strconv.FormatInt(n, 10)), Store: true, IdempotencyKey: topic.name + strconv.FormatInt(n, 10)}
		for engine := range forEver(v.all, broker.Engine(v.some)) {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			_, err := engine.Append(ctx, p)
			cancel()
			if err == nil || errors.Is(err, broker.ErrUnread) || errors.Is(err, broker.ErrRepeated) {
				break
			}
			if !errors.Is(err, broker.ErrUnavailable) {
				v.t.Errorf("%s, %d: %v", topic.name, n, err)
				return
			}
		}
		topic.answered.Store(n)
	}
}

// forEver gives the engines in turn, from any on: what one cannot append the next one may.
func forEver(engines ...broker.Engine) func(yield func(broker.Engine) bool) {
	return func(yield func(broker.Engine) bool) {
		for i := rand.IntN(len(engines)); yield(engines[i%len(engines)]); i++ {
		}
	}
}

// visit does what a client does that comes with nothing, stays for some events, and leaves.
func (v *visited) visit(topic *visitedTopic, random *rand.Rand) {
	before := topic.answered.Load()
	var release func()
	for began := time.Now(); ; {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		var err error
		release, err = v.some.Follow(ctx, []string{topic.name}, 0)
		cancel()
		if err == nil {
			break
		}
		if !errors.Is(err, broker.ErrUnavailable) || time.Since(began) > patience {
			v.t.Errorf("following %s: %v", topic.name, err)
			return
		}
	}
	defer func() {
		release()
		if random.IntN(2) == 0 {
			v.some.Prune(func(string) bool { return false })
		}
	}()
	if !v.cut { // another visit may have followed the topic before
		if _, err := v.some.End(context.Background()); err != nil {
			v.t.Errorf("the log's end: %v", err)
		}
	}
	at := v.log.Position().Offset
	missed, reaches := v.log.Missed(0, at, []string{topic.name}, 1<<30)
	var got []int64
	for _, r := range missed {
		got = append(got, numberOf(r))
	}
	if had := int64(len(got)); !v.cut && had < before || !reaches { // where it is cut off, the node lags
		v.t.Errorf("%s: the log has %d events, and %d were published before; reaches: %v", topic.name, had, before, reaches)
	}
	got = append(got, v.wait(topic, at, topic.answered.Load()+random.Int64N(5))...)
	for i, n := range got {
		if n != int64(i+1) {
			v.t.Errorf("%s: event %d is the number %d, around %s; the log had %d up to %d", topic.name, i+1, n, around(got, i), len(missed), at)
			return
		}
	}
}

// wait waits for the event with that number, and returns the numbers of what came behind an offset.
func (v *visited) wait(topic *visitedTopic, after uint64, number int64) (got []int64) {
	late := time.AfterFunc(patience, v.changed.Broadcast)
	defer late.Stop()
	v.mu.Lock()
	defer v.mu.Unlock()
	for began := time.Now(); ; v.changed.Wait() {
		got = got[:0]
		for _, e := range topic.live {
			if e.offset > after {
				got = append(got, e.number)
			}
		}
		if len(got) > 0 && got[len(got)-1] >= number {
			return got
		}
		if time.Since(began) >= patience {
			v.t.Errorf("%s: the event %d does not come behind %d; came: %s", topic.name, number, after, around(got, len(got)))
			return got
		}
	}
}

func around(numbers []int64, i int) string {
	return strings.Trim(fmt.Sprint(numbers[max(0, i-3):min(len(numbers), i+3)]), "[]")
}
