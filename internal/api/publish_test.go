package api

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"ssegateway/internal/connections"
	"ssegateway/internal/gateway"
	"ssegateway/internal/topics"
)

func publish(t testing.TB, a *API, body string) *httptest.ResponseRecorder {
	t.Helper()
	return do(t, a, http.MethodPost, "/internal/publish", body)
}

func TestPublish(t *testing.T) {
	a, gw := newAPI(t)
	both, one, none := &sink{}, &sink{}, &sink{}
	openWith(t, gw, both, gateway.Grant{Topics: []string{"a", "b"}})
	openWith(t, gw, one, gateway.Grant{Topics: []string{"b"}})
	openWith(t, gw, none, gateway.Grant{Subject: "a"})
	start := extentOf(a)
	at := func(offset uint64) string { return start.Epoch + "-" + strconv.FormatUint(offset, 10) }

	for _, c := range []struct{ body, want string }{
		{`{"topic":"a","event":{"name":"n","data":"1"}}`, `{"status":"ok","id":"` + at(1) + `","receivers":1}`},
		{`{"topics":["b","a","b"],"event":{"data":"2"}}`, `{"status":"ok","id":"` + at(2) + `","receivers":2}`},
		{`{"topics":["b"],"event":{"data":"3"},"store":false}`, `{"status":"ok","receivers":2}`},
		{`{"topic":"nobody","event":{"data":"4"},"store":true}`, `{"status":"ok","id":"` + at(3) + `","receivers":0}`},
		{`{"topic":"B","event":{"data":"5"}}`, `"receivers":0}`},
		{`{"topic":"b","event":{"data":"6","retry":7},"count":"all"}`, `"receivers":2}`},
		{`{"topic":"b","event":{"data":"7"},"count":"node"}`, `"receivers":2}`},
	} {
		want(t, publish(t, a, c.body), 200, c.want)
	}
	block := func(offset uint64, name, retry, data string) string {
		if name != "" {
			name = "event: " + name + "\n"
		}
		id := ""
		if offset > 0 {
			id = "id: " + at(offset) + "\n"
		}
		return name + id + retry + "data: " + data + "\n\n"
	}
	opening := "id: " + at(0) + "\n\n"
	tail := block(2, "", "", "2") + block(0, "", "", "3") + block(5, "", "retry: 7\n", "6") + block(6, "", "", "7")
	for s, want := range map[*sink]string{
		both: opening + block(1, "n", "", "1") + tail,
		one:  opening + tail,
		none: "",
	} {
		if got, _, _ := s.got(); got != want {
			t.Errorf("received %q, want %q", got, want)
		}
	}
}

