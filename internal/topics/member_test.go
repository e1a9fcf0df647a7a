package topics

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ssegateway/internal/broker"
)

// Members join and leave topics, few or many at once. In each pair of a member and a topic
// the indexes keep pointing at each other.
func TestMembership(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := New(broker.NewMemory(1<<20, time.Hour), false)
		s := all.shards[0]
		members := []*Member{all.NewMember(nil, 0), all.NewMember(nil, 0), all.NewMember(nil, 0)}
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
				join, _ := m.changes(add, remove)
				id, err := m.Change(add, remove, 3000)
				if err != nil {
					t.Fatal(err)
				}
				if entered := had == 0 && len(join) > 0; entered != id.IsSet() {
					t.Errorf("a member with %d topics joined %d and got the id %q", had, len(join), id)
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
				members[i].Leave()
				clear(want[i])
			},
			"": func(t *rapid.T) {
				pairs := 0
				for i, m := range members {
					got := m.Names()
					slices.Sort(got)
					if len(got) != len(want[i]) || len(slices.Compact(got)) != len(want[i]) {
						t.Fatalf("member %d has %d topics, want %d", i, len(got), len(want[i]))
					}
					for n, has := range m.topics {
						if !want[i][has.topic.name] || !m.Has(has.topic.name) {
							t.Errorf("member %d should not have the topic %s, or Has does not find it", i, has.topic.name)
						}
						if of := has.topic.members[has.index]; of.member != m || int(of.index) != n || s.index[has.topic.name] != has.topic {
							t.Errorf("the indexes of topic %d of member %d do not point at each other", n, i)
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
