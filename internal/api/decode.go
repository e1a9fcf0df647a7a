package api

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"unicode"
	"unsafe"

	"github.com/go-json-experiment/json/jsontext"

	"ssegateway/internal/connections"
	"ssegateway/internal/gateway"
	"ssegateway/sse"
)

// request is the body of a request and its decoder. Both are reused: a value that shares the
// body's bytes must not outlive the request.
type request struct {
	body    []byte
	input   bytes.Buffer // of decoder, over body
	decoder jsontext.Decoder
}

var requests = sync.Pool{New: func() any { return new(request) }}

// keptBody is the largest body buffer that is reused, in bytes.
const keptBody = 64 << 10

func (q *request) release() {
	if cap(q.body) > keptBody {
		q.body = nil
	}
	q.input = bytes.Buffer{}
	q.decoder.Reset(&q.input) // it has the body, too
	requests.Put(q)
}

// readJSON reads the body of a request that is JSON by its Content-Type.
func (q *request) readJSON(w http.ResponseWriter, r *http.Request, maxBody int64) *Error {
	if !isJSON(r.Header.Get("Content-Type")) {
		return errMediaType
	}
	if r.ContentLength > maxBody {
		return tooLarge("the body", maxBody)
	}
	if err := q.read(http.MaxBytesReader(w, r.Body, maxBody), r.ContentLength); err != nil {
		if errors.As(err, new(*http.MaxBytesError)) {
			return tooLarge("the body", maxBody)
		}
		return errRequestAborted
	}
	return nil
}

// read reads a body of length bytes. A negative length is unknown.
func (q *request) read(body io.Reader, length int64) (err error) {
	if length < 0 {
		q.body, err = io.ReadAll(body)
		return err
	}
	if int64(cap(q.body)) < length {
		q.body = make([]byte, length)
	}
	q.body = q.body[:length]
	_, err = io.ReadFull(body, q.body)
	return err
}

func isJSON(contentType string) bool {
	if contentType == "application/json" {
		return true // the usual case
	}
	t, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		return false
	}
	if charset := params["charset"]; charset != "" && !strings.EqualFold(charset, "utf-8") {
		return false
	}
	return t == "application/json" || strings.HasPrefix(t, "application/") && strings.HasSuffix(t, "+json")
}

// start begins to decode the body, one JSON object. d is positioned before it.
func (q *request) start() (d *jsontext.Decoder, ok bool) {
	d = q.decoderOf(q.body) // from a Buffer the decoder takes without a copy
	return d, d.PeekKind() == '{'
}

// end checks that nothing follows the object.
func (q *request) end() bool {
	_, err := q.decoder.ReadToken()
	return errors.Is(err, io.EOF)
}

// decoderOf returns a decoder of a value that is a part of a body.
func (q *request) decoderOf(value jsontext.Value) *jsontext.Decoder {
	q.body = value
	q.input = *bytes.NewBuffer(value)
	q.decoder.Reset(&q.input)
	return &q.decoder
}

// members decodes an object: for each member it calls f, which has to read the
// value. Duplicate names are an error, as is everything else that is not strictly
// JSON (RFC 8259) in UTF-8.
func members(d *jsontext.Decoder, f func(name string) error) error {
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	for d.PeekKind() != '}' {
		quoted, err := d.ReadValue()
		if err != nil {
			return err
		}
		name, _ := unquote(quoted)
		if err := f(name); err != nil {
			return err
		}
	}
	_, err := d.ReadToken()
	return err
}

// unquote decodes a JSON string. It returns false for any other value. The result shares v's
// bytes if possible.
func unquote(v jsontext.Value) (string, bool) {
	if v.Kind() != '"' {
		return "", false
	}
	b := []byte(v[1 : len(v)-1])
	if bytes.IndexByte(b, '\\') >= 0 {
		var err error
		if b, err = jsontext.AppendUnquote(make([]byte, 0, len(b)), v); err != nil {
			return "", false
		}
	}
	return unsafe.String(unsafe.SliceData(b), len(b)), true // nothing writes to b while the request is in use
}

// take reads the next value. It shares the body's bytes.
func (q *request) take(into *jsontext.Value) error {
	v, err := q.decoder.ReadValue()
	if err != nil {
		return err
	}
	end := q.decoder.InputOffset()
	*into = q.body[end-int64(len(v)) : end]
	return nil
}

// elements decodes an array: for each element it calls f, which has to read it.
func elements(d *jsontext.Decoder, f func() error) error {
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	for d.PeekKind() != ']' {
		if err := f(); err != nil {
			return err
		}
	}
	_, err := d.ReadToken()
	return err
}

// rawSend is a send before validation. Absent fields are nil.
type rawSend struct {
	token, end, wait, key jsontext.Value
	event                 rawEvent
}

// rawEvent is an event before validation. value is "{}" for any object.
type rawEvent struct{ value, data, name, id, retry jsontext.Value }