func TestPublishInvalid(t *testing.T) {
	a, _ := newAPI(t)
	long := strings.Repeat("x", 257)
	for body, problem := range map[string]*Error{
		``:                errJSON,
		`[]`:              errJSON,
		`{"topic":"a"} x`: errJSON,
		`{"topic":"a","topic":"b","event":{"data":""}}`:    errJSON,
		`{"event":{"data":""}}`:                            errTopics,
		`{"topic":"a","topics":["b"],"event":{"data":""}}`: errTopics,
		`{"topic":1,"event":{"data":""}}`:                  errTopics,
		`{"topic":"","event":{"data":""}}`:                 errTopics,
		`{"topic":null,"event":{"data":""}}`:               errTopics,
		`{"topic":["a"],"event":{"data":""}}`:              errTopics,
		`{"topic":"a\n","event":{"data":""}}`:              errTopics,
		`{"topic":"` + long + `","event":{"data":""}}`:     errTopics,
		`{"Topic":"a","event":{"data":""}}`:                errTopics,
		`{"topics":[],"event":{"data":""}}`:                errTopics,
		`{"topics":"a","event":{"data":""}}`:               errTopics,
		`{"topics":["a",1],"event":{"data":""}}`:           errTopics,
		`{"topics":["a",""],"event":{"data":""}}`:          errTopics,
		`{"topics":null,"event":{"data":""}}`:              errTopics,
		`{"topics":["a",["b"]],"event":{"data":""}}`:       errTopics,
		`{"event":1}`:                                            errTopics, // in the order of the fields
		`{"topic":"a"}`:                                          errEventType,
		`{"topic":"a","event":null}`:                             errEventType,
		`{"topic":"a","event":[]}`:                               errEventType,
		`{"topic":"a","event":{}}`:                               errEventData,
		`{"topic":"a","event":{"data":1}}`:                       errEventData,
		`{"topic":"a","event":{"data":"","name":1}}`:             errEventNameType,
		`{"topic":"a","event":{"data":"","name":"\r"}}`:          errEventName,
		`{"topic":"a","event":{"data":"","id":"7"}}`:             errPublishedID,
		`{"topic":"a","event":{"data":"","id":7}}`:               errEventID,
		`{"topic":"a","event":{"data":"","retry":-1}}`:           errEventRetry,
		`{"topic":"a","event":{"data":"","retry":-1},"store":1}`: errEventRetry,
		`{"topic":"a","event":{"data":""},"store":"false"}`:      errStoreType,
		`{"topic":"a","event":{"data":""},"store":null}`:         errStoreType,
		`{"topic":"a","event":{"data":""},"count":"cluster"}`:    errCount,
		`{"topic":"a","event":{"data":""},"count":true}`:         errCount,
		`{"topic":"a","event":{"data":"` + long + long + `"}}`:   tooLarge("the body", 500),
		"{\"topic\":\"\xff\",\"event\":{\"data\":\"\"}}":         errJSON,
		`{"topic":"a","event":{"data":""},"x":"\ud800"}`:         errSurrogate,
		`{"topic":"a","event":{"data":"","data":""}}`:            errJSON,
		`{"topics":["a","b],"event":{"data":""}}`:                errJSON,
	} {
		want(t, publish(t, a, body), problem.Status, string(problem.body()))
	}
	want(t, do(t, a, http.MethodGet, "/internal/publish", ""), 405, "METHOD_NOT_ALLOWED")
	want(t, do(t, a, http.MethodPost, "/internal/publish", "topic=a", "Content-Type", "application/x-www-form-urlencoded"), 415, "UNSUPPORTED_MEDIA_TYPE")
	if log := extentOf(a); log.Last != 0 {
		t.Errorf("%d events were published all the same", log.Last)
	}
}

// What was published does not change when the memory of its request is used again.
func TestPublishKeepsNothingOfTheRequest(t *testing.T) {
	a, gw := newAPI(t)
	s := &sink{}
	openWith(t, gw, s, gateway.Grant{Topics: []string{"topic"}})
	position := extentOf(a).Epoch + "-0"
	for range 20 {
		want(t, publish(t, a, `{"topic":"topic","event":{"name":"first","data":"aaaa"}}`), 200, `"receivers":1`)
		want(t, publish(t, a, `{"topic":"other","event":{"name":"other","data":"bbbb"}}`), 200, `"receivers":0`)
	}
	replayed := &sink{}
	openWith(t, gw, replayed, gateway.Grant{Topics: []string{"topic"}, Beginning: topics.Beginning{LastEventID: position}})
	live, _, _ := s.got()
	if strings.Count(live, "event: first\n") != 20 || strings.Count(live, "data: aaaa\n") != 20 {
		t.Errorf("live %q", live)
	}
	replayed.await(t, "the replay", func(text string, _ int, _ bool) bool { return text == live })
}

func TestPublishForOneWhoLeft(t *testing.T) {
	a, _ := newAPI(t)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	// Who has gone needs no count; the event is on its way.
	_, problem := a.performPublish(ended, connections.Publication{Topics: []string{"a"}, Store: true})
	if problem != nil {
		t.Error(problem)
	}
	if extentOf(a).Last != 1 {
		t.Error("not published")
	}
}

