package relay

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"time"

	"ssegateway/internal/api"
	"ssegateway/internal/connections"
	"ssegateway/internal/frame"
	"ssegateway/internal/gateway"
	"ssegateway/internal/guard"
)

// ownerPatience is how long the node that has an answer may be silent before its readers elsewhere are cut.
const ownerPatience = 10 * time.Second

// serveRemote is serveReturn for an answer of another node.
func (r *Relay) serveRemote(w http.ResponseWriter, in *http.Request, k key, n uint64) {
	if e := r.dropBody(in); e != nil {
		r.cfg.Refuse(w, in, e)
		return
	}
	q := connections.AnswerQuestion{Key: gateway.Token(k), After: n, Reader: rand.Text(), What: connections.Begin}
	if digest := authorization(in); digest != nil {
		q.Authorization = digest[:]
	}
	switch in.Method {
	case http.MethodDelete:
		q.What = connections.Stop
	case http.MethodHead:
		q.What = connections.Look
	}
	leave := func() {
		q := q
		q.What = connections.Leave
		ctx, cancel := context.WithTimeout(context.WithoutCancel(in.Context()), ownerPatience)
		defer cancel()
		_, _ = r.cfg.Ask(ctx, q) // it learns by the silence too
	}
	reply, err := r.cfg.Ask(in.Context(), q)
	if e := problemOf(err); e != nil {
		if q.What == connections.Begin && errors.Is(err, connections.ErrUnreachable) { // it may count the reader
			r.streams.Go(func() {
				defer guard.Recover()
				leave()
			})
		}
		r.cfg.Refuse(w, in, e)
		return
	}
	a := &answer{relay: r, key: k, head: reply.Header, joining: 1, ended: make(chan struct{})}
	switch {
	case reply.State != "" || q.What == connections.Stop:
		a.writeEmpty(w, http.StatusNoContent)
		return
	case q.What == connections.Look:
		a.writeEmpty(w, http.StatusOK)
		return
	}
	request, ok := r.cfg.Encode(in)
	if !ok {
		leave()
		r.cfg.Refuse(w, in, api.ErrRequestTooLarge)
		return
	}
	a.closed.Do(func() {}) // its backend is another node's
	ctx, cancel := context.WithCancel(context.WithoutCancel(in.Context()))
	a.cancel = cancel
	stop := q
	stop.What = connections.Stop
	a.stop = func() {
		if _, err := r.cfg.Ask(context.WithoutCancel(ctx), stop); err != nil {
			a.end(failed) // the truth is not known
		}
	}
	c, err := a.join(0, func() (*gateway.Conn, error) { return r.cfg.Gateway.Forward(request, func() {}) })
	if err != nil {
		cancel()
		leave()
		r.cfg.Reject(w, in, request, err)
		return
	}
	a.token = c.Token()
	a.add(c)
	if in.Context().Err() != nil {
		c.Abort(gateway.ClientClosed, 0)
	}
	r.streams.Add(1)
	go func() {
		defer r.streams.Done()
		defer guard.Recover()
		defer leave()
		defer a.end(failed) // unless it has ended
		q := q
		q.What = connections.Pull
		r.streams.Go(func() {
			defer guard.Recover()
			a.reassure(ctx, q)
		})
		a.mirror(ctx, q)
	}()
	r.openAs(w, in, c, a.head, nil)
}

// problemOf returns the answer to a client if a node has answered with an error.
func problemOf(err error) *api.Error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, connections.ErrAnswerGone):
		return api.ErrAnswerGone
	case errors.Is(err, connections.ErrResumeForbidden):
		return api.ErrResumeForbidden
	default:
		return api.ErrAnswerNode
	}
}

// reassure tells the node that has the answer that its reader is there, while that takes its time.
func (a *answer) reassure(ctx context.Context, q connections.AnswerQuestion) {
	q.What = connections.Stay
	ticker := time.NewTicker(pullWait)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			_, _ = a.relay.cfg.Ask(ctx, q) // the next pull finds out
		case <-ctx.Done():
			return
		}
	}
}

// mirror gives the reader of an answer of another node what that node has, until the end.
func (a *answer) mirror(ctx context.Context, q connections.AnswerQuestion) {
	var part []byte
	heard := time.Now()
	for ctx.Err() == nil {
		reply, err := a.relay.cfg.Ask(ctx, q)
		if err != nil {
			if errors.Is(err, connections.ErrAnswerGone) || errors.Is(err, connections.ErrResumeForbidden) || time.Since(heard) > ownerPatience {
				return
			}
			pause := time.NewTimer(time.Second)
			select {
			case <-pause.C:
			case <-ctx.Done():
				pause.Stop()
			}
			continue
		}
		var whole []byte
		for _, piece := range reply.Pieces {
			whole = append(append(whole, part...), piece...)
			part = nil
		}
		part = append(part, reply.Part...)
		q.After += uint64(len(reply.Pieces))
		q.Part = len(part)
		if len(whole) > 0 {
			a.write(&frame.Shared{Frame: frame.Blocks(whole, len(reply.Pieces))})
		}
		heard = time.Now() // the reader may have taken its time
		switch reply.State {
		case stateNames[complete]:
			a.end(complete)
		case stateNames[stopped]:
			a.end(stopped)
		case stateNames[failed], stateNames[gone]:
			return
		}
	}
}
