package router

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-json-experiment/json"

	"ssegateway/internal/connections"
	"ssegateway/internal/gateway"
	"ssegateway/internal/outbox"
	"ssegateway/sse"
)

// Version is the newest version of the messages between nodes that this node understands.
// Messages are JSON, and unknown fields are ignored. A new field therefore needs a new version
// only if it does harm to ignore it. Every other change needs one. Nodes of two successive
// versions work together: the newer one uses the older one's version.
const Version = 2

// withKeys is the first version whose nodes know idempotency keys. Others would carry out repeats.
const withKeys = 2

// nodeRequest is what one node asks of another: exactly one of its fields is set, beside
// the version.
type nodeRequest struct {
	Version     int            `json:"version"`               // of the message
	Send        []sendRequest  `json:"send,omitzero"`         // in order
	Close       string         `json:"close,omitzero"`        // a token
	Describe    string         `json:"describe,omitzero"`     // a token
	TopicsAfter string         `json:"topics_after,omitzero"` // of Describe: only topics after this one
	Change      *changeRequest `json:"change,omitzero"`
	List        *listRequest   `json:"list,omitzero"`
	CloseAll    *filter        `json:"close_all,omitzero"`
	Statistics  bool           `json:"statistics,omitzero"`
	Expect      uint64         `json:"expect,omitzero"` // the ref of a record
	Count       uint64         `json:"count,omitzero"`  // the ref of a record
	Write       *writeRequest  `json:"write,omitzero"`
	Watch       *watchRequest  `json:"watch,omitzero"`
	Answer      *answerRequest `json:"answer,omitzero"` // unknown to nodes that relay nothing, which is an answer too
}

// sendRequest is a [connections.Send].
type sendRequest struct {
	Token string `json:"token"`
	Event *event `json:"event,omitzero"`
	Close bool   `json:"close,omitzero"`
	Wait  bool   `json:"wait,omitzero"`
	Key   string `json:"idempotency_key,omitzero"`
}

// changeRequest asks for a change of a connection's topics.
type changeRequest struct {
	Token  string   `json:"token"`
	Add    []string `json:"add,omitzero"`
	Remove []string `json:"remove,omitzero"`
}

// listRequest asks for a page of the list of the node's own connections.
type listRequest struct {
	Filter filter `json:"filter"`
	After  string `json:"after,omitzero"` // a token
	Limit  int    `json:"limit"`
}

// filter is a [gateway.Filter].
type filter struct {
	Topic   string `json:"topic,omitzero"`
	Subject string `json:"subject,omitzero"`
}

// writeRequest asks for a write of a streaming request. If the owner has that number already,
// it asks for the result only.
type writeRequest struct {
	Token  string  `json:"token"`
	Stream string  `json:"stream"`         // unique id of the streaming request
	Number int     `json:"number"`         // from 1
	Close  bool    `json:"close,omitzero"` // after the blocks
	Blocks []event `json:"blocks,omitzero"`
}

// watchRequest asks for the end of a streaming request's connection.
type watchRequest struct {
	Token  string `json:"token"`
	Stream string `json:"stream"`
}

// event is a [connections.Block].
type event struct {
	Data  string  `json:"data"`
	Name  string  `json:"name,omitzero"`
	ID    *string `json:"id,omitzero"`
	Retry *uint64 `json:"retry,omitzero"`
	Bare  bool    `json:"bare,omitzero"`
}

// nodeAnswer is the answer to a nodeRequest: an error, or the fields that belong to the request.
type nodeAnswer struct {
	Version    int         `json:"version"`        // of the message
	Error      string      `json:"error,omitzero"` // one of errorNames
	Sent       []sent      `json:"sent,omitzero"`  // of Send and Close
	Connection *connection `json:"connection,omitzero"`
	MoreTopics bool        `json:"more_topics,omitzero"` // there are more than Topics
	Topics     []string    `json:"topics,omitzero"`
	Page       *page       `json:"page,omitzero"`
	Closed     int         `json:"closed,omitzero"`
	Statistics *statistics `json:"statistics,omitzero"`
	Receivers  int         `json:"receivers,omitzero"`
	Held       bool        `json:"held,omitzero"` // of Write and Watch: no result yet, ask again
	Answer     *answerPart `json:"answer,omitzero"`
}

