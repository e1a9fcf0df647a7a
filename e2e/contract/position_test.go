package contract

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"ssegateway/e2e/harness"
)

const positionPath = "/internal/position"

// positions has the cases about where in the log a stream begins whose client brings no id.
var positions = section{title: "13 position", cases: []contractCase{
	{name: "GET /internal/position: where the log is; the connect callback carries it, the disconnect does not", run: func(t *T) {
		s := t.Start()
		s.WantError(s.Call(http.MethodPost, positionPath, ""), http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED", "")
		if p := s.Position(); !regexp.MustCompile(`^[A-Z2-7]{10}-0$`).MatchString(p) {
			t.Errorf("the position of an empty log is %q", p)
		}
		id := s.Publish(object{"topic": NewTopic(), "event": object{"data": "x"}}, 0)
		if p := s.Position(); p != id {
			t.Errorf("position %q, want that of the last event, %q", p, id)
		}
		x := s.Open("/")
		if p := x.asked(); p != id {
			t.Errorf("the callback has the position %q, want %q", p, id)
		}
		x.Leave()
		if strings.Contains(string(x.Disconnect().Body), `"position"`) {
			t.Errorf("disconnect: %s", x.Disconnect().Body)
		}
	}},
	{name: "what is published while the backend decides arrives: behind events, before what was buffered", run: func(t *T) {
		s := t.Shared()
		topic := NewTopic()
		var want string
		x := s.OpenWith(harness.Request{Target: "/"}, harness.Script{Connect: func(c *harness.Callback) harness.Answer {
			s.WantStatusOK(s.SendObject(object{"token": c.Token, "event": object{"data": "buffered"}}), "buffered")
			s.publishUnstored(object{"topic": topic, "event": object{"data": "not stored"}}, 0)
			id := s.Publish(object{"topic": topic, "event": object{"data": "missed"}}, 0)
			want = "data: state\n\nid: " + id + "\ndata: missed\n\ndata: buffered\n\n"
			return harness.Answer{Body: encode(object{"topics": []string{topic}, "retry_ms": 7, "events": []object{{"data": "state"}}})}
		}})
		x.Want("retry: 7\nid: " + x.asked() + "\n\n" + want)
		s.Publish(object{"topic": topic, "event": object{"data": "live"}}, 1)
		x.WantEvents("live")
	}},
	{name: `"position": "now": what is published while the backend decides does not arrive`, run: func(t *T) {
		s := t.Shared()
		topic := NewTopic()
		x := s.OpenWith(harness.Request{Target: "/"}, harness.Script{Connect: func(*harness.Callback) harness.Answer {
			s.Publish(object{"topic": topic, "event": object{"data": "too early"}}, 0)
			return harness.Answer{Body: encode(object{"topics": []string{topic}, "position": "now"})}
		}})
		s.Publish(object{"topic": topic, "event": object{"data": "live"}}, 1)
		x.WantEvents("live")
	}},
	{name: "position: what was published since a page was rendered arrives, unless the client brings an id", run: func(t *T) {
		s := t.Shared()
		topic := NewTopic()
		page := s.Position()
		first := s.Publish(object{"topic": topic, "event": object{"data": "1"}}, 0)
		s.Publish(object{"topic": topic, "event": object{"data": "2"}}, 0)
		grant := granting(encode(object{"topics": []string{topic}, "position": page}))
		x := s.OpenWith(harness.Request{Target: "/"}, grant)
		x.Want("id: " + page + "\n\n")
		x.WantEvents("1", "2")
		x = s.OpenWith(comingBack(first), grant)
		x.Want("id: " + first + "\n\n")
		x.WantEvents("2")
	}},
	{name: "position: one that the log does not reach back to, and none of this log, is a gap; the stream goes on from where the backend was asked", run: func(t *T) {
		s := t.Start("TOPIC_LOG_BYTES=65536")
		topic := NewTopic()
		early := s.Position()
		for range 3 {
			s.Publish(object{"topic": topic, "event": object{"data": strings.Repeat("x", 40_000)}}, 0)
		}
		x := s.OpenWith(harness.Request{Target: "/"}, granting(encode(object{"topics": []string{topic}, "position": early})))
		x.wantGap(early)
		x.Leave()
		x.Disconnect()
		for _, position := range []string{"ABCDEFGHIJ-1", "of a page that somebody wrote by hand", early[:11] + "99"} {
			x := s.OpenWith(harness.Request{Target: "/"}, harness.Script{Connect: func(*harness.Callback) harness.Answer {
				s.Publish(object{"topic": topic, "event": object{"data": "missed"}}, 0)
				return harness.Answer{Body: encode(object{"topics": []string{topic}, "position": position})}
			}})
			if e := x.wantGap(position); e.ID.String() != x.asked() {
				t.Errorf("%s: the gap has the id %q, want %q", position, e.ID, x.asked())
			}
			x.WantEvents("missed")
			x.Leave()
			x.Disconnect()
		}
	}},
	{name: "position: an empty one is as absent, one that is no string makes the answer count as {}", run: func(t *T) {
		s := t.Start()
		topic := NewTopic()
		x := s.OpenWith(harness.Request{Target: "/"}, granting(`{"topics":["`+topic+`"],"position":""}`))
		x.Want("id: " + x.asked() + "\n\n")
		for _, position := range []string{"1", "null", "{}", "true"} {
			s.OpenWith(harness.Request{Target: "/"}, granting(`{"topics":["`+topic+`"],"position":`+position+`}`))
		}
		s.wantWarnings("the answer to the connect callback is ignored", 4)
		s.Publish(object{"topic": topic, "event": object{"data": "x"}}, 1)
		x.WantEvents("x")
	}},
	{name: "a position in the query counts as Last-Event-ID where that is absent or empty, and stays in request.url", run: func(t *T) {
		s := t.Shared()
		topic := NewTopic()
		had := s.Publish(object{"topic": topic, "event": object{"data": "had"}}, 0)
		missed := s.Publish(object{"topic": topic, "event": object{"data": "missed"}}, 0)
		grant := granting(encode(object{"topics": []string{topic}}))
		header := func(value string) []harness.Field { return []harness.Field{{Name: "last-event-id", Value: value}} }
		escaped := strings.Replace(had, "-", "%2D", 1)
		for _, r := range []harness.Request{
			{Target: "/?lastEventId=" + had},
			{Target: "/?lastEventID=" + had, Header: header("")},
			{Target: "/?a=b&last-event-id=" + escaped + "&c"},
			{Target: "/?lastEventId=&lastEventId=order-17&lastEventID=%zz&lastEventID=" + had + "&last-event-id=" + missed},
			{Target: "/?lastEventId=" + missed, Header: header(had)},
		} {
			x := s.OpenWith(r, grant)
			x.Want("id: " + had + "\n\n")
			x.WantEvents("missed")
			if x.Connect().URL != r.Target {
				t.Errorf("request.url %q, want %q", x.Connect().URL, r.Target)
			}
		}
		for _, target := range []string{
			"/?lasteventid=" + had, "/?id=" + had, "/?lastEventId=17", "/?lastEventId=x-17", "/?lastEventId=" + url.QueryEscape("äbcdefghi-1"), "/?lastEventId=" + strings.ToLower(had),
		} {
			x := s.OpenWith(harness.Request{Target: target}, grant)
			x.Want("id: " + x.asked() + "\n\n")
		}
		s.OpenWith(harness.Request{Target: "/?lastEventId=ABCDEFGHIJ-1"}, grant).wantGap("ABCDEFGHIJ-1")
	}},
}}

// Position asks for the position of the log.
func (s *Site) Position() string {
	s.t.Helper()
	var answer struct{ Position string }
	s.get(positionPath, &answer)
	return answer.Position
}

// asked returns the position in the connect callback.
func (x *Stream) asked() string {
	x.s.t.Helper()
	var body struct{ Position string }
	if err := decode(string(x.Connect().Body), &body); err != nil {
		x.s.t.Fatal(err)
	}
	return body.Position
}
