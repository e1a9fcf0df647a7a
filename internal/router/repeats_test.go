package router

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ssegateway/internal/cluster"
	"ssegateway/internal/connections"
	"ssegateway/internal/gateway"
	"ssegateway/internal/repeats"
)

func once(token gateway.Token, key, text string) connections.Send {
	return connections.Send{Token: token, Event: data(text), HasEvent: true, IdempotencyKey: key}
}

// The node that holds the connection, or held it, tells a repeat, whichever node it comes to.
func TestRepeatElsewhere(t *testing.T) {
	among(t, 3, func(t *testing.T, net *network) {
		owner := net.nodes[1]
		token, c := owner.open(t, "/", gateway.Grant{})
		want := func(number uint32, s connections.Send, outcome connections.Outcome, err error) {
			t.Helper()
			if got, gotErr := net.nodes[number].Send(t.Context(), s); got != outcome || !errors.Is(gotErr, err) {
				t.Errorf("node %d, %q: %d, %v; want %d, %v", number, s.Event.Data, got, gotErr, outcome, err)
			}
		}
		last := once(token, "last", "3")
		last.Close = true
		for n, first := range []uint32{2, 3, 1} {
			key := fmt.Sprint("k", n)
			want(first, once(token, key, key), connections.Sent, nil)
			for number := range uint32(3) {
				want(number+1, once(token, key, key), connections.Sent|connections.Duplicate, nil)
				want(number+1, once(token, key, "other"), 0, connections.ErrKeyReused)
			}
		}
		want(3, last, connections.Sent, nil)
		synctest.Wait()
		if owner.own.Holds(token) {
			t.Fatal("it is still there")
		}
		for number := range uint32(3) {
			want(number+1, last, connections.Sent|connections.Duplicate, nil)
			want(number+1, once(token, "k0", "k0"), connections.Sent|connections.Duplicate, nil)
			want(number+1, once(token, "new", "4"), 0, connections.ErrNotFound)
		}
		if c.text() != "data: k0\n\ndata: k1\n\ndata: k2\n\ndata: 3\n\n" {
			t.Errorf("received %q", c.text())
		}
		time.Sleep(repeats.Life) // fake clock
		want(2, last, 0, connections.ErrNotFound)
		delete(net.nodes, 1) // it dies, and takes what it knew along
		want(2, last, 0, connections.ErrNotFound)
	})
}

// deaf are nodes whose answers are lost.
type deaf struct{ *node }

func (d deaf) Ask(ctx context.Context, token gateway.Token, message func(int) ([]byte, error)) ([]byte, error) {
	if _, err := d.node.Ask(ctx, token, message); err != nil {
		return nil, err
	}
	return nil, cluster.ErrUnreachable
}

// Where the answer to the first was lost, the repeat finds out that it was carried out.
func TestRepeatAfterUnreachable(t *testing.T) {
	among(t, 2, func(t *testing.T, net *network) {
		other := net.nodes[2]
		token, c := net.nodes[1].open(t, "/", gateway.Grant{})
		other.Router.nodes = deaf{other}
		for range 2 {
			if _, err := other.Send(t.Context(), once(token, "k", "1")); !errors.Is(err, connections.ErrUnreachable) {
				t.Error(err)
			}
		}
		other.Router.nodes = other
		if outcome, err := other.Send(t.Context(), once(token, "k", "1")); outcome != connections.Sent|connections.Duplicate || err != nil {
			t.Error(outcome, err)
		}
		if c.text() != "data: 1\n\n" {
			t.Errorf("received %q", c.text())
		}
	})
}

