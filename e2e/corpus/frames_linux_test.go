package corpus

import (
	"bytes"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// frame returns what is written to a framer that writes whatever it is told to.
func frame(write func(f *http2.Framer) error) string {
	var b bytes.Buffer
	f := http2.NewFramer(&b, nil)
	f.AllowIllegalWrites = true
	if err := write(f); err != nil {
		panic(err)
	}
	return b.String()
}

// block encodes fields, "name: value" each, without an index: what one case does to the tables is no other's.
func block(fields ...string) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for _, field := range fields {
		name, value, _ := strings.Cut(field[1:], ": ")
		_ = e.WriteField(hpack.HeaderField{Name: field[:1] + name, Value: value, Sensitive: true}) // to memory
	}
	return b.Bytes()
}

const (
	ends = true
	open = false
)

func headers(id uint32, end bool, fields ...string) string {
	return frame(func(f *http2.Framer) error {
		return f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block(fields...), EndHeaders: true, EndStream: end})
	})
}

// begun is a HEADERS frame that a CONTINUATION has to follow.
func begun(id uint32, fields ...string) string {
	return frame(func(f *http2.Framer) error {
		return f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block(fields...), EndStream: true})
	})
}

func continued(id uint32, end bool, fields ...string) string {
	return frame(func(f *http2.Framer) error { return f.WriteContinuation(id, end, block(fields...)) })
}

func data(id uint32, end bool, text string) string {
	return frame(func(f *http2.Framer) error { return f.WriteData(id, end, []byte(text)) })
}

func raw(kind http2.FrameType, flags http2.Flags, id uint32, payload string) string {
	return frame(func(f *http2.Framer) error { return f.WriteRawFrame(kind, flags, id, []byte(payload)) })
}

func reset(id uint32) string {
	return frame(func(f *http2.Framer) error { return f.WriteRSTStream(id, http2.ErrCodeCancel) })
}

func window(id, n uint32) string {
	return frame(func(f *http2.Framer) error { return f.WriteWindowUpdate(id, n) })
}

// to are the pseudo-header fields of a request, and more fields behind them.
func to(method, path string, more ...string) []string {
	return append([]string{":method: " + method, ":scheme: http", ":authority: localhost", ":path: " + path}, more...)
}

func h2get(id uint32, path string, more ...string) string {
	return headers(id, ends, to("GET", path, more...)...)
}

func h2send(id uint32, length string, body ...string) string {
	text := headers(id, open, to("POST", "/internal/send", "content-type: application/json", "content-length: "+length)...)
	for i, piece := range body {
		text += data(id, i == len(body)-1, piece)
	}
	return text
}

