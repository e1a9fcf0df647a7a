// Package sse is the wire format of Server-Sent Events: an encoder that
// cannot be made to forge a field or an event, and a decoder that follows the
// HTML standard to the byte.
//
// # Encoding
//
// An [Event] becomes its fields in the order event, id, retry, data, each as
// "field: value" and one LF, and one empty line:
//
//	Event{Name: greet, ID: seven, Retry: RetryMillis(3000), Data: "Line 1\nLine 2"}
//
//	event: greet\n
//	id: 7\n
//	retry: 3000\n
//	data: Line 1\n
//	data: Line 2\n
//	\n
//
// A field that is not set is not written; data always is. The data is cut at
// CR LF, LF and CR, all three of which [end a line] for every parser, and each
// piece gets a line of its own:
//
//	""          data: \n\n
//	"a"         data: a\n\n
//	"a\n"       data: a\n  data: \n\n
//	"\na"       data: \n   data: a\n\n
//	"\n\n"      data: \n   data: \n   data: \n\n
//	"a\r\nb"    data: a\n  data: b\n\n
//	"a\rb"      data: a\n  data: b\n\n
//
// So a receiver gets the data with its line ends normalised to LF, and nothing
// in it can begin a field. [Name] and [ID] cannot hold a line end at all.
// Data that is not UTF-8 is written as it is; receivers read U+FFFD there.
//
// # Decoding
//
// [Decoder] implements "[Parsing an event stream]" and "[Interpreting an event
// stream]" of the HTML standard.
//
// [end a line]: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
// [Parsing an event stream]: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
// [Interpreting an event stream]: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
package sse
