package journal_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"ssegateway/internal/journal"
	"ssegateway/internal/journal/journaltest"
)

// table is a table with its directory.
type table struct {
	*journal.Table
	dir *journal.Dir
}

func openTable(path string, env journal.Env, w journal.Options) (o table, err error) {
	if o.dir, err = journal.OpenDir(path, env, "table"); err != nil {
		return o, err
	}
	if o.Table, err = o.dir.OpenTable("table"); err == nil {
		w.Begin = func(*journal.Batch, uint64) {}
		err = o.Log().Start(w)
	}
	return o, err
}

// crash ends a process without a word.
func (o table) crash() { _ = o.dir.Close() }

// all reads everything.
func (o table) all(t rapid.TB) map[journal.Key]string {
	r := o.Log().Reader()
	defer r.Close()
	all := map[journal.Key]string{}
	for _, k := range o.Keys(1) {
		v, err := o.Get(r, k)
		if err != nil || v == nil {
			t.Fatalf("%v: %v, %v", k, v, err)
		}
		all[k] = string(v)
	}
	return all
}

func keyOf(n int) (k journal.Key) {
	k.Kind, k.ID[0], k.ID[15] = 1, byte(n), byte(n%3)
	return k
}

// TestTable: a table is the map that it was told to be, whatever happens to its process and disk. Only a
// removal that could not be written may be undone.
func TestTable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { tableModel(t) })
}

func tableModel(t *rapid.T) {
	path, err := os.MkdirTemp("", "table")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(path) }()
	disk := journaltest.New()
	env := journal.Env{Boot: "1", Wrap: disk.Wrap}
	w := journal.Options{SegmentBytes: 700, Sync: rapid.Bool().Draw(t, "sync")}
	o, err := openTable(path, env, w)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { o.crash() }()
	model, owed := map[journal.Key]string{}, map[journal.Key]string{}
	full := false
	key := func(t *rapid.T) journal.Key { return keyOf(rapid.IntRange(0, 8).Draw(t, "key")) }
	check := func(what string) {
		got := o.all(t)
		for k, v := range owed {
			if _, there := model[k]; !there && got[k] == v {
				delete(got, k)
			}
		}
		if !maps.Equal(got, model) || full && len(owed) == 0 && o.Len() != len(model) {
			t.Fatalf("%s: %v, want %v; %d", what, got, model, o.Len())
		}
	}
	t.Repeat(map[string]func(*rapid.T){
		"put": func(t *rapid.T) {
			k, v := key(t), strings.Repeat("v", rapid.IntRange(0, 300).Draw(t, "length"))+fmt.Sprint(rapid.Int().Draw(t, "value"))
			switch err := o.Put(k, []byte(v)); {
			case err == nil:
				model[k] = v
				delete(owed, k)
			case !full || !errors.Is(err, journal.ErrAway):
				t.Fatal(err)
			}
		},
		"delete": func(t *rapid.T) {
			k := key(t)
			if err := o.Delete(k); err != nil {
				if !full {
					t.Fatal(err)
				}
				owed[k] = model[k]
			}
			delete(model, k)
		},
		"full": func(t *rapid.T) {
			full = true
			disk.Fill(int64(rapid.IntRange(0, 300).Draw(t, "room")))
		},
		"room": func(t *rapid.T) {
			full = false
			disk.Empty()
			if err := errors.Join(o.Log().Probe(), o.Settle()); err != nil {
				t.Fatal(err)
			}
			clear(owed)
		},
		"compact": func(t *rapid.T) {
			if err := o.Compact(); err != nil && !full {
				t.Fatal(err)
			}
			bytes := 0
			for _, v := range model {
				bytes += len(v) + 21
			}
			if n := len(o.Log().Segments()); !full && n > 2*(bytes/700+1)+4 {
				t.Fatalf("%d segments for %d bytes", n, bytes)
			}
		},
		"end": func(t *rapid.T) {
			clean := rapid.Bool().Draw(t, "clean")
			if clean {
				if err := errors.Join(o.Settle(), o.Log().Close()); err != nil && !full {
					t.Fatal(err)
				} else if err == nil {
					clear(owed)
				}
			}
			o.crash()
			disk.Empty()
			full = false
			if o, err = openTable(path, env, w); err != nil {
				t.Fatal(err)
			}
			for k, v := range o.all(t) { // what is back is a value like others
				if owed[k] == v && model[k] == "" {
					model[k] = v
				}
			}
			clear(owed)
		},
		"": func(t *rapid.T) { check("after a step") },
	})
}

// TestTableAtOnce: compaction while others write loses and revives nothing.
func TestTableAtOnce(t *testing.T) {
	dir := t.TempDir()
	o, err := openTable(dir, journal.Env{}, journal.Options{SegmentBytes: 4 << 10})
	if err != nil {
		t.Fatal(err)
	}
	const writers, keys, rounds = 4, 20, 2000
	models := make([]map[journal.Key]string, writers)
	var group sync.WaitGroup
	for i := range writers {
		models[i] = map[journal.Key]string{}
		group.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 0))
			for n := range rounds { // keys of several writers share stripes
				k := journal.Key{Kind: 1}
				k.ID[0], k.ID[1] = byte(i), byte(random.IntN(keys))
				k.ID[15] = k.ID[1]
				if random.IntN(2) == 0 {
					if err := o.Delete(k); err != nil {
						t.Error(err)
					}
					delete(models[i], k)
				} else {
					models[i][k] = fmt.Sprint(i, " ", n)
					if err := o.Put(k, []byte(models[i][k])); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	over := make(chan struct{})
	compacted := make(chan error, 1)
	go func() {
		for {
			select {
			case <-over:
				compacted <- nil
				return
			default:
				if err := o.Compact(); err != nil {
					compacted <- err
					return
				}
			}
		}
	}()
	group.Wait()
	close(over)
	if err := <-compacted; err != nil {
		t.Fatal(err)
	}
	if first := o.Log().Segments()[0].Number; first < 5 {
		t.Errorf("nothing was compacted: the first segment is %d", first)
	}
	want := map[journal.Key]string{}
	for _, m := range models {
		maps.Copy(want, m)
	}
	if got := o.all(t); !maps.Equal(got, want) {
		t.Error("it is not what was written")
	}
	o.crash()
	if o, err = openTable(dir, journal.Env{}, journal.Options{SegmentBytes: 4 << 10}); err != nil {
		t.Fatal(err)
	}
	defer o.crash()
	if got := o.all(t); !maps.Equal(got, want) {
		t.Error("it is not what was written, after the start")
	}
}

// TestKeysInOrder: keys come in the order in which they were written.
func TestKeysInOrder(t *testing.T) {
	o, err := openTable(t.TempDir(), journal.Env{}, journal.Options{SegmentBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer o.crash()
	var want []journal.Key
	for _, n := range []int{5, 2, 9, 1} {
		want = append(want, keyOf(n))
		if err := o.Put(keyOf(n), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := o.Put(journal.Key{Kind: 2}, nil); err != nil {
		t.Fatal(err)
	}
	if got := o.Keys(1); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