// sent is the result of a send.
type sent struct {
	Outcome   string `json:"outcome,omitzero"` // one of outcomeNames
	Duplicate bool   `json:"duplicate,omitzero"`
	Error     string `json:"error,omitzero"` // one of errorNames
}

// connection is a [connections.Info].
type connection struct {
	Token      string    `json:"token"`
	Node       string    `json:"node"`
	State      string    `json:"state"`
	Relayed    bool      `json:"relayed,omitzero"`
	Path       string    `json:"path"`
	ClientIP   string    `json:"client_ip,omitzero"`
	Subject    string    `json:"subject,omitzero"`
	Topics     []string  `json:"topics,omitzero"`
	MoreTopics bool      `json:"more_topics,omitzero"` // there are more than Topics
	Overflow   string    `json:"overflow"`
	Since      time.Time `json:"since"`
	Events     uint64    `json:"events"`
	Bytes      uint64    `json:"bytes"`
	Queued     int64     `json:"queued"`
	Drops      uint64    `json:"drops"`
	Answer     *relayed  `json:"answer,omitzero"`
	Request    *request  `json:"request,omitzero"` // of Describe
}

// request is a [gateway.RequestInfo].
type request struct {
	Path    string            `json:"path"`
	Headers map[string]string `json:"headers"`
}

// relayed is a [gateway.AnswerInfo].
type relayed struct {
	State     string `json:"state"`
	Readers   int    `json:"readers"`
	Bytes     int64  `json:"bytes"`
	Resumable bool   `json:"resumable,omitzero"`
}

// page is a [connections.Page] of one node.
type page struct {
	Connections []connection `json:"connections"`
	Next        string       `json:"next,omitzero"` // a token
}

// statistics are a node's [connections.Counts].
type statistics struct {
	Node          string    `json:"node"`
	Pending       int64     `json:"pending"`
	Open          int64     `json:"open"`
	Opened        uint64    `json:"opened"`
	Events        uint64    `json:"events"`
	Bytes         uint64    `json:"bytes"`
	Queued        int64     `json:"queued"`
	EventsDropped uint64    `json:"events_dropped"`
	Log           logExtent `json:"log"`
}

type logExtent struct {
	Epoch  string `json:"epoch"`
	Oldest uint64 `json:"oldest"`
	Last   uint64 `json:"last"`
	Bytes  int64  `json:"bytes"`
	Events int64  `json:"events"`
}

// Errors that occur only between nodes.
var (
	errUnknown   = errors.New("the request is unknown")
	errMalformed = errors.New("the message is malformed")
	errStale     = errors.New("the write is older than the last one")
	errAnswer    = errors.New("the answer is larger than the broker accepts")
	errVersion   = errors.New("the version of the message is unknown")
)

// errNoKeys: the node is too old for a send with an idempotency key, which was not sent to it.
var errNoKeys = fmt.Errorf("%w: its version does not know idempotency keys", connections.ErrUnreachable)

// errorNames are the names of errors in messages.
var errorNames = map[string]error{
	"not_found":        connections.ErrNotFound,
	"gone":             connections.ErrGone,
	"dropped":          connections.ErrDropped, // of Write
	"pending":          connections.ErrPending,
	"relayed":          connections.ErrRelayed,
	"buffer_full":      connections.ErrBufferFull,
	"write_failed":     connections.ErrWriteFailed,
	"write_timeout":    connections.ErrWriteTimeout,
	"ahead":            connections.ErrAhead,
	"too_many_topics":  connections.ErrTooManyTopics,
	"unreachable":      connections.ErrUnreachable,
	"too_large":        connections.ErrTooLarge,
	"key_reused":       connections.ErrKeyReused,
	"answer_gone":      connections.ErrAnswerGone,
	"resume_forbidden": connections.ErrResumeForbidden,
	"unknown":          errUnknown,
	"malformed":        errMalformed,
	"version":          errVersion,
	"stale":            errStale,
	"answer_too_large": errAnswer,
}

func nameOf(err error) string {
	if err == nil {
		return ""
	}
	for name, known := range errorNames {
		if errors.Is(err, known) {
			return name
		}
	}
	return "unreachable"
}

