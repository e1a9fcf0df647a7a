package gateway_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"

	"ssegateway/internal/bubble"
	"ssegateway/internal/frame"
	"ssegateway/internal/gateway"
	"ssegateway/internal/outbox"
	"ssegateway/internal/topics"
	"ssegateway/sse"
)

// named returns an event that takes at least 100 bytes of memory.
func named(name string, n int) frame.Frame {
	valid, err := sse.NewName(name)
	if err != nil {
		panic(err)
	}
	return frame.Event(sse.Event{Name: valid, Data: fmt.Sprintf("%04d%s", n, strings.Repeat("x", 60))})
}

// arrived returns the numbers of the named events that a client received.
func arrived(wire string) []string {
	numbers := []string{}
	for line := range strings.Lines(wire) {
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			numbers = append(numbers, strings.TrimLeft(data[:4], "0"))
		}
	}
	return numbers
}

func TestOverflow(t *testing.T) {
	for _, test := range []struct {
		name     string
		overflow outbox.Overflow
		names    string // of events 1, 2, …; the queue has room for five
		room     int    // how many bytes the client takes at first
		want     string // numbers of the events that arrive
		ends     []string
	}{
		{"disconnect", outbox.Disconnect, "aaaaaaaa", 0, "", []string{"error/slow_consumer"}},
		{"the oldest", outbox.DropOldest, "aaaaaaaa", 0, "4 5 6 7 8", nil},
		{"but not one on its way", outbox.DropOldest, "aaaaaaaa", 1, "1 5 6 7 8", nil},
		{"nor what was written", outbox.DropOldest, "aaaaaaaa", 81, "1 4 5 6 7 8", nil},
		{"the oldest of all names", outbox.DropOldest, "abcabcab", 0, "4 5 6 7 8", nil},
		{"the newest of one name", outbox.Latest, "aaaaaaaa", 0, "4 5 6 7 8", nil},
		{"the newest of one name, but one on its way", outbox.Latest, "aaaaaaaa", 1, "1 5 6 7 8", nil},
		{"the newest of each name", outbox.Latest, "abcababb", 0, "3 5 6 7 8", nil},
		{"the oldest where all names differ", outbox.Latest, "abcdefgh", 0, "4 5 6 7 8", nil},
		{"nothing", outbox.DropOldest, "aaaaa", 0, "1 2 3 4 5", nil},
		{"nothing of one name", outbox.Latest, "aaaaa", 0, "1 2 3 4 5", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			cost := int64(named("a", 1).Size() + 64)
			s := newSite(func(cfg *gateway.Config) { cfg.QueueBytes = 5 * cost })
			c, tp := s.grant(t, test.room, gateway.Grant{Overflow: test.overflow})
			var told []chan error
			sent := 0
			for i, name := range test.names {
				done := make(chan error, 2)
				if r := c.Send(named(string(name), i+1), false, done); r == gateway.Sent {
					told = append(told, done)
					sent++
				}
			}
			if n := s.gw.QueuedBytes(); n > 5*cost {
				t.Errorf("%d bytes are queued, the bound is %d", n, 5*cost)
			}
			drops := c.Info().Drops
			if test.ends == nil {
				tp.takes(plenty)
			}
			got := arrived(tp.written())
			if want := strings.Fields(test.want); !slices.Equal(got, want) {
				t.Errorf("arrived %q, want %q", got, want)
			}
			if test.ends == nil && drops != uint64(sent-len(got)) {
				t.Errorf("%d drops, want %d", drops, sent-len(got))
			}
			if n := s.gw.Stats().Dropped.Load(); n != uint64(sent-len(got)) {
				t.Errorf("%d events counted as dropped, want %d", n, sent-len(got))
			}
			for i, done := range told {
				err := <-done
				here := slices.Contains(got, strconv.Itoa(i+1))
				if here != (err == nil) || !here && errors.Is(err, gateway.ErrDropped) != (test.overflow != outbox.Disconnect) {
					t.Errorf("event %d: done got %v", i+1, err)
				}
				if len(done) > 0 {
					t.Errorf("event %d: done got two values", i+1)
				}
			}
			s.expectEnds(t, test.ends...)
			c.Abort(gateway.ClientClosed, 0)
			s.expectNothingLeft(t)
		})
	}
}

// A queue takes an event larger than its bound whatever the policy, after it has dropped all
// other events.
func TestOverflowOfOneLarge(t *testing.T) {
	for overflow, want := range map[outbox.Overflow]string{outbox.DropOldest: "3", outbox.Latest: "3"} {
		t.Run(overflow.String(), func(t *testing.T) {
			s := newSite(func(cfg *gateway.Config) { cfg.QueueBytes = 1000 })
			c, tp := s.grant(t, 0, gateway.Grant{Overflow: overflow})
			c.Send(named("a", 1), false, nil)
			c.Send(named("b", 2), false, nil)
			if r := c.Send(frame.Event(sse.Event{Data: "0003" + strings.Repeat("x", 5000)}), false, nil); r != gateway.Sent {
				t.Fatalf("sending a large event returned %d", r)
			}
			if drops := c.Info().Drops; drops != 2 {
				t.Errorf("%d drops, want 2", drops)
			}
			tp.takes(plenty)
			if got := strings.Join(arrived(tp.written()), " "); got != want {
				t.Errorf("arrived %q, want %q", got, want)
			}
		})
	}
}

