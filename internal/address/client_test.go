package address_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"ssegateway/internal/address"
)

func finder(trusted ...string) *address.Finder {
	f := &address.Finder{Header: "X-Forwarded-For"}
	for _, p := range trusted {
		f.Trusted = append(f.Trusted, netip.MustParsePrefix(p))
	}
	return f
}

func TestClient(t *testing.T) {
	f := finder("10.0.0.0/8", "fd00::/8")
	for name, test := range map[string]struct {
		peer   string
		header []string
		want   string
	}{
		"a peer without the header":          {"192.0.2.1", nil, "192.0.2.1"},
		"a stranger's header":                {"192.0.2.1", []string{"198.51.100.7"}, "192.0.2.1"},
		"a proxy without the header":         {"10.0.0.1", nil, "10.0.0.1"},
		"a proxy":                            {"10.0.0.1", []string{"198.51.100.7"}, "198.51.100.7"},
		"the peer as IPv4 in IPv6":           {"::ffff:10.0.0.1", []string{"198.51.100.7"}, "198.51.100.7"},
		"the peer with a zone":               {"fd00::1%eth0", []string{"198.51.100.7"}, "198.51.100.7"},
		"what the client wrote":              {"10.0.0.1", []string{"10.9.9.9, 203.0.113.1, 198.51.100.7"}, "198.51.100.7"},
		"what the client wrote in a field":   {"10.0.0.1", []string{"203.0.113.1", "198.51.100.7"}, "198.51.100.7"},
		"two proxies":                        {"10.0.0.1", []string{"203.0.113.1, 198.51.100.7, 10.0.0.2"}, "198.51.100.7"},
		"two proxies in two fields":          {"10.0.0.1", []string{"198.51.100.7", "10.0.0.2"}, "198.51.100.7"},
		"a proxy is the client":              {"10.0.0.1", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		"IPv4 in IPv6":                       {"10.0.0.1", []string{"::ffff:198.51.100.7"}, "198.51.100.7"},
		"a proxy as IPv4 in IPv6":            {"10.0.0.1", []string{"198.51.100.7,::ffff:10.0.0.2"}, "198.51.100.7"},
		"IPv6":                               {"fd00::1", []string{"2001:db8::7"}, "2001:db8::7"},
		"IPv6 with a zone":                   {"fd00::1", []string{"fe80::7%eth0"}, "fe80::7"},
		"IPv6 in brackets":                   {"fd00::1", []string{"[2001:db8::7]"}, "2001:db8::7"},
		"a port":                             {"10.0.0.1", []string{"198.51.100.7:4711"}, "198.51.100.7"},
		"a port of IPv6":                     {"10.0.0.1", []string{"[2001:db8::7]:4711"}, "2001:db8::7"},
		"empty elements":                     {"10.0.0.1", []string{"198.51.100.7,, ,\t", ""}, "198.51.100.7"},
		"only empty elements":                {"10.0.0.1", []string{",", ""}, "10.0.0.1"},
		"no address":                         {"10.0.0.1", []string{"unknown"}, "10.0.0.1"},
		"no address before a proxy's":        {"10.0.0.1", []string{"198.51.100.7, unknown, 10.0.0.2"}, "10.0.0.2"},
		"no address behind which is another": {"10.0.0.1", []string{"nonsense, 198.51.100.7"}, "198.51.100.7"},
	} {
		if got := f.Client(netip.MustParseAddr(test.peer), test.header); got != netip.MustParseAddr(test.want) {
			t.Errorf("%s: %v, want %s", name, got, test.want)
		}
	}
	if got := f.Client(netip.Addr{}, []string{"198.51.100.7"}); got.IsValid() {
		t.Errorf("a peer without an address: %v", got)
	}
}

// FuzzClient gives any header to the search: it never believes a stranger, never looks further left than
// the first address that is not trusted, and what a client puts in front of what proxies add changes nothing.
func FuzzClient(f *testing.F) {
	for _, header := range []string{"", "198.51.100.7", "a, 10.0.0.2", "[2001:db8::7]:80", "[::1", ":80", "::ffff:10.0.0.1,,", "1.2.3.4%x", "[fe80::1%25x]:1", "10.0.0.1 10.0.0.2", "\x00,\xff"} {
		f.Add(header, "198.51.100.7", uint8(1))
	}
	proxies := finder("10.0.0.0/8", "fd00::/8")
	peer := netip.MustParseAddr("10.0.0.1")
	f.Fuzz(func(t *testing.T, header, client string, hops uint8) {
		stranger := netip.MustParseAddr("192.0.2.1")
		if got := proxies.Client(stranger, []string{header}); got != stranger {
			t.Fatalf("%q of a stranger gives %v", header, got)
		}
		got := proxies.Client(peer, []string{header})
		if !got.IsValid() || got.Zone() != "" || got.Is4In6() {
			t.Errorf("%q gives %v", header, got)
		}
		if again := proxies.Client(peer, strings.Split(header, ",")); again != got {
			t.Errorf("%q gives %v, and %v as several fields", header, got, again)
		}
		addr, err := netip.ParseAddr(client)
		// A zone may have any character, but no element of the header's list has a comma, or a space at its end.
		if err != nil || proxies.Trusts(addr) || strings.ContainsAny(client, ", \t") {
			return
		}
		// Each hop adds its peer: first the client, then the proxies.
		chain := header + "," + client + strings.Repeat(", 10.1.2.3", int(hops%4))
		if got := proxies.Client(peer, []string{chain}); got != addr.Unmap().WithZone("") {
			t.Errorf("%q gives %v, want %v", chain, got, addr)
		}
		fields := append(slices.Clone([]string{header}), client)
		if got := proxies.Client(peer, fields); got != addr.Unmap().WithZone("") {
			t.Errorf("%q gives %v, want %v", fields, got, addr)
		}
	})
}
