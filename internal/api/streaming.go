package api

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"time"

	"ssegateway/internal/connections"
	"ssegateway/internal/edge"
	"ssegateway/internal/gateway"
	"ssegateway/internal/guard"
	"ssegateway/sse"
)

// Bounds of what is joined into one write.
const (
	maxCoalesceMillis = 1000
	joinBytes         = 16 << 10
	joinEvents        = 1000
)

// stream serves POST /internal/connections/{token}/stream: each event of the body is
// passed on as it arrives. The next is read when the one before was written, so that
// a slow client slows the sender down. If the client leaves, the request is answered at
// once, while the body is still coming.
func (a *API) stream(w http.ResponseWriter, r *http.Request, token string) {
	if !Allow(w, r, http.MethodPost) {
		return
	}
	edge.Patient(r)
	rc := http.NewResponseController(w)
	_ = rc.EnableFullDuplex() // to answer while the body still comes; HTTP/2 always can
	s, problem := a.newStreaming(r, token)
	var events chan parsed
	reading, stop := context.WithCancel(context.Background())
	defer stop()
	if problem == nil {
		events = make(chan parsed)
		defer s.to.Stop()
		go s.read(reading, events)
		if problem = s.pass(events); problem == nil {
			WriteJSON(w, http.StatusOK, s.answer())
			return
		}
	}
	// The answer comes before the end of the body. The rest is read and dropped for a while: a
	// connection that is closed with unread bytes may lose the answer.
	var patience time.Duration
	if r.ProtoMajor == 1 {
		w.Header().Set("Connection", "close")
		patience = lingering
	}
	problem.Write(w)
	_ = rc.Flush()
	_ = rc.SetReadDeadline(time.Now().Add(patience))
	stop()
	if events != nil {
		for range events { // until the reader is done with the body
		}
	}
	_, _ = io.Copy(io.Discard, r.Body)
}

// lingering is how long a sender has to see an answer that came before the end of its body.
const lingering = time.Second

// streaming is a streaming request.
type streaming struct {
	to       connections.Sink
	next     func() (connections.Block, error)
	line     func() int // of the body, that next has come to
	coalesce time.Duration
	end      bool  // close the connection behind the body
	events   int   // handed to the client's socket
	dropped  int   // by the connection's overflow policy instead
	limit    int64 // of one event, in bytes
}

// parsed is a block of the body, or what ended it.
type parsed struct {
	block connections.Block
	err   error
}

func (a *API) newStreaming(r *http.Request, token string) (*streaming, *Error) {
	s := &streaming{limit: a.maxBody}
	switch mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); mediaType {
	case "text/event-stream":
		s.fromEventStream(r.Body, a.maxBody)
	case "application/x-ndjson":
		s.fromLines(r.Body, a.maxBody)
	default:
		return nil, errStreamType
	}
	values, problem := queryOf(r)
	if problem != nil {
		return nil, problem
	}
	if v := values.Get("coalesce_ms"); v != "" {
		ms, err := strconv.Atoi(v)
		if err != nil || ms < 0 || ms > maxCoalesceMillis {
			return nil, errCoalesce
		}
		s.coalesce = time.Duration(ms) * time.Millisecond
	}
	switch values.Get("close") {
	case "true":
		s.end = true
	case "", "false":
	default:
		return nil, errCloseQuery
	}
	t, _ := gateway.ParseToken(token) // zero if invalid: found nowhere
	var err error
	if s.to, err = a.conns.Stream(r.Context(), t); err != nil {
		return nil, problemOf(err)
	}
	next := s.next
	s.next = func() (connections.Block, error) {
		b, err := next()
		if err == nil && s.to.IsAhead(b.Event) {
			err = &malformedError{errAhead.Message}
		}
		return b, err
	}
	return s, nil
}

// answer returns the answer to a body that has ended in order.
func (s *streaming) answer() []byte {
	answer := strconv.AppendInt([]byte(`{"status":"ok","events":`), int64(s.events), 10)
	if s.dropped > 0 {
		answer = strconv.AppendInt(append(answer, `,"dropped":`...), int64(s.dropped), 10)
	}
	return append(answer, '}')
}

// read reads the body's blocks until the body or ctx ends. It passes a panic on as an error,
// since a panic here ends only the request.
func (s *streaming) read(ctx context.Context, events chan<- parsed) {
	defer close(events)
	for {
		var next connections.Block
		err := guard.Run(func() (err error) {
			next, err = s.next()
			return err
		})
		select {
		case events <- parsed{next, err}:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// pass passes events on until the body ends or the client leaves. What came before
// an error is passed on as well.
func (s *streaming) pass(events <-chan parsed) *Error {
	var held []connections.Block // for one write
	size := 0
	var due <-chan time.Time
	flush := func(end bool) *Error {
		err := s.to.Write(held, end)
		dropped := errors.Is(err, connections.ErrDropped)
		if dropped {
			err = nil
		}
		problem := writeProblem(err)
		for _, b := range held {
			switch {
			case problem != nil || b.Bare:
			case dropped:
				s.dropped++
			default:
				s.events++
			}
		}
		held, size, due = held[:0], 0, nil
		return problem
	}
	gone := s.to.Gone()
	for {
		select {
		case <-gone:
			return errGone
		case <-due:
			if problem := flush(false); problem != nil {
				return problem
			}
		case p := <-events:
			if panicked := (*guard.Panic)(nil); errors.As(p.err, &panicked) {
				panic(panicked)
			}
			if p.err != nil {
				problem := s.problem(p.err)
				if failed := flush(s.end && problem == nil); failed != nil {
					return failed
				}
				return problem
			}
			held, size = append(held, p.block), size+len(p.block.Data)
			if s.coalesce > 0 && size < joinBytes && len(held) < joinEvents {
				if due == nil {
					due = time.After(s.coalesce)
				}
				continue
			}
			if problem := flush(false); problem != nil {
				return problem
			}
		}
	}
}

// writeProblem returns the answer to an error of a write.
func writeProblem(err error) *Error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, connections.ErrAhead):
		return &Error{http.StatusBadRequest, codeStream, errAhead.Message}
	default:
		return problemOf(err)
	}
}

const codeStream = "INVALID_STREAM"

// malformedError is the error of a malformed body.
type malformedError struct{ what string }

func (e *malformedError) Error() string { return e.what }

// problem returns the answer to an error of next; nil for the regular end of the body.
func (s *streaming) problem(err error) *Error {
	malformed := (*malformedError)(nil)
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case errors.Is(err, sse.ErrTooLong), errors.Is(err, bufio.ErrTooLong):
		return tooLarge("one event", s.limit)
	case errors.As(err, &malformed):
		return &Error{http.StatusBadRequest, codeStream, fmt.Sprintf("line %d: %s; what came before was sent", s.line(), malformed.what)}
	default:
		return errRequestAborted
	}
}

// fromEventStream reads blocks as a browser would, but refuses what a browser would drop.
func (s *streaming) fromEventStream(body io.Reader, limit int64) {
	d := sse.NewDecoderMax(body, int(limit))
	s.line = d.Line
	s.next = func() (b connections.Block, err error) {
		for {
			e, isEvent, err := d.NextBlock()
			b = connections.Block{Event: e, Bare: !isEvent}
			if errors.Is(err, io.EOF) && d.Unfinished() {
				return b, &malformedError{"the last event has no empty line behind it"}
			}
			if err != nil {
				return b, err
			}
			// A foreign stream may have names, ids and retries that are invalid here.
			if b.Name, err = sse.NewName(e.Name.String()); err != nil {
				return b, &malformedError{"the event's name must not contain control characters"}
			}
			if b.ID = (sse.ID{}); d.GaveID() { // otherwise it is that of an event before
				if b.ID, err = eventID(e.ID.String()); err != nil {
					return b, &malformedError{"the event's id must be of at most 128 bytes without control characters, and without blanks at its ends"}
				}
			}
			if e.Retry.Millis()>>retryBits > 0 {
				return b, &malformedError{"the retry must be at most 9007199254740991"}
			}
			if isEvent || b.ID.IsSet() || b.Retry.IsSet() {
				return b, nil
			}
		}
	}
}

// fromLines reads an event a line, as JSON.
func (s *streaming) fromLines(body io.Reader, limit int64) {
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, int(limit)+len("\r\n"))
	n := 0
	s.line = func() int { return n }
	q := new(request)
	s.next = func() (b connections.Block, err error) {
		for lines.Scan() {
			n++
			if int64(len(lines.Bytes())) > limit {
				return b, bufio.ErrTooLong
			}
			if len(bytes.TrimSpace(lines.Bytes())) == 0 {
				continue
			}
			// A copy: the event shares the bytes, and is encoded while the next line is read.
			var raw rawEvent
			q.decoderOf(bytes.Clone(lines.Bytes()))
			if err := q.takeEvent(&raw); hasHalfPair(err) {
				return b, &malformedError{errSurrogate.Message}
			} else if err != nil || !q.end() {
				return b, &malformedError{"not one JSON value"}
			}
			var problem *Error
			if b.Event, problem = raw.decode(); problem != nil {
				return b, &malformedError{problem.Message}
			}
			return b, nil
		}
		if err := lines.Err(); err != nil {
			return b, err
		}
		return b, io.EOF
	}
}
