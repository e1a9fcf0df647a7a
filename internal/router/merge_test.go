package router

import (
	"strings"
	"testing"

	"ssegateway/internal/connections"
	"ssegateway/internal/gateway"
)

// Behind a node's page that ends early nothing of the others is shown.
func TestMerge(t *testing.T) {
	named := func(name string) (token gateway.Token) {
		copy(token[:], name)
		return token
	}
	of := func(next string, tokens ...string) (p connections.Page) {
		for _, token := range tokens {
			p.Connections = append(p.Connections, connections.Info{Info: gateway.Info{Token: named(token)}})
		}
		p.Next = named(next)
		return p
	}
	for name, c := range map[string]struct {
		pages []connections.Page
		limit int
		want  string
	}{
		"all":            {[]connections.Page{of("", "b", "d"), of("", "a", "c")}, 9, "a b c d."},
		"limit":          {[]connections.Page{of("", "b", "d"), of("", "a", "c")}, 3, "a b c>"},
		"one ends early": {[]connections.Page{of("b", "b"), of("", "a", "c", "d")}, 9, "a b>"},
		"both end early": {[]connections.Page{of("d", "b", "d"), of("c", "a", "c")}, 9, "a b c>"},
		"nothing":        {[]connections.Page{of(""), of("")}, 9, "."},
	} {
		got := merge(c.pages, c.limit, nil)
		text := ""
		for _, i := range got.Connections {
			text += " " + strings.TrimRight(string(i.Token[:]), "\x00")
		}
		if got.Next == (gateway.Token{}) {
			text += "."
		} else if text += ">"; got.Next != got.Connections[len(got.Connections)-1].Token {
			t.Errorf("%s: the next page begins at %s", name, got.Next)
		}
		if strings.TrimSpace(text) != c.want {
			t.Errorf("%s: %s, want %s", name, text, c.want)
		}
	}
}
