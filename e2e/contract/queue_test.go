package contract

import (
	"net/http"
	"strings"
	"time"

	"ssegateway/e2e/harness"
)

// stallLimit is how long a client may read nothing while bytes wait for it.
const stallLimit = 10 * time.Second

var queues = section{title: "9 slow clients", cases: []contractCase{
	{name: "beyond the queue's bound: error, slow_consumer; never a 404 for a full queue", run: func(t *T) {
		s := t.Start()
		x, neighbour := s.openStopped(), s.Open("/neighbour")
		data := strings.Repeat("x", 64<<10)
		var got Reply
		sent := 0
		for ; sent < 1000; sent++ {
			if got = s.SendObject(object{"token": x.token, "event": object{"data": data}}); got.Status != http.StatusOK {
				break
			}
			s.WantStatusOK(got, "ok")
		}
		s.WantError(got, http.StatusInternalServerError, "WRITE_FAILED", "")
		s.wantGone(x.token)
		if c := x.WantDisconnect("error"); c.Detail != "slow_consumer" {
			t.Errorf("detail %q", c.Detail)
		}
		if sent < 15 {
			t.Errorf("cut after %d events of 64 KiB and a little, although 1 MiB may wait", sent)
		}
		s.Event(neighbour.token, "unharmed")
		neighbour.Want("data: unharmed\n\n")
		x.Resume()
		x.wantCutAfterPrefix(strings.Repeat("data: "+data+"\n\n", sent))
	}},
	{name: "a queue of the bound is not cut: what waited arrives in order", run: func(t *T) {
		s := t.Start()
		x := s.openStopped()
		data := strings.Repeat("y", 100<<10)
		var want strings.Builder
		for i := range 10 {
			s.Event(x.token, itoa(i)+data)
			want.WriteString("data: " + itoa(i) + data + "\n\n")
		}
		x.Resume()
		x.Want(want.String())
		s.CloseStream(x.token)
		x.WantEnd()
	}},
	{name: "one event larger than the bound is taken by an empty queue", run: func(t *T) {
		s := t.Start()
		x := s.Open("/")
		// It waits until the event is written, so that the queue is empty before the next event.
		s.WantStatusOK(s.SendObject(object{"token": x.token, "event": object{"data": oversized}, "wait": "written"}), "written")
		x.Want(oversizedWire)
		s.Event(x.token, "after")
		x.Want("data: after\n\n")
	}},
	{name: "a close waits for what is queued", run: func(t *T) {
		s := t.Start()
		x := s.openStopped()
		s.WantStatusOK(s.SendObject(object{"token": x.token, "event": object{"data": oversized}, "close": true}), "ok")
		s.wantGone(x.token)
		x.Resume()
		x.Want(oversizedWire)
		x.WantEnd()
		x.WantDisconnect("server_closed")
	}},
	{name: "a client that takes not one byte for 10 s while bytes wait is gone: error, stalled", slow: true, run: func(t *T) {
		s := t.Start()
		x, idle := s.openStopped(), s.openStopped()
		sent := time.Now()
		s.Event(x.token, oversized)
		c := x.WantDisconnect("error")
		if took := c.At.Sub(sent); c.Detail != "stalled" || took < stallLimit-slack || took > stallLimit+4*time.Second {
			t.Errorf("detail %q after %v, want stalled after 10 s", c.Detail, took)
		}
		x.Resume()
		x.wantCutAfterPrefix(oversizedWire)
		// No bytes waited for this client.
		s.Event(idle.token, "still here")
		idle.Resume()
		idle.Want("data: still here\n\n")
	}},
	{name: "progress starts the 10 s anew", slow: true, run: func(t *T) {
		s := t.Start()
		x := s.openStopped()
		s.Event(x.token, oversized)
		pause(6 * time.Second)
		progress := time.Now()
		x.Take(1 << 20)
		c := x.WantDisconnect("error")
		if took := c.At.Sub(progress); c.Detail != "stalled" || took < stallLimit-slack || took > stallLimit+4*time.Second {
			t.Errorf("detail %q, %v after the last progress, want stalled after 10 s", c.Detail, took)
		}
	}},
	{name: "a close that the client does not take ends as stalled would: within 10 s", slow: true, run: func(t *T) {
		s := t.Start()
		x := s.openStopped()
		sent := time.Now()
		s.WantStatusOK(s.SendObject(object{"token": x.token, "event": object{"data": oversized}, "close": true}), "ok")
		c := x.Disconnect()
		if took := c.At.Sub(sent); took > stallLimit+4*time.Second {
			t.Errorf("the disconnect (%s, %s) came %v after the close", c.Reason, c.Detail, took)
		}
		s.Barrier()
		if calls := x.callbacks("disconnect", 1); len(calls) != 1 {
			t.Errorf("%d disconnects", len(calls))
		}
	}},
	{name: "all queues together have a budget: beyond it connections are cut with error, slow_consumer", run: func(t *T) {
		s := t.Start("QUEUE_BUDGET_BYTES=2097152")
		neighbour := s.Open("/neighbour")
		var stopped []*Stream
		for range 6 {
			stopped = append(stopped, s.openStopped())
		}
		for _, x := range stopped {
			if got := s.SendObject(object{"token": x.token, "event": object{"data": oversized}}); got.Status != http.StatusOK {
				s.WantError(got, http.StatusInternalServerError, "WRITE_FAILED", "")
			}
		}
		calls, err := s.backend.Await(patience, 5, func(c *harness.Callback) bool { return c.Action == "disconnect" })
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range calls {
			if c.Reason != "error" || c.Detail != "slow_consumer" {
				t.Errorf("disconnect %s, %s", c.Reason, c.Detail)
			}
		}
		s.Event(neighbour.token, "unharmed")
		neighbour.Want("data: unharmed\n\n")
	}},
	{name: "an event that waits for many counts once in the budget", run: func(t *T) {
		s := t.Start("QUEUE_BUDGET_BYTES=2097152")
		topic, data := NewTopic(), strings.Repeat("x", 700<<10)
		var stopped []*Stream
		for range 6 {
			stopped = append(stopped, s.openStoppedWith(encode(object{"topics": []string{topic}})))
		}
		s.Publish(object{"topic": topic, "event": object{"data": data}}, len(stopped))
		if n := s.Stats().Queued; n < len(data) || n > len(data)*3/2 {
			t.Errorf("%d bytes wait", n)
		}
		for _, x := range stopped {
			x.Resume()
		}
		for _, x := range stopped {
			x.WantEvents(data)
		}
	}},
}}

// wantCutAfterPrefix checks that the stream is cut, not ended cleanly, and has only the
// beginning of what was sent.
func (x *Stream) wantCutAfterPrefix(sent string) {
	x.s.t.Helper()
	got, end, err := x.Rest(patience)
	if end != harness.Cut {
		x.s.t.Errorf("%v (%v), want a cut", end, err)
	}
	if !strings.HasPrefix(sent, got) {
		x.s.t.Errorf("%s is not how %s begins", quoted(got), quoted(sent))
	}
}
