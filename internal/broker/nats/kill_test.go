package nats

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"ssegateway/e2e/harness"
	"ssegateway/internal/broker"
)

// killable is a NATS server in a process of its own.
type killable struct {
	t       *testing.T
	args    []string
	port    int
	process *exec.Cmd
}

func newKillable(t *testing.T) *killable {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "nats-server")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "github.com/nats-io/nats-server/v2").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	port, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	k := &killable{t: t, port: port}
	k.args = []string{binary, "--addr", "127.0.0.1", "--port", strconv.Itoa(k.port), "--jetstream", "--store_dir", t.TempDir()}
	t.Cleanup(k.kill)
	k.start()
	return k
}

func (k *killable) url() string { return fmt.Sprintf("nats://127.0.0.1:%d", k.port) }

func (k *killable) start() {
	k.t.Helper()
	k.process = exec.Command(k.args[0], k.args[1:]...)
	if err := k.process.Start(); err != nil {
		k.t.Fatal(err)
	}
	for end := time.Now().Add(patience); ; {
		conn, err := nats.Connect(k.url())
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(end) {
			k.t.Fatal(err)
		}
		<-time.After(10 * time.Millisecond)
	}
}

func (k *killable) kill() {
	_ = k.process.Process.Kill()
	_ = k.process.Wait()
}

// Whatever NATS is killed behind, what is retained is what was answered: nothing is lost, and nothing that was replaced
// or removed is back. A node that comes then knows no more of it than the store does.
func TestRetainedSurvivesKills(t *testing.T) {
	t.Parallel()
	k := newKillable(t)
	cfg := at(k.url())
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
		k.kill()
		k.start()
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
