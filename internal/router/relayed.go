package router

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"ssegateway/internal/connections"
	"ssegateway/internal/gateway"
)

// Clients that come back to a relayed answer of another node: their node asks that one for what is behind what they have,
// by number. So a lost message loses and doubles nothing.

// answerRequest is a [connections.AnswerQuestion].
type answerRequest struct {
	Key           string `json:"key"`
	What          string `json:"what"` // one of wishNames
	Reader        string `json:"reader,omitzero"`
	After         uint64 `json:"after,omitzero"`
	Part          int    `json:"part,omitzero"`
	Authorization []byte `json:"authorization,omitzero"`
}

// answerPart is a [connections.AnswerReply].
type answerPart struct {
	Header map[string][][]byte `json:"header,omitzero"` // values may be no UTF-8
	State  string              `json:"state,omitzero"`
	Pieces [][]byte            `json:"pieces,omitzero"`
	Part   []byte              `json:"part,omitzero"`
}

func encodeReply(a connections.AnswerReply) *answerPart {
	out := &answerPart{State: a.State, Pieces: a.Pieces, Part: a.Part}
	for name, values := range a.Header {
		if out.Header == nil {
			out.Header = map[string][][]byte{}
		}
		for _, value := range values {
			out.Header[name] = append(out.Header[name], []byte(value))
		}
	}
	return out
}

func (a *answerPart) decode() connections.AnswerReply {
	out := connections.AnswerReply{State: a.State, Pieces: a.Pieces, Part: a.Part}
	for name, values := range a.Header {
		if out.Header == nil {
			out.Header = map[string][]string{}
		}
		for _, value := range values {
			out.Header[name] = append(out.Header[name], string(value))
		}
	}
	return out
}

// leastPart is how few bytes of a piece are left in an answer that is too large, at least.
const leastPart = 512

// halve drops the second half of what is read. It returns false if there is too little. What follows is asked for again.
func (a *answerPart) halve() bool {
	switch {
	case a == nil:
		return false
	case len(a.Pieces) > 0 && len(a.Part) > 0:
		a.Part = nil
	case len(a.Pieces) > 1:
		a.Pieces = a.Pieces[:len(a.Pieces)/2]
	case len(a.Pieces) == 1 && len(a.Pieces[0]) > leastPart:
		a.Pieces, a.Part = nil, a.Pieces[0][:len(a.Pieces[0])/2]
	case len(a.Part) > leastPart:
		a.Part = a.Part[:len(a.Part)/2]
	default:
		return false
	}
	a.State = "" // there is more
	return true
}

var wishNames = [...]string{
	connections.Look: "look", connections.Begin: "begin", connections.Pull: "pull", connections.Stay: "stay", connections.Leave: "leave", connections.Stop: "stop",
}

// errNoAnswers: the node is of a version before relayed answers.
var errNoAnswers = fmt.Errorf("%w: its version does not know relayed answers", connections.ErrUnreachable)

// AskAnswer asks the node that has an answer. An error is [connections.ErrAnswerGone], also if that node is gone for good,
// [connections.ErrResumeForbidden], or of the kind [connections.ErrUnreachable].
func (r *Router) AskAnswer(ctx context.Context, q connections.AnswerQuestion) (reply connections.AnswerReply, err error) {
	if r.nodes.Made(q.Key) {
		return reply, connections.ErrAnswerGone // it would have been found
	}
	patience := deadline
	if q.What == connections.Pull {
		patience += holdFor
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ask := nodeRequest{Answer: &answerRequest{
		Key: hex.EncodeToString(q.Key[:]), What: wishNames[q.What], Reader: q.Reader, After: q.After, Part: q.Part, Authorization: q.Authorization,
	}}
	var version int
	var a nodeAnswer
	message, err := r.nodes.Ask(ctx, q.Key, func(v int) ([]byte, error) {
		if version = v; v < 1 {
			return nil, errNoAnswers
		}
		return ask.encode(v), nil
	})
	if err == nil {
		a, err = ask.decodeAnswer(version, message)
	}
	if err == nil {
		err = a.failure()
	}
	if err = r.failure(err, q.Key.Node()); errors.Is(err, errOwn) {
		err = connections.ErrAnswerGone
	}
	if err == nil && a.Answer == nil {
		err = errNoAnswer
	}
	if err != nil {
		return reply, err
	}
	return a.Answer.decode(), nil
}

// serveAnswer answers the question of another node.
func (r *Router) serveAnswer(ctx context.Context, ask *answerRequest) nodeAnswer {
	key, err := hex.DecodeString(ask.Key)
	if err != nil || len(key) != len(gateway.Token{}) {
		return failed(errMalformed)
	}
	q := connections.AnswerQuestion{Key: gateway.Token(key), Reader: ask.Reader, After: ask.After, Part: ask.Part, Authorization: ask.Authorization}
	known := false
	for what, name := range wishNames {
		if name == ask.What {
			q.What, known = connections.AnswerWish(what), true
		}
	}
	if !known {
		return failed(errUnknown)
	}
	ctx, cancel := context.WithTimeout(ctx, holdFor+time.Second)
	defer cancel()
	reply, err := r.own.ServeAnswer(ctx, q)
	if err != nil {
		return failed(err)
	}
	return nodeAnswer{Answer: encodeReply(reply)}
}