// errorOf returns the error with a name. An unknown one counts as ErrUnreachable.
func errorOf(name string) error {
	if name == "" {
		return nil
	}
	switch err, known := errorNames[name]; {
	case !known, errors.Is(err, errUnknown), errors.Is(err, errMalformed), errors.Is(err, errStale), errors.Is(err, errAnswer):
		return fmt.Errorf("%w: it answered %q", connections.ErrUnreachable, name)
	case errors.Is(err, errVersion):
		return fmt.Errorf("%w: %w", connections.ErrUnreachable, err)
	default:
		return err
	}
}

// failed returns an answer with an error, or an empty one if err is nil.
func failed(err error) nodeAnswer { return nodeAnswer{Error: nameOf(err)} }

func (a nodeAnswer) failure() error { return errorOf(a.Error) }

var outcomeNames = [...]string{connections.Sent: "sent", connections.Buffered: "buffered", connections.Written: "written", connections.Dropped: "dropped"}

func encodeSent(o connections.Outcome, err error) sent {
	if err != nil {
		return sent{Error: nameOf(err)}
	}
	return sent{Outcome: outcomeNames[o&^connections.Duplicate], Duplicate: o&connections.Duplicate != 0}
}

// hasKeys reports whether any send has an idempotency key.
func (q nodeRequest) hasKeys() bool {
	return slices.ContainsFunc(q.Send, func(s sendRequest) bool { return s.Key != "" })
}

// encode encodes a request for a node whose newest version is the given one. decodeAnswer
// decodes the answer to it.
func (q nodeRequest) encode(version int) []byte {
	if version < 1 {
		return encodeV0(q)
	}
	q.Version = min(version, Version)
	return encodeJSON(q)
}

func (q nodeRequest) decodeAnswer(version int, message []byte) (a nodeAnswer, err error) {
	if version < 1 {
		return decodeAnswerV0(q, message)
	}
	if err := json.Unmarshal(message, &a); err != nil {
		return a, fmt.Errorf("%w: %w", errNoAnswer, err)
	}
	if a.Version > Version {
		return a, fmt.Errorf("%w: %w", connections.ErrUnreachable, errVersion)
	}
	return a, nil
}

func encodeJSON(v any) []byte {
	message, err := json.Marshal(v)
	if err != nil {
		panic(err) // the strings are valid UTF-8, and nothing else can fail
	}
	return message
}

var errNoAnswer = fmt.Errorf("%w: it answered something else", connections.ErrUnreachable)

// sent returns the result of the send with that index.
func (a nodeAnswer) sent(i int) (connections.Outcome, error) {
	if i >= len(a.Sent) {
		return 0, errNoAnswer
	}
	if name := a.Sent[i].Error; name != "" {
		return 0, errorOf(name)
	}
	for o, name := range outcomeNames {
		if name == a.Sent[i].Outcome && name != "" {
			outcome := connections.Outcome(o)
			if a.Sent[i].Duplicate {
				outcome |= connections.Duplicate
			}
			return outcome, nil
		}
	}
	return 0, errNoAnswer
}

func encodeToken(t gateway.Token) string {
	if t == (gateway.Token{}) {
		return ""
	}
	return t.String()
}

func encodeSend(s connections.Send) sendRequest {
	q := sendRequest{Token: s.Token.String(), Close: s.Close, Wait: s.Wait, Key: s.IdempotencyKey}
	if s.HasEvent {
		e := encodeEvent(s.Event)
		q.Event = &e
	}
	return q
}

func (q sendRequest) decode() (s connections.Send, err error) {
	s.Token, _ = gateway.ParseToken(q.Token) // zero if invalid: found nowhere
	s.Close, s.Wait, s.IdempotencyKey = q.Close, q.Wait, q.Key
	if q.Event != nil {
		s.HasEvent = true
		s.Event, err = q.Event.decode()
	}
	return s, err
}

func encodeEvent(e sse.Event) event {
	out := event{Data: e.Data, Name: e.Name.String()}
	if e.ID.IsSet() {
		id := e.ID.String()
		out.ID = &id
	}
	if e.Retry.IsSet() {
		ms := e.Retry.Millis()
		out.Retry = &ms
	}
	return out
}

