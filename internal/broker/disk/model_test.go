package disk

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"ssegateway/internal/broker"
	"ssegateway/internal/journal"
	"ssegateway/internal/journal/journaltest"
	"ssegateway/sse"
)

// image is all that readers can see of a log.
type image struct {
	Stats   broker.Stats
	Records []string
	Kept    []string // retained events
}

func imageOf(l *broker.Log) image {
	i := image{Stats: l.Stats()}
	i.Stats.Records = 0       // counts those of this process
	i.Stats.RetainedBytes = 0 // less after a restart: without the names of topics that have an event no longer
	missed, _ := l.Missed(0, i.Stats.Last, []string{"t", "u"}, 1<<20)
	for _, r := range missed {
		i.Records = append(i.Records, fmt.Sprint(r.Offset, r.Topics, r.Stored, string(r.Frame.Wire(false))))
	}
	for more, cursor := true, (broker.RetainedCursor{}); more; {
		var list []broker.Retained
		list, cursor, more = l.Retained("", cursor, 10, 1<<20)
		for _, r := range list {
			i.Kept = append(i.Kept, fmt.Sprint(r.Topic, " ", r.Key, " ", r.Record.Offset, " ", string(r.Record.Frame.Wire(false))))
		}
	}
	return i
}

// places returns the places of retained events, and their offsets: what does not change with the epoch.
func (i image) places() (places []string) {
	for _, k := range i.Kept {
		place, _, _ := strings.Cut(k, " id: ")
		places = append(places, place)
	}
	return places
}

// model is what a gateway and its clients know of a store.
type model struct {
	t      *rapid.T
	store  *Store
	path   string
	disk   *journaltest.Disk
	sync   bool
	boot   int
	full   bool
	clean  bool // the last stop
	half   bool // the last stop was to be clean, and not all could be written
	number int  // of the last event
	others int  // removals, and events that are not stored

	keyed   map[string]keyed        // publications with an idempotency key
	ids     map[string]string       // all that were ever seen, and what they meant
	safe    broker.Position         // what a cut of power must leave
	kept    map[broker.Token]string // records that it must leave
	values  []string                // retained events that it must leave
	records map[broker.Token]string
	ever    map[broker.Token][]string
	owed    map[broker.Token]string
}

type keyed struct {
	p  broker.Publication
	at broker.Position
}

func (m *model) open() {
	var err error
	m.store, err = open(m.path, Options{MaxBytes: 5000, MaxAge: time.Hour, RetainedBytes: 4000, Sync: m.sync}, env{
		journal.Env{Boot: strconv.Itoa(m.boot), Wrap: m.disk.Wrap}, 700,
	})
	if err != nil {
		m.t.Fatal(err)
	}
	m.synced()
}

// synced notes that all is on the disk.
func (m *model) synced() {
	m.safe, m.kept, m.values = m.store.log.Position(), maps.Clone(m.records), imageOf(m.store.log).places()
}

// look checks that no id means two events.
func (m *model) look() {
	stats := m.store.log.Stats()
	missed, _ := m.store.log.Missed(0, stats.Last, []string{"t", "u"}, 1<<20)
	for _, r := range missed {
		id, wire, _ := strings.Cut(string(r.Frame.Wire(false)), "\n")
		m.means(id, wire)
	}
}

func (m *model) means(id, wire string) {
	if before, seen := m.ids[id]; seen && before != wire {
		m.t.Fatalf("%s means %q, and meant %q", id, wire, before)
	}
	m.ids[id] = wire
}

func (m *model) publish(t *rapid.T) {
	m.number++
	topics := [][]string{{"t"}, {"u"}, {"t", "u"}}[rapid.IntRange(0, 2).Draw(t, "topics")]
	data := strconv.Itoa(m.number) + strings.Repeat(".", rapid.SampledFrom([]int{0, 10, 300, 2000}).Draw(t, "length"))
	p := broker.Publication{Topics: topics, Event: sse.Event{Data: data}, Store: rapid.IntRange(0, 4).Draw(t, "stored") > 0}
	if p.Store && rapid.Bool().Draw(t, "retain") {
		p.Retain, p.Key = true, rapid.SampledFrom([]string{"", "k", "l"}).Draw(t, "key")
	}
	if rapid.IntRange(0, 3).Draw(t, "keyed") == 0 {
		p.IdempotencyKey, p.Digest = strconv.Itoa(m.number), [32]byte{byte(m.number)}
	}
	m.append(t, p)
}

