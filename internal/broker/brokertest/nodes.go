package brokertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"ssegateway/internal/broker"
)

// RunNodes runs the suite for implementations of broker.Nodes. open opens a store for one node,
// the same store for each call within a test.
func RunNodes(t *testing.T, open func(t testing.TB) func() broker.Nodes) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, open func() broker.Nodes)
	}{
		{"Age", testAge},
		{"Keys", testKeys},
		{"Watch", testWatch},
		{"Records", testRecords},
		{"TakeOver", testTakeOver},
		{"ManyRecords", testManyRecords},
		{"Messages", testMessages},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func must[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func wantError(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%v, want %v", err, want)
	}
}

// All see the same age, and it grows.
func testAge(t *testing.T, open func() broker.Nodes) {
	const slack = time.Second // of a busy machine
	begin := time.Now()
	a := open()
	if age := a.Age(); age < 0 || age > time.Since(begin)+slack {
		t.Errorf("the age of a store that was just made is %v", age)
	}
	for range 3 {
		key := must[broker.Key](t)
		key(a.Get(within(t), 7)) // takes a while
	}
	before := a.Age()
	b := open()
	if late := b.Age(); before <= 0 || late < before || late > a.Age()+slack {
		t.Errorf("the age of the store is %v for a node that opened it late, want at least the %v of another", late, before)
	}
}

func testKeys(t *testing.T, open func() broker.Nodes) {
	ctx := within(t)
	a, b := open(), open()
	rev, key := must[uint64](t), must[broker.Key](t)
	if k := key(a.Get(ctx, 7)); k.Revision != 0 || k.Value != nil {
		t.Errorf("a key that was never set: %+v", k)
	}
	first := rev(a.Set(ctx, 7, []byte("x"), 0))
	_, err := b.Set(ctx, 7, []byte("y"), 0)
	wantError(t, err, broker.ErrConflict)
	second := rev(a.Set(ctx, 7, []byte("z"), first))
	_, err = b.Set(ctx, 7, []byte("y"), first)
	wantError(t, err, broker.ErrConflict)
	wantError(t, b.Remove(ctx, 7, first), broker.ErrConflict)
	if k := key(b.Get(ctx, 7)); k.Node != 7 || k.Revision != second || string(k.Value) != "z" || second <= first {
		t.Errorf("%+v behind %d and %d", k, first, second)
	}
	if err := b.Remove(ctx, 7, second); err != nil {
		t.Error(err)
	}
	if k := key(a.Get(ctx, 7)); k.Revision <= second || k.Value != nil {
		t.Errorf("a removed key: %+v", k)
	}
	_, err = a.Set(ctx, 7, []byte("z"), 0)
	wantError(t, err, broker.ErrConflict) // it has left a trace
}

func testWatch(t *testing.T, open func() broker.Nodes) {
	ctx := within(t)
	n := open()
	rev := must[uint64](t)
	rev(n.Set(ctx, 2, []byte("b"), rev(n.Set(ctx, 2, []byte("a"), 0))))
	one := rev(n.Set(ctx, 1, []byte("a"), 0))
	seen := make(chan broker.Key, 100)
	watching, stop := context.WithCancel(ctx)
	over := make(chan error, 1)
	go func() { over <- n.Watch(watching, func(k broker.Key) { seen <- k }) }()
	next := func(node uint32, value string) {
		t.Helper()
		select {
		case k := <-seen:
			if k.Node != node || string(k.Value) != value {
				t.Errorf("seen %+v, want %d %q", k, node, value)
			}
		case <-ctx.Done():
			t.Fatal("Watch reported no change")
		}
	}
	next(2, "b")
	next(1, "a")
	one = rev(n.Set(ctx, 1, []byte("c"), one))
	next(1, "c")
	if err := n.Remove(ctx, 1, one); err != nil {
		t.Error(err)
	}
	next(1, "")
	stop()
	if err := <-over; err == nil {
		t.Error("Watch returned no error after its context ended")
	}
}

func token(i int) (t broker.Token) {
	copy(t[:], fmt.Sprintf("%016d", i))
	return t
}

func held(t testing.TB, n broker.Nodes, node uint32) map[broker.Token]string {
	t.Helper()
	all := map[broker.Token]string{}
	err := n.Held(within(t), node, func(token broker.Token, request []byte) error {
		all[token] = string(request)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return all
}

func testRecords(t *testing.T, open func() broker.Nodes) {
	ctx := within(t)
	a, b := open(), open()
	if all := held(t, b, 1); len(all) != 0 {
		t.Errorf("held %v", all)
	}
	for i := range 3 {
		for range 2 { // the second time it is there already
			if err := a.Hold(ctx, 1, token(i), []byte("{}")); err != nil {
				t.Error(err)
			}
		}
	}
	if err := a.Hold(ctx, 2, token(7), []byte("{}")); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := a.Release(ctx, 1, token(1)); err != nil {
			t.Error(err)
		}
	}
	if all := held(t, b, 1); len(all) != 2 || all[token(0)] != "{}" || all[token(2)] != "{}" {
		t.Errorf("held %v", all)
	}
	if err := a.Hold(ctx, 1, token(1), []byte("[]")); err != nil {
		t.Error(err)
	}
	if all := held(t, b, 1); len(all) != 3 || all[token(1)] != "[]" {
		t.Errorf("held %v", all)
	}
	stop := errors.New("enough")
	wantError(t, b.Held(ctx, 1, func(broker.Token, []byte) error { return stop }), stop)
	if err := a.Forget(ctx, 1); err != nil {
		t.Error(err)
	}
	if one, two := held(t, b, 1), held(t, b, 2); len(one) != 0 || len(two) != 1 {
		t.Errorf("held %v and %v", one, two)
	}
}

func testTakeOver(t *testing.T, open func() broker.Nodes) {
	ctx := within(t)
	a, b := open(), open()
	if err := a.Hold(ctx, 1, token(1), []byte("{}")); err != nil {
		t.Error(err)
	}
	for _, i := range []int{1, 2} { // one is there, the other is not
		for _, try := range []struct {
			from          broker.Nodes
			by            uint32
			taken, before bool
		}{{a, 5, true, false}, {b, 5, true, true}, {b, 6, false, true}} {
			taken, before, err := try.from.TakeOver(ctx, 1, token(i), try.by)
			if err != nil || taken != try.taken || before != try.before {
				t.Errorf("%d by %d: taken %t, before %t, %v; want %t, %t", i, try.by, taken, before, err, try.taken, try.before)
			}
		}
		wantError(t, a.Hold(ctx, 1, token(i), []byte("{}")), broker.ErrTaken)
	}
	if all := held(t, b, 1); len(all) != 0 {
		t.Errorf("held %v", all)
	}
}

func testManyRecords(t *testing.T, open func() broker.Nodes) {
	ctx := within(t)
	n := open()
	const many = 1500
	for i := range many {
		if err := n.Hold(ctx, 1, token(i), []byte(`{"url":"/"}`)); err != nil {
			t.Fatal(err)
		}
		if i%3 == 0 {
			if err := n.Release(ctx, 1, token(i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if all := held(t, n, 1); len(all) != many-many/3 {
		t.Errorf("%d records, want %d", len(all), many-many/3)
	}
}

func testMessages(t *testing.T, open func() broker.Nodes) {
	ctx := within(t)
	a, b := open(), open()
	_, err := a.Ask(ctx, 9, []byte("x"))
	wantError(t, err, broker.ErrNobody)
	release := make(chan struct{})
	stop, err := b.Answer(9, func(_ context.Context, message []byte) []byte {
		if string(message) == "wait" {
			<-release
		}
		return append([]byte("got "), message...)
	})
	if err != nil {
		t.Fatal(err)
	}
	late := make(chan []byte, 1)
	go func() {
		answer, _ := a.Ask(ctx, 9, []byte("wait"))
		late <- answer
	}()
	large := bytes.Repeat([]byte("x"), a.MaxMessage()/2)
	for _, message := range [][]byte{[]byte("x"), large} {
		if answer, err := a.Ask(ctx, 9, message); err != nil || string(answer) != "got "+string(message) {
			t.Errorf("%.20s, %v", answer, err)
		}
	}
	close(release)
	if answer := string(<-late); answer != "got wait" {
		t.Errorf("%q", answer)
	}
	_, err = a.Ask(ctx, 9, []byte(strings.Repeat("x", a.MaxMessage()+1)))
	wantError(t, err, broker.ErrTooLarge)
	stop()
	for ctx.Err() == nil { // it may take a moment until that is known everywhere
		asking, cancel := context.WithTimeout(ctx, time.Second)
		_, err = a.Ask(asking, 9, []byte("x"))
		cancel()
		if errors.Is(err, broker.ErrNobody) {
			return
		}
	}
	t.Errorf("asked a node that does not listen any more: %v", err)
}
