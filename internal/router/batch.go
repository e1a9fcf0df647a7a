package router

import (
	"context"
	"errors"
	"sync"

	"ssegateway/internal/connections"
	"ssegateway/internal/gateway"
	"ssegateway/internal/guard"
)

// chunkSends bounds how many sends go to a node in one message.
const chunkSends = 256

// batch is a batch in progress.
type batch struct {
	*Router

	operations []connections.Operation
	results    []connections.Result

	mu     sync.Mutex
	silent map[uint32]error // by node: why it did not answer; it is not asked again in this batch
}

// Batch implements [connections.Connections]. Sends for different nodes are carried out
// concurrently, those for one node in their order. A publish waits for the sends before it.
func (r *Router) Batch(ctx context.Context, operations []connections.Operation) []connections.Result {
	b := &batch{
		Router: r, operations: operations, results: make([]connections.Result, len(operations)), silent: map[uint32]error{},
	}
	for begin := 0; begin < len(operations); {
		if p := operations[begin].Publish; p != nil {
			b.results[begin].Published, b.results[begin].Err = b.publishOnce(ctx, *p, b.silent)
			begin++
			continue
		}
		end := begin
		for end < len(operations) && operations[end].Publish == nil {
			end++
		}
		b.sends(ctx, begin, end)
		begin = end
	}
	return b.results
}

// sends carries out the operations from begin to end, all of which are sends.
func (b *batch) sends(ctx context.Context, begin, end int) {
	var own []int
	others := map[uint32][]int{}
	for i := begin; i < end; i++ {
		token := b.operations[i].Send.Token
		if number := token.Node(); b.isOwn(token) {
			own = append(own, i)
		} else {
			others[number] = append(others[number], i)
		}
	}
	var group sync.WaitGroup
	for number, indexes := range others { // at most one goroutine for each operation
		group.Go(func() {
			defer guard.Recover()
			for len(indexes) > 0 {
				indexes = indexes[b.forwardSome(ctx, number, indexes):]
			}
		})
	}
	b.sendOwn(ctx, own)
	group.Wait()
}

func (b *batch) sendOwn(ctx context.Context, indexes []int) {
	for _, i := range indexes {
		b.results[i].Outcome, b.results[i].Err = b.own.Send(ctx, b.operations[i].Send)
	}
}

// forwardSome sends the first operations of indexes to a node, and returns how many those were.
func (b *batch) forwardSome(ctx context.Context, number uint32, indexes []int) int {
	b.mu.Lock()
	silence := b.silent[number]
	b.mu.Unlock()
	if silence != nil {
		b.fail(indexes, silence)
		return len(indexes)
	}
	chunk := b.chunk(indexes)
	a, err := b.forwardChunk(ctx, chunk)
	for (errors.Is(err, connections.ErrTooLarge) || errors.Is(err, errNoKeys)) && len(chunk) > 1 {
		chunk = chunk[:len(chunk)/2]
		a, err = b.forwardChunk(ctx, chunk)
	}
	switch {
	case errors.Is(err, errOwn):
		b.sendOwn(ctx, chunk) // the connection exists nowhere: the result is the same here
	case errors.Is(err, errNoKeys):
		b.fail(chunk, err) // the node is asked for those without keys
	case errors.Is(err, connections.ErrUnreachable):
		b.mu.Lock()
		b.silent[number] = err
		b.mu.Unlock()
		b.fail(chunk, err)
	case err != nil:
		b.fail(chunk, err)
	default:
		// A node of version 0 accepts one send at a time.
		chunk = chunk[:max(1, min(len(chunk), len(a.Sent)))]
		for n, i := range chunk {
			b.results[i].Outcome, b.results[i].Err = a.sent(n)
		}
	}
	return len(chunk)
}

func (b *batch) fail(indexes []int, err error) {
	for _, i := range indexes {
		b.results[i].Err = err
	}
}

// chunk returns the first operations of indexes that go into one message: about half of what
// the broker accepts. A send that waits goes alone.
func (b *batch) chunk(indexes []int) []int {
	bytes, limit := 0, b.pageBytes()
	for n, i := range indexes {
		s := b.operations[i].Send
		bytes += 100 + len(s.Event.Data) + len(s.IdempotencyKey)
		if n > 0 && (s.Wait || n == chunkSends || bytes > limit) {
			return indexes[:n]
		}
		if s.Wait {
			return indexes[:1]
		}
	}
	return indexes
}

func (b *batch) forwardChunk(ctx context.Context, indexes []int) (nodeAnswer, error) {
	q := nodeRequest{Send: make([]sendRequest, len(indexes))}
	first := b.operations[indexes[0]].Send
	for n, i := range indexes {
		q.Send[n] = encodeSend(b.operations[i].Send)
	}
	return b.forward(ctx, first.Token, q, patience(first))
}

// isOwn reports whether a token belongs to this node, or is zero.
func (r *Router) isOwn(token gateway.Token) bool {
	return token == (gateway.Token{}) || r.own.Holds(token) || r.nodes.Made(token)
}