// decodeSend reads a send. Fields are checked in the contract's order. Nothing
// is looked up and nothing happens before all of them are valid.
func (q *request) decodeSend() (s connections.Send, problem *Error) {
	raw, err := q.readSend()
	if err != nil {
		return s, invalidJSON(err)
	}
	token, ok := unquote(raw.token)
	if !ok || token == "" {
		return s, errTokenMissing
	}
	s.Token, _ = gateway.ParseToken(token) // zero if invalid: found nowhere
	if raw.event.value != nil {
		s.HasEvent = true
		if s.Event, problem = raw.event.decode(); problem != nil {
			return s, problem
		}
	}
	switch raw.end.Kind() {
	case 't':
		s.Close = true
	case 'f', jsontext.KindInvalid: // KindInvalid: absent
	default:
		return s, errCloseType
	}
	if raw.wait != nil {
		if w, ok := unquote(raw.wait); !ok || w != "written" {
			return s, errWait
		}
		s.Wait = true
	}
	s.IdempotencyKey, problem = idempotencyKey(raw.key)
	return s, problem
}

// invalidJSON returns the answer to a body that is not JSON; err, if not nil, is the decoder's.
// It has a message of its own for an escape of half a surrogate pair: that is pure ASCII, so a
// message about UTF-8 would mislead.
func invalidJSON(err error) *Error {
	if hasHalfPair(err) {
		return errSurrogate
	}
	return errJSON
}

func hasHalfPair(err error) bool {
	if err == nil { // spares the usual case an allocation
		return false
	}
	var syntax *jsontext.SyntacticError
	return errors.As(err, &syntax) && strings.Contains(syntax.Err.Error(), "invalid surrogate pair")
}

var errNotAnObject = errors.New("not one JSON object")

// readSend reads the whole body in one pass, without validating the fields.
func (q *request) readSend() (raw rawSend, err error) {
	d, ok := q.start()
	if !ok {
		return raw, errNotAnObject
	}
	err = members(d, func(name string) error {
		switch name {
		case "token":
			return q.take(&raw.token)
		case "close":
			return q.take(&raw.end)
		case "wait":
			return q.take(&raw.wait)
		case "idempotency_key":
			return q.take(&raw.key)
		case "event":
			return q.takeEvent(&raw.event)
		default:
			return d.SkipValue()
		}
	})
	if err == nil && !q.end() {
		err = errNotAnObject
	}
	return raw, err
}

// takeEvent reads a value that should be an event.
func (q *request) takeEvent(raw *rawEvent) error {
	if q.decoder.PeekKind() != '{' {
		return q.take(&raw.value)
	}
	raw.value = jsontext.Value("{}")
	return members(&q.decoder, func(name string) error {
		switch name {
		case "data":
			return q.take(&raw.data)
		case "name":
			return q.take(&raw.name)
		case "id":
			return q.take(&raw.id)
		case "retry":
			return q.take(&raw.retry)
		default:
			return q.decoder.SkipValue()
		}
	})
}

func (raw *rawEvent) decode() (e sse.Event, problem *Error) {
	if raw.value.Kind() != '{' {
		return e, errEventType
	}
	var ok bool
	if e.Data, ok = unquote(raw.data); !ok {
		return e, errEventData
	}
	if raw.name != nil {
		name, ok := unquote(raw.name)
		if !ok {
			return e, errEventNameType
		}
		var err error
		if e.Name, err = sse.NewName(name); err != nil {
			return e, errEventName
		}
	}
	if raw.id != nil {
		id, ok := unquote(raw.id)
		if !ok {
			return e, errEventID
		}
		var err error
		if e.ID, err = eventID(id); err != nil {
			return e, errEventID
		}
	}
	if raw.retry != nil {
		// Whole milliseconds in plain digits, as they go on the wire.
		ms, err := strconv.ParseUint(string(raw.retry), 10, retryBits)
		if err != nil {
			return e, errEventRetry
		}
		e.Retry = sse.RetryMillis(ms)
	}
	return e, nil
}

// maxKey is how long an idempotency key may be, in bytes.
const maxKey = 128

// idempotencyKey returns a key, which shares the value's bytes; "" if it is absent.
func idempotencyKey(v jsontext.Value) (string, *Error) {
	if v == nil {
		return "", nil
	}
	key, ok := unquote(v)
	if !ok || key == "" || len(key) > maxKey || strings.ContainsFunc(key, func(c rune) bool { return c < '!' || '~' < c }) {
		return "", errIdempotencyKey
	}
	return key, nil
}

// retryBits bounds a retry: JSON parsers and browsers represent all integers below 2^53 exactly.
const retryBits = 53

var errUnfitID = errors.New("no id that comes back in a header")

// eventID makes an id that a client can send back in the header Last-Event-ID. A field value has
// no control characters, nor blanks at its ends (RFC 9110 section 5.5). An empty id counts as
// none, since it would erase the one that the client has.
func eventID(s string) (sse.ID, error) {
	if s == "" {
		return sse.ID{}, nil
	}
	if strings.Trim(s, " ") != s || strings.ContainsFunc(s, unicode.IsControl) {
		return sse.ID{}, errUnfitID
	}
	return sse.NewID(s)
}
