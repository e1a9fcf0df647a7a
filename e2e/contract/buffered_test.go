package contract

import (
	"net/http"
	"strings"
	"time"

	"ssegateway/e2e/harness"
)

// pendingSends are the sends to a connection whose connect callback is not answered yet.
var pendingSends = section{title: "4 sends to a pending connection", core: true, cases: []contractCase{
	{name: "200 buffered, delivered first in, first out once the head is out", run: func(t *T) {
		s := t.Shared()
		x, accept := s.pending()
		var want strings.Builder
		for i := range 50 {
			s.WantStatusOK(s.SendObject(object{"token": x.token, "event": object{"name": "n", "data": itoa(i)}}), "buffered")
			want.WriteString("event: n\ndata: " + itoa(i) + "\n\n")
		}
		accept()
		x.Want(want.String())
		s.Event(x.token, "live")
		x.Want("data: live\n\n")
	}},
	{name: "what was buffered comes before any heartbeat", slow: true, run: func(t *T) {
		s := t.Start("HEARTBEAT_INTERVAL_SECONDS=1")
		x, accept := s.pending()
		s.WantStatusOK(s.SendObject(object{"token": x.token, "event": object{"data": "first"}}), "buffered")
		pause(2500 * time.Millisecond) // heartbeats would be due
		accept()
		x.Want("data: first\n\n: heartbeat\n\n")
	}},
	{name: "a buffered close ends the connection there, what was buffered behind it is dropped", run: func(t *T) {
		s := t.Shared()
		x, accept := s.pending()
		s.WantStatusOK(s.SendObject(object{"token": x.token, "event": object{"data": "one"}}), "buffered")
		s.WantStatusOK(s.SendObject(object{"token": x.token, "event": object{"data": "two"}, "close": true}), "buffered")
		s.WantStatusOK(s.SendObject(object{"token": x.token, "event": object{"data": "three"}}), "buffered")
		accept()
		x.Want("data: one\n\ndata: two\n\n")
		x.WantEnd()
		x.WantDisconnect("server_closed")
		s.wantGone(x.token)
	}},
	{name: "a buffered close alone: the head, then the end", run: func(t *T) {
		s := t.Shared()
		x, accept := s.pending()
		s.WantStatusOK(s.SendObject(object{"token": x.token, "close": true}), "buffered")
		accept()
		if head := x.WantHead(); head.Status != http.StatusOK {
			t.Errorf("status %d", head.Status)
		}
		x.WantEnd()
		x.WantDisconnect("server_closed")
	}},
	{name: "if the connect is refused all of it is dropped", run: func(t *T) {
		s := t.Shared()
		release := make(chan struct{})
		x := s.Begin(harness.Request{Target: "/"}, harness.Script{Connect: answerAfter(release, harness.Answer{Status: 403})})
		x.token = x.Connect().Token
		s.WantStatusOK(s.SendObject(object{"token": x.token, "event": object{"data": "secret"}}), "buffered")
		s.WantStatusOK(s.SendObject(object{"token": x.token, "close": true}), "buffered")
		close(release)
		got := x.Reply()
		s.WantError(got, http.StatusForbidden, "BACKEND_FORBIDDEN", "")
		s.wantGone(x.token)
		x.WantNoDisconnect()
	}},
	{name: "beyond the bound of 1 MiB: 503 BUFFER_FULL, nothing of that request kept, the connection unharmed", run: func(t *T) {
		s := t.Shared()
		x, accept := s.pending()
		first := strings.Repeat("a", 600<<10)
		s.WantStatusOK(s.SendObject(object{"token": x.token, "event": object{"data": first}}), "buffered")
		for _, body := range []object{
			{"token": x.token, "event": object{"data": strings.Repeat("b", 600<<10)}},
			{"token": x.token, "event": object{"data": strings.Repeat("c", 600<<10)}, "close": true},
		} {
			s.WantError(s.SendObject(body), http.StatusServiceUnavailable, "BUFFER_FULL", "")
		}
		s.WantStatusOK(s.SendObject(object{"token": x.token, "event": object{"data": "small"}}), "buffered")
		accept()
		x.Want("data: " + first + "\n\ndata: small\n\n")
		s.Event(x.token, "live")
		x.Want("data: live\n\n")
	}},
	{name: "validation is the same while pending", run: func(t *T) {
		s := t.Shared()
		x, accept := s.pending()
		s.WantError(s.SendObject(object{"token": x.token, "event": nil}), http.StatusBadRequest, "INVALID_EVENT_TYPE", eventMessage)
		s.WantError(s.SendObject(object{"token": x.token, "event": object{"data": "x", "name": "a\nb"}}), http.StatusBadRequest, "INVALID_EVENT_NAME", "")
		s.WantStatusOK(s.SendObject(object{"token": x.token, "event": object{"data": "right"}}), "buffered")
		accept()
		x.Want("data: right\n\n")
	}},
	{name: "a client that left while pending takes its buffer along", run: func(t *T) {
		s := t.Shared()
		x, accept := s.pending()
		s.WantStatusOK(s.SendObject(object{"token": x.token, "event": object{"data": "x"}}), "buffered")
		x.Leave()
		s.Barrier() // after it the gateway has seen the disconnect, too
		accept()
		x.WantDisconnect("client_closed")
		s.wantGone(x.token)
	}},
}}

// pending begins a stream whose connect callback waits for accept.
func (s *Site) pending() (x *Stream, accept func()) {
	s.t.Helper()
	release := make(chan struct{})
	x = s.Begin(harness.Request{Target: "/pending"}, harness.Script{Connect: acceptAfter(release)})
	x.token = x.Connect().Token
	return x, func() { close(release) }
}