// Events that were joined into one frame are dropped together, and each is counted.
func TestOverflowOfJoined(t *testing.T) {
	joined := func(names string, n int) frame.Frame {
		var frames []frame.Frame
		for i, name := range names {
			frames = append(frames, named(string(name), n+i))
		}
		return frame.Join(frames)
	}
	for _, test := range []struct {
		name     string
		overflow outbox.Overflow
		frames   []string // names; the queue has room for two of two events
		want     string
		drops    uint64
	}{
		{"the oldest", outbox.DropOldest, []string{"ab", "ab", "ab"}, "3 4 5 6", 2},
		{"all names newer", outbox.Latest, []string{"cd", "ab", "ab"}, "1 2 5 6", 2},
		{"one name newer", outbox.Latest, []string{"ab", "ac", "ad"}, "3 4 5 6", 2},
		{"a name twice", outbox.Latest, []string{"cd", "aa", "ab"}, "1 2 5 6", 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSite(func(cfg *gateway.Config) { cfg.QueueBytes = 2*int64(joined("aa", 1).Size()+64) + 10 })
			c, tp := s.grant(t, 0, gateway.Grant{Overflow: test.overflow})
			n := 1
			for _, names := range test.frames {
				c.Send(joined(names, n), false, nil)
				n += len(names)
			}
			if drops, counted := c.Info().Drops, s.gw.Stats().Dropped.Load(); drops != test.drops || counted != test.drops {
				t.Errorf("%d drops, %d events counted as dropped, want %d", drops, counted, test.drops)
			}
			tp.takes(plenty)
			if got := strings.Join(arrived(tp.written()), " "); got != test.want {
				t.Errorf("arrived %q, want %q", got, test.want)
			}
		})
	}
}

// The error of an event that was not written says whether the client left, or the gateway
// closed the connection.
func TestWhyNotWritten(t *testing.T) {
	for _, test := range []struct {
		reason gateway.Reason
		detail gateway.Detail
		left   bool
	}{
		{gateway.ClientClosed, 0, true},
		{gateway.Error, gateway.Stalled, false},
		{gateway.Error, gateway.SlowConsumer, false},
	} {
		for _, pending := range []bool{false, true} {
			s := newSite(nil)
			c := s.connect(t)
			if !pending {
				c.Open(&tape{conn: c}, frame.Frame{}, gateway.Grant{})
			}
			done := make(chan error, 1)
			c.Send(eventOf(t, 100), false, done)
			c.Abort(test.reason, test.detail)
			err := <-done
			if !errors.Is(err, gateway.ErrNotWritten) || errors.Is(err, gateway.ErrLeft) != test.left || errors.Is(err, gateway.ErrDropped) {
				t.Errorf("%v/%v, pending %v: done got %v", test.reason, test.detail, pending, err)
			}
		}
	}
}

// Events that a Pump is writing are neither dropped nor moved.
func TestOverflowWhilePumping(t *testing.T) {
	for _, overflow := range []outbox.Overflow{outbox.DropOldest, outbox.Latest} {
		t.Run(overflow.String(), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				cost := int64(named("a", 1).Size() + 64)
				s := newSite(func(cfg *gateway.Config) { cfg.QueueBytes = 5 * cost })
				c := s.connect(t)
				stream := &heldPump{conn: c, work: make(chan struct{}, 1), turn: make(chan struct{})}
				c.Send(named("a", 1), false, nil) // otherwise the stream would begin with a heartbeat
				if !c.Open(stream, frame.Frame{}, gateway.Grant{Overflow: overflow}) {
					t.Fatal("the connection did not open")
				}
				c.Send(named("a", 2), false, nil)
				c.Send(named("a", 3), false, nil)
				stream.start()
				synctest.Wait() // the pump is writing 1 to 3
				for n := 4; n <= 9; n++ {
					if r := c.Send(named("a", n), false, nil); r != gateway.Sent {
						t.Fatalf("send %d returned %d", n, r)
					}
				}
				close(stream.turn)
				synctest.Wait()
				want := map[outbox.Overflow]string{outbox.DropOldest: "1 2 3 8 9", outbox.Latest: "1 2 3 8 9"}[overflow]
				if got := strings.Join(arrived(stream.written()), " "); got != want {
					t.Errorf("arrived %q, want %q", got, want)
				}
				if drops := c.Info().Drops; drops != 4 {
					t.Errorf("%d drops, want 4", drops)
				}
				c.Abort(gateway.ClientClosed, 0)
				stream.over.Wait()
				s.expectNothingLeft(t)
			})
		})
	}
}

// heldPump is a stream that pumps as soon as it is started. Each of its writes waits for turn.
type heldPump struct {
	conn *gateway.Conn
	work chan struct{}
	turn chan struct{}
	over sync.WaitGroup
	mu   sync.Mutex
	wire []byte
}

