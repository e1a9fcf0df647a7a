package router

import (
	"bytes"
	"context"
	"errors"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"ssegateway/internal/connections"
)

// Version 0 of the messages between nodes: requests to /internal as they are over HTTP.
// On the wire a request is a line of method, target and content type, then the body. An answer is
// the status, then the body. testdata/v0 has an example of each kind, as that version wrote it.
//
// Nodes whose key has no version use it. This file and its tests can be removed when no cluster
// has such a node any more.

const (
	v0Connections = "/internal/connections"
	v0Sends       = "/internal/send"
	v0Statistics  = "/internal/stats"
	v0Expect      = "node:expect"
	v0Count       = "node:count"
	v0Stream      = "node:stream"
)

// v0Line is the first line of a request.
type v0Line struct{ method, target, contentType string }

func (l v0Line) with(body []byte) []byte {
	b := make([]byte, 0, len(l.method)+len(l.target)+len(l.contentType)+3+len(body))
	b = append(append(b, l.method...), ' ')
	b = append(append(b, l.target...), ' ')
	b = append(append(b, l.contentType...), '\n')
	return append(b, body...)
}

func encodeV0(q nodeRequest) []byte {
	switch {
	case len(q.Send) > 0: // one at a time
		return v0Line{"POST", v0Sends, "application/json"}.with(encodeJSON(newV0Send(q.Send[0])))
	case q.Close != "":
		return v0Line{"DELETE", v0Connections + "/" + q.Close, ""}.with(nil)
	case q.Describe != "":
		return v0Line{"GET", v0Connections + "/" + q.Describe, ""}.with(nil)
	case q.Change != nil:
		var body v0Patch
		body.Topics.Add, body.Topics.Remove = q.Change.Add, q.Change.Remove
		return v0Line{"PATCH", v0Connections + "/" + q.Change.Token, "application/json"}.with(encodeJSON(body))
	case q.List != nil:
		values := q.List.Filter.v0()
		values.Set("limit", strconv.Itoa(q.List.Limit))
		if q.List.After != "" {
			values.Set("cursor", q.List.After)
		}
		return v0Line{"GET", v0Connections + "?" + values.Encode(), ""}.with(nil)
	case q.CloseAll != nil:
		return v0Line{"DELETE", v0Connections + "?" + q.CloseAll.v0().Encode(), ""}.with(nil)
	case q.Statistics:
		return v0Line{"GET", v0Statistics, ""}.with(nil)
	case q.Expect != 0:
		return v0Line{"", v0Expect + "?ref=" + strconv.FormatUint(q.Expect, 10), ""}.with(nil)
	case q.Count != 0:
		return v0Line{"", v0Count + "?ref=" + strconv.FormatUint(q.Count, 10), ""}.with(nil)
	case q.Write != nil:
		return q.Write.encodeV0()
	default:
		return (&writeRequest{Token: q.Watch.Token, Stream: q.Watch.Stream}).encodeV0()
	}
}

func (f filter) v0() url.Values {
	values := url.Values{}
	if f.Topic != "" {
		values.Set("topic", f.Topic)
	}
	if f.Subject != "" {
		values.Set("subject", f.Subject)
	}
	return values
}

func (w *writeRequest) encodeV0() []byte {
	values := url.Values{
		"token": {w.Token}, "id": {w.Stream}, "write": {strconv.Itoa(w.Number)}, "end": {strconv.FormatBool(w.Close)},
	}
	var lines []byte
	for _, e := range w.Blocks {
		lines = append(append(lines, encodeJSON(newV0Event(e))...), '\n')
	}
	return v0Line{"POST", v0Stream + "?" + values.Encode(), "application/x-ndjson"}.with(lines)
}

// answerV0 is Answer for a message of a node of version 0.
func (r *Router) answerV0(ctx context.Context, message []byte) []byte {
	q, ok := decodeV0(message)
	if !ok {
		return encodeAnswerV0(q, failed(errUnknown), r.own.MaxTopics())
	}
	a := r.serve(ctx, q)
	return r.fit(&a, func() []byte { return encodeAnswerV0(q, a, r.own.MaxTopics()) }, false)
}

