package api

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"ssegateway/internal/frame"
	"ssegateway/internal/gateway"
	"ssegateway/internal/guard"
	"ssegateway/sse"
)

// A streaming request whose connection another node holds: the node that got the
// request reads the body, and has the owner write its events, one write at a time. The
// owner is asked with the number of the write until it has said what became of it, so
// that an answer that is lost on the way loses no event and doubles none. A question
// without a write is answered when the connection ends.

// remoteHold is how long the owner keeps a question before it answers that there is
// nothing new yet.
const remoteHold = 5 * time.Second

// target is where the events of a streaming request go.
type target interface {
	// gone is closed when the connection has closed.
	gone() <-chan struct{}
	// write writes blocks at once, and waits until that is done.
	write(blocks []block, end bool) *Error
}

// local is a connection of this node.
type local struct{ conn *gateway.Conn }

func (l local) gone() <-chan struct{} { return l.conn.Gone() }

func (l local) write(blocks []block, end bool) *Error {
	done, problem := send(l.conn, blocks, end)
	if problem == nil && done != nil && <-done != nil {
		return errGone
	}
	return problem
}

// send gives a connection blocks as one write. done, if not nil, tells when it is written.
func send(c *gateway.Conn, blocks []block, end bool) (done chan error, problem *Error) {
	var joined frame.Frame
	if len(blocks) > 0 {
		frames := make([]frame.Frame, len(blocks))
		for i, b := range blocks {
			if frames[i] = frame.Event(b.Event); b.bare {
				frames[i] = frame.Block(sse.AppendSettings(nil, b.Retry, b.ID))
			}
		}
		joined, done = frame.Join(frames), make(chan error, 1)
	}
	switch c.Send(joined, end, done) {
	case gateway.Sent, gateway.Buffered:
		return done, nil
	case gateway.Full:
		return nil, errBufferFull
	case gateway.Failed, gateway.Gone:
	}
	return nil, errGone
}

// remote is a connection of another node.
type remote struct {
	api     *API
	ctx     context.Context
	token   string
	id      string
	writes  int
	closed  chan struct{}
	watched chan struct{} // closed when the watch is over
}

// findTarget is where the events for a token go. ctx is the request's; stop has to be
// called in the end.
func (a *API) findTarget(ctx context.Context, token string) (t target, stop func(), problem *Error) {
	if c := a.find(token); c != nil && c.State() != gateway.Closed {
		return local{c}, func() {}, nil
	}
	status, body, ok := a.ask(ctx, token, question{method: http.MethodGet, target: "/internal/connections/" + token}, nodeDeadline)
	if !ok {
		return nil, nil, errTokenNotFound
	}
	if status != http.StatusOK {
		return nil, nil, errorOf(status, body)
	}
	ctx, cancel := context.WithCancel(ctx)
	r := &remote{
		api: a, ctx: ctx, token: token, id: rand.Text(),
		closed: make(chan struct{}), watched: make(chan struct{}),
	}
	go r.watch()
	return r, func() {
		cancel()
		<-r.watched
	}, nil
}

