package router

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"ssegateway/internal/connections"
	"ssegateway/internal/gateway"
)

// A page that is larger than the broker takes comes in smaller ones, in both versions.
func TestLargePages(t *testing.T) {
	for version := range Version + 1 {
		among(t, 2, func(t *testing.T, net *network) {
			net.limit = 64 << 10
			a, b := net.nodes[1], net.nodes[2]
			a.version, b.version = version, version
			var want, got []gateway.Token
			for i := range 60 {
				long := strings.Repeat("\x01", 5000) // 30,000 bytes of JSON each
				if i%5 > 0 {
					long = "/short"
				}
				n := net.nodes[uint32(i%2+1)]
				token, _ := n.open(t, "/", gateway.Grant{Subject: long})
				want = append(want, token)
			}
			slices.SortFunc(want, compare)
			for q := (connections.Query{Limit: 100, Bytes: 4 << 20}); ; {
				page := a.List(t.Context(), q)
				if page.Unreachable != nil || len(page.Connections) == 0 {
					t.Fatalf("version %d: unreachable %v, %d connections", version, page.Unreachable, len(page.Connections))
				}
				for _, i := range page.Connections {
					got = append(got, i.Token)
				}
				if q.After = page.Next; q.After == (gateway.Token{}) {
					break
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("version %d: %d connections listed, want %d", version, len(got), len(want))
			}
		})
	}
}

// So do the topics of a connection that has very many of them. What is too large even so is
// said at once, not by silence.
func TestLargeConnection(t *testing.T) {
	among(t, 2, func(t *testing.T, net *network) {
		net.limit = 64 << 10
		a, b := net.nodes[1], net.nodes[2]
		var topics []string
		for i := range 3000 {
			topics = append(topics, fmt.Sprintf("%0200d", i))
		}
		token, _ := b.open(t, "/", gateway.Grant{Topics: topics, Subject: "ada"})
		info, err := a.Describe(t.Context(), token)
		if err != nil || !slices.Equal(info.Topics, topics) {
			t.Errorf("%v, %d topics", err, len(info.Topics))
		}
		page := a.List(t.Context(), connections.Query{Limit: 10, Bytes: 4 << 20})
		if page.Unreachable != nil || len(page.Connections) != 1 || !slices.Equal(page.Connections[0].Topics, topics) {
			t.Errorf("unreachable %v, %d connections", page.Unreachable, len(page.Connections))
		}
		changed, err := a.Change(t.Context(), token, []string{"x"}, topics[:1])
		if err != nil || !slices.Equal(changed, append(slices.Clone(topics[1:]), "x")) {
			t.Errorf("%v, %d topics", err, len(changed))
		}

		start := time.Now()
		token, _ = b.open(t, "/", gateway.Grant{Subject: strings.Repeat("x", 65<<10)})
		if _, err := a.Describe(t.Context(), token); !errors.Is(err, connections.ErrUnreachable) {
			t.Error(err)
		}
		if page := a.List(t.Context(), connections.Query{Filter: gateway.Filter{}, After: before(token), Limit: 1, Bytes: 4 << 20}); len(page.Unreachable) != 1 {
			t.Errorf("unreachable %v", page.Unreachable)
		}
		if took := time.Since(start); took > 0 {
			t.Errorf("after %v", took)
		}
		if n := strings.Count(b.log.String(), "max_payload"); n != 1 {
			t.Errorf("said %d times: %s", n, b.log.String())
		}
	})
}

// before returns a token right before another.
func before(t gateway.Token) gateway.Token {
	t[15]--
	return t
}
