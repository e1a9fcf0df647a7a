package state

import (
	"context"
	little "encoding/binary"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"ssegateway/e2e/harness"
)

// The size of a run. The defaults are for tests of every change; `make kills` sets larger ones.
var (
	kills   = flag.Int("kills", 10, "how often TestKills kills the gateway")
	staying = flag.Int("staying", 20, "how many clients stay")
	seed    = flag.Uint64("seed", uint64(time.Now().UnixNano()), "decides what happens when; printed")
)

// tellWithin is how long after a start the backend may not know what is true.
const tellWithin = 5 * time.Second

// victim is the gateway that is killed.
type victim struct {
	*harness.Process

	t    *testing.T
	dir  string
	port int
	env  []string
}

// TestKills kills a gateway at random moments, among publishers, senders, and clients that come and
// go, and starts it again. Some kills come while it starts; some leave a write that was cut off, some
// come while the disk is full. Within 5 s of each start the backend knows which streams are open. At
// the end each client has every event whose publish was answered, once and in order, without a gap.
func TestKills(t *testing.T) {
	t.Logf("seed %d", *seed)
	random := rand.New(rand.NewPCG(*seed, 0))
	disk, err := smallDisk(t, "128m")
	if err != nil {
		t.Logf("the disk is never full: %v", err)
		disk = ""
	}
	dir := filepath.Join(disk, "state")
	if disk == "" {
		dir = filepath.Join(t.TempDir(), "state")
	}
	w := newWorld(t)
	port, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	w.url = "http://127.0.0.1:" + strconv.Itoa(port)
	g := &victim{t: t, dir: dir, port: port, env: []string{
		"PORT=" + strconv.Itoa(port), "CALLBACK_URL=" + w.backend.URL("/callback"), "STATE_DIR=" + dir, "TOPIC_LOG_BYTES=" + strconv.Itoa(16<<20), "LOG_LEVEL=warn",
	}}
	g.run(w)
	g.awaitHealth()
	t.Cleanup(func() { g.kill() })

	ctx, leave := context.WithCancel(context.Background())
	var present sync.WaitGroup
	for i := range *staying {
		c := &client{w: w, number: i}
		w.clients = append(w.clients, c)
		present.Go(func() { c.stay(ctx) })
	}
	t.Cleanup(func() {
		leave()
		present.Wait()
	})
	w.check("the start")

	count := map[string]int{}
	for i := range *kills {
		what := faults(random, disk != "")
		count[what]++
		stop := w.traffic(ctx, random.Uint64())
		after := time.Duration(random.Int64N(int64(500 * time.Millisecond)))
		pause := time.Duration(random.Int64N(int64(200 * time.Millisecond)))
		<-time.After(after)
		empty := func() {}
		if what == killFull || what == killHealed {
			w.setFull(true)
			empty = fill(t, disk)
			<-time.After(pause)
		}
		if what == killHealed {
			empty()
			empty = func() {}
			g.awaitSettled(w)
			w.setFull(false)
			w.settled()
			<-time.After(pause)
		}
		g.kill()
		empty()
		w.setFull(false)
		if what == killTorn {
			g.tear(random)
		}
		if what == killTwice {
			g.run(w)
			<-time.After(pause)
			g.kill()
		}
		g.run(w)
		g.awaitHealth()
		stop()
		w.check(fmt.Sprintf("kill %d (%s, after %v and %v)", i+1, what, after, pause))
		if t.Failed() {
			break
		}
	}
	t.Logf("kills: %v", count)
	w.checkHistories()
	w.checkRetained()
	if !t.Failed() {
		harness.Figure(t, "%d kills, %d publications, %d streams: each end told, nothing answered lost, true within %v", *kills, w.next, len(w.streams), tellWithin)
	}
}

// What a kill comes with.
const (
	killPlain  = "plain"
	killTorn   = "with a write that was cut off"
	killTwice  = "and again at the start"
	killFull   = "while the disk is full"
	killHealed = "after the disk was full"
)

