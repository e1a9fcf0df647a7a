package config

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
)

// ipv6 returns an address as browsers write it: without dots, also where it maps one of IPv4
// (https://url.spec.whatwg.org/#concept-ipv6-serializer).
func ipv6(addr netip.Addr) string {
	if b := addr.As16(); addr.Is4In6() {
		return fmt.Sprintf("::ffff:%x:%x", binary.BigEndian.Uint16(b[12:]), binary.BigEndian.Uint16(b[14:]))
	}
	return addr.String()
}

// endsInNumber reports whether browsers parse a host as an IPv4 address. They accept more
// forms than the one they send (https://url.spec.whatwg.org/#ends-in-a-number-checker).
func endsInNumber(host string) bool {
	labels := strings.Split(strings.TrimSuffix(host, "."), ".")
	last := labels[len(labels)-1]
	if hex, ok := strings.CutPrefix(last, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return last != "" && strings.Trim(last, "0123456789") == ""
}
