package stream

import (
	"context"
	"net/http"

	"ssegateway/internal/edge"
	"ssegateway/internal/gateway"
)

// firstKey is the key of a first request's context.
type firstKey struct{}

// ClientOf returns what can say how a client has left, by the context of a request that a Front has read; otherwise nil.
// That context ends when the client leaves, or sends more than its request.
func ClientOf(ctx context.Context) gateway.Leaver {
	c, _ := ctx.Value(firstKey{}).(gateway.Leaver)
	return c
}

// FrontConfig says what a Front does with connections.
type FrontConfig struct {
	Edge    *edge.Edge
	Refusal edge.Refusal
	// Handles reports whether a GET of that target is the Handler's. Others are net/http's.
	Handles func(target string) bool
	// Handler answers, or opens a stream. The connection is closed behind any other answer.
	Handler http.Handler
}
