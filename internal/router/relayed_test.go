package router

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ssegateway/internal/connections"
	"ssegateway/internal/gateway"
)

// answers are a node's, of which there is one, with these pieces.
type answers struct {
	connections.Answers

	asked  []connections.AnswerQuestion
	pieces [][]byte
}

func (*answers) Answer(gateway.Token) (i gateway.Info, ok bool) { return i, false }

func (a *answers) ServeAnswer(_ context.Context, q connections.AnswerQuestion) (connections.AnswerReply, error) {
	a.asked = append(a.asked, q)
	switch {
	case q.Key[4] != 1:
		return connections.AnswerReply{}, connections.ErrAnswerGone
	case string(q.Authorization) != "digest":
		return connections.AnswerReply{}, connections.ErrResumeForbidden
	case q.What == connections.Begin:
		return connections.AnswerReply{Header: map[string][]string{"X-App": {"caf\xe9", "b"}}, State: "streaming"}, nil
	}
	reply := connections.AnswerReply{State: "complete"}
	for _, piece := range a.pieces[q.After:] {
		reply.Pieces = append(reply.Pieces, piece[q.Part:])
		q.Part = 0
	}
	return reply, nil
}

func answerKey(node, other byte) gateway.Token { return gateway.Token{0, 0, 0, node, other} }

// What one node asks of an answer of another one comes there as it was asked, and comes back as it was answered, whatever
// room a message has.
func TestAskAnswer(t *testing.T) {
	among(t, 2, func(t *testing.T, net *network) {
		owner := &answers{pieces: [][]byte{[]byte("data: 1\xff\n\n"), bytes.Repeat([]byte("x"), 100_000), []byte("data: 3\n\n")}}
		net.nodes[1].own.SetAnswers(owner)
		q := connections.AnswerQuestion{Key: answerKey(1, 1), Reader: "R", What: connections.Begin, After: 2, Part: 3, Authorization: []byte("digest")}
		reply, err := net.nodes[2].AskAnswer(t.Context(), q)
		if want := (connections.AnswerReply{Header: map[string][]string{"X-App": {"caf\xe9", "b"}}, State: "streaming"}); err != nil || !cmp.Equal(reply, want) || !cmp.Equal(owner.asked[0], q) {
			t.Errorf("%+v %v %+v", reply, err, owner.asked)
		}
		for _, limit := range []int{1 << 20, 100_000, 20_000, 2000} {
			net.limit = limit
			q.What, q.After, q.Part = connections.Pull, 0, 0
			var whole [][]byte
			var part []byte
			for range 1000 {
				reply, err := net.nodes[2].AskAnswer(t.Context(), q)
				if err != nil {
					t.Fatal(limit, err)
				}
				for _, piece := range reply.Pieces {
					whole = append(whole, slices.Concat(part, piece))
					part = nil
				}
				part = append(part, reply.Part...)
				q.After, q.Part = uint64(len(whole)), len(part)
				if reply.State == "complete" {
					break
				}
			}
			if !cmp.Equal(whole, owner.pieces) {
				t.Errorf("with messages of %d bytes: %d pieces", limit, len(whole))
			}
		}
	})
}

// An answer of a node that is gone, is not reached or is too old, and one that is forbidden.
func TestAskAnswerFails(t *testing.T) {
	among(t, 4, func(t *testing.T, net *network) {
		net.nodes[1].own.SetAnswers(&answers{})
		net.frozen[3] = true
		for _, c := range []struct {
			key     gateway.Token
			version int
			want    error
		}{
			{answerKey(1, 1), Version, connections.ErrResumeForbidden},
			{answerKey(1, 2), Version, connections.ErrAnswerGone},
			{answerKey(2, 1), Version, connections.ErrAnswerGone}, // its own
			{answerKey(3, 1), Version, connections.ErrUnreachable},
			{answerKey(4, 1), Version, connections.ErrAnswerGone}, // relays nothing
			{answerKey(1, 1), 0, connections.ErrUnreachable},
			{answerKey(1, 2), 1, connections.ErrAnswerGone},
			{answerKey(9, 1), Version, connections.ErrAnswerGone},
		} {
			net.nodes[1].version = c.version
			for what := connections.Look; what <= connections.Stop; what++ {
				if _, err := net.nodes[2].AskAnswer(t.Context(), connections.AnswerQuestion{Key: c.key, What: what}); !errors.Is(err, c.want) {
					t.Errorf("%v, version %d, %d: %v, want %v", c.key, c.version, what, err, c.want)
				}
			}
		}
	})
}

// A node of a version before relayed answers answers what it does not know, and that is a node that is not reached.
func TestAnswerUnknown(t *testing.T) {
	ask := nodeRequest{Answer: &answerRequest{Key: "00", What: "begin"}}
	a, err := ask.decodeAnswer(2, encodeJSON(nodeAnswer{Version: 2, Error: nameOf(errUnknown)}))
	if err != nil || !errors.Is(a.failure(), connections.ErrUnreachable) {
		t.Error(a, err)
	}
}

// The messages of relayed answers are as their golden files have them.
func TestAnswerMessages(t *testing.T) {
	for name, pair := range map[string]struct {
		ask    nodeRequest
		answer nodeAnswer
	}{
		"answer_begin": {
			nodeRequest{Answer: &answerRequest{Key: "cb83fa1a26064b2c9ea6be355bb77257", What: "begin", Reader: "R", After: 3, Authorization: []byte("digest")}},
			nodeAnswer{Answer: &answerPart{Header: map[string][][]byte{"X-App": {[]byte("caf\xe9")}}}},
		},
		"answer_pull": {
			nodeRequest{Answer: &answerRequest{Key: "cb83fa1a26064b2c9ea6be355bb77257", What: "pull", Reader: "R", After: 3, Part: 7}},
			nodeAnswer{Answer: &answerPart{State: "streaming", Pieces: [][]byte{[]byte("data: a\n\n")}, Part: []byte("da")}},
		},
		"answer_stop": {nodeRequest{Answer: &answerRequest{Key: "cb83fa1a26064b2c9ea6be355bb77257", What: "stop"}}, failed(connections.ErrAnswerGone)},
	} {
		pair.answer.Version = 1
		expectGolden(t, name+".ask", pair.ask.encode(1))
		expectGolden(t, name+".answer", encodeJSON(pair.answer))
		got, err := pair.ask.decodeAnswer(1, encodeJSON(pair.answer))
		if diff := cmp.Diff(pair.answer, got); err != nil || diff != "" {
			t.Errorf("%s: %v %s", name, err, diff)
		}
	}
}