func decodeV0(message []byte) (q nodeRequest, ok bool) {
	line, body, ok := bytes.Cut(message, []byte("\n"))
	if !ok {
		return q, false
	}
	method, rest, ok := strings.Cut(string(line), " ")
	if !ok {
		return q, false
	}
	rest, _, _ = strings.Cut(rest, " ")
	target, query, _ := strings.Cut(rest, "?")
	values, err := url.ParseQuery(query)
	if err != nil {
		return q, false
	}
	ref, _ := strconv.ParseUint(values.Get("ref"), 10, 64)
	switch target {
	case v0Sends:
		var send v0Send
		err = json.Unmarshal(body, &send)
		q.Send = []sendRequest{send.decode()}
	case v0Statistics:
		q.Statistics = true
	case v0Connections:
		f := filter{values.Get("topic"), values.Get("subject")}
		if method == "DELETE" {
			q.CloseAll = &f
			return q, f != filter{}
		}
		q.List = &listRequest{Filter: f, After: values.Get("cursor"), Limit: 100}
		if limit := values.Get("limit"); limit != "" {
			q.List.Limit, err = strconv.Atoi(limit)
		}
	case v0Expect:
		q.Expect = ref
		return q, ref != 0
	case v0Count:
		q.Count = ref
		return q, ref != 0
	case v0Stream:
		q, err = decodeWriteV0(values, body)
	default:
		var token string
		if token, ok = strings.CutPrefix(target, v0Connections+"/"); !ok || token == "" {
			return q, false
		}
		err = q.decodeConnectionV0(method, token, body)
	}
	return q, err == nil
}

var errV0 = errors.New("no request of this version")

func (q *nodeRequest) decodeConnectionV0(method, token string, body []byte) error {
	switch method {
	case "GET", "HEAD":
		q.Describe = token
	case "DELETE":
		q.Close = token
	case "PATCH":
		var patch v0Patch
		if err := json.Unmarshal(body, &patch); err != nil {
			return err
		}
		q.Change = &changeRequest{token, patch.Topics.Add, patch.Topics.Remove}
	default:
		return errV0
	}
	return nil
}

func decodeWriteV0(values url.Values, body []byte) (q nodeRequest, err error) {
	number, _ := strconv.Atoi(values.Get("write"))
	if number == 0 {
		q.Watch = &watchRequest{values.Get("token"), values.Get("id")}
		return q, nil
	}
	q.Write = &writeRequest{Token: values.Get("token"), Stream: values.Get("id"), Number: number, Close: values.Get("end") == "true"}
	for line := range bytes.Lines(body) {
		var e v0Event
		if err := json.Unmarshal(line, &e); err != nil {
			return q, err
		}
		q.Write.Blocks = append(q.Write.Blocks, e.decode())
	}
	return q, nil
}

// v0Event is an event in the form in which backends send events, or a bare block.
type v0Event struct {
	Data  string  `json:"data"`
	Name  string  `json:"name,omitzero"`
	ID    *string `json:"id,omitzero"`
	Retry *uint64 `json:"retry,omitzero"`
	Bare  bool    `json:"bare,omitzero"`
}

func newV0Event(e event) v0Event { return v0Event(e) }

func (e v0Event) decode() event {
	if e.ID != nil && *e.ID == "" {
		e.ID = nil // an empty id counts as none
	}
	return event(e)
}

type v0Send struct {
	Token string   `json:"token"`
	Event *v0Event `json:"event,omitzero"`
	Close bool     `json:"close,omitzero"`
	Wait  string   `json:"wait,omitzero"`
}

func newV0Send(q sendRequest) v0Send {
	s := v0Send{Token: q.Token, Close: q.Close}
	if q.Event != nil {
		e := newV0Event(*q.Event)
		s.Event = &e
	}
	if q.Wait {
		s.Wait = "written"
	}
	return s
}

func (s v0Send) decode() sendRequest {
	q := sendRequest{Token: s.Token, Close: s.Close, Wait: s.Wait == "written"}
	if s.Event != nil {
		e := s.Event.decode()
		e.Bare = false // a send has no bare blocks
		q.Event = &e
	}
	return q
}

type v0Patch struct {
	Topics struct {
		Add    []string `json:"add,omitempty"`
		Remove []string `json:"remove,omitempty"`
	} `json:"topics"`
}

type v0Status struct {
	Status string   `json:"status"`
	Topics []string `json:"topics,omitzero"`
}

type v0Connection struct {
	Token    string   `json:"token"`
	Node     string   `json:"node"`
	State    string   `json:"state"`
	Path     string   `json:"path"`
	Subject  string   `json:"subject,omitempty"`
	Topics   []string `json:"topics"`
	Overflow string   `json:"overflow"`
	Since    string   `json:"since"`
	Events   uint64   `json:"events_written"`
	Bytes    uint64   `json:"bytes_written"`
	Queued   int64    `json:"bytes_queued"`
	Drops    uint64   `json:"drops"`
}

func newV0Connection(c connection) v0Connection {
	return v0Connection{
		c.Token, c.Node, c.State, c.Path, c.Subject, append([]string{}, c.Topics...), c.Overflow, c.Since.Format(time.RFC3339),
		c.Events, c.Bytes, c.Queued, c.Drops,
	}
}

