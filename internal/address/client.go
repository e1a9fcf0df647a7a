// Package address finds the address of a client behind trusted proxies, and bounds what one
// address may have.
package address

import (
	"net/netip"
	"strings"
)

// Finder finds the address of the client that a request comes from. The zero Finder trusts no
// proxy: the client is the peer.
type Finder struct {
	// Trusted are the networks of proxies whose header is believed. IPv4 prefixes are not in
	// IPv6-mapped form.
	Trusted []netip.Prefix
	// Header is the canonical name of the field in which those give the address before them.
	Header string
}

// Client returns the address of the client: that of the peer, or, if that is a trusted proxy, the
// rightmost address of the header's values that is none. Each proxy adds the address of its own peer at
// the right, so what stands further left was written by somebody who is not trusted. If all are
// trusted, it is the leftmost. An entry that is no address ends the search: the client is then the
// trusted proxy that wrote it. The result is an IPv4 address or an IPv6 address without a zone;
// the zero Addr if the peer has none.
func (f *Finder) Client(peer netip.Addr, values []string) netip.Addr {
	client := plain(peer)
	if !f.Trusts(client) {
		return client
	}
	for i := len(values) - 1; i >= 0; i-- {
		rest := values[i]
		for more := true; more; {
			var entry string
			rest, entry, more = cutLast(rest)
			if entry == "" { // HTTP allows empty elements of a list
				continue
			}
			addr, ok := parse(entry)
			if !ok {
				return client
			}
			if client = addr; !f.Trusts(client) {
				return client
			}
		}
	}
	return client
}

// Trusts reports whether an address is that of a trusted proxy.
func (f *Finder) Trusts(addr netip.Addr) bool {
	addr = plain(addr)
	for _, prefix := range f.Trusted {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}

// cutLast cuts the last element off a list that is separated by commas.
func cutLast(list string) (before, last string, more bool) {
	i := strings.LastIndexByte(list, ',')
	if i >= 0 {
		before, more = list[:i], true
	}
	return before, strings.Trim(list[i+1:], " \t"), more
}

// parse reads an address as proxies write it: some add the port.
func parse(entry string) (netip.Addr, bool) {
	if addr, err := netip.ParseAddr(entry); err == nil {
		return plain(addr), true
	}
	if strings.HasPrefix(entry, "[") && strings.HasSuffix(entry, "]") {
		entry += ":0"
	}
	addr, err := netip.ParseAddrPort(entry)
	return plain(addr.Addr()), err == nil
}

// plain returns an address as it counts: IPv4 in IPv6 as IPv4, and without a zone.
func plain(addr netip.Addr) netip.Addr { return addr.Unmap().WithZone("") }
