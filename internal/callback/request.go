package callback

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxRequest bounds what is kept of a request, in bytes.
const maxRequest = 64 << 10

// EncodeRequest returns AppendRequest's object in a slice of its own of exactly its
// size: it is kept for as long as the stream is open. ok is false if it is too large.
func EncodeRequest(r *http.Request, client netip.Addr) (request []byte, ok bool) {
	b := getBuffer()
	defer putBuffer(b)
	*b = AppendRequest((*b)[:0], r, client)
	if len(*b) > maxRequest {
		return nil, false
	}
	request = make([]byte, len(*b))
	copy(request, *b)
	return request, true
}

// AppendRequest appends the callback's field "request", a JSON object such as
//
//	{"url":"/raw/path?and=query","headers":{"accept":"text/event-stream","host":"example.org"}}
//
// with the request target as received and every header under its lower-case name,
// sorted, each value one string: repeated headers are joined with ", ", cookies with
// "; ". Bytes that are not part of valid UTF-8 are read as Latin-1. The address of the client, unless
// it is zero, comes first, where [gateway.ClientIP] finds it.
func AppendRequest(dst []byte, r *http.Request, client netip.Addr) []byte {
	dst = append(dst, '{')
	if client.IsValid() {
		dst = append(dst, `"client_ip":"`...)
		dst = client.AppendTo(dst)
		dst = append(dst, `",`...)
	}
	dst = append(dst, `"url":"`...)
	dst = appendText(dst, r.RequestURI, false)
	dst = append(dst, `","headers":{`...)

	// Usual requests have few enough headers for the stack.
	var space [32]string
	names := space[:0]
	for name, values := range r.Header {
		if len(values) > 0 && (r.Host == "" || !equalNames(name, hostName)) {
			names = append(names, name)
		}
	}
	if r.Host != "" { // net/http keeps it apart, and out of Header
		names = append(names, hostName)
	}
	slices.SortFunc(names, compareNames)

	for i := 0; i < len(names); {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, '"')
		dst = appendText(dst, names[i], true)
		dst = append(dst, `":"`...)
		separator := ", "
		if equalNames(names[i], "cookie") {
			separator = "; "
		}
		// Names that differ in case only are one header. net/http has merged them, a
		// Header made by hand may have not.
		first := i
		for more := false; i < len(names) && equalNames(names[first], names[i]); i++ {
			if r.Host != "" && names[i] == hostName {
				dst = appendText(dst, r.Host, false)
				continue
			}
			for _, value := range r.Header[names[i]] {
				if more {
					dst = append(dst, separator...)
				}
				dst = appendText(dst, value, false)
				more = true
			}
		}
		dst = append(dst, '"')
	}
	return append(dst, "}}"...)
}

// Text returns a header's value as AppendRequest reads it: always valid UTF-8.
func Text(value string) string {
	if utf8.ValidString(value) {
		return value
	}
	b := make([]byte, 0, 2*len(value))
	for i := 0; i < len(value); {
		var size int
		b, size = appendChar(b, value[i:])
		i += size
	}
	return string(b)
}

// appendChar appends the first character of s, which has size bytes there. A byte that is
// no part of valid UTF-8 is one of Latin-1, which is the first 256 code points.
func appendChar(dst []byte, s string) (_ []byte, size int) {
	r, size := utf8.DecodeRuneInString(s)
	if r == utf8.RuneError && size == 1 {
		return utf8.AppendRune(dst, rune(s[0])), 1
	}
	return append(dst, s[:size]...), size
}

const hostName = "host"

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + ('a' - 'A')
	}
	return c
}

func equalNames(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

// compareNames orders by the lower-case names; names equal in that by their bytes, so
// that the order is always the same.
func compareNames(a, b string) int {
	for i := range min(len(a), len(b)) {
		if x, y := lower(a[i]), lower(b[i]); x != y {
			return int(x) - int(y)
		}
	}
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}

// short are the letters of the control characters that JSON has short forms of: a header
// may be full of tabs, and must not become six times as long.
var short = [' ']byte{'\b': 'b', '\t': 't', '\n': 'n', '\f': 'f', '\r': 'r'}

// plain marks the bytes that stand for themselves in a JSON string.
var plain = func() (t [256]bool) {
	for c := ' '; c < utf8.RuneSelf; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// appendText appends s as the inside of a JSON string, with A to Z in lower case if asked.
func appendText(dst []byte, s string, lowerCase bool) []byte {
	for i := 0; i < len(s); {
		start := i
		for i < len(s) && plain[s[i]] && (!lowerCase || s[i] == lower(s[i])) {
			i++
		}
		dst = append(dst, s[start:i]...)
		if i == len(s) {
			break
		}
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < ' ' && short[c] != 0:
			dst = append(dst, '\\', short[c])
		case c < ' ':
			const hexDigits = "0123456789abcdef"
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		case c < utf8.RuneSelf:
			dst = append(dst, lower(c))
		default:
			var size int
			dst, size = appendChar(dst, s[i:])
			i += size - 1
		}
		i++
	}
	return dst
}
