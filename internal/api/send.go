package api

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"ssegateway/internal/frame"
	"ssegateway/internal/gateway"
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
	problem := q.readJSON(w, r, a.maxBody)
	var s sendRequest
	if problem == nil {
		s, problem = q.decodeSend()
	}
	if problem != nil {
		a.sends[sendInvalid].Add(1)
		problem.Write(w)
		return
	}
	if a.relay(w, r, s.token, q.body, s.patience()) {
		return
	}
	result := a.perform(r.Context(), s)
	a.sends[result].Add(1)
	if answer := sendAnswers[result]; answer.err != nil {
		answer.err.Write(w)
	} else {
		WriteJSON(w, http.StatusOK, answer.ok)
	}
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
		a.log.Debug("send", "token", s.token, "event", s.event.Name.String(), "bytes", len(s.event.Data), "path", c.Path())
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