// append appends what is new.
func (m *model) append(t *rapid.T, p broker.Publication) {
	before := imageOf(m.store.log)
	at, err := m.store.Append(t.Context(), p)
	switch {
	case err == nil:
	case m.full && errors.Is(err, broker.ErrUnavailable) || p.Retain && errors.Is(err, broker.ErrRetainedFull):
		if diff := cmp.Diff(before, imageOf(m.store.log)); diff != "" {
			t.Fatalf("%v, but: %s", err, diff)
		}
		return
	default:
		t.Fatalf("%v, full is %v", err, m.full)
	}
	if moves := p.Store || p.Remove; moves && at.Offset <= before.Stats.Last || !moves && at.Offset != before.Stats.Last {
		t.Fatalf("at %v, behind %v", at, before.Stats.Last)
	}
	if got := m.store.log.Position(); got != at {
		t.Fatalf("it is not in the log: %v, %v", got, at)
	}
	if !p.Store {
		m.others++
	}
	if p.IdempotencyKey != "" {
		m.keyed[p.IdempotencyKey] = keyed{p, at}
	}
	if m.sync && at != (broker.Position{}) {
		m.safe = at
	}
}

// repeat appends what was appended before.
func (m *model) repeat(t *rapid.T) {
	for _, k := range m.keyed {
		before := imageOf(m.store.log)
		at, err := m.store.Append(t.Context(), k.p)
		if !errors.Is(err, broker.ErrRepeated) || at.Offset != k.at.Offset {
			t.Fatalf("a repeat of %v: %v, %v", k.at, at, err)
		}
		if diff := cmp.Diff(before, imageOf(m.store.log)); diff != "" {
			t.Fatal(diff)
		}
	}
}

// again opens what has become of the directory. cut: the machine had stopped.
func (m *model) again(cut bool) {
	before, found := imageOf(m.store.log), m.store.log.Stats()
	_ = m.store.dir.Close()
	path := m.path
	if cut {
		m.boot++
		seed := rapid.Uint64().Draw(m.t, "seed")
		m.path = tempDir(m.t)
		if err := m.disk.Cut(path, m.path, rand.New(rand.NewPCG(seed, 0))); err != nil {
			m.t.Fatal(err)
		}
	}
	m.disk.Empty()
	m.full = false
	safe, kept, values := m.safe, m.kept, m.values
	m.open()
	if path != m.path {
		_ = os.RemoveAll(path)
	}
	after := imageOf(m.store.log)
	switch {
	case !cut || m.clean || m.sync || m.half && after.Stats.Epoch == before.Stats.Epoch: // the events may be half of it
		if diff := cmp.Diff(before, after); diff != "" {
			m.t.Fatalf("cut %v, clean %v, sync %v: %s", cut, m.clean, m.sync, diff)
		}
		if cut && m.half && !m.sync { // keys of events that are not stored are among the records, which may be half of it too
			maps.DeleteFunc(m.keyed, func(_ string, k keyed) bool { return !k.p.Store })
		}
	case after.Stats.Epoch == before.Stats.Epoch:
		m.t.Fatal("the epoch has survived a cut of power")
	default:
		maps.DeleteFunc(m.keyed, func(_ string, k keyed) bool { return k.at.Offset > safe.Offset || !k.p.Store })
	}
	switch {
	case after.Stats.Epoch == before.Stats.Epoch:
	case after.Stats.Last < safe.Offset || after.Stats.Last > found.Last:
		m.t.Fatalf("the log ends at %d, not from %d to %d", after.Stats.Last, safe.Offset, found.Last)
	case slices.ContainsFunc(values, func(v string) bool {
		return slices.Contains(before.places(), v) && !slices.Contains(after.places(), v)
	}):
		m.t.Fatalf("retained %q, and before %q, of which %q was synced", after.Kept, before.Kept, values)
	}
	got := map[broker.Token]string{}
	for token, record := range m.store.Survivors() {
		got[token] = string(record)
		if !slices.Contains(m.ever[token], string(record)) {
			m.t.Fatalf("%v has a record that nobody wrote: %q", token, record)
		}
	}
	if cut && !m.clean && !m.sync {
		for token, record := range kept {
			if m.records[token] == record && got[token] != record {
				m.t.Fatalf("%v is lost, and was synced", token)
			}
		}
		m.records = got
	}
	for token, record := range got {
		if m.records[token] == "" && m.owed[token] == record {
			m.records[token] = record // its removal could not be written
		}
	}
	if !maps.Equal(got, m.records) {
		m.t.Fatalf("records %v, want %v", got, m.records)
	}
	clear(m.owed)
	m.clean, m.half = false, false
	m.synced()
}

