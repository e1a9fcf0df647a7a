package router

import (
	"errors"
	"fmt"
	"time"

	"ssegateway/internal/connections"
	"ssegateway/internal/gateway"
	"ssegateway/sse"
)

// nodeRequest is what one node asks of another: exactly one of its fields is set.
type nodeRequest struct {
	Send       []sendRequest
	Close      string // a token
	Describe   string // a token
	Change     *changeRequest
	List       *listRequest
	CloseAll   *filter
	Statistics bool
	Expect     uint64 // the ref of a record
	Count      uint64 // the ref of a record
	Write      *writeRequest
	Watch      *watchRequest
}

// sendRequest is a [connections.Send].
type sendRequest struct {
	Token string
	Event *event
	Close bool
	Wait  bool
}

// changeRequest asks for a change of a connection's topics.
type changeRequest struct {
	Token       string
	Add, Remove []string
}

// listRequest asks for a page of a list. It is answered as if the node were alone.
type listRequest struct {
	Filter filter
	After  string // a token
	Limit  int
}

// filter is a [gateway.Filter].
type filter struct {
	Topic   string
	Subject string
}

// writeRequest asks for the write with that number of a streaming request, or for what has
// become of it.
type writeRequest struct {
	Token  string
	Stream string // names the streaming request, unlike all others
	Number int    // from 1
	Close  bool   // behind the blocks
	Blocks []event
}

// watchRequest asks for the end of a streaming request's connection.
type watchRequest struct {
	Token  string
	Stream string
}

// event is a [connections.Block].
type event struct {
	Data  string
	Name  string
	ID    *string
	Retry *uint64
	Bare  bool
}

// nodeAnswer is what a node answers: an error, or what belongs to the request.
type nodeAnswer struct {
	Error      string // one of errorNames
	Sent       []sent // of Send and Close
	Connection *connection
	Topics     []string
	Page       *page
	Closed     int
	Statistics *statistics
	Receivers  int
	Held       bool // of Write and Watch: there is nothing new yet
}

// sent is what became of a send.
type sent struct {
	Outcome string // one of outcomeNames
	Error   string // one of errorNames
}

// connection is a [connections.Info].
type connection struct {
	Token    string
	Node     string
	State    string
	Path     string
	Subject  string
	Topics   []string
	Overflow string
	Since    time.Time
	Events   uint64
	Bytes    uint64
	Queued   int64
	Drops    uint64
}

// page is a [connections.Page] of one node.
type page struct {
	Connections []connection
	Next        string // a token
}

// statistics are a node's [connections.Counts].
type statistics struct {
	Node          string
	Pending, Open int64
	Opened        uint64
	Events, Bytes uint64
	Queued        int64
	EventsDropped uint64
	Log           logExtent
}

type logExtent struct {
	Epoch        string
	Oldest, Last uint64
	Bytes        int64
	Events       int64
}

// Errors that only nodes tell each other.
var (
	errUnknown   = errors.New("the request is not known")
	errMalformed = errors.New("the message is malformed")
)

// errorNames are errors as nodes name them to each other.
var errorNames = map[string]error{
	"not_found":       connections.ErrNotFound,
	"gone":            connections.ErrGone,
	"pending":         connections.ErrPending,
	"buffer_full":     connections.ErrBufferFull,
	"write_failed":    connections.ErrWriteFailed,
	"write_timeout":   connections.ErrWriteTimeout,
	"ahead":           connections.ErrAhead,
	"too_many_topics": connections.ErrTooManyTopics,
	"unreachable":     connections.ErrUnreachable,
	"too_large":       connections.ErrTooLarge,
	"unknown":         errUnknown,
	"malformed":       errMalformed,
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

// errorOf is the error with a name. What this version does not know is no answer.
func errorOf(name string) error {
	if name == "" {
		return nil
	}
	err, known := errorNames[name]
	if !known || errors.Is(err, errUnknown) || errors.Is(err, errMalformed) {
		return fmt.Errorf("%w: it answered %q", connections.ErrUnreachable, name)
	}
	return err
}

// failed is the answer that has an error, or, without one, nothing else.
func failed(err error) nodeAnswer { return nodeAnswer{Error: nameOf(err)} }

func (a nodeAnswer) failure() error { return errorOf(a.Error) }

var outcomeNames = [...]string{connections.Sent: "sent", connections.Buffered: "buffered", connections.Written: "written"}

func encodeSent(o connections.Outcome, err error) sent {
	if err != nil {
		return sent{Error: nameOf(err)}
	}
	return sent{Outcome: outcomeNames[o]}
}

var errNoAnswer = fmt.Errorf("%w: it answered something else", connections.ErrUnreachable)

// sent is what became of the send with that index.
func (a nodeAnswer) sent(i int) (connections.Outcome, error) {
	if i >= len(a.Sent) {
		return 0, errNoAnswer
	}
	if name := a.Sent[i].Error; name != "" {
		return 0, errorOf(name)
	}
	for o, name := range outcomeNames {
		if name == a.Sent[i].Outcome && name != "" {
			return connections.Outcome(o), nil
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
	q := sendRequest{Token: s.Token.String(), Close: s.Close, Wait: s.Wait}
	if s.HasEvent {
		e := encodeEvent(s.Event)
		q.Event = &e
	}
	return q
}

func (q sendRequest) decode() (s connections.Send, err error) {
	s.Token, _ = gateway.ParseToken(q.Token) // nobody's, if it is none
	s.Close, s.Wait = q.Close, q.Wait
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

var stateNames = [...]string{gateway.Pending: "pending", gateway.Open: "open"}

func encodeConnection(i connections.Info) connection {
	return connection{
		Token: i.Token.String(), Node: i.Node, State: stateNames[i.State], Path: i.Path, Subject: i.Subject, Topics: i.Topics,
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
	i.Overflow, _ = gateway.ParseOverflow(c.Overflow)
	i.Node, i.Path, i.Subject, i.Topics, i.Since = c.Node, c.Path, c.Subject, c.Topics, c.Since
	i.Events, i.Bytes, i.Queued, i.Drops = c.Events, c.Bytes, c.Queued, c.Drops
	return i, nil
}

func (a nodeAnswer) connection() (connections.Info, error) {
	if a.Connection == nil {
		return connections.Info{}, errNoAnswer
	}
	return a.Connection.decode()
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
	out.Next, _ = gateway.ParseToken(p.Next) // nobody's, if there is none
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
