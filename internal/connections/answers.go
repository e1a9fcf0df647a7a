package connections

import (
	"context"
	"errors"

	"ssegateway/internal/gateway"
)

// Answers are the relayed answers of this node, of which some have no connection now.
type Answers interface {
	// Answer describes the answer to the request that had a token.
	Answer(token gateway.Token) (i gateway.Info, ok bool)
	// StopAnswer ends it for all who read it. It returns false if there is none.
	StopAnswer(token gateway.Token) bool
	// ServeAnswer answers the question of another node.
	ServeAnswer(ctx context.Context, q AnswerQuestion) (AnswerReply, error)
}

// Errors of ServeAnswer.
var (
	ErrAnswerGone      = errors.New("the answer is gone, or has no such event")
	ErrResumeForbidden = errors.New("the answer was asked for with another Authorization")
)

// AnswerQuestion is what a node asks the one that has an answer.
type AnswerQuestion struct {
	Key           gateway.Token // of the answer; it has the number of its node
	Reader        string        // unique id of who reads it
	What          AnswerWish
	After         uint64 // the pieces that the reader has: of Begin events, as clients number them
	Part          int    // bytes of the piece behind them that it has too
	Authorization []byte // a digest of it; nil: none
}

// AnswerWish is what is asked of an answer.
type AnswerWish uint8

const (
	// Look: the head.
	Look AnswerWish = iota
	// Begin: the head, for a reader who is counted from now on.
	Begin
	// Pull: the pieces behind those that the reader has, perhaps after a while.
	Pull
	// Stay: nothing, but that the reader is there.
	Stay
	// Leave: the reader is counted no more.
	Leave
	// Stop: the answer ends.
	Stop
)

// AnswerReply is the answer to an AnswerQuestion.
type AnswerReply struct {
	Header map[string][]string // of the head
	State  string              // of the answer, as [gateway.AnswerInfo] has it, if there are no pieces behind these
	Pieces [][]byte            // whole ones; the first without what the reader has of it
	Part   []byte              // of the one behind them
}

type noAnswers struct{}

func (noAnswers) Answer(gateway.Token) (i gateway.Info, ok bool) { return i, false }
func (noAnswers) StopAnswer(gateway.Token) bool                  { return false }
func (noAnswers) ServeAnswer(context.Context, AnswerQuestion) (a AnswerReply, err error) {
	return a, ErrAnswerGone
}

// SetAnswers sets the relayed answers. It must be called before any other method.
func (o *Own) SetAnswers(a Answers) { o.answers = a }

// ServeAnswer answers the question of another node about a relayed answer.
func (o *Own) ServeAnswer(ctx context.Context, q AnswerQuestion) (AnswerReply, error) {
	return o.answers.ServeAnswer(ctx, q)
}
