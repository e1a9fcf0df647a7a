//go:build linux && !portable

package stream

import (
	"bytes"
	"context"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// Bounds of a plain GET. They are below what handlers allow.
const (
	maxGet       = 16 << 10 // bytes
	maxGetFields = 256
)

// verdict is what is known of a request by the bytes that have come.
type verdict uint8

const (
	// unfinished: more bytes may complete a plain GET.
	unfinished verdict = iota
	// plain: a whole plain GET, and nothing behind it.
	plain
	// foreign: left to net/http.
	foreign
)

const (
	getStart  = "GET /"
	getEnd    = " HTTP/1.1"
	headerEnd = "\r\n\r\n"
)

// judge says what the bytes of a connection are that have come so far. The first seen of them were unfinished.
func judge(b []byte, seen int) verdict {
	if n := min(len(b), len(getStart)); string(b[:n]) != getStart[:n] {
		return foreign
	}
	if line := bytes.IndexByte(b, '\n'); line >= 0 && !bytes.HasSuffix(b[:line], []byte(getEnd+"\r")) {
		return foreign
	}
	for i := seen; ; i++ {
		next := bytes.IndexByte(b[i:], '\n')
		if next < 0 {
			break
		}
		i += next
		switch {
		case b[i-1] != '\r': // net/http takes LF alone as the end of a line, too; i > 0, since b begins as getStart
			return foreign
		case !bytes.HasSuffix(b[:i+1], []byte(headerEnd)):
		case i+1 == len(b):
			return plain
		default:
			return foreign
		}
	}
	if len(b) >= maxGet {
		return foreign
	}
	return unfinished
}

// targetOf returns the target of a head that judge takes for plain. If the request line is malformed, it returns any
// string.
func targetOf(head string) string {
	target, _, _ := strings.Cut(head[len("GET "):], " ")
	return target
}

// readGet reads a head that judge takes for plain, for a request with that context. It returns false if the request is not
// plain: if net/http could read it differently, or a field is about a body, the connection or another protocol. Then it is left
// to net/http.
func readGet(ctx context.Context, head string) (*http.Request, bool) {
	line, rest, _ := strings.Cut(head, "\r\n")
	target, ok := strings.CutSuffix(line[len("GET "):], getEnd)
	if !ok || !isTarget(target) {
		return nil, false
	}
	u, err := url.ParseRequestURI(target)
	if err != nil {
		return nil, false
	}
	r := noRequest.WithContext(ctx) // a copy
	r.Method, r.URL, r.RequestURI = http.MethodGet, u, target
	r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/1.1", 1, 1
	r.Header, r.Body = make(http.Header, 8), http.NoBody
	values := make([]string, strings.Count(rest, "\n")) // one allocation for all fields
	for fields := 0; ; fields++ {
		line, rest, _ = strings.Cut(rest, "\r\n")
		if line == "" {
			break
		}
		colon := strings.IndexByte(line, ':')
		if colon < 1 || fields >= maxGetFields {
			return nil, false
		}
		value := strings.Trim(line[colon+1:], " \t")
		if !httpguts.ValidHeaderFieldValue(value) {
			return nil, false
		}
		switch name, known := fieldName(line[:colon]); {
		case !known:
			return nil, false
		case name == "Host":
			if r.Host != "" || !isPlainHost(value) {
				return nil, false
			}
			r.Host = value
		case name == "Connection" && !strings.EqualFold(value, "keep-alive"):
			return nil, false
		case r.Header[name] != nil:
			r.Header[name] = append(r.Header[name], value)
		default:
			values[0] = value
			r.Header[name], values = values[:1:1], values[1:]
		}
	}
	if r.Host == "" || rest != "" {
		return nil, false
	}
	// net/http does so too (RFC 7234 section 5.4).
	if pragma := r.Header["Pragma"]; len(pragma) > 0 && pragma[0] == "no-cache" && r.Header["Cache-Control"] == nil {
		r.Header["Cache-Control"] = []string{"no-cache"}
	}
	return r, true
}

var noRequest = new(http.Request)

// fieldName returns a field's name in the form that net/http uses. It returns false for a name that is no token, and for
// those that no plain request has. Connection is left to readGet.
func fieldName(name string) (canonical string, plain bool) {
	for i := range len(name) {
		if c := name[i]; c >= 128 || !tokenChars[c] {
			return "", false
		}
	}
	canonical = textproto.CanonicalMIMEHeaderKey(name)
	switch canonical {
	case "Content-Length", "Expect", "Http2-Settings", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade":
		return canonical, false
	}
	return canonical, true
}

var tokenChars = func() (is [128]bool) {
	for _, c := range []byte("!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz") {
		is[c] = true
	}
	return is
}()

// isTarget reports whether a target is of visible ASCII characters.
func isTarget(target string) bool {
	for i := range len(target) {
		if c := target[i]; c <= ' ' || c >= 0x7f {
			return false
		}
	}
	return true
}

// isPlainHost reports whether a Host has only letters, digits and the marks of names, addresses and ports.
func isPlainHost(host string) bool {
	for i := range len(host) {
		switch c := host[i]; {
		case '0' <= c && c <= '9', 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z':
		case c == '.', c == '-', c == '_', c == ':', c == '[', c == ']':
		default:
			return false
		}
	}
	return host != ""
}