var http2Frames = subject{"http2", []attempt{
	{"a stream", "as it should be", h2get(1, "/stream")},
	{"health", "as it should be", h2get(1, "/healthz")},
	{"two at once", "each on its stream", h2get(1, "/healthz") + h2get(3, "/healthz")},
	{"no method", "malformed", headers(1, ends, ":scheme: http", ":authority: localhost", ":path: /")},
	{"no scheme", "malformed", headers(1, ends, ":method: GET", ":authority: localhost", ":path: /")},
	{"no path", "malformed", headers(1, ends, ":method: GET", ":scheme: http", ":authority: localhost")},
	{"an empty path", "malformed", h2get(1, "")},
	{"no authority", "allowed, with a Host", headers(1, ends, ":method: GET", ":scheme: http", ":path: /stream", "host: localhost")},
	{"neither authority nor Host", "allowed", headers(1, ends, ":method: GET", ":scheme: http", ":path: /stream")},
	{"authority and another Host", "RFC 9113 section 8.3.1: they must not differ", h2get(1, "/stream", "host: other.example")},
	{"authority and the same Host", "one host", h2get(1, "/stream", "host: localhost")},
	{"authority with a user", "section 8.3.1 forbids it", headers(1, ends, ":method: GET", ":scheme: http", ":authority: user@localhost", ":path: /stream")},
	{"authority with a bad port", "no host", headers(1, ends, ":method: GET", ":scheme: http", ":authority: localhost:x", ":path: /stream")},
	{"authority with a slash", "no host", headers(1, ends, ":method: GET", ":scheme: http", ":authority: localhost/a", ":path: /stream")},
	{"method twice", "malformed", headers(1, ends, ":method: GET", ":method: POST", ":scheme: http", ":authority: localhost", ":path: /")},
	{"path twice", "malformed", headers(1, ends, ":method: GET", ":scheme: http", ":authority: localhost", ":path: /a", ":path: /internal/stats")},
	{"an unknown pseudo field", "malformed", h2get(1, "/", ":x: y")},
	{"a pseudo field of answers", "malformed", h2get(1, "/", ":status: 200")},
	{"a pseudo field behind others", "malformed", headers(1, ends, ":method: GET", ":scheme: http", "a: b", ":authority: localhost", ":path: /")},
	{"another scheme", "passed over", headers(1, ends, ":method: GET", ":scheme: ftp", ":authority: localhost", ":path: /stream")},
	{"scheme with a request in it", "no scheme", headers(1, ends, ":method: GET", ":scheme: http://a/\r\nX: y", ":authority: localhost", ":path: /stream")},
	{"absolute form", "no form of HTTP/2", h2get(1, "http://localhost/internal/stats")},
	{"asterisk", "only for OPTIONS", h2get(1, "*")},
	{"relative", "no path", h2get(1, "stream")},
	{"dot segments", "never cleaned", h2get(1, "/a/../internal/stats")},
	{"a bad escape", "malformed", h2get(1, "/%zz")},
	{"a line end in the path", "malformed", h2get(1, "/a\r\nX: y")},
	{"a version in the path", "a request line in a path", h2get(1, "/stream HTTP/1.1")},
	{"a line end in the method", "no token", headers(1, ends, to("GET / HTTP/1.1\r\nX: y\r\n\r\nGET", "/stream")...)},
	{"CONNECT", "this is no proxy", headers(1, ends, ":method: CONNECT", ":authority: localhost:80")},
	{"CONNECT with a path", "malformed", headers(1, ends, to("CONNECT", "/a")...)},
	{"extended CONNECT", "not offered", headers(1, open, to("CONNECT", "/stream", ":protocol: websocket")...)},
	{"PRI", "a method as others", headers(1, ends, to("PRI", "*")...)},
	{"HEAD", "no stream", headers(1, ends, to("HEAD", "/stream")...)},
	{"Connection", "a field of one connection", h2get(1, "/stream", "connection: close")},
	{"Upgrade", "the same", h2get(1, "/stream", "upgrade: h2c")},
	{"Keep-Alive", "the same", h2get(1, "/stream", "keep-alive: timeout=1")},
	{"Proxy-Connection", "the same", h2get(1, "/stream", "proxy-connection: close")},
	{"TE: trailers", "allowed", h2get(1, "/stream", "te: trailers")},
	{"TE: gzip", "forbidden", h2get(1, "/stream", "te: gzip")},
	{"upper case", "section 8.2.1: malformed", h2get(1, "/stream", "Name: x")},
	{"a blank in a name", "malformed", h2get(1, "/stream", "a b: x")},
	{"a colon in a name", "malformed", h2get(1, "/stream", "a:b: x")},
	{"a line end in a value", "malformed", h2get(1, "/stream", "a: x\r\nb: y")},
	{"NUL in a value", "malformed", h2get(1, "/stream", "a: x\x00")},
	{"blanks around a value", "section 8.2.1 forbids it, and clients do it", h2get(1, "/stream", "a:  x ")},
	{"cookies apart", "one field", h2get(1, "/stream", "cookie: a=1", "cookie: b=2")},
	{"a header of 33 KiB", "beyond the bound: this stream alone", h2get(1, "/stream", "a: "+long(12<<10)) + begun(3, to("GET", "/stream", "a: "+long(12<<10))...) + continued(3, false, "b: "+long(12<<10)) + continued(3, true, "c: "+long(12<<10))},
	{"a length with no body", "section 8.1.1: malformed", h2get(1, "/stream", "content-length: 46")},
	{"a length of 0 with no body", "no body", h2get(1, "/stream", "content-length: 0")},
	{"a stream with an empty body", "no body", headers(1, open, to("GET", "/stream")...) + data(1, ends, "")},
	{"a stream with a body", "refused", headers(1, open, to("GET", "/stream")...) + data(1, ends, "x")},
	{"CONTINUATION", "as it should be", begun(1, to("GET", "/healthz")...) + continued(1, true, "a: b")},
	{"CONTINUATION of nothing", "a broken connection", continued(1, true, "a: b")},
	{"CONTINUATION of another stream", "a broken connection", begun(1, to("GET", "/healthz")...) + continued(3, true, "a: b")},
	{"another frame before CONTINUATION", "a broken connection", begun(1, to("GET", "/healthz")...) + data(1, ends, "")},
	{"200 empty CONTINUATIONs", "work for nothing", begun(1, to("GET", "/healthz")...) + strings.Repeat(continued(1, false), 200) + continued(1, true)},
	{"CONTINUATIONs of 300 KiB", "beyond what is read", begun(1, to("GET", "/healthz")...) + strings.Repeat(continued(1, false, "a: "+long(10<<10)), 30) + continued(1, true)},
	{"broken HPACK", "a broken connection", raw(http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, 1, "\xff\xff\xff\xff\xff\xff")},
	{"an index that is none", "a broken connection", raw(http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, 1, "\xbf")},
	{"padding longer than the frame", "a broken connection", raw(http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersPadded, 1, "\xff\x82")},
	{"data of an idle stream", "a broken connection", data(1, ends, "x")},
	{"data of stream 0", "a broken connection", data(0, ends, "x")},
	{"headers of stream 0", "a broken connection", h2get(0, "/healthz")},
	{"headers of an even stream", "a broken connection", h2get(2, "/healthz")},
	{"a stream that depends on itself", "an error of the stream", frame(func(f *http2.Framer) error {
		return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block(to("GET", "/healthz")...), EndHeaders: true, EndStream: true, Priority: http2.PriorityParam{StreamDep: 1}})
	})},
	{"reset of an idle stream", "a broken connection", reset(1)},
	{"reset of stream 0", "a broken connection", reset(0)},
	{"reset of a short frame", "a broken connection", raw(http2.FrameRSTStream, 0, 1, "x")},
	{"window of 0 for the connection", "a broken connection", window(0, 0)},
	{"window of 0 for an idle stream", "a broken connection", window(1, 0)},
	{"window of an idle stream", "a broken connection", window(1, 1)},
	{"window that overflows the connection", "a broken connection", window(0, 1<<31-1)},
	{"initial window that overflows", "a broken connection", raw(http2.FrameSettings, 0, 0, "\x00\x04\x80\x00\x00\x00")},
	{"initial window of 0", "an answer without a body does not wait for it", raw(http2.FrameSettings, 0, 0, "\x00\x04\x00\x00\x00\x00") + headers(1, ends, to("HEAD", "/healthz")...) + raw(http2.FrameSettings, 0, 0, "\x00\x04\x00\x00\xff\xff")},
	{"settings of a stream", "a broken connection", raw(http2.FrameSettings, 0, 1, "")},
	{"settings of a bad length", "a broken connection", raw(http2.FrameSettings, 0, 0, "x")},
	{"settings with an acknowledgement of something", "a broken connection", raw(http2.FrameSettings, http2.FlagSettingsAck, 0, "\x00\x04\x00\x00\x00\x00")},
	{"settings that push", "no number of a boolean", raw(http2.FrameSettings, 0, 0, "\x00\x02\x00\x00\x00\x02")},
	{"settings of a frame's size", "too small", raw(http2.FrameSettings, 0, 0, "\x00\x05\x00\x00\x00\x01")},
	{"settings that are unknown", "passed over", raw(http2.FrameSettings, 0, 0, "\xff\xff\x00\x00\x00\x01") + h2get(1, "/healthz")},
	{"PING of a bad length", "a broken connection", raw(http2.FramePing, 0, 0, "x")},
	{"PING of a stream", "a broken connection", raw(http2.FramePing, 0, 1, "12345678")},
	{"PRIORITY of an idle stream", "passed over", raw(http2.FramePriority, 0, 3, "\x00\x00\x00\x00\x10") + h2get(5, "/healthz")},
	{"PUSH_PROMISE", "no client may", raw(http2.FramePushPromise, http2.FlagPushPromiseEndHeaders, 1, "\x00\x00\x00\x02\x82")},
	{"an unknown frame", "passed over", raw(0xbe, 0xff, 7, "x") + h2get(1, "/healthz")},
	{"a frame of 2 MiB", "beyond what was offered", "\x20\x00\x00\x00\x01\x00\x00\x00\x01"},
	{"HTTP/1 behind the preface", "no frame", get("/smuggled")},
}}

