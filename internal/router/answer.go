package router

import (
	"bytes"
	"context"
	"log/slog"
	"slices"

	"github.com/go-json-experiment/json"

	"ssegateway/internal/connections"
	"ssegateway/internal/gateway"
)

// Answer carries out the request of another node and returns the answer. It never asks other nodes.
func (r *Router) Answer(ctx context.Context, message []byte) []byte {
	if !bytes.HasPrefix(message, []byte("{")) {
		return r.answerV0(ctx, message)
	}
	var q nodeRequest
	var a nodeAnswer
	switch err := json.Unmarshal(message, &q); {
	case err != nil:
		a = failed(errMalformed)
	case q.Version > Version:
		a = failed(errVersion)
	default:
		a = r.serve(ctx, q)
	}
	a.Version = min(max(q.Version, 1), Version)
	return r.fit(&a, func() []byte { return encodeJSON(a) }, true)
}

// fit encodes an answer and makes it small enough for the broker: it leaves out connections of
// a page, the end of what is read of a relayed answer and, if cut is set, topics of a single connection.
func (r *Router) fit(a *nodeAnswer, encode func() []byte, cut bool) []byte {
	message := encode()
	limit := r.nodes.MaxMessage()
	for limit > 0 && len(message) > limit {
		switch {
		case a.Page.halve(), a.Answer.halve(), cut && a.halveTopics():
		case a.Error != "":
			return message // there is nothing left to leave out
		default:
			r.large.Log(r.log, slog.LevelWarn, "an answer to another node is larger than NATS takes (max_payload), even in part",
				slog.Int("bytes", len(message)), slog.Int("limit", limit))
			*a = nodeAnswer{Version: a.Version, Error: nameOf(errAnswer)}
		}
		message = encode()
	}
	return message
}

// halve drops the second half of a page. It returns false if the page cannot be split.
func (p *page) halve() bool {
	if p == nil || len(p.Connections) < 2 {
		return false
	}
	p.Connections = p.Connections[:len(p.Connections)/2]
	p.Next = p.Connections[len(p.Connections)-1].Token
	return true
}

// halveTopics drops the second half of the topics if the answer has those of one connection
// only. It returns false if they cannot be split.
func (a *nodeAnswer) halveTopics() bool {
	c := a.Connection
	if a.Page != nil && len(a.Page.Connections) == 1 {
		c = &a.Page.Connections[0]
	}
	topics, more := &a.Topics, &a.MoreTopics
	if c != nil {
		topics, more = &c.Topics, &c.MoreTopics
	}
	if len(*topics) < 2 {
		return false
	}
	*topics, *more = (*topics)[:len(*topics)/2], true
	return true
}

func (r *Router) serve(ctx context.Context, q nodeRequest) (a nodeAnswer) {
	switch {
	case q.Send != nil:
		for _, s := range q.Send {
			a.Sent = append(a.Sent, r.send(ctx, s))
		}
	case q.Close != "":
		token, _ := gateway.ParseToken(q.Close) // zero if invalid: found nowhere
		a.Sent = []sent{encodeSent(r.own.Close(ctx, token))}
	case q.Describe != "":
		token, _ := gateway.ParseToken(q.Describe)
		info, err := r.own.Describe(ctx, token)
		if err != nil {
			return failed(err)
		}
		if q.TopicsAfter != "" {
			first, found := slices.BinarySearch(info.Topics, q.TopicsAfter)
			if found {
				first++
			}
			info.Topics, info.Request = info.Topics[first:], nil
		}
		c := encodeConnection(info)
		a.Connection = &c
	case q.Change != nil:
		token, _ := gateway.ParseToken(q.Change.Token)
		topics, err := r.own.Change(ctx, token, q.Change.Add, q.Change.Remove)
		if err != nil {
			return failed(err)
		}
		a.Topics = topics
	case q.List != nil:
		after, _ := gateway.ParseToken(q.List.After)
		a.Page = encodePage(r.own.List(ctx, connections.Query{
			Filter: q.List.Filter.decode(), After: after, Limit: q.List.Limit, Bytes: r.pageBytes(),
		}))
	case q.CloseAll != nil:
		a.Closed = r.own.CloseAll(ctx, q.CloseAll.decode()).Count
	case q.Statistics:
		a.Statistics = encodeStatistics(r.own.Statistics(ctx))
	case q.Expect != 0:
		return r.expect(q.Expect)
	case q.Count != 0:
		return r.count(ctx, q.Count)
	case q.Write != nil:
		return r.write(ctx, q.Write)
	case q.Watch != nil:
		return r.watch(ctx, q.Watch)
	case q.Answer != nil:
		return r.serveAnswer(ctx, q.Answer)
	default:
		return failed(errUnknown)
	}
	return a
}

func (r *Router) send(ctx context.Context, q sendRequest) sent {
	s, err := q.decode()
	if err != nil {
		return sent{Error: nameOf(errMalformed)}
	}
	return encodeSent(r.own.Send(ctx, s))
}

func (f filter) decode() gateway.Filter { return gateway.Filter{Topic: f.Topic, Subject: f.Subject} }