func (s *heldPump) start() {
	s.over.Go(func() {
		for range s.work {
			if !s.conn.Pump(s, func(p []byte) gateway.Detail {
				<-s.turn
				s.mu.Lock()
				defer s.mu.Unlock()
				s.wire = append(s.wire, p...)
				return 0
			}) {
				return
			}
		}
	})
}

func (s *heldPump) written() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.wire)
}

func (s *heldPump) Start() gateway.Detail { return 0 }

func (s *heldPump) Write([]byte) (int, gateway.Detail) {
	wake(s.work)
	return 0, 0
}

func (s *heldPump) Left() (gateway.Reason, gateway.Detail) { return 0, 0 }

func (s *heldPump) Look(last uint64) (uint64, bool) { return last + 1, false }

func (s *heldPump) Close(bool) { close(s.work) }

func (s *heldPump) Chunked() bool { return false }

// Neither a stream's opening nor what a client missed is dropped: the client would not notice.
func TestOverflowKeepsReplay(t *testing.T) {
	for _, overflow := range []outbox.Overflow{outbox.DropOldest, outbox.Latest} {
		t.Run(overflow.String(), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				s := newSite(func(cfg *gateway.Config) { cfg.QueueBytes = 20000 })
				s.run(t)
				for n := range 150 {
					s.publish(t, fmt.Sprintf("%04d", n+1), true, "t")
				}
				_, tp := s.grant(t, 0, gateway.Grant{
					Topics: []string{"t"}, Overflow: overflow, Events: []sse.Event{{Data: "0999"}},
					Beginning: topics.Beginning{LastEventID: s.topics.Log().Epoch + "-0"},
				})
				_, gap := s.grant(t, 0, gateway.Grant{Topics: []string{"t"}, Overflow: overflow, Beginning: topics.Beginning{LastEventID: "other-1"}})
				tp.takes(10) // now the replay is in the queue
				tp.takes(200)
				synctest.Wait()
				for n := range 300 {
					s.publish(t, fmt.Sprintf("%04d%s", 1000+n, strings.Repeat("x", 300)), true, "t")
				}
				tp.takes(plenty)
				gap.takes(plenty)
				synctest.Wait()
				got := arrived(tp.written())
				want := []string{"999"}
				for n := range 150 {
					want = append(want, strconv.Itoa(n+1))
				}
				if len(got) < len(want) || !slices.Equal(got[:len(want)], want) {
					t.Errorf("arrived %q", got)
				}
				if got[len(got)-1] != "1299" || len(got) > len(want)+50 {
					t.Errorf("%d events arrived, the last is %s", len(got), got[len(got)-1])
				}
				if wire := gap.written(); !strings.HasPrefix(wire, "event: gap\nid: ") || !strings.Contains(wire, "\ndata: {\"last_event_id\":\"other-1\"}\n\nid: ") {
					t.Errorf("written %.200q", wire)
				}
			})
		})
	}
}

// With random sends and reads, only what the policy says is dropped, and the rest arrives in
// order.
func TestOverflowRandom(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		overflow := rapid.SampledFrom([]outbox.Overflow{outbox.DropOldest, outbox.Latest}).Draw(rt, "overflow")
		bound := rapid.Int64Range(100, 3000).Draw(rt, "bound")
		s := newSite(func(cfg *gateway.Config) { cfg.QueueBytes = bound })
		c, tp := s.grant(t, 0, gateway.Grant{Overflow: overflow})
		newest := map[string]int{}
		told := []chan error{nil}
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			if rapid.IntRange(0, 3).Draw(rt, "read") == 0 {
				tp.takes(rapid.IntRange(0, 300).Draw(rt, "room"))
				continue
			}
			name := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "name")
			done := make(chan error, 2)
			told = append(told, done)
			newest[name] = len(told) - 1
			if r := c.Send(named(name, len(told)-1), false, done); r != gateway.Sent {
				rt.Fatalf("Send returned %d", r)
			}
			if n := s.gw.QueuedBytes(); n > bound+400 { // one event that is being written, and one more
				rt.Errorf("%d bytes are queued, the bound is %d", n, bound)
			}
		}
		drops := c.Info().Drops
		tp.takes(plenty)
		got := arrived(tp.written())
		if drops != uint64(len(told)-1-len(got)) {
			rt.Errorf("%d drops, but %d of %d arrived", drops, len(got), len(told)-1)
		}
		last := 0
		for _, text := range got {
			n, _ := strconv.Atoi(text)
			if n <= last || <-told[n] != nil {
				rt.Errorf("%d arrived after %d, or although done got an error", n, last)
			}
			last = n
		}
		if last != len(told)-1 {
			rt.Errorf("the last event to arrive is %d, want %d", last, len(told)-1)
		}
		if overflow == outbox.Latest && bound > 1500 {
			for name, n := range newest {
				if !slices.Contains(got, strconv.Itoa(n)) {
					rt.Errorf("the newest %s, %d, did not arrive: %q", name, n, got)
				}
			}
		}
		c.Abort(gateway.ClientClosed, 0)
		for _, what := range s.gw.Leftovers() {
			rt.Errorf("left behind: %s", what)
		}
	})
}
