package config

import (
	"cmp"
	"net/netip"
	"net/url"
	pathpkg "path"
	"slices"
	"strconv"
	"strings"
)

// relayURL accepts the URL of an application: a scheme and a host, and nothing behind.
func relayURL(field *string) value {
	return value{
		name: "url", allowed: "an http or https URL of a host, without a path, query or user", quoted: strconv.Quote,
		parse: func(text string) error {
			if err := checkURL(text, "http", "https"); err != nil {
				return err
			}
			u, err := url.Parse(text)
			if err != nil || strings.TrimSuffix(u.Path, "/") != "" || u.RawQuery != "" || u.ForceQuery || u.User != nil || u.Fragment != "" {
				return errNotAllowed
			}
			*field = text
			return nil
		},
		show: func() any { return *field },
	}
}

// relayPaths accepts prefixes of paths. They are kept without a "/" at the end.
func relayPaths(field *[]string) value {
	return value{
		name: "list", list: true, quoted: strconv.Quote,
		allowed: "paths that begin with /, as clients send them, separated by commas; none below /internal, /metrics, /healthz or /readyz",
		parse: func(text string) error {
			parts, err := items(text)
			if err != nil {
				return err
			}
			for i, part := range parts {
				if !strings.HasPrefix(part, "/") || strings.ContainsAny(part, "?#\\ ") || strings.Contains(part[1:], "//") {
					return because("%q is no path", part)
				}
				parts[i] = strings.TrimSuffix(part, "/")
				for _, own := range []string{"/internal", "/metrics", "/healthz", "/readyz"} {
					if covers(own, parts[i]) {
						return because("%q is the gateway's own", part)
					}
				}
			}
			*field = parts
			return nil
		},
		show: func() any {
			shown := slices.Clone(*field)
			for i, prefix := range shown {
				shown[i] = cmp.Or(prefix, "/")
			}
			return strings.Join(shown, ",")
		},
	}
}

// covers reports whether a path is a prefix, or below it.
func covers(prefix, path string) bool {
	rest, ok := strings.CutPrefix(path, prefix)
	return ok && (rest == "" || rest[0] == '/')
}

// relaysCallbacks reports whether clients could reach the handler of callbacks by a relayed path. address is one of its URLs.
func (c *Config) relaysCallbacks(address string) bool {
	if c.RelayURL == "" || address == "" || len(c.CallbackSigningSecrets) > 0 || c.CallbackToken != "" {
		return false
	}
	callback, socket, err := Backend(address)
	relay, relayErr := url.Parse(c.RelayURL)
	if err != nil || relayErr != nil || socket != "" || hostPort(callback) != hostPort(relay) {
		return false
	}
	return slices.ContainsFunc(c.RelayPaths, func(prefix string) bool { return covers(routed(prefix), routed(callback.EscapedPath())) })
}

// routed returns a raw path as the application's router may see it: decoded, and without empty segments and those that
// name another one. It has no "/" at its end.
func routed(raw string) string {
	decoded, err := url.PathUnescape(raw)
	if err != nil {
		decoded = raw
	}
	return strings.TrimSuffix(pathpkg.Clean("/"+decoded), "/")
}

// hostPort returns what two URLs have in common that lead to the same listener, as far as their text says.
func hostPort(u *url.URL) string {
	standard := "80"
	if u.Scheme == "https" {
		standard = "443"
	}
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	if addr, err := netip.ParseAddr(host); err == nil && addr.Unmap().IsLoopback() {
		host = "localhost"
	}
	return host + ":" + cmp.Or(u.Port(), standard)
}
