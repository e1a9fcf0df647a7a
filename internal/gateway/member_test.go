package gateway

import (
	"log/slog"
	"slices"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ssegateway/internal/broker"
)

// Members join and leave topics, in pieces too, and each pair of a member and a topic
// goes on to point at itself.
func TestMembership(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := New(Config{Heartbeat: time.Minute, Broker: broker.NewMemory(1<<20, time.Hour), Log: slog.New(slog.DiscardHandler)}, nil)
		s := g.topics.shards[0]
		members := []*member{{}, {}, {}}
		want := make([]map[string]bool, len(members))
		for i := range want {
			want[i] = map[string]bool{}
		}
		names := func(label string) []string {
			from := rapid.IntRange(0, 1000).Draw(t, label+" from")
			n := rapid.OneOf(rapid.IntRange(0, 5), rapid.IntRange(0, 3*piece)).Draw(t, label+" names")
			list := make([]string, 0, n+1)
			for i := range n {
				list = append(list, strconv.Itoa((from+i)%1000))
			}
			if n > 0 && rapid.Bool().Draw(t, label+" one twice") {
				list = append(list, list[0])
			}
			return list
		}
		t.Repeat(map[string]func(*rapid.T){
			"change": func(t *rapid.T) {
				i := rapid.IntRange(0, len(members)-1).Draw(t, "member")
				m, add, remove := members[i], names("add"), names("remove")
				had := len(m.topics)
				join, leave := m.changes(add, remove)
				id := s.change(m, join, leave)
				if entered := had == 0 && len(join) > 0; entered != id.IsSet() {
					t.Errorf("a member of %d topics that joins %d: the id %q", had, len(join), id)
				}
				for _, name := range add {
					want[i][name] = true
				}
				for _, name := range remove {
					delete(want[i], name)
				}
			},
			"leave": func(t *rapid.T) {
				i := rapid.IntRange(0, len(members)-1).Draw(t, "member")
				s.leaveAll(members[i])
				clear(want[i])
			},
			"": func(t *rapid.T) {
				pairs := 0
				for i, m := range members {
					got := m.names()
					slices.Sort(got)
					if len(got) != len(want[i]) || len(slices.Compact(got)) != len(want[i]) {
						t.Fatalf("member %d has %d topics, want %d", i, len(got), len(want[i]))
					}
					for n, ticket := range m.topics {
						if !want[i][ticket.topic.name] || !m.has(ticket.topic.name) {
							t.Errorf("member %d has the topic %s", i, ticket.topic.name)
						}
						if seat := ticket.topic.members[ticket.place]; seat.member != m || int(seat.place) != n || s.index[ticket.topic.name] != ticket.topic {
							t.Errorf("topic %d of member %d points elsewhere", n, i)
						}
					}
					pairs += len(got)
				}
				for name, topic := range s.index {
					if pairs -= len(topic.members); len(topic.members) == 0 {
						t.Errorf("the topic %s has no members", name)
					}
				}
				if pairs != 0 {
					t.Errorf("%d pairs of a member and a topic are known to one side only", pairs)
				}
			},
		})
	})
}
