package contract

import (
	"net/http"
	"strings"
	"time"

	"ssegateway/e2e/harness"
)

var events = section{title: "4 also in the event", cases: []contractCase{
	{name: "event.id becomes id, event.retry becomes retry; field order event, id, retry, data", run: func(t *T) {
		s := t.Shared()
		x := s.Open("/")
		for _, c := range []struct {
			event object
			want  string
		}{
			{object{"data": "x", "id": "42"}, "id: 42\ndata: x\n\n"},
			{object{"data": "x", "retry": 5000}, "retry: 5000\ndata: x\n\n"},
			{object{"data": "x\ny", "retry": 0, "id": "a b:c é", "name": "n"}, "event: n\nid: a b:c é\nretry: 0\ndata: x\ndata: y\n\n"},
			{object{"data": "", "id": "1", "name": ""}, "id: 1\ndata: \n\n"},
			{object{"data": "x", "id": ""}, "data: x\n\n"},
			{object{"data": "x", "id": strings.Repeat("i", 128)}, "id: " + strings.Repeat("i", 128) + "\ndata: x\n\n"},
			{object{"data": "x", "id": strings.Repeat("é", 64)}, "id: " + strings.Repeat("é", 64) + "\ndata: x\n\n"},
			{object{"data": "x", "retry": 86_400_000}, "retry: 86400000\ndata: x\n\n"},
		} {
			s.WantStatusOK(s.SendObject(object{"token": x.token, "event": c.event}), "ok")
			x.Want(c.want)
		}
	}},
	{name: "event.id: a string without control characters and outer blanks, at most 128 bytes: INVALID_EVENT_ID", run: func(t *T) {
		t.Shared().wantInvalid("INVALID_EVENT_ID", "",
			`{"token":"T","event":{"data":"x","id":1}}`, `{"token":"T","event":{"data":"x","id":null}}`, `{"token":"T","event":{"data":"x","id":["a"]}}`,
			`{"token":"T","event":{"data":"x","id":{}}}`, `{"token":"T","event":{"data":"x","id":true}}`,
			`{"token":"T","event":{"data":"x","id":"a\nb"}}`, `{"token":"T","event":{"data":"x","id":"a\rb"}}`, `{"token":"T","event":{"data":"x","id":"a\u0000b"}}`,
			`{"token":"T","event":{"data":"x","id":"a\fb"}}`, `{"token":"T","event":{"data":"x","id":"a\tb"}}`, `{"token":"T","event":{"data":"x","id":"\u0001"}}`,
			`{"token":"T","event":{"data":"x","id":"a\u007f"}}`, `{"token":"T","event":{"data":"x","id":"\u0085"}}`,
			`{"token":"T","event":{"data":"x","id":" a"}}`, `{"token":"T","event":{"data":"x","id":"a "}}`, `{"token":"T","event":{"data":"x","id":" "}}`,
			`{"token":"T","event":{"data":"x","id":"\n"}}`, `{"token":"T","event":{"data":"x","id":"1\n\ndata: forged"}}`,
			`{"token":"T","event":{"data":"x","id":"`+strings.Repeat("i", 129)+`"}}`, `{"token":"T","event":{"data":"x","id":"`+strings.Repeat("é", 65)+`"}}`)
	}},
	{name: "event.retry: whole milliseconds: INVALID_EVENT_RETRY", run: func(t *T) {
		t.Shared().wantInvalid("INVALID_EVENT_RETRY", "",
			`{"token":"T","event":{"data":"x","retry":-1}}`, `{"token":"T","event":{"data":"x","retry":1.5}}`, `{"token":"T","event":{"data":"x","retry":"5000"}}`,
			`{"token":"T","event":{"data":"x","retry":null}}`, `{"token":"T","event":{"data":"x","retry":true}}`, `{"token":"T","event":{"data":"x","retry":[]}}`,
			`{"token":"T","event":{"data":"x","retry":{}}}`, `{"token":"T","event":{"data":"x","retry":1e30}}`, `{"token":"T","event":{"data":"x","retry":99999999999999999999999}}`, `{"token":"T","event":{"data":"x","retry":9007199254740992}}`,
			`{"token":"T","event":{"data":"x","retry":""}}`)
	}},
	{name: "id and retry are buffered with a pending connection's event", run: func(t *T) {
		s := t.Shared()
		x, accept := s.pending()
		s.WantStatusOK(s.SendObject(object{"token": x.token, "event": object{"data": "x", "id": "7", "retry": 10}}), "buffered")
		accept()
		x.Want("id: 7\nretry: 10\ndata: x\n\n")
	}},

	{name: "wait written: the answer comes when the bytes were handed to the client's socket", run: func(t *T) {
		s := t.Shared()
		x := s.Open("/")
		for i := range 10 {
			s.WantStatusOK(s.SendObject(object{"token": x.token, "event": object{"data": itoa(i)}, "wait": "written"}), "written")
			x.Want("data: " + itoa(i) + "\n\n")
		}
		large := strings.Repeat("x", 500<<10)
		s.WantStatusOK(s.SendObject(object{"token": x.token, "event": object{"data": large}, "wait": "written", "close": true}), "written")
		x.Want("data: " + large + "\n\n")
		x.WantEnd()
	}},
	{name: "wait written for a pending connection: the answer comes once it is open and written", run: func(t *T) {
		s := t.Shared()
		x, accept := s.pending()
		replies := make(chan Reply, 1)
		go func() {
			got, err := s.call(http.MethodPost, sendPath, jsonBody(object{"token": x.token, "event": object{"data": "x"}, "wait": "written"}), "Content-Type", "application/json")
			if err != nil {
				got.Body = err.Error()
			}
			replies <- got
		}()
		s.Barrier()
		select {
		case got := <-replies:
			t.Errorf("answered while pending: %d %s", got.Status, got.Body)
			accept()
		default:
			accept()
			s.WantStatusOK(<-replies, "written")
		}
		x.Want("data: x\n\n")
	}},
	{name: "wait written where the client takes nothing: 500 or 504", slow: true, run: func(t *T) {
		s := t.Start()
		x := s.openStopped()
		got := s.SendObject(object{"token": x.token, "event": object{"data": oversized}, "wait": "written"})
		if got.Status != http.StatusInternalServerError && got.Status != http.StatusGatewayTimeout {
			t.Errorf("status %d with %s", got.Status, got.Body)
		}
		s.WantError(got, got.Status, "", "")
	}},
	{name: "wait written where the client leaves meanwhile: 404 TOKEN_NOT_FOUND", run: func(t *T) {
		s := t.Start()
		x := s.openStopped()
		before := x.Received()
		x.Take(1000)
		replies := make(chan Reply, 1)
		go func() {
			got, err := s.call(http.MethodPost, sendPath, jsonBody(object{"token": x.token, "event": object{"data": oversized}, "wait": "written"}), "Content-Type", "application/json")
			if err != nil {
				got.Body = err.Error()
			}
			replies <- got
		}()
		if err := x.AwaitReceived(before, patience); err != nil { // the first bytes of the event
			t.Fatal(err)
		}
		x.HangUp()
		left := time.Now()
		s.WantError(<-replies, http.StatusNotFound, "TOKEN_NOT_FOUND", "")
		if took := time.Since(left); took > 5*time.Second {
			t.Errorf("the answer came %v after the client had left", took)
		}
	}},
	{name: "wait that is not written: 400 INVALID_WAIT", run: func(t *T) {
		t.Shared().wantInvalid("INVALID_WAIT", "",
			`{"token":"T","event":{"data":"x"},"wait":"sent"}`, `{"token":"T","event":{"data":"x"},"wait":""}`, `{"token":"T","event":{"data":"x"},"wait":"Written"}`,
			`{"token":"T","event":{"data":"x"},"wait":true}`, `{"token":"T","event":{"data":"x"},"wait":null}`, `{"token":"T","event":{"data":"x"},"wait":1}`,
			`{"token":"T","event":{"data":"x"},"wait":["written"]}`, `{"token":"T","event":{"data":"x"},"close":true,"wait":"x"}`)
	}},
}}

// oversized is the data of an event of 3.5 MB: more than a socket takes at once, more than a
// queue's bound, but in a body within the limit.
var oversized = strings.Repeat("\n", 500_000)

// oversizedWire is the event with that data on the wire.
var oversizedWire = strings.Repeat("data: \n", 500_001) + "\n"

// openStopped opens a stream whose client stops reading after the head.
func (s *Site) openStopped() *Stream {
	s.t.Helper()
	return s.OpenWith(harness.Request{Target: "/stopped", ReceiveBuffer: 4 << 10, StopAfterHead: true}, harness.Script{})
}