func TestBatch(t *testing.T) {
	a, gw := newAPI(t)
	s, topical := &sink{}, &sink{}
	token, pending := open(t, gw, s), open(t, gw, nil)
	openWith(t, gw, topical, gateway.Grant{Topics: []string{"a"}})
	batch := func(operations ...string) *httptest.ResponseRecorder {
		return do(t, a, http.MethodPost, "/internal/batch", `{"operations":[`+strings.Join(operations, ",")+`]}`)
	}
	type result struct {
		Status    string `json:"status"`
		ID        string `json:"id"`
		Receivers int    `json:"receivers"`
		Error     struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	type results struct {
		Results []result `json:"results"`
	}

	want(t, batch(), 200, `{"results":[]}`)
	w := batch(
		`{"token":"`+token+`","event":{"data":"1"}}`,
		`{"topic":"a","event":{"data":"x"}}`,
		`{"token":"`+pending+`","event":{"data":"y"}}`,
		`{"token":"`+token+`","event":{"data":"2"},"wait":"written"}`,
	)
	got := answer[results](t, w).Results
	if w.Code != 200 || len(got) != 4 || got[0].Status != "ok" || got[1].ID == "" || got[1].Receivers != 1 || got[2].Status != "buffered" || got[3].Status != "written" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	w = batch(
		`1`, `null`, `{}`, `{"token":1}`, `{"token":"t","topic":"a"}`,
		`{"token":"`+token+`","event":{}}`,
		`{"topic":"a"}`,
		`{"token":"`+token+`","event":{"data":"3"},"close":true}`,
		`{"token":"`+token+`","event":{"data":"4"}}`,
	)
	codes := []string{
		"INVALID_OPERATION", "INVALID_OPERATION", "INVALID_TOPICS", "INVALID_TOKEN_MISSING", "TOKEN_NOT_FOUND",
		"INVALID_EVENT_DATA_MISSING", "INVALID_EVENT_TYPE", "", "TOKEN_NOT_FOUND",
	}
	got = answer[results](t, w).Results
	if w.Code != 200 || len(got) != len(codes) {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	for i, code := range codes {
		if got[i].Error.Code != code || (code == "") != (got[i].Status == "ok") {
			t.Errorf("result %d is %+v, want %s", i, got[i], code)
		}
	}
	if text, _, closed := s.got(); text != "data: 1\n\ndata: 2\n\ndata: 3\n\n" || !closed {
		t.Errorf("received %q, closed %v", text, closed)
	}
	for body, problem := range map[string]*Error{
		``: errJSON, `[]`: errJSON, `{"operations":[}`: errJSON, `{"operations":[{"a":1,"a":2}]}`: errJSON, `{"operations":[]}{}`: errJSON,
		`{}`: errOperations, `{"operations":{}}`: errOperations, `{"operations":null}`: errOperations, `{"Operations":[]}`: errOperations,
		`{"operations":["` + strings.Repeat("x", 500) + `"]}`: tooLarge("the body", 500),
	} {
		want(t, do(t, a, http.MethodPost, "/internal/batch", body), problem.Status, problem.Code)
	}
	a.maxBody = 1 << 20
	many := func(n int, operation string) string {
		return `{"operations":[` + strings.Repeat(operation+",", n-1) + operation + `]}`
	}
	want(t, do(t, a, http.MethodPost, "/internal/batch", many(maxOperations+1, `{"token":"t"}`)), 400, "TOO_MANY_OPERATIONS")
	w = do(t, a, http.MethodPost, "/internal/batch", many(maxOperations, "1"))
	if n := strings.Count(w.Body.String(), `"code":"INVALID_OPERATION"`); w.Code != 200 || n != maxOperations || w.Header().Get("Content-Length") != strconv.Itoa(w.Body.Len()) {
		t.Errorf("status %d, %d results, %s bytes", w.Code, n, w.Header().Get("Content-Length"))
	}
	want(t, do(t, a, http.MethodPut, "/internal/batch", `{}`), 405, "METHOD_NOT_ALLOWED")
	want(t, do(t, a, http.MethodPost, "/internal/batch", `{}`, "Content-Type", "text/plain"), 415, "UNSUPPORTED_MEDIA_TYPE")
	counted := sendCounts(a)
	if counted["ok"] != 2 || counted["written"] != 1 || counted["buffered"] != 1 || counted["not_found"] != 2 || counted["invalid"] != 2 {
		t.Errorf("counted %v", counted)
	}
}

// The position is that of the last stored event.
func TestPosition(t *testing.T) {
	a, _ := newAPI(t)
	want(t, do(t, a, http.MethodGet, "/internal/position", ""), 200, `{"position":"`+extentOf(a).Epoch+`-0"}`)
	publish(t, a, `{"topic":"a","event":{"data":""}}`)
	publish(t, a, `{"topic":"a","event":{"data":""},"store":false}`)
	want(t, do(t, a, http.MethodGet, "/internal/position", ""), 200, `{"position":"`+extentOf(a).Epoch+`-1"}`)
	want(t, do(t, a, http.MethodPost, "/internal/position", ""), 405, "METHOD_NOT_ALLOWED")
}
