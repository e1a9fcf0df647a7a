package contract

import (
	"net/http"
	"slices"
	"strings"
	"sync"
)

// repeating has the cases about idempotency keys.
var repeating = section{title: "4 repeats", cases: []contractCase{
	{name: "a repeat of a send does nothing, and gets the first answer with duplicate", run: func(t *T) {
		s := t.Shared()
		x := s.Open("/")
		once := object{"token": x.token, "event": object{"data": "1"}, "idempotency_key": "k"}
		s.WantStatusOK(s.SendObject(once), "ok")
		for range 3 {
			s.wantDuplicate(s.SendObject(once), object{"status": "ok"})
		}
		s.WantStatusOK(s.SendObject(object{"token": x.token, "event": object{"data": "2"}, "wait": "written", "idempotency_key": "w"}), "written")
		s.wantDuplicate(s.SendObject(object{"token": x.token, "event": object{"data": "2"}, "wait": "written", "idempotency_key": "w"}), object{"status": "written"})
		s.Event(x.token, "3")
		x.WantEvents("1", "2", "3")
	}},
	{name: "a repeat to a pending connection, and of a close", run: func(t *T) {
		s := t.Shared()
		x, accept := s.pending()
		buffered := object{"token": x.token, "event": object{"data": "1"}, "idempotency_key": "k"}
		s.WantStatusOK(s.SendObject(buffered), "buffered")
		s.wantDuplicate(s.SendObject(buffered), object{"status": "buffered"})
		accept()
		x.WantEvents("1")
		last := object{"token": x.token, "event": object{"data": "2"}, "close": true, "idempotency_key": "l"}
		s.WantStatusOK(s.SendObject(last), "ok")
		x.WantEvents("2")
		x.WantEnd()
		x.WantDisconnect("server_closed")
		s.wantDuplicate(s.SendObject(last), object{"status": "ok"})
		s.wantDuplicate(s.SendObject(buffered), object{"status": "buffered"})
		s.WantError(s.SendObject(object{"token": x.token, "idempotency_key": "new"}), http.StatusNotFound, "TOKEN_NOT_FOUND", "")
	}},
	{name: "the same key with another event or close: 422 IDEMPOTENCY_KEY_REUSED; a key belongs to its token", run: func(t *T) {
		s := t.Shared()
		x, y := s.Open("/"), s.Open("/")
		s.WantStatusOK(s.SendObject(object{"token": x.token, "event": object{"data": "1"}, "idempotency_key": "k"}), "ok")
		for _, other := range []object{
			{"event": object{"data": "2"}},
			{"event": object{"data": "1", "name": "n"}},
			{"event": object{"data": "1", "id": "1"}},
			{"event": object{"data": "1", "retry": 0}},
			{"event": object{"data": "1"}, "close": true},
			{},
		} {
			other["token"], other["idempotency_key"] = x.token, "k"
			s.WantError(s.SendObject(other), http.StatusUnprocessableEntity, "IDEMPOTENCY_KEY_REUSED", "")
		}
		s.WantStatusOK(s.SendObject(object{"token": y.token, "event": object{"data": "2"}, "idempotency_key": "k"}), "ok")
		s.Event(x.token, "3")
		x.WantEvents("1", "3")
		y.WantEvents("2")
	}},
	{name: "what was refused is not remembered: the repeat is tried", run: func(t *T) {
		s := t.Start("QUEUE_BYTES=4096")
		x, accept := s.pending()
		fill := object{"token": x.token, "event": object{"data": strings.Repeat("x", 3000)}}
		s.WantStatusOK(s.SendObject(fill), "buffered")
		fill["idempotency_key"] = "k"
		for range 2 {
			s.WantError(s.SendObject(fill), http.StatusServiceUnavailable, "BUFFER_FULL", "")
		}
		accept()
		// When the second is written the queue has let go of the first.
		s.WantStatusOK(s.SendObject(object{"token": x.token, "event": object{"data": "between"}, "wait": "written"}), "written")
		x.WantEvents(strings.Repeat("x", 3000), "between")
		s.WantStatusOK(s.SendObject(fill), "ok")
		s.wantDuplicate(s.SendObject(fill), object{"status": "ok"})
		s.Event(x.token, "last")
		x.WantEvents(strings.Repeat("x", 3000), "last")
	}},
	{name: "while the first is under way a repeat waits for it", run: func(t *T) {
		s := t.Shared()
		x, accept := s.pending()
		once := encode(object{"token": x.token, "event": object{"data": "1"}, "wait": "written", "idempotency_key": "k"})
		answers := make(chan string, 3)
		for range cap(answers) {
			go func() {
				got, err := s.call(http.MethodPost, sendPath, strings.NewReader(once), "Content-Type", "application/json")
				if err != nil {
					t.Error(err)
				}
				answers <- got.Body
			}()
		}
		accept()
		got := []string{<-answers, <-answers, <-answers}
		slices.Sort(got)
		if want := []string{`{"status":"written","duplicate":true}`, `{"status":"written","duplicate":true}`, `{"status":"written"}`}; !slices.Equal(got, want) {
			t.Errorf("answered %q, want %q", got, want)
		}
		s.Event(x.token, "last")
		x.WantEvents("1", "last")
	}},
	{name: "a repeat of a publish gets the same id and receivers", run: func(t *T) {
		s := t.Shared()
		topic, key := NewTopic(), NewTopic()
		x := s.OpenTopics(topic)
		once := object{"topic": topic, "event": object{"data": "1"}, "idempotency_key": key}
		id := s.Publish(once, 1)
		for range 2 {
			s.wantDuplicate(s.publishAgain(once), object{"status": "ok", "id": id, "receivers": 1.0})
		}
		once["event"] = object{"data": "other"}
		s.WantError(s.publishAgain(once), http.StatusUnprocessableEntity, "IDEMPOTENCY_KEY_REUSED", "")
		once = object{"topics": []string{topic}, "event": object{"data": "2"}, "idempotency_key": key + "u"}
		s.publishUnstored(once, 1)
		s.wantDuplicate(s.publishAgain(once), object{"status": "ok", "receivers": 1.0})
		s.Publish(object{"topic": topic, "event": object{"data": "3"}}, 1)
		x.WantEvents("1", "2", "3")
	}},
	{name: "repeats at once: one publish is carried out", run: func(t *T) {
		s := t.Shared()
		topic := NewTopic()
		x := s.OpenTopics(topic)
		once := encode(object{"topic": topic, "event": object{"data": "once"}, "idempotency_key": topic})
		var publishing sync.WaitGroup
		answers := make(chan string, 10)
		for range cap(answers) {
			publishing.Go(func() {
				answers <- s.Call(http.MethodPost, publishPath, once, "Content-Type", "application/json").Body
			})
		}
		publishing.Wait()
		close(answers)
		first := 0
		for answer := range answers {
			if !strings.Contains(answer, `"receivers":1`) {
				t.Error(answer)
			}
			if !strings.Contains(answer, `"duplicate":true`) {
				first++
			}
		}
		if first != 1 {
			t.Errorf("%d of them are no repeats", first)
		}
		s.Publish(object{"topic": topic, "event": object{"data": "last"}}, 1)
		x.WantEvents("once", "last")
	}},
	{name: "each operation of a batch has a key of its own", run: func(t *T) {
		s := t.Shared()
		topic := NewTopic()
		x := s.OpenTopics(topic)
		send := encode(object{"token": x.token, "event": object{"data": "1"}, "idempotency_key": "k"})
		publication := encode(object{"topic": topic, "event": object{"data": "2"}, "store": false, "idempotency_key": topic})
		batch := `{"operations":[` + send + `,` + publication + `,` + send + `]}`
		s.WantJSON(s.Batch(batch), http.StatusOK, object{"results": []any{
			object{"status": "ok"}, object{"status": "ok", "receivers": 1.0}, object{"status": "ok", "duplicate": true},
		}})
		s.WantJSON(s.Batch(batch), http.StatusOK, object{"results": []any{
			object{"status": "ok", "duplicate": true}, object{"status": "ok", "receivers": 1.0, "duplicate": true}, object{"status": "ok", "duplicate": true},
		}})
		s.Event(x.token, "3")
		x.WantEvents("1", "2", "3")
	}},
	{name: "a key is 1 to 128 visible ASCII characters: INVALID_IDEMPOTENCY_KEY", run: func(t *T) {
		s := t.Shared()
		x := s.Open("/")
		long := strings.Repeat("~", 128)
		s.WantStatusOK(s.SendObject(object{"token": x.token, "event": object{"data": "1"}, "idempotency_key": long}), "ok")
		for _, key := range []any{"", long + "~", "a b", "a\tb", "é", "\x7f", 1, true, nil, []string{"k"}} {
			s.WantError(s.SendObject(object{"token": x.token, "event": object{"data": "x"}, "idempotency_key": key}), http.StatusBadRequest, "INVALID_IDEMPOTENCY_KEY", "")
			s.WantError(s.publishAgain(object{"topic": "t", "event": object{"data": "x"}, "idempotency_key": key}), http.StatusBadRequest, "INVALID_IDEMPOTENCY_KEY", "")
		}
		x.WantEvents("1")
	}},
	{name: "repeats are counted", run: func(t *T) {
		s := t.Start()
		x := s.Open("/")
		for range 3 {
			s.SendObject(object{"token": x.token, "event": object{"data": "1"}, "idempotency_key": "k"})
			s.publishAgain(object{"topic": "t", "event": object{"data": "1"}, "idempotency_key": "k"})
		}
		s.wantMetrics(
			`ssegateway_sends_total{result="ok"} 1`,
			`ssegateway_sends_total{result="duplicate"} 2`,
			`ssegateway_publishes_total{result="ok"} 1`,
			`ssegateway_publishes_total{result="duplicate"} 2`,
			`ssegateway_idempotency_keys_forgotten_total{of="send"} 0`,
			`ssegateway_idempotency_keys_forgotten_total{of="publish"} 0`,
		)
	}},
}}

func (s *Site) publishAgain(body object) Reply {
	s.t.Helper()
	return s.Call(http.MethodPost, publishPath, encode(body), "Content-Type", "application/json")
}

// wantDuplicate checks that an answer is want, and that of a repeat.
func (s *Site) wantDuplicate(got Reply, want object) {
	s.t.Helper()
	want["duplicate"] = true
	s.WantJSON(got, http.StatusOK, want)
}
