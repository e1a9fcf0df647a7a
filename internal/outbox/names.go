package outbox

import (
	"bytes"

	"ssegateway/internal/frame"
)

// eventName is the name of a frame's event. Only an overflow looks, so frames do not keep it.
func eventName(f frame.Frame) string {
	rest, ok := bytes.CutPrefix(f.Wire(false), []byte("event: "))
	if !ok {
		return ""
	}
	name, _, _ := bytes.Cut(rest, []byte("\n"))
	return string(name)
}
