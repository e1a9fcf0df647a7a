package broker

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// put is an event that is retained, published until a node answered it with 200.
type put struct {
	key, data, id string
	repeats       int // that were told that they are
	unanswered    int // attempts that were answered with 503
}

// retained returns the list of a node, each as topic, key, id and data.
func (s *site) retained() (list []string) {
	s.t.Helper()
	status, answer := s.call(http.MethodGet, "/internal/retained", "")
	var page struct {
		Retained []struct {
			Topic, Key, ID string
			Event          struct{ Data string }
		}
	}
	if err := json.Unmarshal([]byte(answer), &page); err != nil || status != http.StatusOK {
		s.t.Fatalf("%d %s", status, answer)
	}
	for _, r := range page.Retained {
		list = append(list, fmt.Sprintf("%s %s %s %s", r.Topic, r.Key, r.ID, r.Event.Data))
	}
	return list
}

// The leaders of the log and of the store of retained events are killed, each in turn, while events with idempotency
// keys are published to be retained, through two nodes. What was not answered with 200 is tried again at the other
// node. Each event arrives once, and every node retains the last of each key, also one that comes later.
func TestRetainedWhileLeadersDie(t *testing.T) {
	const (
		keys  = 4
		after = 6 * time.Second // a kill
	)
	c := startNATSCluster(t)
	settings := []string{"NATS_URL=" + strings.Join(c.urls, ","), "NATS_REPLICAS=3"}
	first := start(t, settings...)
	settings = append(settings, "CALLBACK_URL="+first.Backend.URL("/callback"))
	sites := []*site{first, start(t, settings...)}
	for _, s := range sites {
		s.becomes(http.StatusOK)
	}
	streams := []*stream{sites[0].open(""), sites[1].open("")}

	stop := make(chan struct{})
	puts := make([][]put, keys)
	var group sync.WaitGroup
	for k := range keys {
		group.Go(func() { // one after the other for each key
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				case <-time.After(20 * time.Millisecond):
				}
				p := put{key: fmt.Sprint("k", k), data: fmt.Sprintf("%d of k%d", n, k)}
				body := fmt.Sprintf(`{"topic":"t","event":{"data":%q},"retain":true,"key":%q,"idempotency_key":"%d-%d"}`, p.data, p.key, k, n)
				for attempt := n + k; ; attempt++ {
					status, answer := sites[attempt%2].call(http.MethodPost, "/internal/publish", body)
					if status == http.StatusServiceUnavailable {
						p.unanswered++
						continue
					}
					if status != http.StatusOK {
						t.Errorf("%d %s", status, answer)
						return
					}
					if strings.Contains(answer, `"duplicate":true`) {
						p.repeats++
					}
					_, p.id, _ = strings.Cut(answer, `"id":"`)
					p.id, _, _ = strings.Cut(p.id, `"`)
					break
				}
				puts[k] = append(puts[k], p)
			}
		})
	}
	for _, name := range []string{"ssegateway_log", "ssegateway_retained", "ssegateway_log"} {
		server := c.leader(name)
		c.servers[server].Kill()
		<-time.After(after)
		c.start(server)
		for _, s := range sites {
			s.becomes(http.StatusOK)
		}
	}
	close(stop)
	group.Wait()

	status, last := sites[0].call(http.MethodPost, "/internal/publish", publication("last"))
	if status != http.StatusOK {
		t.Fatal(last)
	}
	_, id, _ := strings.Cut(last, `"id":"`)
	id, _, _ = strings.Cut(id, `"`)
	count, unanswered, repeats := 0, 0, 0
	var want []string
	for i, x := range streams {
		text := x.until(event(id, "last"))
		for _, of := range puts {
			for _, p := range of {
				if n := strings.Count(text, "\ndata: "+p.data+"\n\n"); n != 1 || !strings.Contains(text, event(p.id, p.data)) {
					t.Errorf("stream %d has %+v %d times", i, p, n)
				}
				if i == 0 {
					count, unanswered, repeats = count+1, unanswered+p.unanswered, repeats+p.repeats
				}
			}
			if p := of[len(of)-1]; i == 0 {
				want = append(want, fmt.Sprintf("t %s %s %s", p.key, p.id, p.data))
			}
		}
	}
	t.Logf("%d events, %d attempts answered with 503, %d repeats", count, unanswered, repeats)
	slices.Sort(want)
	late := start(t, settings...)
	late.becomes(http.StatusOK)
	for i, s := range append(sites, late) {
		got := s.retained()
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("node %d retains %q, want %q", i, got, want)
		}
	}
}
