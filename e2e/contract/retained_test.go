package contract

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/google/go-cmp/cmp"

	"ssegateway/e2e/harness"
)

const retainedPath = "/internal/retained"

// retaining has the cases about retained events and rewind.
var retaining = section{title: "13 retained", cases: []contractCase{
	{name: "a client without an id: retry, events, what its topics retain and the newest of each with rewind, the id, what was stored since, buffered, live", run: func(t *T) {
		s := t.Shared()
		a, b, other := NewTopic(), NewTopic(), NewTopic()
		retained := s.retain("1", "", a)
		s.Publish(object{"topic": a, "event": object{"data": "too old"}}, 0)
		both := s.retain("2", "k", other, b, a)
		s.retain("of another", "", other)
		newest := s.Publish(object{"topic": a, "event": object{"name": "n", "data": "3"}}, 0)
		s.publishUnstored(object{"topic": a, "event": object{"data": "not stored"}}, 0)
		var since string
		x := s.OpenWith(harness.Request{Target: "/"}, harness.Script{Connect: func(c *harness.Callback) harness.Answer {
			s.WantStatusOK(s.SendObject(object{"token": c.Token, "event": object{"data": "buffered"}}), "buffered")
			since = s.retain("since", "k", a)
			return harness.Answer{Body: encode(object{"topics": []string{b, a}, "retry_ms": 7, "rewind": 1, "events": []object{{"data": "state"}}})}
		}})
		x.Want("retry: 7\n\ndata: state\n\n" +
			"id: " + retained + "\ndata: 1\n\nid: " + both + "\ndata: 2\n\nevent: n\nid: " + newest + "\ndata: 3\n\n" +
			"id: " + x.asked() + "\n\nid: " + since + "\ndata: since\n\ndata: buffered\n\n")
		live := s.Publish(object{"topic": b, "event": object{"data": "live"}}, 1)
		x.Want("id: " + live + "\ndata: live\n\n")
	}},
	{name: "where nothing else comes first the head is followed by what is retained; where nothing is retained the id is first, as ever", run: func(t *T) {
		s := t.Shared()
		topic := NewTopic()
		x := s.OpenWith(harness.Request{Target: "/"}, granting(encode(object{"topics": []string{topic}, "rewind": 5})))
		x.Want("id: " + x.asked() + "\n\n")
		id := s.retain("x", "", topic)
		x.Want("id: " + id + "\ndata: x\n\n")
		x = s.OpenTopics(topic)
		x.Want("id: " + id + "\ndata: x\n\nid: " + x.asked() + "\n\n")
	}},
	{name: "the last of each topic and key is retained, beyond the bounds of the log", run: func(t *T) {
		s := t.Start("TOPIC_LOG_BYTES=65536")
		topic := NewTopic()
		s.retain("old", "", topic)
		s.retain("old of k", "k", topic)
		k := s.retain("new of k", "k", topic)
		none := s.retain("new", "", topic)
		for range 3 {
			s.Publish(object{"topic": topic, "event": object{"data": strings.Repeat("x", 40_000)}}, 0)
		}
		x := s.OpenTopics(topic)
		x.Want("id: " + k + "\ndata: new of k\n\nid: " + none + "\ndata: new\n\nid: " + x.asked() + "\n\n")
		x.Leave()
		x.Disconnect()
		// One that was cut among them comes back with an id from which on the log has nothing any more.
		x = s.ComeBack(k, topic)
		x.Want("event: gap\ndata: {\"last_event_id\":\"" + k + "\"}\n\nid: " + k + "\ndata: new of k\n\nid: " + none + "\ndata: new\n\n")
		if last := s.Position(); !strings.HasPrefix(x.wantPosition(), strings.Split(last, "-")[0]) {
			t.Error("the stream goes on at no position of the log")
		}
	}},
	{name: "a client that is cut among them gets the others when it comes back", run: func(t *T) {
		s := t.Shared()
		topic := NewTopic()
		first, second := s.retain("1", "a", topic), s.retain("2", "b", topic)
		s.ComeBack(first, topic).Want("id: " + first + "\n\nid: " + second + "\ndata: 2\n\n")
	}},
	{name: "a position, of the client or the backend, brings neither; now brings both", run: func(t *T) {
		s := t.Shared()
		topic := NewTopic()
		id := s.retain("x", "", topic)
		last := s.Publish(object{"topic": topic, "event": object{"data": "y"}}, 0)
		answer := object{"topics": []string{topic}, "rewind": 1}
		s.OpenWith(comingBack(last), granting(encode(answer))).Want("id: " + last + "\n\n")
		answer["position"] = last
		s.OpenWith(harness.Request{Target: "/"}, granting(encode(answer))).Want("id: " + last + "\n\n")
		answer["position"] = "now"
		x := s.OpenWith(harness.Request{Target: "/"}, granting(encode(answer)))
		x.Want("id: " + id + "\ndata: x\n\nid: " + last + "\ndata: y\n\n")
		x.wantPosition()
	}},
	{name: "a gap brings them, and has no id then", run: func(t *T) {
		s := t.Shared()
		topic := NewTopic()
		id := s.retain("x", "", topic)
		answer := object{"topics": []string{topic}, "retry_ms": 9, "events": []object{{"data": "state"}}}
		want := "event: gap\ndata: {\"last_event_id\":\"ABCDEFGHIJ-1\"}\n\nretry: 9\n\ndata: state\n\nid: " + id + "\ndata: x\n\n"
		x := s.OpenWith(comingBack("ABCDEFGHIJ-1"), granting(encode(answer)))
		x.Want(want + "id: " + x.asked() + "\n\n")
		answer["position"] = "ABCDEFGHIJ-1"
		x = s.OpenWith(harness.Request{Target: "/"}, granting(encode(answer)))
		x.Want(want + "id: " + x.asked() + "\n\n")
	}},
	{name: "rewind: the newest n stored events of each topic, in one order and each once", run: func(t *T) {
		s := t.Shared()
		a, b := NewTopic(), NewTopic()
		for i := range 5 {
			s.Publish(object{"topic": a, "event": object{"data": "a" + itoa(i)}}, 0)
			s.publishUnstored(object{"topic": a, "event": object{"data": "not stored"}}, 0)
			if i%2 == 0 {
				s.Publish(object{"topics": []string{b, a}, "event": object{"data": "ab" + itoa(i)}}, 0)
			}
		}
		s.Publish(object{"topic": b, "event": object{"data": "b"}}, 0)
		x := s.OpenWith(harness.Request{Target: "/"}, granting(encode(object{"topics": []string{a, b}, "rewind": 3})))
		x.WantEvents("ab2", "a3", "a4", "ab4", "b")
		s.Publish(object{"topic": a, "event": object{"data": "live"}}, 1)
		x.WantEvents("live")
	}},
	{name: "rewind is a whole number from 1 to 1000; with another the answer counts as {}", run: func(t *T) {
		s := t.Start()
		topic := NewTopic()
		for range 1001 {
			s.Publish(object{"topic": topic, "event": object{"data": "x"}}, 0)
		}
		x := s.OpenWith(harness.Request{Target: "/"}, granting(`{"topics":["`+topic+`"],"rewind":1000}`))
		if first := x.NextEvent().ID.String(); !strings.HasSuffix(first, "-2") {
			t.Errorf("the first of 1000 of 1001 has the id %q", first)
		}
		for _, n := range []string{"0", "1001", "-1", "1.5", "1e2", `"3"`, "null", "true"} {
			s.OpenWith(harness.Request{Target: "/"}, granting(`{"topics":["`+topic+`"],"rewind":`+n+`}`))
		}
		s.wantWarnings("the answer to the connect callback is ignored", 8)
	}},
	{name: "a topic that is added later brings neither", run: func(t *T) {
		s := t.Shared()
		a, b := NewTopic(), NewTopic()
		s.retain("x", "", b)
		x := s.OpenWith(harness.Request{Target: "/"}, granting(encode(object{"topics": []string{a}, "rewind": 3})))
		s.wantTopics(s.Patch(x.token, `{"topics":{"add":["`+b+`"]}}`), a, b)
		s.Publish(object{"topic": b, "event": object{"data": "live"}}, 1)
		x.WantEvents("live")
		y := s.Open("/")
		s.wantTopics(s.Patch(y.token, `{"topics":{"add":["`+b+`"]}}`), b)
		s.Publish(object{"topic": b, "event": object{"data": "live"}}, 2)
		y.WantEvents("live")
	}},
	{name: "who follows topics begins now, without what they retain", run: func(t *T) {
		s := t.Start()
		topic := NewTopic()
		s.retain("x", "", topic)
		last := s.Publish(object{"topic": topic, "event": object{"data": "y"}}, 0)
		x := s.tail("", topic)
		x.Want("id: " + last + "\n\n")
		live := s.retain("live", "", topic)
		x.Want("id: " + live + "\ndata: live\n\n")
	}},
	{name: "GET /internal/retained lists them, DELETE removes one or all of a topic; the events stay in the log", run: func(t *T) {
		s := t.Start()
		a, b := NewTopic(), NewTopic()
		position := s.Position()
		first := s.retain("1", "", a, b)
		second := s.retain("2\r\n3", "ä", a)
		event := func(topic, key, id, data string) object {
			e := object{"topic": topic, "id": id, "event": object{"data": data}}
			if key != "" {
				e["key"] = key
			}
			return e
		}
		topics := []string{a, b}
		if b < a {
			topics = []string{b, a}
		}
		all := []object{event(topics[0], "", first, "1"), event(topics[1], "", first, "1"), event(a, "ä", second, "2\n3")}
		s.wantRetained("", all...)
		s.wantRetained("?topic="+b, event(b, "", first, "1"))
		cursor := ""
		for i, want := range all {
			var page retainedPage
			s.get(retainedPath+"?limit=1&cursor="+cursor, &page)
			if diff := cmp.Diff([]object{want}, page.Retained); diff != "" || (page.Next == "") != (i == len(all)-1) {
				t.Errorf("page %d (-want +got):\n%s next_cursor %q", i, diff, page.Next)
			}
			cursor = page.Next
		}
		remove := func(query string, removed float64) {
			t.Helper()
			s.WantJSON(s.Call(http.MethodDelete, retainedPath+query, ""), http.StatusOK, object{"removed": removed})
		}
		remove("?topic="+a+"&key=other", 0)
		remove("?topic="+a+"&key="+url.QueryEscape("ä"), 1)
		remove("?topic="+a+"&key="+url.QueryEscape("ä"), 0)
		remove("?topic="+a, 1)
		s.wantRetained("", event(b, "", first, "1"))
		x := s.OpenTopics(a)
		x.Want("id: " + x.asked() + "\n\n")
		s.ComeBack(position, a).Want("id: " + position + "\n\nid: " + first + "\ndata: 1\n\nid: " + second + "\ndata: 2\ndata: 3\n\n")
		s.WantError(s.Call(http.MethodPost, retainedPath, ""), http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED", "")
		for _, c := range [][3]string{
			{http.MethodDelete, "", "INVALID_TOPICS"},
			{http.MethodDelete, "?topic=" + b + "&key=", "INVALID_KEY"},
			{http.MethodGet, "?limit=1001", "INVALID_LIMIT"},
			{http.MethodGet, "?cursor=x", "INVALID_CURSOR"},
		} {
			s.WantError(s.Call(c[0], retainedPath+c[1], ""), http.StatusBadRequest, c[2], "")
		}
		for _, method := range []string{http.MethodGet, http.MethodDelete} {
			s.WantError(s.Call(method, retainedPath+"?topic="+b, "", "X-Forwarded-For", "192.0.2.1"), http.StatusForbidden, "INTERNAL_FORBIDDEN", "")
		}
		s.wantRetained("", event(b, "", first, "1"))
		s.wantMetrics("ssegateway_retained_events 1")
	}},
	{name: "507 RETAINED_FULL beyond RETAINED_BYTES, and nothing was published; one that takes another's place counts only the difference", run: func(t *T) {
		s := t.Start("RETAINED_BYTES=2000")
		topic := NewTopic()
		x := s.OpenTopics(topic)
		s.wantRetainedPublish(topic, "a", strings.Repeat("x", 1200), http.StatusOK)
		s.wantRetainedPublish(topic, "b", strings.Repeat("x", 1200), http.StatusInsufficientStorage)
		s.wantRetainedPublish(topic, "a", strings.Repeat("y", 1200), http.StatusOK)
		s.WantJSON(s.Call(http.MethodDelete, retainedPath+"?topic="+topic, ""), http.StatusOK, object{"removed": float64(1)})
		s.wantRetainedPublish(topic, "b", strings.Repeat("z", 1200), http.StatusOK)
		x.WantEvents(strings.Repeat("x", 1200), strings.Repeat("y", 1200), strings.Repeat("z", 1200))
	}},
	{name: "retain that is no boolean or with store false is 400 INVALID_RETAIN, a key that is none or without retain 400 INVALID_KEY", run: func(t *T) {
		s := t.Shared()
		topic := NewTopic()
		for fields, code := range map[string]string{
			`"retain":1`: "INVALID_RETAIN", `"retain":true,"store":false`: "INVALID_RETAIN",
			`"key":"k"`: "INVALID_KEY", `"retain":true,"key":""`: "INVALID_KEY", `"retain":true,"key":"a\tb"`: "INVALID_KEY",
			`"retain":true,"key":"` + strings.Repeat("é", 128) + `x"`: "INVALID_KEY",
		} {
			body := `{"topic":"` + topic + `","event":{"data":"x"},` + fields + `}`
			s.WantError(s.Call(http.MethodPost, publishPath, body, "Content-Type", "application/json"), http.StatusBadRequest, code, "")
		}
		s.wantRetained("?topic=" + topic)
		s.retain("x", strings.Repeat("é", 128), topic)
	}},
}}

// retain publishes an event that is retained, which nobody receives or the streams that are open, and returns its id.
func (s *Site) retain(data, key string, topics ...string) (id string) {
	s.t.Helper()
	body := object{"topics": topics, "event": object{"data": data}, "retain": true}
	if key != "" {
		body["key"] = key
	}
	var answer struct{ ID string }
	got := s.Call(http.MethodPost, publishPath, encode(body), "Content-Type", "application/json")
	if _ = decode(got.Body, &answer); got.Status != http.StatusOK || answer.ID == "" {
		s.t.Fatalf("status %d with %s, want an id", got.Status, quoted(got.Body))
	}
	return answer.ID
}

func (s *Site) wantRetainedPublish(topic, key, data string, status int) {
	s.t.Helper()
	body := encode(object{"topic": topic, "event": object{"data": data}, "retain": true, "key": key})
	got := s.Call(http.MethodPost, publishPath, body, "Content-Type", "application/json")
	if got.Status != status {
		s.t.Errorf("status %d with %s, want %d", got.Status, quoted(got.Body), status)
	}
	if status != http.StatusOK {
		s.WantError(got, status, "RETAINED_FULL", "")
	}
}

type retainedPage struct {
	Retained []object `json:"retained"`
	Next     string   `json:"next_cursor"`
}

func (s *Site) wantRetained(query string, want ...object) {
	s.t.Helper()
	var page retainedPage
	s.get(retainedPath+query, &page)
	if diff := cmp.Diff(append([]object{}, want...), page.Retained); diff != "" {
		s.t.Errorf("retained are (-want +got):\n%s", diff)
	}
}
