package clients

import (
	"strings"
	"testing"

	"ssegateway/e2e/harness"
)

// scenario is a test that every client has to pass. It begins with an open client.
type scenario struct {
	name string
	run  func(t *testing.T, c client, s *site)
}

var scenarios = []scenario{
	{"receive", receive},
	{"return after a close by the server", func(t *testing.T, _ client, s *site) {
		comeBack(t, s, func() { s.gw.CloseStream(t, s.token) })
	}},
	{"return after a cut", func(t *testing.T, _ client, s *site) {
		comeBack(t, s, s.network.Cut)
	}},
	{"miss nothing before the first event", first},
	{"gap", gap},
}

func TestClients(t *testing.T) {
	gw := harness.StartGateway(t, binary, nil, "CORS_ALLOWED_ORIGINS="+startPages(t))
	startChromium(t)
	backend := &byPath{sites: map[string]*site{}}
	gw.Backend.On("", harness.Script{Connect: backend.connect})
	t.Run("all", func(t *testing.T) {
		for _, c := range clients {
			for _, sc := range scenarios {
				t.Run(c.name+"/"+sc.name, func(t *testing.T) {
					t.Parallel()
					name := slug(c.name + "." + sc.name)
					s := &site{gw: gw, path: "/" + name, topic: name, admit: make(chan struct{})}
					backend.add(s)
					s.network = harness.NewNetwork(t, gw.Endpoint.Addr)
					s.next = c.start(t, "http://"+s.network.Addr+s.path)
					if id := s.connected(t); id != "" {
						t.Errorf("a first connection has Last-Event-ID %q", id)
					}
					s.open(t)
					sc.run(t, c, s)
				})
			}
		}
	})
}

// receive: the client reports exactly what was sent.
func receive(t *testing.T, c client, s *site) {
	last := ""
	for _, e := range []struct {
		event          object
		name, data, id string
	}{
		{object{"data": "plain", "id": "40"}, "message", "plain", "40"},
		{object{"data": "x", "name": "named"}, "named", "x", ""},
		{object{"data": "Line 1\nLine 2"}, "message", "Line 1\nLine 2", ""},
		{object{"data": "a\r\nb\rc\nd"}, "message", "a\nb\nc\nd", ""},
		{object{"data": "\n\nbetween\n\nlines"}, "message", "\n\nbetween\n\nlines", ""},
		{object{"data": "  two before, two after  "}, "message", "  two before, two after  ", ""},
		{object{"data": ": no comment\nevent: named\nid: 1\n\ndata: x"}, "message", ": no comment\nevent: named\nid: 1\n\ndata: x", ""},
		{object{"data": "Grüße, 世界 👋"}, "message", "Grüße, 世界 👋", ""},
		{object{"data": `{"json":"\\n"}`}, "message", `{"json":"\\n"}`, ""},
		{object{"data": strings.Repeat("0123456789", 5_000)}, "message", strings.Repeat("0123456789", 5_000), ""},
		{object{"data": "x", "id": "41", "name": "named"}, "named", "x", "41"},
		{object{"data": "x", "retry": 10}, "message", "x", ""},
	} {
		s.gw.Event(t, s.token, e.event)
		if e.id != "" {
			last = e.id
		}
		id, data := last, e.data
		if c.ownIDs {
			id = e.id
		}
		if c.losesEmptyLines {
			data = strings.TrimLeft(data, "\n")
		}
		s.wantEvent(t, e.name, data, id)
	}
	id := s.publish(t, "published")
	s.wantEvent(t, "message", "published", id)
}

// comeBack: the client reconnects with the id of its last event, and gets the events that it
// missed before new ones.
func comeBack(t *testing.T, s *site, part func()) {
	t.Helper()
	for range 3 {
		id := s.publish(t, "seen")
		s.wantEvent(t, "message", "seen", id)
		part()
		last := s.connected(t)
		if last != id {
			t.Fatalf("reconnected with Last-Event-ID %q, want %q", last, id)
		}
		var missed []string
		for range 20 {
			missed = append(missed, s.publish(t, "missed"))
		}
		s.open(t)
		for _, id := range missed {
			s.wantEvent(t, "message", "missed", id)
		}
	}
	s.wantEvent(t, "message", "live", s.publish(t, "live"))
}

// first: a stream begins with its position, so that a client that loses the stream before the
// first event gets the events that it missed. A client that ignores the position gets those that are
// published from the connect callback on.
func first(t *testing.T, c client, s *site) {
	s.gw.CloseStream(t, s.token)
	last := s.connected(t)
	missed := s.publish(t, "missed")
	s.open(t)
	if c.ignoresBareIDs != (last == "") {
		t.Errorf("came back with Last-Event-ID %q", last)
	}
	s.wantEvent(t, "message", "missed", missed)
	s.wantEvent(t, "message", "live", s.publish(t, "live"))
}

// gap: a client whose id is not a position gets a gap event, once.
func gap(t *testing.T, c client, s *site) {
	s.gw.Event(t, s.token, object{"data": "x", "id": "elsewhere-7"})
	s.wantEvent(t, "message", "x", "elsewhere-7")
	s.gw.CloseStream(t, s.token)
	last := s.connected(t)
	if last != "elsewhere-7" {
		t.Fatalf("came back with Last-Event-ID %q", last)
	}
	s.open(t)
	said := s.want(t)
	if said.Name != "gap" || said.Data != `{"last_event_id":"elsewhere-7"}` {
		t.Fatalf("got %+v, want a gap", said)
	}
	// From here on it has a position, and gets no further gap.
	s.gw.CloseStream(t, s.token)
	if last = s.connected(t); last != said.ID || last == "" {
		t.Errorf("after the gap with id %q, it reconnected with Last-Event-ID %q", said.ID, last)
	}
	missed := s.publish(t, "missed")
	s.open(t)
	s.wantEvent(t, "message", "missed", missed)
}
