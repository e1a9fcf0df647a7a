package topics

import (
	"github.com/go-json-experiment/json/jsontext"

	"ssegateway/internal/frame"
	"ssegateway/sse"
)

// Gap tells a client that events between the given ids are lost: what it has, and what it continues
// from, if that is known.
func Gap(lastEventID string, id sse.ID) frame.Frame {
	quoted, _ := jsontext.AppendQuote(nil, lastEventID) // fails for invalid UTF-8 only
	name, _ := sse.NewName("gap")                       // valid
	return frame.Event(sse.Event{Name: name, ID: id, Data: `{"last_event_id":` + string(quoted) + `}`})
}

// gap returns a Gap that a client is about to get, and counts it.
func (t *Topics) gap(lastEventID string, id sse.ID) frame.Frame {
	t.stats.Gaps.Add(1)
	return Gap(lastEventID, id)
}
