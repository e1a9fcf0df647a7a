//go:build !linux || portable

package fastsend

import (
	"context"
	"net"
)

// Server takes no connection: net/http serves all of them.
type Server struct{}

// New makes a Server.
func New(func() Handler) (*Server, error) { return &Server{}, nil }

const supported = false

func (*Server) adopt(net.Conn, *Exit, string) bool { return false }

// Conns returns 0.
func (*Server) Conns() int { return 0 }

// Run waits until ctx ends.
func (*Server) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// CloseIdlest returns false: there is none to close.
func (*Server) CloseIdlest() bool { return false }
