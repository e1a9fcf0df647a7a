package gatewaytest

import (
	"context"
	"fmt"
	"sync"

	"ssegateway/internal/gateway"
)

// Backend is the [gateway.Backend] of a test. It records callbacks in the histories of
// the connections.
type Backend struct {
	// Answer returns the backend's answer to a connect. It may block.
	// client ends when the client leaves.
	Answer func(ctx, client context.Context, h *History) gateway.Answer

	mu sync.Mutex
	// Guarded by mu.
	byNumber map[int]*History
	byToken  map[gateway.Token]*History
	strange  []string
}

// Expect registers the history of a connection that will be opened.
func (b *Backend) Expect(h *History) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.byNumber == nil {
		b.byNumber = map[int]*History{}
		b.byToken = map[gateway.Token]*History{}
	}
	b.byNumber[h.Number] = h
}

// Connect is part of gateway.Backend.
func (b *Backend) Connect(ctx, client context.Context, token gateway.Token, request []byte) gateway.Answer {
	h := b.meet(token, request)
	if h == nil {
		return gateway.Answer{Outcome: gateway.Refused, Status: 404}
	}
	close(h.Known)
	a := b.Answer(ctx, client, h)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answer, h.answered = a, true
	return a
}

func (b *Backend) meet(token gateway.Token, request []byte) *History {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, err := numberOf(request)
	h := b.byNumber[n]
	if err != nil || h == nil {
		b.strange = append(b.strange, fmt.Sprintf("a connect callback for an unknown request %q", request))
		return nil
	}
	if b.byToken[token] != nil {
		b.strange = append(b.strange, "a second connect callback for a token")
		return nil
	}
	b.byToken[token] = h
	h.mu.Lock()
	defer h.mu.Unlock()
	h.token = token
	h.asked++
	return h
}

// Disconnect is part of gateway.Backend.
func (b *Backend) Disconnect(n gateway.Notice) {
	b.mu.Lock()
	h := b.byToken[n.Token]
	if h == nil {
		b.strange = append(b.strange, "a disconnect callback for an unknown token")
	}
	b.mu.Unlock()
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.notices = append(h.notices, notice{n, !h.answered})
	if len(h.notices) == 1 {
		close(h.Told)
	}
}

// Strange returns the callbacks that should never have been made.
func (b *Backend) Strange() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.strange
}

// Accepting is a [gateway.Backend] that accepts everybody, and keeps nothing.
type Accepting struct{}

// Connect is part of gateway.Backend.
func (Accepting) Connect(_, _ context.Context, _ gateway.Token, _ []byte) gateway.Answer {
	return gateway.Answer{Outcome: gateway.Accepted, Status: 200}
}

// Disconnect is part of gateway.Backend.
func (Accepting) Disconnect(gateway.Notice) {}
