package api

import (
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"ssegateway/internal/connections"
)

// Error is an answer that is not a success: its HTTP status, a code for programs,
// a message for people. Every error of the gateway has this form on the wire:
//
//	{"error":{"message":"Token not found","code":"TOKEN_NOT_FOUND"}}
type Error struct {
	Status  int
	Code    string
	Message string
}

// The registry of errors. Codes are part of the contract and never change.
var (
	// Of the backend's requests.
	errTokenMissing   = &Error{400, "INVALID_TOKEN_MISSING", "token is required and must be a string"}
	errEventType      = &Error{400, "INVALID_EVENT_TYPE", "event must be an object"}
	errEventData      = &Error{400, "INVALID_EVENT_DATA_MISSING", "event.data is required and must be a string"}
	errEventNameType  = &Error{400, "INVALID_EVENT_NAME_TYPE", "event.name must be a string"}
	errEventName      = &Error{400, "INVALID_EVENT_NAME", "event.name must not contain control characters"}
	errEventID        = &Error{400, "INVALID_EVENT_ID", "event.id must be a string of at most 128 bytes without control characters, and without blanks at its ends"}
	errAhead          = &Error{400, "INVALID_EVENT_ID", "event.id has the form of a position in the log, but the log has not come to it: its client would miss what is published until then"}
	errEventRetry     = &Error{400, "INVALID_EVENT_RETRY", "event.retry must be a whole number of milliseconds from 0 to 9007199254740991"}
	errCloseType      = &Error{400, "INVALID_CLOSE_TYPE", "close must be a boolean"}
	errWait           = &Error{400, "INVALID_WAIT", `wait must be "written"`}
	errIdempotencyKey = &Error{400, "INVALID_IDEMPOTENCY_KEY", "idempotency_key must be a string of 1 to 128 visible ASCII characters"}
	errKeyReused      = &Error{422, "IDEMPOTENCY_KEY_REUSED", "something else was asked for with the same idempotency_key: use a new key"}
	errJSON           = &Error{400, "INVALID_JSON", "body must be one JSON object in valid UTF-8"}
	errPublishedID    = &Error{400, "INVALID_EVENT_ID", "event.id must be absent: a published event's id is its position in the log"}
	errTopics         = &Error{400, "INVALID_TOPICS", "topics (or topic) must name at least one topic: strings of 1 to 256 bytes without control characters"}
	errStoreType      = &Error{400, "INVALID_STORE_TYPE", "store must be a boolean"}
	errRetain         = &Error{400, "INVALID_RETAIN", "retain must be a boolean, and an event that is retained is stored as well"}
	errKey            = &Error{400, "INVALID_KEY", "key must be a string of 1 to 256 bytes without control characters, and is for events with retain"}
	errCount          = &Error{400, "INVALID_COUNT", `count must be "node" or "all"`}
	errOperations     = &Error{400, "INVALID_OPERATIONS", "operations must be an array"}
	errOperation      = &Error{400, "INVALID_OPERATION", "an operation must be an object: a send with token, or a publish with topics"}
	errPatch          = &Error{400, "INVALID_TOPICS", "topics must be an object with add and remove: arrays of strings of 1 to 256 bytes without control characters"}
	errTopicCount     = &Error{400, "TOO_MANY_TOPICS", "too many topics"} // see tooManyTopics
	errOperationCount = &Error{400, "TOO_MANY_OPERATIONS", "a batch has at most 10000 operations; none of these was tried"}
	errQuery          = &Error{400, "INVALID_QUERY", "the query string is malformed"}
	errFilter         = &Error{400, "INVALID_FILTER", "subject or topic is required: all connections are never closed at once"}
	errLimit          = &Error{400, "INVALID_LIMIT", "limit must be a whole number from 1 to 1000"}
	errCursor         = &Error{400, "INVALID_CURSOR", "cursor must be the next_cursor of a page before"}
	errCoalesce       = &Error{400, "INVALID_COALESCE", "coalesce_ms must be a whole number from 0 to 1000"}
	errCloseQuery     = &Error{400, "INVALID_CLOSE_TYPE", "close must be true or false"}
	errStreamType     = &Error{415, "UNSUPPORTED_MEDIA_TYPE", "Content-Type must be text/event-stream or application/x-ndjson"}
	errPending        = &Error{409, "CONNECTION_PENDING", "the connection is not open yet"}
	errRelayed        = &Error{409, "CONNECTION_RELAYED", "the stream is relayed: the application itself writes it; it can only be closed"}
	errGone           = &Error{410, "CONNECTION_GONE", "the client has left"}
	errNode           = &Error{503, "NODE_UNREACHABLE", "the node that holds the connection does not answer; it is unknown whether it got the request"}
	errTokenNotFound  = &Error{404, "TOKEN_NOT_FOUND", "Token not found"}
	errPayload        = &Error{413, "PAYLOAD_TOO_LARGE", "too large"} // see tooLarge
	errSurrogate      = &Error{400, "INVALID_JSON", `body has half a surrogate pair: the escapes \ud800 to \udfff must come in pairs`}
	errMediaType      = &Error{415, "UNSUPPORTED_MEDIA_TYPE", "Content-Type must be application/json"}
	errWriteFailed    = &Error{500, "WRITE_FAILED", "event could not be written, the connection has ended"}
	errBufferFull     = &Error{503, "BUFFER_FULL", "the buffer of the pending connection is full, nothing of this request was kept"}
	errWriteTimeout   = &Error{504, "WRITE_TIMEOUT", "event is queued, but was not written in time"}
	ErrUnknownOp      = &Error{404, "NOT_FOUND", "no such internal endpoint"}
	errRequestAborted = &Error{400, "REQUEST_ABORTED", "body ended early"}
	errHistory        = &Error{400, "INVALID_HISTORY", "history must be a time such as 15m or 90s, of 5 s to 15 min"}

	// Of tails. The first is also that of clients' requests.

	ErrBody         = &Error{400, "BODY_NOT_ALLOWED", "a GET must not have a body"}
	errTailTopic    = &Error{400, "INVALID_TOPICS", "topic is required in the query, once for each topic: 1 to 256 bytes without control characters"}
	ErrTooManyTails = &Error{429, "TOO_MANY_TAILS", "the node has as many tails as it may"}

	// Of retained events.

	errRetainedTopic = &Error{400, "INVALID_TOPICS", "topic is required in the query: 1 to 256 bytes without control characters"}
	errRetainedKey   = &Error{400, "INVALID_KEY", "key in the query must have 1 to 256 bytes without control characters; without it all of the topic are removed"}
	errRetainedFull  = &Error{507, "RETAINED_FULL", "retained events have no room for this one, which was not published: remove some, or set RETAINED_BYTES higher"}

	// Of the log.

	ErrBroker = &Error{503, "BROKER_UNAVAILABLE", "the log cannot be reached now"}

	// Of access to /internal.

	ErrForbidden = &Error{
		403, "INTERNAL_FORBIDDEN",
		"/internal is open to this caller by configuration only: name its address in INTERNAL_ALLOW, give it the INTERNAL_TOKEN, or use the listener at INTERNAL_ADDR",
	}
	ErrForbiddenHost = &Error{
		403, "INTERNAL_FORBIDDEN",
		"a caller on this host has to name the gateway by an address or as localhost, since a page of another site could stand behind any other name; for another name set INTERNAL_ALLOW=127.0.0.0/8,::1, or INTERNAL_TOKEN",
	}
	ErrUnauthorized = &Error{401, "UNAUTHORIZED", "Authorization: Bearer with the configured INTERNAL_TOKEN is required"}

	// Of clients' requests.

	ErrMethod          = &Error{405, "METHOD_NOT_ALLOWED", "method not allowed"}
	ErrTarget          = &Error{400, "INVALID_REQUEST_TARGET", "the request target must be a path, or an http or https URL without user information"}
	ErrRequestTooLarge = &Error{431, "REQUEST_TOO_LARGE", "the request's target and headers are too large"}
	errMalformed       = &Error{400, "INVALID_REQUEST", "the request is malformed: look at its target, its Host and its other fields"}
	ErrNotConfigured   = &Error{503, "SERVICE_NOT_CONFIGURED", "Service not configured"}
	ErrBackendTimeout  = &Error{504, "GATEWAY_TIMEOUT", "Gateway timeout"}
	ErrBackendDown     = &Error{503, "BACKEND_UNAVAILABLE", "Backend unavailable"}
	ErrTooManyConns    = &Error{503, "TOO_MANY_CONNECTIONS", "the gateway holds as many connections as it may"}
	ErrTooManyFrom     = &Error{429, "TOO_MANY_FROM_ADDRESS", "there are too many streams from this address, or it opens them too fast: try again later"}
	ErrRequestBudget   = &Error{503, "REQUEST_BUDGET_FULL", "the gateway keeps as many bytes of requests as it may"}
	ErrDotSegment      = &Error{400, "INVALID_REQUEST_TARGET", "the path has a segment . or .. once it is decoded: ask for the path that it leads to"}
	ErrNotReady        = &Error{503, "NOT_READY", "the gateway takes no new requests now: come back later, perhaps to another one"}
	ErrTwoLengths      = &Error{400, "INVALID_REQUEST", "the request has both Content-Length and Transfer-Encoding: send one of them"}
	ErrUpgrade         = &Error{501, "UPGRADE_NOT_SUPPORTED", "WebSockets are not relayed: have the proxy in front route this path around the gateway"}
	ErrRequestBody     = &Error{400, "REQUEST_ABORTED", "the body of the request was malformed, or did not come in time"}
	ErrAnswerGone      = &Error{410, "ANSWER_GONE", "the answer is not there any more, or never had this id: ask anew"}
	ErrAnswerNode      = &Error{errNode.Status, errNode.Code, "the node that has the answer does not answer: come back later"}
	ErrResumeForbidden = &Error{403, "RESUME_FORBIDDEN", "the answer was asked for with another Authorization: bring that one"}
	errBackendAuth     = Error{401, "BACKEND_AUTH_FAILED", "Backend returned 401"}
	errBackendForbiden = Error{403, "BACKEND_FORBIDDEN", "Backend returned 403"}
)