func tempDir(t *rapid.T) string {
	dir, err := os.MkdirTemp("", "disk")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func token(t *rapid.T) (k broker.Token) {
	k[15] = byte(rapid.IntRange(1, 6).Draw(t, "token"))
	return k
}

// TestModel: whatever happens to a process, its machine and its disk, no id means two events, what was answered is there, what
// was refused is not, and records are what they were.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{
			t: t, path: tempDir(t), disk: journaltest.New(), sync: rapid.Bool().Draw(t, "sync"), keyed: map[string]keyed{}, ids: map[string]string{},
			records: map[broker.Token]string{}, ever: map[broker.Token][]string{}, owed: map[broker.Token]string{},
		}
		m.open()
		defer func() {
			_ = m.store.dir.Close()
			_ = os.RemoveAll(m.path)
		}()
		t.Repeat(map[string]func(*rapid.T){
			"publish":  m.publish,
			"publish2": m.publish,
			"repeat":   m.repeat,
			"remove": func(t *rapid.T) {
				m.append(t, broker.Publication{Topics: []string{rapid.SampledFrom([]string{"t", "u"}).Draw(t, "topic")}, Key: rapid.SampledFrom([]string{"", "k"}).Draw(t, "key"), Remove: true})
			},
			"put": func(t *rapid.T) {
				k := token(t)
				m.number++
				record := strconv.Itoa(m.number) + strings.Repeat(".", rapid.IntRange(0, 300).Draw(t, "length"))
				m.ever[k] = append(m.ever[k], record)
				if err := m.store.Put(k, []byte(record)); err == nil {
					m.records[k] = record
					delete(m.owed, k)
				} else if !m.full {
					t.Fatal(err)
				}
			},
			"delete": func(t *rapid.T) {
				k := token(t)
				if err := m.store.Delete(k); err != nil {
					if !m.full {
						t.Fatal(err)
					}
					m.owed[k] = m.records[k]
				}
				delete(m.records, k)
			},
			"full": func(t *rapid.T) {
				m.full = true
				m.disk.Fill(int64(rapid.IntRange(0, 1500).Draw(t, "room")))
			},
			"room": func(t *rapid.T) {
				m.full = false
				m.disk.Empty()
				if err := m.store.upkeep(); err != nil || m.store.Away() > 0 {
					t.Fatal(err, m.store.Away())
				}
				clear(m.owed)
				m.synced()
			},
			"upkeep": func(t *rapid.T) {
				err := m.store.upkeep()
				if err != nil && !m.full {
					t.Fatal(err)
				}
				if err == nil {
					m.synced()
					// A start begins a file, so each event, removal and key may have its own.
					if n := len(m.store.events.Segments()); n > int(m.store.log.Stats().Events)+m.others+2 {
						t.Fatalf("%d files of %d events", n, m.store.log.Stats().Events)
					}
				}
			},
			"close": func(t *rapid.T) {
				err := m.store.Close()
				if err != nil && !m.full {
					t.Fatal(err)
				}
				if err == nil {
					clear(m.owed)
				}
				m.clean, m.half = err == nil, err != nil
				m.again(rapid.Bool().Draw(t, "boot"))
			},
			"kill": func(*rapid.T) { m.again(false) },
			"cut":  func(*rapid.T) { m.again(true) },
			"":     func(*rapid.T) { m.look() },
		})
	})
}

// FuzzEvent: what is read is written again as it was, or is an error.
func FuzzEvent(f *testing.F) {
	name, _ := sse.NewName("n")
	f.Add(byte(kindEvent), appendEvent(nil, &stored{
		broker.Publication{
			Topics: []string{"a", "b"}, Event: sse.Event{Name: name, Data: "d\nd", Retry: sse.RetryMillis(5)}, Store: true,
			Retain: true, Key: "k", IdempotencyKey: "i", Digest: [32]byte{1},
		}, 7, time.Unix(1, 2),
	}))
	f.Add(byte(kindBeginning), appendBeginning(nil, "ABC", begin{last: 6, stored: 5}))
	f.Fuzz(func(t *testing.T, kind byte, b []byte) {
		_, _, _ = parseBeginning(b)
		e, err := parseEvent(kind, b)
		if err != nil {
			return
		}
		again, err := parseEvent(kind, appendEvent(nil, &e))
		if err != nil || !bytes.Equal(appendEvent(nil, &again), appendEvent(nil, &e)) {
			t.Errorf("%v: %+v, %+v", err, e, again)
		}
	})
}
