package outbox

import (
	"bytes"
	"iter"

	"ssegateway/internal/frame"
)

// eventNames returns the names of a frame's events, one for each event; the name of an event
// without one is empty. Only the policy latest needs them, so frames do not keep them. A block that
// is no event, such as one with only an id, has no data line.
func eventNames(f frame.Frame) iter.Seq[[]byte] {
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
			if !yield(name) {
				return
			}
			_, rest, _ = bytes.Cut(rest, []byte("\n\n"))
		}
	}
}