// Malformed returns the answer to a request that net/http refuses by itself with this status and
// text. The text of a 400 may name the error after a colon.
func Malformed(status int, words string) *Error {
	e := &Error{status, errMalformed.Code, errMalformed.Message}
	switch _, why, found := strings.Cut(words, ": "); {
	case status == ErrRequestTooLarge.Status:
		return ErrRequestTooLarge
	case status == http.StatusExpectationFailed:
		e.Message = "of expectations only 100-continue is supported"
	case status == http.StatusNotImplemented:
		e.Message = "the Transfer-Encoding is not supported: send the body chunked, or with a Content-Length"
	case status == http.StatusHTTPVersionNotSupported:
		e.Message = "the version of HTTP is not supported: use HTTP/1.1, or HTTP/2 where it is offered"
	case strings.Contains(words, "HTTPS"):
		e.Message = "this port speaks https only"
	case found:
		e.Message = "the request is malformed: " + why
	}
	return e
}

// problemOf returns the answer to an error of [connections.Connections].
func problemOf(err error) *Error {
	for _, known := range problems {
		if errors.Is(err, known.err) {
			if known.problem == errPayload {
				return &Error{errPayload.Status, errPayload.Code, err.Error()} // err names the sizes
			}
			return known.problem
		}
	}
	return ErrBroker
}

