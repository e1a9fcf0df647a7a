//go:build !linux || portable

package stream

import (
	"context"
	"net"
	"sync/atomic"

	"ssegateway/internal/frame"
	"ssegateway/internal/gateway"
)

// detacher detaches nothing: every HTTP/1.x stream is parked.
type detacher struct{}

func newDetacher(*atomic.Int64) (*detacher, error) { return &detacher{}, nil }

func (*detacher) detach(net.Conn, bool, frame.Frame, *gateway.Conn, gateway.Grant) bool { return false }

func (*detacher) run(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}
