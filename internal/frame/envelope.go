package frame

import (
	"github.com/go-json-experiment/json/jsontext"

	"ssegateway/sse"
)

// The parts of an envelope around the name, a JSON string, and the data.
const (
	EnvelopeOpen = `{"type":`
	envelopeData = `,"payload":`
)

// Envelope puts the name of an event into its data, as a page reads it that listens to events
// without a name only:
//
//	{"type":"order","payload":{"number":7}}
//
// The payload is the data itself if that is JSON (RFC 8259), else the data as a JSON string. An event without
// a name stays as it is.
func Envelope(e sse.Event) sse.Event {
	if e.Name == (sse.Name{}) {
		return e
	}
	b := make([]byte, 0, len(EnvelopeOpen)+len(e.Name.String())+len(envelopeData)+len(e.Data)+len(`"""" }`))
	b = append(b, EnvelopeOpen...)
	b, _ = jsontext.AppendQuote(b, e.Name.String()) // invalid UTF-8 is replaced
	b = append(b, envelopeData...)
	if isJSON(e.Data) {
		b = append(b, e.Data...)
	} else {
		b, _ = jsontext.AppendQuote(b, e.Data)
	}
	e.Name, e.Data = sse.Name{}, string(append(b, '}'))
	return e
}

func isJSON(data string) bool {
	return jsontext.Value(data).IsValid(jsontext.AllowDuplicateNames(true))
}
