package api

import (
	"bytes"
	"context"
	"errors"
	"net/http"

	"ssegateway/internal/connections"
)

// The answers to a send that succeeded, by outcome.
var sendAnswers = [...][]byte{
	connections.Sent:     []byte(`{"status":"ok"}`),
	connections.Buffered: []byte(`{"status":"buffered"}`),
	connections.Written:  []byte(`{"status":"written"}`),
	connections.Dropped:  []byte(`{"status":"dropped"}`),

	connections.Sent | connections.Duplicate:     []byte(`{"status":"ok","duplicate":true}`),
	connections.Buffered | connections.Duplicate: []byte(`{"status":"buffered","duplicate":true}`),
	connections.Written | connections.Duplicate:  []byte(`{"status":"written","duplicate":true}`),
	connections.Dropped | connections.Duplicate:  []byte(`{"status":"dropped","duplicate":true}`),
}

// send serves POST /internal/send.
func (a *API) send(w http.ResponseWriter, r *http.Request) {
	if !Allow(w, r, http.MethodPost) {
		return
	}
	q, _ := requests.Get().(*request)
	defer q.release()
	if problem := q.readJSON(w, r, a.maxBody); problem != nil {
		a.invalid.Add(1)
		problem.Write(w)
		return
	}
	s, problem := q.decodeSend()
	status, answer := a.answerSend(r.Context(), s, problem)
	WriteJSON(w, status, answer)
}

// answerSend carries out a send if it is valid, and returns the answer.
func (a *API) answerSend(ctx context.Context, s connections.Send, problem *Error) (status int, answer []byte) {
	if problem != nil {
		a.invalid.Add(1)
		return problem.Status, problem.body()
	}
	return answerOf(a.conns.Send(ctx, s))
}

func answerOf(outcome connections.Outcome, err error) (status int, answer []byte) {
	if err != nil {
		problem := problemOf(err)
		return problem.Status, problem.body()
	}
	return http.StatusOK, sendAnswers[outcome]
}

// Sender carries out sends whose bodies did not come through net/http. It must not be used by
// more than one goroutine at a time.
type Sender struct {
	api     *API
	request request
}

// NewSender makes a Sender.
func (a *API) NewSender() *Sender { return &Sender{api: a} }

// Send carries out the send in a JSON body and returns its answer. The caller has checked the
// body's size. A send that has to wait is not carried out yet: then later is not nil, and
// calling it carries the send out. ctx has to outlive that.
func (s *Sender) Send(ctx context.Context, body []byte) (status int, answer []byte, later func() (status int, answer []byte)) {
	s.request.body = body
	send, problem := s.request.decodeSend()
	if problem == nil {
		if outcome, err := s.api.conns.SendNow(ctx, send); !errors.Is(err, connections.ErrWouldWait) {
			status, answer = answerOf(outcome, err)
			return status, answer, nil
		}
		again := &Sender{api: s.api, request: request{body: bytes.Clone(body)}}
		return 0, nil, func() (int, []byte) {
			send, problem := again.request.decodeSend()
			return s.api.answerSend(ctx, send, problem)
		}
	}
	status, answer = s.api.answerSend(ctx, send, problem)
	return status, answer, nil
}
