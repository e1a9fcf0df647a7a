package config

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// value is a field of a Config and the rules for its text.
type value struct {
	name    string // what the help of a flag calls it
	allowed string // completes "must be …"
	choices bool   // allowed lists all values
	list    bool   // a list in the file is joined with commas

	// parse sets the field, or leaves it and returns an error. The error continues "… is not
	// valid" and does not quote the text, or is errNotAllowed.
	parse func(text string) error
	// quoted returns the text as it may appear in a message.
	quoted func(text string) string
	// show returns the field for the log; "" if it is not set.
	show func() any
}

var errNotAllowed = errors.New("")

func because(format string, args ...any) error { return fmt.Errorf(": "+format, args...) }

// forever stands for no upper bound. As seconds it is 136 years, which fits a time.Duration.
const forever = math.MaxUint32

func within(low, high int64) string {
	if high == forever {
		return fmt.Sprintf("at least %d", low)
	}
	return fmt.Sprintf("%d to %d", low, high)
}

// parseWhole reads digits only: no sign, no space, no fraction.
func parseWhole(text string, low, high int64) (int64, error) {
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil || int64(n) < low || int64(n) > high {
		return 0, errNotAllowed
	}
	return int64(n), nil
}

func number(field *int, low, high int64) value {
	return value{
		name: "number", allowed: "a whole number, " + within(low, high), quoted: strconv.Quote,
		parse: func(text string) error {
			n, err := parseWhole(text, low, high)
			if err == nil {
				*field = int(n)
			}
			return err
		},
		show: func() any { return *field },
	}
}

func byteCount(field *int64, low, high int64) value {
	return value{
		name: "bytes", allowed: "bytes, " + within(low, high), quoted: strconv.Quote,
		parse: func(text string) error {
			n, err := parseWhole(text, low, high)
			if err == nil {
				*field = n
			}
			return err
		},
		show: func() any { return *field },
	}
}

func seconds(field *time.Duration, low, high int64) value {
	return value{
		name: "seconds", allowed: "whole seconds, " + within(low, high), quoted: strconv.Quote,
		parse: func(text string) error {
			n, err := parseWhole(text, low, high)
			if err == nil {
				*field = time.Duration(n) * time.Second
			}
			return err
		},
		show: func() any { return int64(*field / time.Second) },
	}
}

func boolean(field *bool) value {
	return value{
		name: "bool", allowed: "true or false", quoted: strconv.Quote,
		parse: func(text string) error {
			b, err := strconv.ParseBool(text)
			if err != nil {
				return errNotAllowed
			}
			*field = b
			return nil
		},
		show: func() any { return *field },
	}
}

func choice(field *string, choices ...string) value {
	return value{
		name: "name", choices: true, allowed: strings.Join(choices, ", "), quoted: strconv.Quote,
		parse: func(text string) error {
			for _, c := range choices {
				if strings.EqualFold(text, c) {
					*field = c
					return nil
				}
			}
			return errNotAllowed
		},
		show: func() any { return *field },
	}
}

func level(field *slog.Level) value {
	var name string
	v := choice(&name, "debug", "info", "warn", "error")
	parseName := v.parse
	v.parse = func(text string) error {
		if err := parseName(text); err != nil {
			return err
		}
		return field.UnmarshalText([]byte(name))
	}
	v.show = func() any { return strings.ToLower(field.String()) }
	return v
}

func path(field *string) value {
	return value{
		name: "path", allowed: "the path of a file", quoted: strconv.Quote,
		parse: func(text string) error {
			if strings.ContainsRune(text, 0) {
				return errNotAllowed
			}
			*field = text
			return nil
		},
		show: func() any { return *field },
	}
}

// fileMode accepts the permissions of a file in octal.
func fileMode(field *fs.FileMode) value {
	return value{
		name: "mode", allowed: "three or four octal digits, 0000 to 0777", quoted: strconv.Quote,
		parse: func(text string) error {
			mode, err := strconv.ParseUint(text, 8, 9)
			if err != nil || len(text) < 3 || len(text) > 4 {
				return errNotAllowed
			}
			*field = fs.FileMode(mode)
			return nil
		},
		show: func() any { return fmt.Sprintf("%04o", *field) },
	}
}

func directory(field *string) value {
	v := path(field)
	v.allowed = "the path of a directory"
	return v
}

// token accepts what an Authorization header can carry as one word.
func token(field *string) value {
	return value{
		name: "token", allowed: "visible ASCII characters without spaces",
		quoted: func(string) string { return "the given value" },
		parse: func(text string) error {
			if strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) {
				return errNotAllowed
			}
			*field = text
			return nil
		},
		show: func() any {
			if *field == "" {
				return ""
			}
			return "(set)"
		},
	}
}

// checkCharacters refuses what would end a part of the request line.
func checkCharacters(url string) error {
	if strings.ContainsFunc(url, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return because("it contains a space or a control character")
	}
	return nil
}