func (c v0Connection) decode() (out connection, err error) {
	since, err := time.Parse(time.RFC3339, c.Since)
	return connection{
		Token: c.Token, Node: c.Node, State: c.State, Path: c.Path, Subject: c.Subject, Topics: c.Topics, Overflow: c.Overflow, Since: since,
		Events: c.Events, Bytes: c.Bytes, Queued: c.Queued, Drops: c.Drops,
	}, err
}

type v0Page struct {
	Connections []v0Connection `json:"connections"`
	Next        string         `json:"next_cursor,omitempty"`
}

type v0Closed struct {
	Closed int `json:"closed"`
}

type v0Counts struct {
	Node        string `json:"node"`
	Connections struct {
		Pending int64 `json:"pending"`
		Open    int64 `json:"open"`
	} `json:"connections"`
	Opened  uint64 `json:"streams_opened"`
	Events  uint64 `json:"events_written"`
	Bytes   uint64 `json:"bytes_written"`
	Queued  int64  `json:"bytes_queued"`
	Dropped uint64 `json:"events_dropped"`
	Log     struct {
		Epoch  string `json:"epoch"`
		Oldest uint64 `json:"oldest"`
		Last   uint64 `json:"last"`
		Bytes  int64  `json:"bytes"`
		Events int64  `json:"events"`
	} `json:"log"`
}

func newV0Counts(s *statistics) (c v0Counts) {
	c.Node, c.Connections.Pending, c.Connections.Open = s.Node, s.Pending, s.Open
	c.Opened, c.Events, c.Bytes, c.Queued, c.Dropped = s.Opened, s.Events, s.Bytes, s.Queued, s.EventsDropped
	c.Log.Epoch, c.Log.Oldest, c.Log.Last, c.Log.Bytes, c.Log.Events = s.Log.Epoch, s.Log.Oldest, s.Log.Last, s.Log.Bytes, s.Log.Events
	return c
}

func (c v0Counts) decode() *statistics {
	return &statistics{
		c.Node, c.Connections.Pending, c.Connections.Open, c.Opened, c.Events, c.Bytes, c.Queued, c.Dropped,
		logExtent{c.Log.Epoch, c.Log.Oldest, c.Log.Last, c.Log.Bytes, c.Log.Events},
	}
}

// v0Error is the answer for an error. Nodes of version 0 pass it on unchanged.
type v0Error struct {
	err           error
	status        int
	code, message string
}

// v0Errors has several answers for an error if the answer depends on the request.
var v0Errors = []v0Error{
	{connections.ErrNotFound, 404, "TOKEN_NOT_FOUND", "Token not found"},
	{connections.ErrGone, 410, "CONNECTION_GONE", "the client has left"},
	{connections.ErrPending, 409, "CONNECTION_PENDING", "the connection is not open yet"},
	{connections.ErrRelayed, 409, "CONNECTION_RELAYED", "the stream is relayed: the application itself writes it; it can only be closed"},
	{connections.ErrBufferFull, 503, "BUFFER_FULL", "the buffer of the pending connection is full, nothing of this request was kept"},
	{connections.ErrWriteFailed, 500, "WRITE_FAILED", "event could not be written, the connection has ended"},
	{connections.ErrWriteTimeout, 504, "WRITE_TIMEOUT", "event is queued, but was not written in time"},
	{connections.ErrAhead, 400, "INVALID_EVENT_ID", v0Ahead},
	{connections.ErrAhead, 400, "INVALID_STREAM", v0Ahead},
	{connections.ErrTooManyTopics, 400, "TOO_MANY_TOPICS", ""}, // the message names the limit
	{connections.ErrTooLarge, 413, "PAYLOAD_TOO_LARGE", "too large"},
	{connections.ErrUnreachable, 503, "NODE_UNREACHABLE", "the node that holds the connection does not answer; it is unknown whether it got the request"},
	{errAnswer, 503, "NODE_UNREACHABLE", "the node that holds the connection does not answer; it is unknown whether it got the request"},
	{errUnknown, 404, "NOT_FOUND", "no such internal endpoint"},
	{errStale, 404, "NOT_FOUND", "no such internal endpoint"}, // nobody waits for it
	{errMalformed, 400, "INVALID_JSON", "body must be one JSON object in valid UTF-8"},
}

const v0Ahead = "event.id has the form of a position in the log, but the log has not come to it: its client would miss what is published until then"

