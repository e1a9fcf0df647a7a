package contract

import (
	"net/http"

	"ssegateway/e2e/harness"
)

const envelopes = "EVENT_FORM=envelope"

// named is the body of a send of a named event.
func named(token, name, data string) string {
	return encode(object{"token": token, "event": object{"name": name, "data": data, "id": "i", "retry": 7}})
}

var eventForm = section{title: "5 event form", cases: []contractCase{
	{name: "envelope: name and data are an object, id and retry stay, and a stream begins with ready", run: func(t *T) {
		s := t.Start(envelopes)
		x := s.Open("/")
		x.Want("event: ready\ndata: \n\n")
		for _, c := range []struct{ data, payload string }{
			{`{"n":1}`, `{"n":1}`}, {"text", `"text"`}, {"", `""`}, {"[1,\n2]", "[1,\ndata: 2]"}, {"a\n\"b\"", `"a\n\"b\""`}, {"17", "17"},
		} {
			s.WantStatusOK(s.Send(named(x.token, "order", c.data)), "ok")
			x.Want("id: i\nretry: 7\ndata: {\"type\":\"order\",\"payload\":" + c.payload + "}\n\n")
		}
		s.Event(x.token, `{"n":1}`)
		x.Want("data: {\"n\":1}\n\n") // it has no name
	}},
	{name: "envelope: ready comes behind the events of the grant, what was missed, and what was buffered", run: func(t *T) {
		s := t.Start(envelopes)
		topic := NewTopic()
		first := s.OpenTopics(topic)
		position := first.wantPosition()
		first.Want("event: ready\ndata: \n\n")
		id := s.Publish(object{"topics": []string{topic}, "event": object{"name": "n", "data": "missed"}}, 1)
		first.Want("id: " + id + "\ndata: {\"type\":\"n\",\"payload\":\"missed\"}\n\n")
		release := make(chan struct{})
		grant := encode(object{"topics": []string{topic}, "events": []object{{"name": "n", "data": "granted"}}})
		x := s.Begin(harness.Request{Target: "/", Header: []harness.Field{{Name: "last-event-id", Value: position}}},
			harness.Script{Connect: answerAfter(release, harness.Answer{Status: http.StatusOK, Body: grant})})
		token := x.Connect().Token
		s.WantStatusOK(s.Send(encode(object{"token": token, "event": object{"name": "n", "data": "buffered"}})), "buffered")
		close(release)
		x.WantHead()
		x.Want("id: " + position + "\n\n" +
			"data: {\"type\":\"n\",\"payload\":\"granted\"}\n\n" +
			"id: " + id + "\ndata: {\"type\":\"n\",\"payload\":\"missed\"}\n\n" +
			"data: {\"type\":\"n\",\"payload\":\"buffered\"}\n\n" +
			"event: ready\ndata: \n\n")
	}},
	{name: "envelope: events of batches and of streaming requests too, and gap stays as it is", run: func(t *T) {
		s := t.Start(envelopes)
		topic := NewTopic()
		x := s.ComeBack("nothing-1", topic)
		if gap := x.NextEvent(); gap.Name.String() != "gap" {
			t.Fatalf("%+v", gap)
		}
		x.WantEvents("") // ready
		token := x.Connect().Token
		s.Batch(encode(object{"operations": []object{{"op": "send", "token": token, "event": object{"name": "n", "data": "1"}}}}))
		x.WantEvents(`{"type":"n","payload":1}`)
		s.wantStreamed(s.Stream(token, "", "text/event-stream", "event: n\ndata: 2\n\n"), 1)
		x.WantEvents(`{"type":"n","payload":2}`)
	}},
	{name: "envelope: a refusal for good is the event rejected, as it is in plain form", run: func(t *T) {
		s := t.Start(envelopes, "EVENTSOURCE_ERRORS=event")
		s.Begin(eventSource("/"), refusing(403)).wantRejected(403, "BACKEND_FORBIDDEN")
	}},
	{name: "plain: there is no ready", run: func(t *T) {
		s := t.Shared()
		x := s.Open("/")
		s.WantStatusOK(s.Send(named(x.token, "order", "1")), "ok")
		x.Want("event: order\nid: i\nretry: 7\ndata: 1\n\n")
	}},
}}