func faults(random *rand.Rand, fillable bool) string {
	switch n := random.IntN(20); {
	case n < 3:
		return killTorn
	case n < 7:
		return killTwice
	case n < 9 && fillable:
		return killFull
	case n < 11 && fillable:
		return killHealed
	default:
		return killPlain
	}
}

// run starts the gateway, and does not wait for it.
func (g *victim) run(w *world) {
	g.t.Helper()
	p, err := harness.Run(harness.Command{Args: []string{binary}, Env: g.env})
	if err != nil {
		g.t.Fatal(err)
	}
	w.mu.Lock()
	w.began = time.Now()
	w.mu.Unlock()
	g.Process = p
}

func (g *victim) awaitHealth() {
	g.t.Helper()
	if err := g.AwaitHealth(harness.Local(g.port, nil)); err != nil {
		g.t.Fatalf("%v\n%s", err, g.Log.Text())
	}
}

// kill kills the gateway, which must have no race and no panic in its log.
func (g *victim) kill() {
	g.t.Helper()
	g.Kill()
	text := g.Log.Text()
	if strings.Contains(text, "WARNING: DATA RACE") || strings.Contains(text, "panic: ") {
		g.t.Errorf("the gateway reported a race or a panic:\n%s", text)
	}
}

// awaitSettled waits until the gateway has written all records that it owed while the disk was full.
func (g *victim) awaitSettled(w *world) {
	g.t.Helper()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for end := time.Now().Add(harness.Patience); ; <-poll.C {
		if _, ok := w.publish(10); ok {
			break
		}
		if time.Now().After(end) {
			g.t.Fatalf("nothing can be published although there is room\n%s", g.Log.Text())
		}
	}
	for end := time.Now().Add(harness.Patience); w.metric("ssegateway_state_records_waiting") != "0"; <-poll.C {
		if time.Now().After(end) {
			g.t.Fatalf("records wait although there is room\n%s", g.Log.Text())
		}
	}
}

// metric returns a metric without labels, as it is written.
func (w *world) metric(name string) string {
	resp, err := w.http.Get(w.url + "/metrics")
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// tear leaves what a write that was cut off leaves: the beginning of a frame, behind all others in the
// newest file of each journal, and a segment that has not got its name.
func (g *victim) tear(random *rand.Rand) {
	g.t.Helper()
	files, err := filepath.Glob(filepath.Join(g.dir, "*.journal"))
	if err != nil || len(files) == 0 {
		g.t.Fatalf("%q, %v", files, err)
	}
	slices.Sort(files)
	for i, path := range files {
		journal, _, _ := strings.Cut(filepath.Base(path), "-")
		if i+1 < len(files) && strings.HasPrefix(filepath.Base(files[i+1]), journal+"-") {
			continue // not the newest of its journal
		}
		info, err := os.Stat(path)
		if err != nil {
			g.t.Fatal(err)
		}
		var number uint64
		if _, err := fmt.Sscanf(filepath.Base(path), journal+"-%d.journal", &number); err != nil {
			g.t.Fatal(err)
		}
		frame := frameHead(number, info.Size(), 1000)
		frame = append(frame, make([]byte, 999)...)[:1+random.IntN(len(frame)+998)]
		f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			g.t.Fatal(err)
		}
		if _, err := f.Write(frame); err != nil {
			g.t.Error(err)
		}
		_ = f.Close()
		unfinished := fmt.Sprintf("%s-%08d.journal.new", journal, number+1)
		if err := os.WriteFile(filepath.Join(g.dir, unfinished), frame, 0o600); err != nil {
			g.t.Error(err)
		}
	}
}

// frameHead returns the head of a frame, in the form that internal/journal documents.
func frameHead(number uint64, position int64, length uint32) []byte {
	castagnoli := crc32.MakeTable(crc32.Castagnoli)
	head := little.LittleEndian.AppendUint32(nil, length)
	head = little.LittleEndian.AppendUint32(head, 12345)
	place := little.LittleEndian.AppendUint64(nil, number)
	place = little.LittleEndian.AppendUint64(place, uint64(position))
	return little.LittleEndian.AppendUint32(head, crc32.Checksum(append(place, head...), castagnoli))
}

