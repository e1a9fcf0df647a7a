package outbox

import (
	"bytes"
	"iter"

	"ssegateway/internal/frame"
)

// eventNames returns the names of a frame's events, one for each event; the name of an event
// without one is empty. Only the policy latest needs them, so frames do not keep them. A block that
// is no event, such as one with only an id, has no data line. The name of an event in an envelope is that in
// the envelope, as JSON.
func eventNames(f frame.Frame, enveloped bool) iter.Seq[[]byte] {
	return func(yield func(name []byte) bool) {
		rest := f.Wire(false)
		for range f.Events() {
			var name []byte
			for !bytes.HasPrefix(rest, []byte("data:")) {
				line, more, found := bytes.Cut(rest, []byte("\n"))
				if !found { // it was not encoded here: it counts as one without a name
					yield(nil)
					return
				}
				if value, ok := bytes.CutPrefix(line, []byte("event: ")); ok || len(line) == 0 {
					name = value[:len(value):len(value)]
				}
				rest = more
			}
			if enveloped && len(name) == 0 {
				name = envelopedName(rest)
			}
			if !yield(name) {
				return
			}
			_, rest, _ = bytes.Cut(rest, []byte("\n\n"))
		}
	}
}

// envelopedName returns the name in the envelope that a data line has, or nothing if it has none.
func envelopedName(line []byte) []byte {
	value, ok := bytes.CutPrefix(line, []byte("data: "+frame.EnvelopeOpen))
	if !ok || len(value) == 0 {
		return nil
	}
	for i := 1; i < len(value); i++ {
		switch value[i] {
		case '\\':
			i++
		case '"':
			return value[: i+1 : i+1]
		case '\n':
			return nil
		}
	}
	return nil
}
