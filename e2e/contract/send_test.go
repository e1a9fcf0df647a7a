package contract

import (
	"net/http"
	"strings"
	"sync"
	"time"

	"ssegateway/e2e/harness"
)

const (
	tokenMessage = "token is required and must be a string"
	eventMessage = "event must be an object"
	dataMessage  = "event.data is required and must be a string"
	nameMessage  = "event.name must be a string"
	closeMessage = "close must be a boolean"
)

var sending = section{title: "4 backend to gateway", core: true, cases: []contractCase{
	{name: "token is required, a non-empty string: INVALID_TOKEN_MISSING", run: func(t *T) {
		t.Shared().wantInvalid("INVALID_TOKEN_MISSING", tokenMessage,
			`{}`, `{"token":null}`, `{"token":""}`, `{"token":1}`, `{"token":true}`, `{"token":["x"]}`, `{"token":{"a":"b"}}`,
			`{"event":{"data":"x"}}`, `{"close":true}`)
	}},
	{name: "event is an optional object, null is not one, nor is an array: INVALID_EVENT_TYPE", run: func(t *T) {
		t.Shared().wantInvalid("INVALID_EVENT_TYPE", eventMessage,
			`{"token":"T","event":null}`, `{"token":"T","event":[]}`, `{"token":"T","event":[{"data":"x"}]}`, `{"token":"T","event":"x"}`,
			`{"token":"T","event":""}`, `{"token":"T","event":0}`, `{"token":"T","event":false}`, `{"token":"T","event":true}`)
	}},
	{name: "event.data is required in event, a string: INVALID_EVENT_DATA_MISSING", run: func(t *T) {
		t.Shared().wantInvalid("INVALID_EVENT_DATA_MISSING", dataMessage,
			`{"token":"T","event":{}}`, `{"token":"T","event":{"name":"x"}}`, `{"token":"T","event":{"data":null}}`, `{"token":"T","event":{"data":1}}`,
			`{"token":"T","event":{"data":{"a":1}}}`, `{"token":"T","event":{"data":["x"]}}`, `{"token":"T","event":{"data":false}}`)
	}},
	{name: "event.name is an optional string: INVALID_EVENT_NAME_TYPE", run: func(t *T) {
		t.Shared().wantInvalid("INVALID_EVENT_NAME_TYPE", nameMessage,
			`{"token":"T","event":{"data":"x","name":1}}`, `{"token":"T","event":{"data":"x","name":null}}`,
			`{"token":"T","event":{"data":"x","name":["x"]}}`, `{"token":"T","event":{"data":"x","name":{}}}`, `{"token":"T","event":{"data":"x","name":false}}`)
	}},
	{name: "close is an optional boolean: INVALID_CLOSE_TYPE", run: func(t *T) {
		t.Shared().wantInvalid("INVALID_CLOSE_TYPE", closeMessage,
			`{"token":"T","close":"true"}`, `{"token":"T","close":1}`, `{"token":"T","close":0}`, `{"token":"T","close":null}`,
			`{"token":"T","close":{}}`, `{"token":"T","close":[]}`, `{"token":"T","event":{"data":"x"},"close":""}`)
	}},
	{name: "event.name is empty: as absent", run: func(t *T) {
		s := t.Shared()
		x := s.Open("/")
		s.WantStatusOK(s.SendObject(object{"token": x.token, "event": object{"name": "", "data": "x"}}), "ok")
		x.Want("data: x\n\n")
	}},
	{name: "validation is in the table's order", run: func(t *T) {
		s := t.Shared()
		s.wantInvalid("INVALID_TOKEN_MISSING", tokenMessage, `{"close":1,"event":1}`, `{"event":{"name":1},"token":1}`, `{"close":"x","token":""}`)
		s.wantInvalid("INVALID_EVENT_TYPE", eventMessage, `{"close":1,"event":[],"token":"T"}`)
		s.wantInvalid("INVALID_EVENT_DATA_MISSING", dataMessage, `{"close":1,"event":{"name":1},"token":"T"}`, `{"event":{"name":1,"data":2},"token":"T"}`)
		s.wantInvalid("INVALID_EVENT_NAME_TYPE", nameMessage, `{"close":1,"event":{"name":1,"data":""},"token":"T"}`)
	}},
	{name: "all validation comes before the token is looked up", run: func(t *T) {
		s := t.Shared()
		const unknown = "00000000-0000-4000-8000-000000000000"
		for _, body := range []string{
			`{"token":"` + unknown + `","event":null}`, `{"token":"` + unknown + `","event":{}}`,
			`{"token":"` + unknown + `","event":{"data":"x","name":1}}`, `{"token":"` + unknown + `","event":{"data":"x"},"close":1}`,
		} {
			s.WantError(s.Send(body), http.StatusBadRequest, "", "")
		}
	}},
	{name: "all validation comes before any effect", run: func(t *T) {
		s := t.Shared()
		x := s.Open("/")
		for _, body := range []string{
			`{"token":"T","event":{"data":"wrong"},"close":"yes"}`, `{"token":"T","close":true,"event":{"data":1}}`,
			`{"token":"T","event":{"data":"wrong"},"close":true} x`, `{"token":"T","event":{"data":"wrong","name":"a\nb"},"close":true}`,
		} {
			s.WantError(s.Send(strings.Replace(body, `"T"`, `"`+x.token+`"`, 1)), http.StatusBadRequest, "", "")
		}
		s.Event(x.token, "right")
		x.Want("data: right\n\n")
	}},
	{name: "unknown fields are ignored", run: func(t *T) {
		s := t.Shared()
		x := s.Open("/")
		s.WantStatusOK(s.Send(`{"x":[{"y":null}],"token":"`+x.token+`","event":{"data":"a","other":{"data":1},"":0},"Data":7,"tokens":1,"":{}}`), "ok")
		x.Want("data: a\n\n")
	}},
	{name: "a key in another case is an unknown field", run: func(t *T) {
		s := t.Shared()
		x := s.Open("/")
		s.wantInvalid("INVALID_TOKEN_MISSING", tokenMessage, `{"TOKEN":"T"}`, `{"Token":"T","event":{"data":"x"}}`)
		s.wantInvalid("INVALID_EVENT_DATA_MISSING", dataMessage, `{"token":"T","event":{"DATA":"x"}}`, `{"token":"T","event":{"Data":"x"}}`)
		s.WantStatusOK(s.Send(`{"TOKEN":1,"token":"`+x.token+`","EVENT":1,"Event":null,"event":{"NAME":1,"Name":"n","data":"a","DATA":2},"CLOSE":true,"Close":"x"}`), "ok")
		x.Want("data: a\n\n")
		s.Event(x.token, "still open")
		x.Want("data: still open\n\n")
	}},

	{name: "200 ok: the event is on its way", run: func(t *T) {
		s := t.Shared()
		x := s.Open("/")
		s.WantStatusOK(s.Send(`{"token":"`+x.token+`","event":{"name":"greeting","data":"hello"}}`), "ok")
		x.Want("event: greeting\ndata: hello\n\n")
	}},
	{name: "event and close together: the event first, then the close", run: func(t *T) {
		s := t.Shared()
		for range 5 {
			x := s.Open("/")
			s.WantStatusOK(s.Send(`{"token":"`+x.token+`","close":true,"event":{"data":"last"}}`), "ok")
			x.Want("data: last\n\n")
			x.WantEnd()
			x.Disconnect()
		}
	}},
	{name: "a close follows everything that was sent before it", run: func(t *T) {
		s := t.Shared()
		x := s.Open("/")
		var want strings.Builder
		for i := range 50 {
			s.Event(x.token, itoa(i))
			want.WriteString("data: " + itoa(i) + "\n\n")
		}
		s.CloseStream(x.token)
		x.Want(want.String())
		x.WantEnd()
	}},
	{name: "neither event nor close: 200 and nothing else happens", run: func(t *T) {
		s := t.Shared()
		x := s.Open("/")
		for _, body := range []string{`{"token":"T"}`, `{"token":"T","close":false}`} {
			s.WantStatusOK(s.Send(strings.Replace(body, "T", x.token, 1)), "ok")
		}
		s.Event(x.token, "first")
		x.Want("data: first\n\n")
		s.WantError(s.SendObject(object{"token": "no-such-token"}), http.StatusNotFound, "TOKEN_NOT_FOUND", "Token not found")
	}},
	{name: "close false keeps the connection", run: func(t *T) {
		s := t.Shared()
		x := s.Open("/")
		s.WantStatusOK(s.SendObject(object{"token": x.token, "event": object{"data": "a"}, "close": false}), "ok")
		s.Event(x.token, "b")
		x.Want("data: a\n\ndata: b\n\n")
	}},

	{name: "404 TOKEN_NOT_FOUND: no such connection", run: func(t *T) {
		s := t.Shared()
		x := s.Open("/")
		for _, token := range []string{
			"00000000-0000-4000-8000-000000000000", "x", "é", strings.Repeat("a", 10_000), "../" + x.token, x.token + " ", " " + x.token,
			strings.ToUpper(x.token), "{" + x.token + "}", "urn:uuid:" + x.token, strings.ReplaceAll(x.token, "-", ""), x.token + "\x00",
		} {
			if token == x.token {
				continue // a token without letters has no upper case
			}
			for _, body := range []object{{"token": token}, {"token": token, "event": object{"data": "x"}}, {"token": token, "close": true}} {
				s.WantError(s.SendObject(body), http.StatusNotFound, "TOKEN_NOT_FOUND", "Token not found")
			}
		}
	}},
	{name: "404 TOKEN_NOT_FOUND: already closed", run: func(t *T) {
		s := t.Shared()
		closed, left := s.Open("/"), s.Open("/")
		s.CloseStream(closed.token)
		s.wantGone(closed.token)
		left.Leave()
		left.Disconnect()
		s.wantGone(left.token)
		closed.Disconnect()
		s.wantGone(closed.token)
	}},
	{name: "404 TOKEN_NOT_FOUND: refused by the backend", run: func(t *T) {
		s := t.Shared()
		x := s.Begin(harness.Request{Target: "/"}, connectAnswer(403))
		x.Reply()
		s.wantGone(x.Connect().Token)
	}},
	{name: "two closes at once: one gets 200, the other 404", run: func(t *T) {
		s := t.Shared()
		for range 10 {
			x := s.Open("/")
			replies := make(chan Reply, 2)
			var wg sync.WaitGroup
			for range 2 {
				wg.Go(func() {
					got, err := s.call(http.MethodPost, sendPath, jsonBody(object{"token": x.token, "close": true}), "Content-Type", "application/json")
					if err != nil {
						got.Body = err.Error()
					}
					replies <- got
				})
			}
			wg.Wait()
			a, b := <-replies, <-replies
			if a.Status > b.Status {
				a, b = b, a
			}
			s.WantStatusOK(a, "ok")
			s.WantError(b, http.StatusNotFound, "TOKEN_NOT_FOUND", "Token not found")
			x.WantEnd()
		}
	}},
	{name: "a close answers at once: a hung backend does not delay it", run: func(t *T) {
		s := t.Start()
		s.wantExit = -1
		fastest := patience
		for range 20 {
			x := s.OpenWith(harness.Request{Target: "/"}, harness.Script{Disconnect: hang})
			took := timed(func() { s.CloseStream(x.token) })
			fastest = min(fastest, took)
			x.WantEnd()
			// The callback hangs for 5 s.
			if took > 2500*time.Millisecond {
				t.Errorf("a close took %v", took)
			}
		}
		if fastest > 50*time.Millisecond {
			t.Errorf("the fastest of 20 closes took %v", fastest)
		}
	}},
	{name: "a send that was answered before another one was made arrives before it", run: func(t *T) {
		s := t.Shared()
		x := s.Open("/")
		var want strings.Builder
		clients := []*http.Client{s.endpoint.Client(), s.endpoint.Client(), s.endpoint.Client()}
		for i := range 150 {
			client := clients[i%len(clients)] // three HTTP connections take turns
			got, err := call(t, client, s.endpoint, http.MethodPost, sendPath,
				jsonBody(object{"token": x.token, "event": object{"data": itoa(i)}}), "Content-Type", "application/json")
			if err != nil {
				t.Fatal(err)
			}
			s.WantStatusOK(got, "ok")
			want.WriteString("data: " + itoa(i) + "\n\n")
		}
		x.Want(want.String())
		for _, c := range clients {
			c.CloseIdleConnections()
		}
	}},
	{name: "errors leave the connection unharmed", run: func(t *T) {
		s := t.Shared()
		x := s.Open("/")
		for _, body := range []string{`{`, ``, `[]`, `{"token":"T","event":null}`} {
			s.WantError(s.Send(strings.Replace(body, "T", x.token, 1)), http.StatusBadRequest, "", "")
		}
		s.Event(x.token, "fine")
		x.Want("data: fine\n\n")
	}},
}}

// wantInvalid sends bodies that must all be refused for that reason. The token "T" stands for
// an existing one.
func (s *Site) wantInvalid(code, message string, bodies ...string) {
	s.t.Helper()
	x := s.Open("/")
	for _, body := range bodies {
		got := s.Send(strings.Replace(body, `"T"`, `"`+x.token+`"`, 1))
		if problem := got.notError(http.StatusBadRequest, code, message); problem != "" {
			s.t.Errorf("%s: %s", body, problem)
		}
	}
	s.Event(x.token, "unharmed")
	x.Want("data: unharmed\n\n")
}

// wantGone checks that every operation on a token is answered TOKEN_NOT_FOUND.
func (s *Site) wantGone(token string) {
	s.t.Helper()
	for _, body := range []object{{"token": token}, {"token": token, "event": object{"data": "x"}}, {"token": token, "close": true}} {
		s.WantError(s.SendObject(body), http.StatusNotFound, "TOKEN_NOT_FOUND", "Token not found")
	}
}
