package contract

import (
	"net/http"
	"strings"

	"ssegateway/e2e/harness"
	"ssegateway/sse"
)

// overflows has the cases about the policies that do not disconnect a slow client. For the other one see queues.
var overflows = section{title: "9 overflow policies", cases: []contractCase{
	{name: "drop_oldest: the events that have waited longest are dropped, and the drops are counted", run: func(t *T) {
		s := t.Start(smallQueue)
		x := s.openStoppedWith(`{"overflow":"drop_oldest"}`)
		sent := x.flood("tick", 0)
		// Far more than the bound, so that all of these cannot wait.
		for range 40 {
			x.tick("tick", sent)
			sent++
		}
		drops := s.Connection(x.token).Drops
		got := x.numbers(t)
		wantAscending(t, got)
		if len(got)+drops != sent {
			t.Errorf("%d of %d events arrived and %d drops were counted", len(got), sent, drops)
		}
		// 64 KiB hold fifteen events.
		for i := sent - 14; i < sent; i++ {
			if !contains(got, i) {
				t.Errorf("event %d of %d did not arrive, although no newer event needed its place", i, sent)
			}
		}
		if got[0] != 0 {
			t.Error("the first event, which was on its way, did not arrive")
		}
	}},
	{name: "latest: the newest of each name is kept", run: func(t *T) {
		s := t.Start(smallQueue)
		x := s.openStoppedWith(`{"overflow":"latest"}`)
		sent := x.flood("tick", 0)
		x.tick("once", sent) // no event of this name comes after it
		once := sent
		sent++
		for range 40 {
			x.tick("tick", sent)
			sent++
		}
		drops := s.Connection(x.token).Drops
		got := x.numbers(t)
		wantAscending(t, got)
		if len(got)+drops != sent {
			t.Errorf("%d of %d events arrived and %d drops were counted", len(got), sent, drops)
		}
		if !contains(got, once) {
			t.Error("the only event of its name was dropped, although events of another name were replaced by newer ones")
		}
		if got[len(got)-1] != sent-1 {
			t.Errorf("the last event that arrived is %d, want %d", got[len(got)-1], sent-1)
		}
	}},
	{name: "who waits for an event that is dropped is told so, and the stream goes on", run: func(t *T) {
		s := t.Start(smallQueue)
		x := s.openStoppedWith(`{"overflow":"drop_oldest"}`)
		sent := x.flood("tick", 0)
		sends := make(chan Reply, 1)
		go func() {
			got, err := s.call(http.MethodPost, sendPath, jsonBody(object{"token": x.token, "event": object{"data": "waited for"}, "wait": "written"}), "Content-Type", "application/json")
			if err != nil {
				got.Body = err.Error()
			}
			sends <- got
		}()
		r := s.stream(x.token, "", ndjson)
		r.write(`{"data":"streamed"}` + "\n")
		for told := false; !told; sent++ { // until both have reached the front of the queue
			x.tick("tick", sent)
			select {
			case got := <-sends:
				s.WantStatusOK(got, "dropped")
				told = true
			default:
			}
		}
		for range 40 {
			x.tick("tick", sent)
			sent++
		}
		r.write(`{"data":"streamed again"}` + "\n")
		r.close()
		x.Resume()
		s.WantJSON(r.answer(), http.StatusOK, object{"status": "ok", "events": float64(1), "dropped": float64(1)})
	}},
	{name: "drops are counted for each connection and in the metrics", run: func(t *T) {
		s := t.Start(smallQueue)
		x, neighbour := s.openStoppedWith(`{"overflow":"drop_oldest"}`), s.Open("/neighbour")
		x.flood("tick", 0)
		drops := s.Connection(x.token).Drops
		if n := s.Connection(neighbour.token).Drops; n != 0 {
			t.Errorf("%d drops of a connection that lost nothing", n)
		}
		if n := s.Stats().Dropped; n != drops {
			t.Errorf("the stats have %d drops, the connection has %d", n, drops)
		}
		got := s.Call(http.MethodGet, "/metrics", "")
		if want := "ssegateway_events_dropped_total " + itoa(drops) + "\n"; !strings.Contains(got.Body, want) {
			t.Errorf("the metrics lack %q:\n%.2000s", want, got.Body)
		}
	}},
}}

// smallQueue makes the bound of a queue small. A client that stops reading is disconnected
// after 10 s, and by then even a slow machine must have filled the queue.
const smallQueue = "QUEUE_BYTES=65536"

// openStoppedWith opens a stream whose client stops reading after the head. The backend
// answers its connect with this body.
func (s *Site) openStoppedWith(grant string) *Stream {
	s.t.Helper()
	return s.OpenWith(harness.Request{Target: "/stopped", ReceiveBuffer: 4 << 10, StopAfterHead: true}, granting(grant))
}

// tick sends a numbered event with that name. Its size is a sixteenth of the queue.
func (x *Stream) tick(name string, n int) {
	x.s.t.Helper()
	data := itoa(n) + " " + strings.Repeat("x", 4<<10)
	x.s.WantStatusOK(x.s.SendObject(object{"token": x.token, "event": object{"name": name, "data": data}}), "ok")
}

// flood sends numbered events until one is dropped, and returns the next number.
func (x *Stream) flood(name string, n int) int {
	x.s.t.Helper()
	for end := n + 1000; n < end; n++ {
		x.tick(name, n)
		if x.s.Connection(x.token).Drops > 0 {
			return n + 1
		}
	}
	x.s.t.Fatal("nothing was dropped")
	return n
}

// numbers ends the stream, lets the client read the rest, and returns the numbers of the
// events that arrived.
func (x *Stream) numbers(t *T) []int {
	t.Helper()
	x.s.CloseStream(x.token)
	x.Resume()
	text, end, err := x.Rest(patience)
	if end != harness.Clean {
		t.Fatalf("%v (%v), want the end of the stream", end, err)
	}
	var got []int
	for _, e := range decodeEvents(t, text) {
		number, _, _ := strings.Cut(e.Data, " ")
		got = append(got, atoi(t, number))
	}
	if len(got) == 0 {
		t.Fatal("no event arrived")
	}
	return got
}

// decodeEvents decodes a whole stream as a browser would.
func decodeEvents(t *T, text string) []sse.Event {
	t.Helper()
	d := sse.NewDecoder(strings.NewReader(text))
	var events []sse.Event
	for {
		e, err := d.Next()
		if err != nil {
			if d.Unfinished() {
				t.Errorf("the stream ends within an event: %v", err)
			}
			return events
		}
		events = append(events, e)
	}
}

func wantAscending(t *T, got []int) {
	t.Helper()
	for i := 1; i < len(got); i++ {
		if got[i] <= got[i-1] {
			t.Errorf("event %d came after event %d", got[i], got[i-1])
		}
	}
}
