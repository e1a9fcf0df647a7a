package corpus

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"ssegateway/e2e/harness"
)

var listeners = []string{"public", "internal"}

// site is a gateway with both listeners. Each case comes from an address of its own, by which the callbacks are told apart.
type site struct {
	*harness.Gateway
	addrs   map[string]string
	clients int // that had an address
}

func start(t *testing.T, settings ...string) *site {
	t.Helper()
	port, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	internal := fmt.Sprintf("127.0.0.1:%d", port)
	gw := harness.StartGateway(t, binary, nil, append([]string{"INTERNAL_ADDR=" + internal, "MAX_CONNECTIONS_PER_IP=1000"}, settings...)...)
	return &site{gw, map[string]string{"public": gw.Endpoint.Addr, "internal": internal}, 0}
}

// address returns an address of this host, another one for each number.
func address(n int) string { return fmt.Sprintf("127.%d.%d.%d", 1+n/62500, 1+n/250%250, 1+n%250) }

// of matches the callbacks of a client. Its address stands near their beginning.
func of(client string) func(*harness.Callback) bool {
	field := []byte(`"client_ip":"` + client + `"`)
	return func(c *harness.Callback) bool { return bytes.Contains(c.Body[:min(len(c.Body), 400)], field) }
}

// saw returns what the backend saw of a client.
func (s *site) saw(client string) (lines []string) {
	for _, c := range s.Backend.Calls(of(client)) {
		line := "backend " + c.Action
		if c.Action == "connect" {
			line += fmt.Sprintf(" %.200q", c.URL)
			for _, name := range slices.Sorted(maps.Keys(c.Headers)) {
				value := c.Headers[name]
				if len(value) > 80 {
					value = fmt.Sprintf("%.20s… (%d bytes)", value, len(value))
				}
				line += fmt.Sprintf(" %s=%q", name, value)
			}
		} else {
			line += strings.TrimRight(" "+c.Reason+" "+c.Detail, " ")
		}
		lines = append(lines, line)
	}
	return lines
}

func TestDirect(t *testing.T) {
	s := start(t)
	for _, sub := range subjects {
		s.hold(t, sub, listeners, s.try)
	}
	harness.Figure(t, "%d requests of HTTP/1, each at 2 listeners", count())
}

// hold makes the attempts of a subject, many at a time, and holds what comes of them against what is frozen.
func (s *site) hold(t *testing.T, sub subject, listeners []string, try func(t *testing.T, a attempt, listener, client string, frozen []string) []string) {
	t.Helper()
	frozen, got := thaw(t, sub.name), map[string]outcome{}
	clients := map[string]outcome{}
	var wg sync.WaitGroup
	var mu sync.Mutex
	room := make(chan struct{}, 32)
	for _, name := range sub.names() {
		got[name], clients[name] = outcome{}, outcome{}
	}
	for _, a := range sub.attempts {
		for _, l := range listeners {
			s.clients++
			client := address(s.clients)
			clients[a.name][l] = []string{client}
			known := frozen[a.name][l]
			if *update {
				known = nil
			} else if known == nil {
				known = []string{}
			}
			room <- struct{}{}
			wg.Go(func() {
				defer func() { <-room }()
				lines := try(t, a, l, client, known)
				mu.Lock()
				defer mu.Unlock()
				got[a.name][l] = lines
			})
		}
	}
	wg.Wait()
	for name, o := range got {
		for l := range o {
			if sub.name != http2Raced.name {
				o[l] = append(o[l], s.saw(clients[name][l][0])...)
			}
		}
	}
	if *update {
		freeze(t, sub.name, sub.names(), listeners, got)
		return
	}
	for _, a := range sub.attempts {
		for _, l := range listeners {
			if g, w := got[a.name][l], frozen[a.name][l]; !slices.Equal(g, w) {
				t.Errorf("%s: %s (%s) at the %s listener:\n%.300q\ngot\n  %s\nwant\n  %s", sub.name, a.name, a.why, l, a.raw, strings.Join(g, "\n  "), strings.Join(w, "\n  "))
			}
		}
	}
}

func (s subject) names() (names []string) {
	for _, a := range s.attempts {
		if slices.Contains(names, a.name) {
			panic("two cases of one name: " + a.name)
		}
		names = append(names, a.name)
	}
	return names
}

// try makes an attempt at a listener, and waits for the callbacks that it is known to cause.
func (s *site) try(t *testing.T, a attempt, listener, client string, frozen []string) []string {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(client)}}
	conn, err := dialer.DialContext(context.Background(), "tcp", s.addrs[listener])
	if err != nil {
		t.Error(err)
		return nil
	}
	defer conn.Close()
	lines := a.send(conn, frozen)
	s.settle(client, frozen)
	return lines
}

// settle waits for the callbacks of a client that are known, or, with nil, for the end of each of its streams.
func (s *site) settle(client string, known []string) {
	wanted, mine := begins(known, "backend "), of(client)
	if known == nil {
		connects := 0
		for _, c := range s.Backend.Calls(mine) {
			if c.Action == "connect" {
				connects++
			}
		}
		wanted = 2 * connects
	}
	_, _ = s.Backend.Await(harness.Patience, wanted, mine) // what is missing shows
}