var problems = []struct {
	err     error
	problem *Error
}{
	{connections.ErrNotFound, errTokenNotFound},
	{connections.ErrGone, errGone},
	{connections.ErrPending, errPending},
	{connections.ErrRelayed, errRelayed},
	{connections.ErrBufferFull, errBufferFull},
	{connections.ErrWriteFailed, errWriteFailed},
	{connections.ErrWriteTimeout, errWriteTimeout},
	{connections.ErrAhead, errAhead},
	{connections.ErrUnreachable, errNode},
	{connections.ErrKeyReused, errKeyReused},
	{connections.ErrTooLarge, errPayload},
	{connections.ErrRetainedFull, errRetainedFull},
}

// tooManyTopics returns the answer to a request that names more topics than allowed, or would
// give a connection more.
func tooManyTopics(most int) *Error {
	return &Error{errTopicCount.Status, errTopicCount.Code, "there may be at most " + strconv.Itoa(most) + " topics (MAX_TOPICS)"}
}

// BackendError returns the answer to a client that the backend refused with a status.
func BackendError(status int) *Error {
	switch status {
	case http.StatusUnauthorized:
		return &errBackendAuth
	case http.StatusForbidden:
		return &errBackendForbiden
	}
	shown := status
	if status < 400 || status > 599 {
		shown = http.StatusBadGateway // a redirect is not meant for the client, and other statuses are not errors of HTTP
	}
	return &Error{shown, "BACKEND_ERROR", "Backend returned " + strconv.Itoa(status)}
}

// tooLarge returns the answer to a request of which a part, what, is larger than MAX_BODY_BYTES.
func tooLarge(what string, maxBody int64) *Error {
	return &Error{errPayload.Status, errPayload.Code, what + " is larger than MAX_BODY_BYTES, " + strconv.FormatInt(maxBody, 10) + " bytes"}
}

// TooLarge returns the answer to a request whose body is larger than MAX_BODY_BYTES.
func TooLarge(maxBody int64) *Error { return tooLarge("the body", maxBody) }

// Write answers a request with the error.
func (e *Error) Write(w http.ResponseWriter) {
	WriteJSON(w, e.Status, e.body())
}

func (e *Error) body() []byte {
	body := append([]byte(`{"error":{"message":`), quote(e.Message)...)
	body = append(append(body, `,"code":`...), quote(e.Code)...)
	return append(body, "}}"...)
}

func quote(s string) []byte {
	q, _ := jsontext.AppendQuote(nil, s) // fails only for invalid UTF-8, which no message has
	return q
}

var (
	jsonType = []string{"application/json"}
	noStore  = []string{"no-store"}
)

// WriteJSON answers a request with a JSON body.
func WriteJSON(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h["Content-Type"] = jsonType
	h["Cache-Control"] = noStore
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(status)
	_, _ = w.Write(body) //nolint:gosec,nolintlint // whose taint analysis finds this only at times: sent as JSON, not HTML; fails only if the caller has left
}

// Allow checks the method of a request. If it is not allowed, Allow answers the request.
func Allow(w http.ResponseWriter, r *http.Request, methods ...string) bool {
	for _, m := range methods {
		if r.Method == m {
			return true
		}
	}
	w.Header()["Allow"] = []string{strings.Join(methods, ", ")}
	ErrMethod.Write(w)
	return false
}