// http2Bodies are for the listener of /internal: a refusal does not wait for a body, so there is no telling which comes first.
var http2Bodies = subject{"http2-bodies", []attempt{
	{"a send", "as it should be", h2send(1, "16", noToken)},
	{"Transfer-Encoding", "the same", headers(1, open, to("POST", "/internal/send", "transfer-encoding: chunked", "content-type: application/json")...) + data(1, ends, oneChunk)},
	{"more than the length", "malformed", h2send(1, "4", noToken)},
	{"less than the length", "malformed", h2send(1, "46", noToken)},
	{"two lengths", "malformed", headers(1, open, to("POST", "/internal/send", "content-type: application/json", "content-length: 16", "content-length: 4")...) + data(1, ends, noToken)},
	{"a length that is none", "malformed", h2send(1, "x", noToken)},
	{"a length of +16", "malformed", h2send(1, "+16", noToken)},
	{"a body that is a request", "a body", h2send(1, "46", inner)},
	{"a body in pieces", "as it should be", h2send(1, "16", noToken[:5], "", noToken[5:])},
	{"trailers", "passed over", headers(1, open, to("POST", "/internal/send", "content-type: application/json")...) + data(1, open, noToken) + headers(1, ends, "a: b")},
	{"trailers with a pseudo field", "malformed", headers(1, open, to("POST", "/internal/send", "content-type: application/json")...) + data(1, open, noToken) + headers(1, ends, ":path: /a")},
	{"trailers that do not end", "malformed", headers(1, open, to("POST", "/internal/send", "content-type: application/json")...) + data(1, open, noToken) + headers(1, open, "a: b")},
}}

// twice is a case that ends in one of two ways.
const twice = "a stream twice"

// http2Raced are cases in which the answer and the error have no order. What counts is the marker behind them.
var http2Raced = subject{"http2-raced", []attempt{
	{"a stream with a lower number", "a broken connection", h2get(5, "/healthz") + h2get(3, "/healthz")},
	{"data behind the end", "of a stream that has ended", h2get(1, "/healthz") + data(1, ends, "x")},
	{twice, "a broken connection", h2get(1, "/healthz") + h2get(1, "/healthz")},
	{"reset of a stream", "the client has left", h2get(1, "/stream") + reset(1)},
	{"window that overflows a stream", "an error of the stream", h2get(1, "/stream") + window(1, 1<<31-1)},
	{"GOAWAY, and a request", "no new streams of the other side", raw(http2.FrameGoAway, 0, 0, "\x00\x00\x00\x00\x00\x00\x00\x00") + h2get(1, "/healthz")},
}}
