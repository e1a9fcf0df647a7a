package callback

import (
	"strings"

	"ssegateway/internal/gateway"
)

// passedOn are the fields of the answer to a connect that the client gets as well: what a
// browser or a library acts on, and only the backend can know. A 401 has to have the first
// (RFC 9110 section 11.6.1).
var passedOn = [...]string{"WWW-Authenticate", "Retry-After", "Set-Cookie"}

// passedLimit bounds their names and values together, in bytes.
const passedLimit = 16 << 10

// passed returns those fields, and the name of one that is not passed on since it is too
// long beside the others or has control characters; "" if there is none.
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

// isControl says whether a field's value must not have it (RFC 9110 section 5.5).
func isControl(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }
