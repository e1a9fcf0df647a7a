package nats

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"ssegateway/e2e/harness"
	"ssegateway/internal/broker"
)

// Whatever NATS is killed behind, what is retained is what was answered: nothing is lost, and nothing that was replaced
// or removed is back. A node that comes then knows no more of it than the store does.
func TestRetainedSurvivesKills(t *testing.T) {
	t.Parallel()
	k := harness.StartNATS(t)
	cfg := at(k.URL())
	e := running(t, cfg)
	type place struct{ topic, key string }
	want := map[place]string{}
	random := rand.New(rand.NewPCG(1, 2))
	const rounds = 12
	n := 0
	for range rounds {
		for range 1 + random.IntN(12) {
			n++
			topics := [][]string{{"t"}, {"t"}, {"u"}, {"t", "u"}}[random.IntN(4)]
			key := []string{"k", "k", "l", ""}[random.IntN(4)]
			if random.IntN(2) == 0 {
				change(t, e, removal(key, topics...))
				maps.DeleteFunc(want, func(p place, _ string) bool {
					return slices.Contains(topics, p.topic) && (key == "" || key == p.key)
				})
				continue
			}
			at := change(t, e, retained(strconv.Itoa(n), key, topics...))
			for _, topic := range topics {
				want[place{topic, key}] = fmt.Sprintf("%s/%s %s %d", topic, key, at, n)
			}
		}
		if random.IntN(4) > 0 {
			if err := e.session.tidyStore(t.Context(), mustStore(t, e.session)); err != nil {
				t.Fatal(err)
			}
		}
		emptyLog(t, e.session)
		k.Kill()
		k.Start()
		late := mustEngine(t, cfg)
		got, all := kept(late.Log()), slices.Sorted(maps.Values(want))
		slices.Sort(got)
		if !slices.Equal(got, all) {
			t.Fatalf("after %d changes %q are retained, want %q", n, got, all)
		}
		late.conn.Close()
		change(t, e, broker.Publication{Topics: []string{"t"}, Store: true}) // when it is connected again
	}
}