// A node of a version that does not know keys gets no send that has one: it would carry out a repeat.
// The others of a batch reach it.
func TestKeysAndOlderVersions(t *testing.T) {
	for version := range withKeys {
		among(t, 2, func(t *testing.T, net *network) {
			a := net.nodes[1]
			net.nodes[2].version = version
			token, c := net.nodes[2].open(t, "/", gateway.Grant{})
			if _, err := a.Send(t.Context(), once(token, "k", "0")); !errors.Is(err, connections.ErrUnreachable) {
				t.Errorf("version %d: %v", version, err)
			}
			if lines := a.log.String(); !strings.Contains(lines, "idempotency key") {
				t.Errorf("logged %q", lines)
			}
			var operations []connections.Operation
			for i := range 9 {
				s := once(token, "", fmt.Sprint(i))
				if i%4 == 1 {
					s.IdempotencyKey = "k"
				}
				operations = append(operations, connections.Operation{Send: s})
			}
			for i, r := range a.Batch(t.Context(), operations) {
				if refused := i%4 == 1; refused != errors.Is(r.Err, connections.ErrUnreachable) || !refused && r.Outcome != connections.Sent {
					t.Errorf("version %d: %d: %+v", version, i, r)
				}
			}
			want := ""
			for _, i := range []int{0, 2, 3, 4, 6, 7, 8} {
				want += fmt.Sprintf("data: %d\n\n", i)
			}
			if c.text() != want {
				t.Errorf("version %d: received %q, want %q", version, c.text(), want)
			}
			if slices.ContainsFunc(net.asked, func(message string) bool { return strings.Contains(message, "idempotency") }) {
				t.Errorf("version %d: it was sent %q", version, net.asked)
			}
		})
	}
}

// Repeats in one batch, for another node, are told from the first.
func TestRepeatInBatch(t *testing.T) {
	among(t, 2, func(t *testing.T, net *network) {
		a := net.nodes[1]
		token, c := net.nodes[2].open(t, "/", gateway.Grant{Topics: []string{"t"}})
		begin := c.text()
		p := connections.Publication{Topics: []string{"t"}, Event: data("p"), IdempotencyKey: "k", All: true}
		results := a.Batch(t.Context(), []connections.Operation{
			{Send: once(token, "k", "1")}, {Send: once(token, "k", "1")}, {Send: once(token, "k", "2")}, {Publish: &p}, {Publish: &p},
		})
		if results[0].Outcome != connections.Sent || results[1].Outcome != connections.Sent|connections.Duplicate || !errors.Is(results[2].Err, connections.ErrKeyReused) {
			t.Errorf("%+v", results)
		}
		first, again := results[3].Published, results[4].Published
		if again.Position != first.Position || first.Receivers != 1 || again.Receivers != 1 || first.Duplicate || !again.Duplicate || again.Uncounted {
			t.Errorf("%+v, then %+v", first, again)
		}
		if got := strings.TrimPrefix(c.text(), begin); got != "data: 1\n\ndata: p\n\n" {
			t.Errorf("received %q", got)
		}
	})
}

// A repeat of a publish may come to any node. Only the first one's node knows how many connections it went to,
// and nobody is asked.
func TestRepeatedPublishElsewhere(t *testing.T) {
	among(t, 3, func(t *testing.T, net *network) {
		for n := range uint32(3) {
			net.nodes[n+1].open(t, "/", gateway.Grant{Topics: []string{"t"}})
		}
		p := connections.Publication{Topics: []string{"t"}, Event: data("p"), Store: true, IdempotencyKey: "k", All: true}
		first, err := net.nodes[1].Publish(t.Context(), p)
		if err != nil || first.Receivers != 3 || first.Duplicate {
			t.Fatalf("%+v, %v", first, err)
		}
		begun := time.Now()
		for n := range uint32(3) {
			again, err := net.nodes[n+1].Publish(t.Context(), p)
			if err != nil || again.Position != first.Position || !again.Duplicate || again.Uncounted != (n > 0) || n == 0 && again.Receivers != 3 || again.Unreachable != nil {
				t.Errorf("node %d: %+v, %v", n+1, again, err)
			}
		}
		if took := time.Since(begun); took != 0 {
			t.Errorf("after %v", took)
		}
		// A count that was not whole is no answer to be repeated.
		net.frozen[3] = true
		p.IdempotencyKey = "l"
		if first, err = net.nodes[1].Publish(t.Context(), p); err != nil || len(first.Unreachable) != 1 {
			t.Fatalf("%+v, %v", first, err)
		}
		if again, err := net.nodes[1].Publish(t.Context(), p); err != nil || again.Position != first.Position || !again.Duplicate || !again.Uncounted {
			t.Errorf("%+v, %v", again, err)
		}
	})
}