func (q nodeRequest) errorV0(name string, maxTopics int) (status int, body []byte) {
	for _, e := range v0Errors {
		if nameOf(e.err) != name {
			continue
		}
		switch {
		case e.err == connections.ErrAhead && q.Write != nil: //nolint:errorlint // of the table
			e.code = "INVALID_STREAM"
		case e.err == connections.ErrTooManyTopics: //nolint:errorlint // of the table
			e.message = "there may be at most " + strconv.Itoa(maxTopics) + " topics (MAX_TOPICS)"
		}
		var answer v0Failure
		answer.Error.Message, answer.Error.Code = e.message, e.code
		return e.status, encodeJSON(answer)
	}
	return 500, []byte("{}")
}

type v0Failure struct {
	Error struct {
		Message string `json:"message"`
		Code    string `json:"code"`
	} `json:"error"`
}

func encodeAnswerV0(q nodeRequest, a nodeAnswer, maxTopics int) []byte {
	status, body := 200, []byte("true")
	name := a.Error
	if len(a.Sent) == 1 && a.Sent[0].Error != "" {
		name = a.Sent[0].Error
	}
	switch {
	case name == nameOf(connections.ErrDropped): // of a write: version 0 has no word for it, and goes on as behind one that is written
	case name != "":
		status, body = q.errorV0(name, maxTopics)
	case a.Held:
		status = 202
	case len(a.Sent) == 1:
		body = encodeJSON(v0Status{Status: v0Outcome(a.Sent[0].Outcome)})
	case q.Change != nil:
		body = encodeJSON(v0Status{"ok", append([]string{}, a.Topics...)})
	case a.Connection != nil:
		body = encodeJSON(newV0Connection(*a.Connection))
	case a.Page != nil:
		p := v0Page{Connections: make([]v0Connection, len(a.Page.Connections)), Next: a.Page.Next}
		for i, c := range a.Page.Connections {
			p.Connections[i] = newV0Connection(c)
		}
		body = encodeJSON(p)
	case q.CloseAll != nil:
		body = encodeJSON(v0Closed{a.Closed})
	case a.Statistics != nil:
		body = encodeJSON(newV0Counts(a.Statistics))
	case q.Count != 0:
		body = strconv.AppendInt(nil, int64(a.Receivers), 10)
	}
	return append(strconv.AppendInt(make([]byte, 0, 3+len(body)), int64(status), 10), body...)
}

// v0Outcome returns an outcome as a status, or a status as an outcome.
func v0Outcome(s string) string {
	switch s {
	case "sent":
		return "ok"
	case "ok":
		return "sent"
	default:
		return s
	}
}

func decodeAnswerV0(q nodeRequest, message []byte) (a nodeAnswer, err error) {
	if len(message) < 3 {
		return a, errNoAnswer
	}
	status, err := strconv.Atoi(string(message[:3]))
	body := message[3:]
	switch {
	case err != nil:
		return a, errNoAnswer
	case status == 202:
		a.Held = true
		return a, nil
	case status != 200:
		if a, err = decodeErrorV0(body); err == nil && (q.Send != nil || q.Close != "") {
			a = nodeAnswer{Sent: []sent{{Error: a.Error}}}
		}
		return a, err
	}
	switch {
	case q.Send != nil, q.Close != "":
		var s v0Status
		err = json.Unmarshal(body, &s)
		a.Sent = []sent{{Outcome: v0Outcome(s.Status)}}
	case q.Change != nil:
		var s v0Status
		err = json.Unmarshal(body, &s)
		a.Topics = s.Topics
	case q.Describe != "":
		var c v0Connection
		if err = json.Unmarshal(body, &c); err == nil {
			a.Connection = new(connection)
			*a.Connection, err = c.decode()
		}
	case q.List != nil:
		err = a.decodePageV0(body)
	case q.CloseAll != nil:
		var c v0Closed
		err = json.Unmarshal(body, &c)
		a.Closed = c.Closed
	case q.Statistics:
		var c v0Counts
		err = json.Unmarshal(body, &c)
		a.Statistics = c.decode()
	case q.Count != 0:
		a.Receivers, err = strconv.Atoi(string(body))
	}
	return a, err
}

func (a *nodeAnswer) decodePageV0(body []byte) error {
	var p v0Page
	if err := json.Unmarshal(body, &p); err != nil {
		return err
	}
	a.Page = &page{Next: p.Next}
	for _, c := range p.Connections {
		decoded, err := c.decode()
		if err != nil {
			return err
		}
		a.Page.Connections = append(a.Page.Connections, decoded)
	}
	return nil
}

func decodeErrorV0(body []byte) (a nodeAnswer, err error) {
	var answer v0Failure
	if err := json.Unmarshal(body, &answer); err != nil {
		return a, err
	}
	for _, e := range v0Errors {
		if e.code == answer.Error.Code {
			return failed(e.err), nil
		}
	}
	return a, errNoAnswer
}
