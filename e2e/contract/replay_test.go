package contract

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"unicode/utf8"

	"ssegateway/e2e/harness"
	"ssegateway/sse"
)

// replays has the cases about what a client gets when it reconnects.
var replays = section{title: "13 replay", cases: []contractCase{
	{name: "a stream that has topics opens with a block of only id, one without does not", run: func(t *T) {
		s := t.Start()
		topic := NewTopic()
		id := s.Publish(object{"topic": topic, "event": object{"data": "before"}}, 0)
		s.OpenTopics(topic).Want("id: " + id + "\n\n") // the current position
		x := s.Open("/")
		s.Event(x.token, "first")
		x.Want("data: first\n\n")
	}},
	{name: "a client that leaves before its first event misses nothing either", run: func(t *T) {
		s := t.Shared()
		topic := NewTopic()
		x := s.OpenTopics(topic)
		position := x.wantPosition()
		x.Leave()
		x.Disconnect()
		id := s.Publish(object{"topic": topic, "event": object{"data": "missed"}}, 0)
		s.ComeBack(position, topic).Want("id: " + position + "\n\nid: " + id + "\ndata: missed\n\n")
	}},
	{name: "what was missed of the topics granted anew, in order, each once, then live", run: func(t *T) {
		s := t.Shared()
		a, b, other := NewTopic(), NewTopic(), NewTopic()
		had := s.Publish(object{"topics": []string{a, other}, "event": object{"data": "had"}}, 0)
		want := "id: " + had + "\n\n"
		for i := range 30 {
			event := object{"name": "n", "data": itoa(i)}
			id := ""
			switch i % 4 {
			case 0:
				id = s.Publish(object{"topic": a, "event": event}, 0)
			case 1:
				id = s.Publish(object{"topics": []string{other, b, a}, "event": event}, 0)
			case 2:
				id = s.Publish(object{"topic": b, "event": event}, 0)
			case 3: // the backend does not grant this topic any more
				s.Publish(object{"topic": other, "event": event}, 0)
				continue
			}
			want += "event: n\nid: " + id + "\ndata: " + itoa(i) + "\n\n"
		}
		x := s.ComeBack(had, b, a)
		x.Want(want)
		live := s.Publish(object{"topics": []string{a, b}, "event": object{"data": "live"}}, 1)
		x.Want("id: " + live + "\ndata: live\n\n")
	}},
	{name: "nothing missed: the block of only id, then live", run: func(t *T) {
		s := t.Shared()
		topic := NewTopic()
		id := s.Publish(object{"topic": topic, "event": object{"data": "had"}}, 0)
		x := s.ComeBack(id, topic)
		live := s.Publish(object{"topic": topic, "event": object{"data": "live"}}, 1)
		x.Want("id: " + id + "\n\nid: " + live + "\ndata: live\n\n")
	}},
	{name: "a Last-Event-ID without topics means nothing", run: func(t *T) {
		s := t.Shared()
		for _, id := range []string{s.Publish(object{"topic": NewTopic(), "event": object{"data": "x"}}, 0), "anything"} {
			x := s.ComeBack(id)
			s.Event(x.token, "first")
			x.Want("data: first\n\n")
		}
	}},
	{name: "no event lost and none twice at the seam between replay and live", run: func(t *T) {
		s := t.Shared()
		topic := NewTopic()
		id := s.Publish(object{"topic": topic, "event": object{"data": "0"}}, 0)
		const events = 150
		problem := make(chan string, 1)
		var wg sync.WaitGroup
		wg.Go(func() {
			for i := 1; i <= events; i++ {
				body := object{"topic": topic, "event": object{"data": itoa(i)}}
				if got, err := s.call(http.MethodPost, publishPath, jsonBody(body), "Content-Type", "application/json"); err != nil || got.Status != http.StatusOK {
					problem <- fmt.Sprintf("status %d with %s (%v)", got.Status, quoted(got.Body), err)
					return
				}
			}
		})
		// Each round reads some events, and reconnects while more are published.
		next := 1
		for next <= events {
			x := s.ComeBack(id, topic)
			for range min(10, events-next+1) {
				e := x.NextEvent()
				if e.Data != itoa(next) || e.Name.String() != "" {
					t.Fatalf("event %q %s, want number %d", e.Name, quoted(e.Data), next)
				}
				id = e.ID.String()
				next++
			}
			x.Leave()
		}
		wg.Wait()
		select {
		case p := <-problem:
			t.Fatal(p)
		default:
		}
	}},
	{name: "of several Last-Event-IDs the first that is not empty counts", run: func(t *T) {
		s := t.Shared()
		topic := NewTopic()
		had := s.Publish(object{"topic": topic, "event": object{"data": "had"}}, 0)
		missed := s.Publish(object{"topic": topic, "event": object{"data": "missed"}}, 0)
		for _, values := range [][]string{{"", had}, {"", "", had, ""}, {had, missed}, {had, "x"}} {
			r := harness.Request{Target: "/"}
			for _, value := range values {
				r.Header = append(r.Header, harness.Field{Name: "last-event-id", Value: value})
			}
			x := s.OpenWith(r, granting(encode(object{"topics": []string{topic}})))
			x.Want("id: " + had + "\n\nid: " + missed + "\ndata: missed\n\n")
		}
	}},
	{name: "a client whose event had an empty id keeps its position", run: func(t *T) {
		s := t.Shared()
		topic := NewTopic()
		x := s.OpenTopics(topic)
		position := x.wantPosition()
		s.WantStatusOK(s.SendObject(object{"token": x.token, "event": object{"data": "sent", "id": ""}}), "ok")
		x.Want("data: sent\n\n")
		s.wantStreamed(s.Stream(x.token, "", eventStream, "id\ndata: streamed\n\nid:\n\n"), 1)
		x.Want("data: streamed\n\n")
		x.Leave()
		x.Disconnect()
		id := s.Publish(object{"topic": topic, "event": object{"data": "missed"}}, 0)
		s.ComeBack(position, topic).Want("id: " + position + "\n\nid: " + id + "\ndata: missed\n\n")
	}},
	{name: "an id that is a position to which the log has not come is refused", run: func(t *T) {
		s := t.Start()
		topic := NewTopic()
		id := s.Publish(object{"topic": topic, "event": object{"data": "x"}}, 0)
		epoch, _, _ := strings.Cut(id, "-")
		x := s.Open("/")
		ahead := object{"token": x.token, "event": object{"data": "x", "id": epoch + "-2"}}
		s.WantError(s.SendObject(ahead), http.StatusBadRequest, "INVALID_EVENT_ID", "")
		s.WantError(s.Stream(x.token, "", eventStream, "id: "+epoch+"-2\ndata: x\n\n"), http.StatusBadRequest, "INVALID_STREAM", "")
		s.WantError(s.Stream(x.token, "", ndjson, `{"data":"x","id":"`+epoch+`-2"}`), http.StatusBadRequest, "INVALID_STREAM", "")
		granted := s.OpenWith(harness.Request{Target: "/"}, granting(encode(object{"topics": []string{topic}, "events": []object{{"data": "x", "id": epoch + "-2"}}})))
		if topics := s.Connection(granted.token).Topics; len(topics) > 0 {
			t.Errorf("the grant counts, topics %q", topics)
		}
		s.WantLog("WARN", granted.token)
		s.WantStatusOK(s.SendObject(object{"token": x.token, "event": object{"data": "x", "id": id}}), "ok")
		x.Want("id: " + id + "\ndata: x\n\n")
	}},
	{name: "an id in events that is a position is left out: a client that is cut behind events comes back for all of the rest", run: func(t *T) {
		s := t.Start()
		topic, other := NewTopic(), NewTopic()
		had := s.Publish(object{"topic": topic, "event": object{"data": "had"}}, 0)
		missed := s.Publish(object{"topic": topic, "event": object{"data": "missed"}}, 0)
		kept := s.retain("kept", "", other)
		last := s.Publish(object{"topic": other, "event": object{"data": "last"}}, 0)
		for _, id := range []string{had, missed, kept, last} {
			state := []object{{"name": "state", "data": "x", "id": id}, {"data": "y", "id": "7"}}
			accept := granting(encode(object{"topics": []string{topic}, "events": state}))
			x := s.OpenWith(comingBack(had), accept)
			x.Want("id: " + had + "\n\nevent: state\ndata: x\n\nid: 7\ndata: y\n\nid: " + missed + "\ndata: missed\n\n")
			x = s.OpenWith(harness.Request{Target: "/"}, granting(encode(object{"topics": []string{other}, "events": state})))
			x.Want("event: state\ndata: x\n\nid: 7\ndata: y\n\nid: " + kept + "\ndata: kept\n\nid: " + x.asked() + "\n\n")
			// Without topics nothing is behind events that could be missed.
			x = s.OpenWith(harness.Request{Target: "/"}, granting(encode(object{"events": state})))
			x.Want("event: state\nid: " + id + "\ndata: x\n\nid: 7\ndata: y\n\n")
		}
		s.WantLog("WARN.* left out")
	}},
	{name: "gap: another epoch, a position yet to come, an id that is none", run: func(t *T) {
		s := t.Shared()
		topic := NewTopic()
		id := s.Publish(object{"topic": topic, "event": object{"data": "kept"}}, 0)
		epoch, _, _ := strings.Cut(id, "-")
		for _, had := range []string{"AAAAAAAAAA-1", epoch + "-99999999999", "17", "x", epoch, epoch + "-", epoch + "--1", epoch + "-1x", id + " x", `"\`, "é", "\xff", "\x85\xff", "0", strings.Repeat("9", 1000)} {
			x := s.ComeBack(had, topic)
			x.wantGap(had)
			// After the gap come the events that are published from now on.
			x.wantPosition()
			s.Publish(object{"topic": topic, "event": object{"data": "live"}}, 1)
			x.WantEvents("live")
			x.Leave()
			x.Disconnect()
		}
	}},
	{name: "gap: its id is one to come back with", run: func(t *T) {
		s := t.Shared()
		topic := NewTopic()
		x := s.ComeBack("foreign", topic)
		gap := x.wantGap("foreign")
		if position := x.wantPosition(); position != gap.ID.String() {
			t.Errorf("the gap has the id %s, the block after it %s", gap.ID, position)
		}
		x.Leave()
		x.Disconnect()
		missed := s.Publish(object{"topic": topic, "event": object{"data": "missed"}}, 0)
		s.ComeBack(gap.ID.String(), topic).Want("id: " + gap.ID.String() + "\n\nid: " + missed + "\ndata: missed\n\n")
	}},
	{name: "gap: where the log was trimmed, then what is left of it", run: func(t *T) {
		s := t.Start("TOPIC_LOG_BYTES=40000")
		topic := NewTopic()
		had := s.Publish(object{"topic": topic, "event": object{"data": "-1"}}, 0)
		const events = 100
		for i := range events {
			s.Publish(object{"topic": topic, "event": object{"data": itoa(i) + " " + strings.Repeat("x", 1000)}}, 0)
		}
		x := s.ComeBack(had, topic)
		x.wantGap(had)
		x.wantPosition()
		next, n := -1, 0
		for next < events {
			number, _, _ := strings.Cut(x.NextEvent().Data, " ")
			got := atoi(t, number)
			if next >= 0 && got != next {
				t.Fatalf("event %d, want %d", got, next)
			}
			next = got + 1
			n++
		}
		live := s.Publish(object{"topic": topic, "event": object{"data": "live"}}, 1)
		x.Want("id: " + live + "\ndata: live\n\n")
		if n < 5 || n > 45 {
			t.Errorf("%d events of 1 kB came from a log of 40 kB", n)
		}
	}},
	{name: "gap: the position of a log that was lost", run: func(t *T) {
		first, second := t.Start(), t.Start()
		topic := NewTopic()
		id := first.Publish(object{"topic": topic, "event": object{"data": "x"}}, 0)
		second.Publish(object{"topic": topic, "event": object{"data": "y"}}, 0)
		second.ComeBack(id, topic).wantGap(id)
	}},
}}

// asText decodes bytes that are not UTF-8 as Latin-1.
func asText(value string) string {
	if utf8.ValidString(value) {
		return value
	}
	var b strings.Builder
	for _, c := range []byte(value) {
		b.WriteRune(rune(c))
	}
	return b.String()
}

// wantGap waits for a gap event.
func (x *Stream) wantGap(had string) sse.Event {
	x.s.t.Helper()
	e := x.NextEvent()
	var data map[string]string
	if err := decode(e.Data, &data); err != nil || e.Name.String() != "gap" || len(data) != 1 || data["last_event_id"] != asText(had) {
		x.s.t.Fatalf("event %q with data %s, want a gap after %q (%v)", e.Name, quoted(e.Data), had, err)
	}
	if e.ID.String() == "" {
		x.s.t.Fatal("the gap has no id")
	}
	return e
}