// errorOf reads an error that another node answered.
func errorOf(status int, body []byte) *Error {
	var answer struct {
		Error struct {
			Message string `json:"message"`
			Code    string `json:"code"`
		} `json:"error"`
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.Error.Code == "" {
		return errNode
	}
	return &Error{status, answer.Error.Code, answer.Error.Message}
}

func (r *remote) gone() <-chan struct{} { return r.closed }

// watch waits for the end of the connection.
func (r *remote) watch() {
	defer guard.Recover()
	defer close(r.watched)
	for r.ctx.Err() == nil {
		switch status, _ := r.ask(0, nil, false); status {
		case http.StatusAccepted:
		case errGone.Status:
			close(r.closed)
			return
		default: // not reached: until its lease ends, nobody knows
			pause := time.NewTimer(time.Second)
			select {
			case <-pause.C:
			case <-r.ctx.Done():
				pause.Stop()
			}
		}
	}
}

func (r *remote) write(blocks []block, end bool) *Error {
	r.writes++
	body, err := encodeBlocks(blocks)
	if err != nil {
		return errRequestAborted
	}
	for tries := 0; ; {
		status, answer := r.ask(r.writes, body, end)
		switch {
		case status == http.StatusOK:
			return nil
		case status == http.StatusAccepted:
		case status == errGone.Status:
			return errGone
		case status == errNode.Status && tries == 0 && r.ctx.Err() == nil:
			tries++ // the answer may have been lost
		default:
			return errorOf(status, answer)
		}
	}
}

// ask asks the owner once, for a write or, with number 0, for the end.
func (r *remote) ask(number int, body []byte, end bool) (status int, answer []byte) {
	query := url.Values{"token": {r.token}, "id": {r.id}, "write": {strconv.Itoa(number)}, "end": {strconv.FormatBool(end)}}
	q := question{http.MethodPost, nodeOps + opStream + "?" + query.Encode(), "application/x-ndjson", body}
	status, answer, ok := r.api.ask(r.ctx, r.token, q, remoteHold+nodeDeadline)
	if !ok {
		return errGone.Status, nil
	}
	return status, answer
}

// remoteBlock is a block on its way to another node: an event in the form in which backends
// send events, or a bare one.
type remoteBlock struct {
	Data  string  `json:"data"`
	Name  string  `json:"name,omitzero"`
	ID    *string `json:"id,omitzero"`
	Retry *uint64 `json:"retry,omitzero"`
	Bare  bool    `json:"bare,omitzero"`
}

func encodeBlocks(blocks []block) (lines []byte, err error) {
	for _, e := range blocks {
		out := remoteBlock{Data: e.Data, Name: e.Name.String(), Bare: e.bare}
		if e.ID.IsSet() {
			id := e.ID.String()
			out.ID = &id
		}
		if e.Retry.IsSet() {
			ms := e.Retry.Millis()
			out.Retry = &ms
		}
		line, err := json.Marshal(out)
		if err != nil {
			return nil, err
		}
		lines = append(append(lines, line...), '\n')
	}
	return lines, nil
}

// remoteStreams are the streaming requests of other nodes into connections of this one.
type remoteStreams struct {
	mu  sync.Mutex
	all map[string]*remoteStream // by id
}

// remoteStream is one of them, as far as its last write.
type remoteStream struct {
	number  int
	over    chan struct{} // closed when problem says what became of the write
	problem *Error
	expiry  *time.Timer
}

// remoteIdle is after what time without a question a remote stream is forgotten.
const remoteIdle = time.Minute

// begin begins a write, or finds it if it was begun already.
func (s *remoteStreams) begin(id string, number int, write func() (chan error, *Error)) *remoteStream {
	now, first := s.take(id, number)
	if !first {
		return now
	}
	done, problem := write()
	if now.problem = problem; done == nil {
		close(now.over)
		return now
	}
	go func() {
		defer guard.Recover()
		if <-done != nil {
			now.problem = errGone
		}
		close(now.over)
	}()
	return now
}

// take finds a write, or is the first to have it.
func (s *remoteStreams) take(id string, number int) (now *remoteStream, first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[string]*remoteStream{}
	}
	was := s.all[id]
	if was != nil {
		was.expiry.Stop()
	}
	now, first = was, was == nil || was.number != number
	if first {
		now = &remoteStream{number: number, over: make(chan struct{})}
	}
	now.expiry = time.AfterFunc(remoteIdle, func() {
		defer guard.Recover()
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.all[id] == now {
			delete(s.all, id)
		}
	})
	s.all[id] = now
	return now, first
}

// serveRemote serves another node's question about a streaming request.
func (a *API) serveRemote(w http.ResponseWriter, r *http.Request, values url.Values) {
	number, _ := strconv.Atoi(values.Get("write"))
	c := a.find(values.Get("token"))
	var over, gone <-chan struct{}
	var s *remoteStream
	switch {
	case number > 0:
		blocks, err := readBlocks(r.Body)
		if err != nil {
			errJSON.Write(w)
			return
		}
		s = a.streams.begin(values.Get("id"), number, func() (chan error, *Error) {
			if c == nil {
				return nil, errGone
			}
			if slices.ContainsFunc(blocks, func(b block) bool { return a.isAhead(b.Event) }) {
				return nil, &Error{http.StatusBadRequest, codeStream, errAhead.Message}
			}
			return send(c, blocks, values.Get("end") == "true")
		})
		over = s.over
	case c == nil:
		errGone.Write(w)
		return
	default:
		gone = c.Gone()
	}
	hold := time.NewTimer(remoteHold)
	defer hold.Stop()
	select {
	case <-over:
		if s.problem != nil {
			s.problem.Write(w)
			return
		}
		writeValue(w, true)
	case <-gone:
		errGone.Write(w)
	case <-hold.C:
		WriteJSON(w, http.StatusAccepted, []byte("true"))
	case <-r.Context().Done():
		errNode.Write(w)
	}
}

func readBlocks(body io.Reader) (blocks []block, err error) {
	var lines bytes.Buffer
	if _, err := lines.ReadFrom(body); err != nil {
		return nil, err
	}
	s := streaming{fromNode: true}
	s.fromLines(&lines, int64(lines.Len())+1)
	for {
		b, err := s.next()
		if errors.Is(err, io.EOF) {
			return blocks, nil
		}
		if err != nil {
			return nil, err
		}
		blocks = append(blocks, b)
	}
}
