package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"

	"ssegateway/internal/gateway"
)

var errAddress = errors.New("too many from this address")

// addressCounter implements [gateway.Addresses]. It keeps all its mistakes.
type addressCounter struct {
	most int

	mu       sync.Mutex
	streams  map[netip.Addr]int
	negative []netip.Addr
}

func newAddressCounter(most int) *addressCounter {
	return &addressCounter{most: most, streams: map[netip.Addr]int{}}
}

func (a *addressCounter) Take(client netip.Addr) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.streams[client] == a.most {
		return errAddress
	}
	a.streams[client]++
	return nil
}

func (a *addressCounter) Give(client netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.streams[client]--; a.streams[client] < 0 {
		a.negative = append(a.negative, client)
	}
}

// check compares the counts with what has to be counted.
func (a *addressCounter) check(want map[netip.Addr]int) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.negative) > 0 {
		return fmt.Errorf("more ends than streams of %v", a.negative)
	}
	for client, n := range a.streams {
		if n != want[client] {
			return fmt.Errorf("%v counts %d streams instead of %d", client, n, want[client])
		}
	}
	return nil
}

// requestOf returns a request that has an address.
func requestOf(client netip.Addr) []byte {
	return fmt.Appendf(nil, `{"client_ip":%q,"url":"/stream?secret=1","headers":{}}`, client)
}

// A connection that may not be is not counted: beyond each bound, without a number, and in a drain.
func TestAddressOfRefused(t *testing.T) {
	client := netip.MustParseAddr("192.0.2.1")
	for name, refusing := range map[string]struct {
		change func(*gateway.Config)
		begin  func(*gateway.Gateway)
		want   error
	}{
		"full":     {func(c *gateway.Config) { c.MaxConnections = 0 }, func(*gateway.Gateway) {}, gateway.ErrFull},
		"requests": {func(c *gateway.Config) { c.Requests = gateway.NewRequests(1) }, func(*gateway.Gateway) {}, gateway.ErrRequests},
		"nameless": {func(c *gateway.Config) { c.Clustered = true }, func(*gateway.Gateway) {}, gateway.ErrNameless},
		"draining": {func(*gateway.Config) {}, func(g *gateway.Gateway) { g.Drain(0, 0) }, gateway.ErrDraining},
		"address":  {func(c *gateway.Config) { c.Addresses = newAddressCounter(0) }, func(*gateway.Gateway) {}, errAddress},
	} {
		t.Run(name, func(t *testing.T) {
			addresses := newAddressCounter(10)
			s := newSite(func(c *gateway.Config) {
				c.Addresses = addresses
				refusing.change(c)
			})
			refusing.begin(s.gw)
			if _, _, err := s.gw.Connect(context.Background(), requestOf(client)); !errors.Is(err, refusing.want) {
				t.Fatal(err)
			}
			if err := addresses.check(nil); err != nil {
				t.Error(err)
			}
			if n := s.gw.Requests().Bytes(); n != 0 {
				t.Errorf("%d bytes of requests are kept", n)
			}
		})
	}
}

// A tail has no address.
func TestAddressOfTail(t *testing.T) {
	addresses := newAddressCounter(10)
	s := newSite(func(c *gateway.Config) { c.Addresses, c.MaxTails = addresses, 1 })
	c, err := s.gw.Tail()
	if err != nil {
		t.Fatal(err)
	}
	c.Abort(gateway.ClientClosed, 0)
	if err := addresses.check(nil); err != nil {
		t.Error(err)
	}
}

func TestClientIP(t *testing.T) {
	for request, want := range map[string]string{
		`{"client_ip":"192.0.2.1","url":"/a?b"}`:                          "192.0.2.1",
		`{"client_ip":"2001:db8::1","url":"/"}`:                           "2001:db8::1",
		`{"client_ip":"0000:0000:0000:0000:0000:ffff:255.255.255.255"}`:   "::ffff:255.255.255.255",
		`{"client_ip":"nonsense","url":"/"}`:                              "",
		`{"client_ip":"`:                                                  "",
		`{"url":"/\",\"client_ip\":\"192.0.2.1","client_ip":"192.0.2.1"}`: "",
		``: "",
	} {
		got := gateway.ClientIP([]byte(request))
		if want == "" && got.IsValid() || want != "" && got != netip.MustParseAddr(want) {
			t.Errorf("%s: %v", request, got)
		}
	}
	s := newSite(func(*gateway.Config) {})
	c, _, err := s.gw.Connect(context.Background(), requestOf(netip.MustParseAddr("192.0.2.1")))
	if err != nil {
		t.Fatal(err)
	}
	if i := c.Info(); i.ClientIP != "192.0.2.1" || i.Path != "/stream" {
		t.Errorf("described as %+v", i)
	}
}
