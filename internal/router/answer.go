package router

import (
	"bytes"
	"context"

	"github.com/go-json-experiment/json"

	"ssegateway/internal/connections"
	"ssegateway/internal/gateway"
)

// Answer answers what another node asks. It never asks others itself.
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
	return encodeJSON(a)
}

func (r *Router) serve(ctx context.Context, q nodeRequest) (a nodeAnswer) {
	switch {
	case q.Send != nil:
		for _, s := range q.Send {
			a.Sent = append(a.Sent, r.send(ctx, s))
		}
	case q.Close != "":
		token, _ := gateway.ParseToken(q.Close) // nobody's, if it is none
		a.Sent = []sent{encodeSent(r.own.Close(ctx, token))}
	case q.Describe != "":
		token, _ := gateway.ParseToken(q.Describe)
		info, err := r.own.Describe(ctx, token)
		if err != nil {
			return failed(err)
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
			Filter: q.List.Filter.decode(), After: after, Limit: q.List.Limit, Bytes: nodePageBytes,
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
