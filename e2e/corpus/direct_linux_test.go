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
	addrs map[string]string
}

func start(t *testing.T, settings ...string) *site {
	t.Helper()
	port, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	internal := fmt.Sprintf("127.0.0.1:%d", port)
	gw := harness.StartGateway(t, binary, nil, append([]string{"INTERNAL_ADDR=" + internal, "MAX_CONNECTIONS_PER_IP=1000"}, settings...)...)
	return &site{gw, map[string]string{"public": gw.Endpoint.Addr, "internal": internal}}
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
	var wg sync.WaitGroup
	var mu sync.Mutex
	room := make(chan struct{}, 32)
	type job struct {
		subject, name, listener, client string
	}
	clients := map[job][]string{}
	frozen := map[string]map[string]outcome{}
	n := 0
	for _, sub := range subjects {
		frozen[sub.name] = thaw(t, sub.name)
		for _, a := range sub.attempts {
			for _, l := range listeners {
				n++
				j := job{sub.name, a.name, l, address(n)}
				want := frozen[sub.name][a.name][l]
				room <- struct{}{}
				wg.Go(func() {
					defer func() { <-room }()
					lines := s.try(t, a, l, j.client, want)
					mu.Lock()
					clients[j] = lines
					mu.Unlock()
				})
			}
		}
	}
	wg.Wait()
	got := map[string]map[string]outcome{}
	for j, lines := range clients {
		if got[j.subject] == nil {
			got[j.subject] = map[string]outcome{}
		}
		if got[j.subject][j.name] == nil {
			got[j.subject][j.name] = outcome{}
		}
		got[j.subject][j.name][j.listener] = append(lines, s.saw(j.client)...)
	}
	for _, sub := range subjects {
		if *update {
			freeze(t, sub.name, sub.names(), listeners, got[sub.name])
			continue
		}
		for _, a := range sub.attempts {
			for _, l := range listeners {
				if g, w := got[sub.name][a.name][l], frozen[sub.name][a.name][l]; !slices.Equal(g, w) {
					t.Errorf("%s: %s (%s) at the %s listener:\n%.300q\ngot\n  %s\nwant\n  %s", sub.name, a.name, a.why, l, a.raw, strings.Join(g, "\n  "), strings.Join(w, "\n  "))
				}
			}
		}
	}
	harness.Figure(t, "%d requests, each at 2 listeners", count())
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
	if *update {
		frozen = nil
	} else if frozen == nil {
		frozen = []string{}
	}
	lines := a.send(conn, frozen)
	wanted := begins(frozen, "backend ")
	mine := of(client)
	if *update { // each accepted stream has an end
		wanted = 2 * len(s.Backend.Calls(mine))
		for _, c := range s.Backend.Calls(mine) {
			if c.Action == "disconnect" {
				wanted -= 2
			}
		}
	}
	_, _ = s.Backend.Await(harness.Patience, wanted, mine)
	return lines
}