// check waits until all clients that stay have a stream, and the backend takes those and no others
// for open. Nobody else comes or goes meanwhile.
func (w *world) check(after string) {
	w.t.Helper()
	begin := time.Now()
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for {
		truth := map[string]bool{}
		for _, c := range w.clients {
			c.mu.Lock()
			if c.token != "" {
				truth[c.token] = true
			}
			c.mu.Unlock()
		}
		known, others := w.picture()
		maps.DeleteFunc(others, func(token string, _ bool) bool { return truth[token] })
		if len(truth) == len(w.clients) && maps.Equal(truth, known) {
			w.forget(others)
			break
		}
		if time.Since(begin) > tellWithin {
			w.t.Errorf("%s: after %v %d of %d clients have a stream, and the backend takes %d for open; not told of: %v; told of, but open: %v", after, tellWithin,
				len(truth), len(w.clients), len(known), minus(known, truth), minus(truth, known))
			break
		}
		<-poll.C
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, wrong := range w.wrong {
		w.t.Errorf("%s: %s", after, wrong)
	}
	w.wrong = nil
}

// forget removes streams without a record, of whose end nobody tells.
func (w *world) forget(tokens map[string]bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for token := range tokens {
		delete(w.streams, token)
	}
}

func minus(a, b map[string]bool) (tokens []string) {
	for token := range a {
		if !b[token] {
			tokens = append(tokens, token)
		}
	}
	return tokens
}

// checkHistories publishes a last event, waits until all clients have it, and checks what they got.
func (w *world) checkHistories() {
	w.t.Helper()
	last, ok := w.publish(0)
	if !ok {
		w.t.Fatal("the last event cannot be published")
	}
	for _, c := range w.clients {
		end, poll := time.Now().Add(harness.Patience), time.NewTicker(10*time.Millisecond)
		for c.last() != last {
			if time.Now().After(end) {
				w.t.Fatalf("client %d has %s, the last event is %s", c.number, c.last(), last)
			}
			<-poll.C
		}
		poll.Stop()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.clients {
		c.mu.Lock()
		for _, wrong := range wrongIn(c.begin, c.history, w.events) {
			w.t.Errorf("client %d: %s", c.number, wrong)
		}
		c.mu.Unlock()
	}
}

func (c *client) last() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lastID
}

// wrongIn returns what is wrong in a history that begins behind an offset: an event that was answered is
// missing, or one is doubled or out of order.
func wrongIn(begin uint64, history []uint64, events map[uint64]*published) (wrong []string) {
	had := map[uint64]bool{}
	at := begin
	for _, offset := range history {
		if offset <= at {
			wrong = append(wrong, fmt.Sprintf("event %d after %d", offset, at))
		}
		at = offset
		had[offset] = true
	}
	for offset, e := range events {
		if e.answered && offset > begin && !had[offset] {
			wrong = append(wrong, fmt.Sprintf("event %d is missing", offset))
		}
	}
	return wrong
}

// The oracle finds what it exists for.
func TestWrongIn(t *testing.T) {
	events := map[uint64]*published{1: {answered: true}, 2: {answered: true}, 3: {}, 4: {answered: true}}
	for _, test := range []struct {
		begin   uint64
		history []uint64
		want    string
	}{
		{0, []uint64{1, 2, 3, 4}, ""},
		{0, []uint64{1, 2, 4}, ""},
		{2, []uint64{4}, ""},
		{0, []uint64{1, 4}, "event 2 is missing"},
		{0, []uint64{1, 2}, "event 4 is missing"},
		{0, []uint64{1, 1, 2, 4}, "event 1 after 1"},
		{0, []uint64{1, 4, 2}, "event 2 after 4"},
	} {
		if got := strings.Join(wrongIn(test.begin, test.history, events), ", "); got != test.want {
			t.Errorf("%v from %d: %q, want %q", test.history, test.begin, got, test.want)
		}
	}
}
