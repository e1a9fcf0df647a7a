package config

import (
	"math"
	"net"
	"net/netip"
	"net/textproto"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

func address(field *Addr) value {
	return value{
		name: "address", allowed: "host:port, or unix: and the absolute path of a socket", quoted: strconv.Quote,
		parse: func(text string) error {
			if socket, ok := strings.CutPrefix(text, "unix:"); ok {
				if !filepath.IsAbs(socket) || strings.ContainsRune(socket, 0) {
					return because("the path of the socket is not absolute")
				}
				*field = Addr{Network: "unix", Address: socket}
				return nil
			}
			_, port, err := net.SplitHostPort(text)
			if err != nil {
				return errNotAllowed
			}
			if _, err := parseWhole(port, 1, math.MaxUint16); err != nil {
				return because("the port is not a number from 1 to 65535")
			}
			*field = Addr{Network: "tcp", Address: text}
			return nil
		},
		show: func() any { return field.String() },
	}
}

func prefixes(field *[]netip.Prefix) value {
	return value{
		name: "list", list: true, quoted: strconv.Quote,
		allowed: "IP addresses and CIDR prefixes, separated by commas",
		parse: func(text string) error {
			parts, err := items(text)
			if err != nil {
				return err
			}
			all := make([]netip.Prefix, len(parts))
			for i, part := range parts {
				if all[i], err = parsePrefix(part); err != nil {
					return because("%q is neither", part)
				}
			}
			*field = all
			return nil
		},
		show: func() any {
			texts := make([]string, len(*field))
			for i, p := range *field {
				texts[i] = p.String()
			}
			return strings.Join(texts, ",")
		},
	}
}

// parsePrefix reads an address as the prefix of all its bits. Host bits are dropped,
// an IPv4 prefix in IPv6-mapped form becomes a plain one.
func parsePrefix(text string) (netip.Prefix, error) {
	if !strings.Contains(text, "/") {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return netip.Prefix{}, err
		}
		if addr.Zone() != "" {
			return netip.Prefix{}, errNotAllowed
		}
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, err
	}
	if p.Addr().Is4In6() {
		if p.Bits() < 96 {
			return netip.Prefix{}, errNotAllowed
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked(), nil
}

// standardIPHeader is the default of CLIENT_IP_HEADER.
const standardIPHeader = "X-Forwarded-For"

// ipHeader accepts the name of a header field whose value is a list of addresses.
func ipHeader(field *string) value {
	return value{
		name: "name", quoted: strconv.Quote,
		allowed: "name of a header field",
		parse: func(text string) error {
			if !httpguts.ValidHeaderFieldName(text) {
				return errNotAllowed
			}
			name := textproto.CanonicalMIMEHeaderKey(text)
			if name == "Forwarded" {
				return because("the form of that header (RFC 7239) is not read: have the proxy set another one, as X-Forwarded-For")
			}
			*field = name
			return nil
		},
		show: func() any { return *field },
	}
}