// checkURL does not return the errors of url.Parse: they quote the URL.
func checkURL(text string, schemes ...string) error {
	if err := checkCharacters(text); err != nil {
		return err
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return because("it is malformed")
	case !slices.Contains(schemes, u.Scheme):
		return because("it does not begin with %s://", strings.Join(schemes, ":// or "))
	case u.Hostname() == "":
		return because("it has no host")
	}
	if port := u.Port(); port != "" {
		if _, err := parseWhole(port, 1, math.MaxUint16); err != nil {
			return because("its port is none")
		}
	}
	return nil
}

// redactURL returns a URL without query, fragment and userinfo; "" if they cannot be
// recognised with certainty.
func redactURL(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return ""
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}).String()
}

func natsURLs(field *string) value {
	redact := func(text string) string {
		parts := strings.Split(text, ",")
		for i, part := range parts {
			if parts[i] = redactURL(strings.TrimSpace(part)); parts[i] == "" {
				return ""
			}
		}
		return strings.Join(parts, ",")
	}
	return value{
		name: "urls", list: true, allowed: "nats:// or tls:// URLs with a host, separated by commas",
		quoted: func(text string) string {
			if shown := redact(text); shown != "" {
				return strconv.Quote(shown)
			}
			return "the given value"
		},
		parse: func(text string) error {
			parts, err := items(text)
			if err != nil {
				return err
			}
			for _, part := range parts {
				if err := checkURL(part, "nats", "tls"); err != nil {
					return err
				}
				if shown := redactURL(part); strings.Count(shown, "/") > 2 || strings.ContainsAny(part, "?#") {
					return because("there is more behind a host than a port")
				}
			}
			*field = strings.Join(parts, ",")
			return nil
		},
		show: func() any { return redact(*field) },
	}
}

// prefix accepts a prefix of names on NATS.
func prefix(field *string) value {
	return value{
		name: "name", allowed: "1 to 64 letters, digits, - and _", quoted: strconv.Quote,
		parse: func(text string) error {
			if len(text) > 64 || strings.ContainsFunc(text, func(r rune) bool {
				return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
			}) {
				return errNotAllowed
			}
			*field = text
			return nil
		},
		show: func() any { return *field },
	}
}

// items splits at commas and trims spaces; an empty item is an error.
func items(text string) ([]string, error) {
	parts := strings.Split(text, ",")
	for i, p := range parts {
		if parts[i] = strings.TrimSpace(p); parts[i] == "" {
			return nil, because("it has an empty entry")
		}
	}
	return parts, nil
}

func origins(field *[]string) value {
	return value{
		name: "list", list: true, quoted: strconv.Quote,
		allowed: "origins such as https://app.example.com, or null, separated by commas, or * for any",
		parse: func(text string) error {
			parts, err := items(text)
			if err != nil {
				return err
			}
			if len(parts) > 1 || parts[0] != "*" {
				for i, part := range parts {
					if parts[i], err = canonicalOrigin(part); err != nil {
						return err
					}
				}
			}
			*field = parts
			return nil
		},
		show: func() any { return strings.Join(*field, ",") },
	}
}

// canonicalOrigin returns an origin as browsers send it (RFC 6454 section 6.2), so that other
// spellings match too. An origin that no browser sends is an error.
func canonicalOrigin(text string) (string, error) {
	if text == "null" { // of sandboxed frames and files
		return text, nil
	}
	none := because("%q is not an origin (scheme and host, port if any, nothing else)", text)
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" || u.Hostname() == "" || strings.ContainsAny(text, "* %<>") || !strings.EqualFold(text, u.Scheme+"://"+u.Host) {
		return "", none
	}
	if strings.ContainsFunc(u.Host, func(r rune) bool { return r > '~' }) {
		return "", because("%q has a host outside ASCII: write it as browsers send it, in its xn-- form", text)
	}
	host, port := strings.ToLower(u.Hostname()), u.Port()
	if strings.HasPrefix(u.Host, "[") {
		addr, err := netip.ParseAddr(host)
		if err != nil {
			return "", none
		}
		host = "[" + ipv6(addr) + "]"
	} else if _, isWeb := defaultPorts[u.Scheme]; isWeb && endsInNumber(host) {
		if addr, err := netip.ParseAddr(host); err != nil || !addr.Is4() {
			return "", because("%q has an IPv4 address that is not written as four decimal numbers", text)
		}
	}
	if port != "" {
		n, err := parseWhole(port, 1, math.MaxUint16)
		if err != nil {
			return "", because("the port of %q is none", text)
		}
		if port = ":" + strconv.FormatInt(n, 10); port == defaultPorts[u.Scheme] {
			port = "" // a browser leaves it out
		}
	}
	return u.Scheme + "://" + host + port, nil
}

var defaultPorts = map[string]string{"http": ":80", "https": ":443"}