func (e event) decode() (out sse.Event, err error) {
	out.Data = e.Data
	if out.Name, err = sse.NewName(e.Name); err != nil {
		return out, err
	}
	if e.ID != nil {
		if out.ID, err = sse.NewID(*e.ID); err != nil {
			return out, err
		}
	}
	if e.Retry != nil {
		out.Retry = sse.RetryMillis(*e.Retry)
	}
	return out, nil
}

func encodeBlocks(blocks []connections.Block) []event {
	out := make([]event, len(blocks))
	for i, b := range blocks {
		out[i] = encodeEvent(b.Event)
		out[i].Bare = b.Bare
	}
	return out
}

func decodeBlocks(in []event) ([]connections.Block, error) {
	blocks := make([]connections.Block, len(in))
	for i, e := range in {
		decoded, err := e.decode()
		if err != nil {
			return nil, err
		}
		blocks[i] = connections.Block{Event: decoded, Bare: e.Bare}
	}
	return blocks, nil
}

var stateNames = [...]string{gateway.Pending: "pending", gateway.Open: "open", gateway.Closed: "closed"}

func encodeConnection(i connections.Info) connection {
	var answer *relayed
	if a := i.Answer; a != nil {
		answer = &relayed{a.State, a.Readers, a.Bytes, a.Resumable}
	}
	var asked *request
	if q := i.Request; q != nil {
		asked = &request{q.Path, q.Headers}
	}
	return connection{
		Answer: answer, Request: asked,
		Token: i.Token.String(), Node: i.Node, State: stateNames[i.State], Relayed: i.Relayed, Path: i.Path, ClientIP: i.ClientIP, Subject: i.Subject, Topics: i.Topics,
		Overflow: i.Overflow.String(), Since: i.Since, Events: i.Events, Bytes: i.Bytes, Queued: i.Queued, Drops: i.Drops,
	}
}

func (c connection) decode() (i connections.Info, err error) {
	var ok bool
	if i.Token, ok = gateway.ParseToken(c.Token); !ok {
		return i, errNoAnswer
	}
	for state, name := range stateNames {
		if name == c.State {
			i.State = gateway.State(state)
		}
	}
	i.Overflow, _ = outbox.ParseOverflow(c.Overflow)
	i.Node, i.Path, i.ClientIP, i.Subject, i.Topics, i.Since = c.Node, c.Path, c.ClientIP, c.Subject, c.Topics, c.Since
	i.Relayed = c.Relayed
	if a := c.Answer; a != nil {
		i.Answer = &gateway.AnswerInfo{State: a.State, Readers: a.Readers, Bytes: a.Bytes, Resumable: a.Resumable}
	}
	if q := c.Request; q != nil {
		i.Request = &gateway.RequestInfo{Path: q.Path, Headers: q.Headers}
	}
	i.Events, i.Bytes, i.Queued, i.Drops = c.Events, c.Bytes, c.Queued, c.Drops
	return i, nil
}

func encodePage(p connections.Page) *page {
	out := &page{Next: encodeToken(p.Next), Connections: make([]connection, len(p.Connections))}
	for i, info := range p.Connections {
		out.Connections[i] = encodeConnection(info)
	}
	return out
}

func (p *page) decode() (out connections.Page, err error) {
	if p == nil {
		return out, errNoAnswer
	}
	out.Next, _ = gateway.ParseToken(p.Next) // zero if there is none
	for _, c := range p.Connections {
		info, err := c.decode()
		if err != nil {
			return out, err
		}
		out.Connections = append(out.Connections, info)
	}
	return out, nil
}

func encodeStatistics(s connections.Statistics) *statistics {
	return &statistics{
		Node: s.Node, Pending: s.Pending, Open: s.Open, Opened: s.Opened, Events: s.Events, Bytes: s.Bytes,
		Queued: s.Queued, EventsDropped: s.EventsDropped,
		Log: logExtent{s.Log.Epoch, s.Log.Oldest, s.Log.Last, s.Log.Bytes, s.Log.Events},
	}
}

func (s *statistics) decode() connections.Counts {
	return connections.Counts{
		Pending: s.Pending, Open: s.Open, Opened: s.Opened, Events: s.Events, Bytes: s.Bytes,
		Queued: s.Queued, EventsDropped: s.EventsDropped,
	}
}
