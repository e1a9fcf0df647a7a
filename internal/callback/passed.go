package callback

import (
	"strings"

	"ssegateway/internal/gateway"
)

// passedOn lists the header fields that are copied from the answer to a connect to the
// client's response. A 401 must have WWW-Authenticate (RFC 9110 section 11.6.1).
var passedOn = [...]string{"WWW-Authenticate", "Retry-After", "Set-Cookie"}

// passedLimit bounds their names and values together, in bytes.
const passedLimit = 16 << 10

// passed returns those fields, and the name of one that is not passed on because it exceeds
// passedLimit or has control characters; "" if there is none.
func (r *reply) passed() (header []gateway.Field, left string) {
	if r.status == 0 || r.response == nil {
		return nil, ""
	}
	size := 0
	for _, name := range passedOn {
		for _, value := range r.response.Header.Values(name) {
			if size += len(name) + len(value); size > passedLimit || strings.ContainsFunc(value, isControl) {
				size -= len(name) + len(value)
				left = name
				continue
			}
			header = append(header, gateway.Field{Name: name, Value: value})
		}
	}
	return header, left
}

// isControl reports whether a field's value must not contain c (RFC 9110 section 5.5).
func isControl(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }
