package api

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"time"

	"ssegateway/internal/frame"
	"ssegateway/internal/gateway"
	"ssegateway/internal/logging"
	"ssegateway/sse"
)

// writtenDeadline bounds how long a send with "wait": "written" waits. A client
// that takes nothing for the stall deadline is cut by then, which answers 500.
const writtenDeadline = gateway.StallDeadline + 2*time.Second

// sendResult is what became of a send, as the metrics count it.
type sendResult uint8

const (
	sendOK sendResult = iota
	sendBuffered
	sendWritten
	sendInvalid
	sendNotFound
	sendBufferFull
	sendWriteFailed
	sendTimeout
)

var sendResults = [...]string{
	sendOK: "ok", sendBuffered: "buffered", sendWritten: "written", sendInvalid: "invalid",
	sendNotFound: "not_found", sendBufferFull: "buffer_full", sendWriteFailed: "write_failed", sendTimeout: "timeout",
}

// Sends calls f with every result of sends and how often it occurred.
func (a *API) Sends(f func(result string, n uint64)) {
	for i, name := range sendResults {
		f(name, a.sends[i].Load())
	}
}

// The answers to a send, by result.
var sendAnswers = [...]struct {
	ok  []byte
	err *Error
}{
	sendOK:          {ok: []byte(`{"status":"ok"}`)},
	sendBuffered:    {ok: []byte(`{"status":"buffered"}`)},
	sendWritten:     {ok: []byte(`{"status":"written"}`)},
	sendNotFound:    {err: errTokenNotFound},
	sendBufferFull:  {err: errBufferFull},
	sendWriteFailed: {err: errWriteFailed},
	sendTimeout:     {err: errWriteTimeout},
}

// send serves POST /internal/send.
func (a *API) send(w http.ResponseWriter, r *http.Request) {
	if !Allow(w, r, http.MethodPost) {
		return
	}
	q, _ := requests.Get().(*request)
	defer q.release()
	if problem := q.readJSON(w, r, a.maxBody); problem != nil {
		a.sends[sendInvalid].Add(1)
		problem.Write(w)
		return
	}
	s, problem := q.decodeSend()
	status, answer := a.answerSend(r.Context(), s, problem, q.body)
	WriteJSON(w, status, answer)
}

// answerSend carries a send out, if it is a valid one, and says what the answer is.
func (a *API) answerSend(ctx context.Context, s sendRequest, problem *Error, body []byte) (status int, answer []byte) {
	result := sendInvalid
	if problem == nil {
		if status, answer, ok := a.askSend(ctx, s, body); ok {
			return status, answer
		}
		if a.isAhead(s.event) {
			problem = errAhead
		} else {
			result = a.perform(ctx, s)
			problem = sendAnswers[result].err
		}
	}
	a.sends[result].Add(1)
	if problem != nil {
		return problem.Status, problem.body()
	}
	return http.StatusOK, sendAnswers[result].ok
}

// isAhead says whether an event has the id of a position that this node has not delivered
// up to: its client would come back with it, and miss what is published until then.
func (a *API) isAhead(e sse.Event) bool { return e.ID.IsSet() && a.topics.IsAhead(e.ID.String()) }

// Sender carries out sends whose bodies came another way than by net/http. It is one
// goroutine's at a time.
type Sender struct {
	api     *API
	request request
}

// NewSender makes a Sender.
func (a *API) NewSender() *Sender { return &Sender{api: a} }

// Send carries out the send in a body of JSON, of at most the size that is allowed, and
// returns its answer. One that has to wait is not carried out yet: later does that.
func (s *Sender) Send(body []byte) (status int, answer []byte, later func() (status int, answer []byte)) {
	ctx := context.Background()
	s.request.body = body
	send, problem := s.request.decodeSend()
	if problem == nil && (send.wait || s.api.elsewhere(send.token)) {
		again := &Sender{api: s.api, request: request{body: bytes.Clone(body)}}
		return 0, nil, func() (int, []byte) {
			send, problem := again.request.decodeSend()
			return s.api.answerSend(ctx, send, problem, again.request.body)
		}
	}
	status, answer = s.api.answerSend(ctx, send, problem, body)
	return status, answer, nil
}

// perform carries a valid send out.
func (a *API) perform(ctx context.Context, s sendRequest) sendResult {
	token, ok := gateway.ParseToken(s.token)
	if !ok {
		return sendNotFound
	}
	c := a.gw.Find(token)
	if c == nil {
		return sendNotFound
	}
	if a.log.Enabled(ctx, slog.LevelDebug) {
		a.log.Debug("send", "token", s.token, "event", s.event.Name.String(), "bytes", len(s.event.Data), "path", logging.Cut(c.Path()))
	}
	var f frame.Frame
	if s.hasEvent {
		f = frame.Event(s.event)
	}
	var done chan error
	if s.wait && s.hasEvent {
		done = make(chan error, 1)
	}
	switch c.Send(f, s.end, done) {
	case gateway.Sent:
		if done == nil {
			return sendOK
		}
	case gateway.Buffered:
		if done == nil {
			return sendBuffered
		}
	case gateway.Full:
		return sendBufferFull
	case gateway.Failed:
		return sendWriteFailed
	case gateway.Gone:
		return sendNotFound
	}
	select {
	case err := <-done:
		if err != nil {
			return sendWriteFailed
		}
		return sendWritten
	case <-time.After(writtenDeadline):
	case <-ctx.Done():
	}
	return sendTimeout
}
