package router

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"ssegateway/internal/connections"
	"ssegateway/internal/gateway"
)

func sendTo(token gateway.Token, text string) connections.Operation {
	return connections.Operation{Send: connections.Send{Token: token, Event: data(text), HasEvent: true}}
}

func publishAll(text string) connections.Operation {
	return connections.Operation{Publish: &connections.Publication{Topics: []string{"t"}, Event: data(text), All: true}}
}

// A batch waits once for a node that does not answer, however many of its operations are for that.
func TestBatchWaitsOnce(t *testing.T) {
	for version := range Version + 1 {
		among(t, 4, func(t *testing.T, net *network) {
			a := net.nodes[1]
			var tokens []gateway.Token
			for i := range 4 {
				net.nodes[uint32(i+1)].version = version
				token, _ := net.nodes[uint32(i+1)].open(t, "/", gateway.Grant{})
				tokens = append(tokens, token)
			}
			net.frozen[2], net.frozen[3] = true, true
			var operations []connections.Operation
			for i := range 20 {
				operations = append(operations, sendTo(tokens[i%4], "x"))
				if i == 10 {
					operations = append(operations, publishAll("y"), publishAll("z"))
				}
			}
			start := time.Now()
			results := a.Batch(t.Context(), operations)
			if took := time.Since(start); took != deadline {
				t.Errorf("version %d: after %v, want %v", version, took, deadline)
			}
			for i, r := range results {
				switch node := operations[i].Send.Token.Node(); {
				case operations[i].Publish != nil:
					if fmt.Sprint(r.Published.Unreachable) != "[node-2 node-3]" || r.Err != nil {
						t.Errorf("%d: %+v", i, r)
					}
				case (node == 2 || node == 3) != errors.Is(r.Err, connections.ErrUnreachable):
					t.Errorf("%d, for node %d: %v", i, node, r.Err)
				}
			}
		})
	}
}

// A batch keeps the order of what goes to one connection, and publishes where they stand,
// also where the sends for one node take several messages.
func TestBatchOrder(t *testing.T) {
	for version := range Version + 1 {
		among(t, 3, func(t *testing.T, net *network) {
			net.limit = 4000
			a := net.nodes[1]
			var tokens []gateway.Token
			var clients []*client
			for i := range 3 {
				net.nodes[uint32(i+1)].version = version
				token, c := net.nodes[uint32(i+1)].open(t, "/", gateway.Grant{Topics: []string{"t"}})
				tokens, clients = append(tokens, token), append(clients, c)
			}
			var operations []connections.Operation
			want := ""
			for i := range 60 {
				text := fmt.Sprint(i)
				if i%7 == 0 {
					text += strings.Repeat("\x01", 300) // six times as long in JSON
				}
				for _, token := range tokens {
					o := sendTo(token, text)
					o.Send.Wait = i%20 == 5
					operations = append(operations, o)
				}
				want += "data: " + text + "\n\n"
				if i == 30 {
					operations = append(operations, publishAll("published"))
					want += "data: published\n\n"
				}
			}
			operations = append(operations, sendTo(gateway.NewToken(), "nobody"), sendTo(tokens[1], strings.Repeat("x", 5000)))
			results := a.Batch(t.Context(), operations)
			for i, r := range results[:len(results)-2] {
				written := r.Outcome == connections.Written
				if r.Err != nil || written != operations[i].Send.Wait {
					t.Errorf("%d: %+v", i, r)
				}
			}
			if last := results[len(results)-2:]; !errors.Is(last[0].Err, connections.ErrNotFound) || !errors.Is(last[1].Err, connections.ErrTooLarge) {
				t.Errorf("the last results are %+v", last)
			}
			for i, c := range clients {
				var got strings.Builder
				for _, block := range strings.SplitAfter(c.text(), "\n\n") {
					if _, text, ok := strings.Cut("\n"+block, "\ndata: "); ok {
						got.WriteString("data: " + text)
					}
				}
				if got.String() != want {
					t.Errorf("version %d, node %d: received %q, want %q", version, i+1, got.String(), want)
				}
			}
			if version == 1 && len(net.asked) > 60 {
				t.Errorf("%d messages", len(net.asked))
			}
		})
	}
}
