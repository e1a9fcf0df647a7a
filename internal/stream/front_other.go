//go:build !linux || portable

package stream

import (
	"context"
	"net"
	"net/http"

	"ssegateway/internal/gateway"
)

// Front leaves all requests to net/http.
func (o *Opener) Front(l net.Listener, _ FrontConfig) net.Listener { return l }

// Settle has nothing to wait for.
func (o *Opener) Settle(context.Context) {}

func openFirst(http.ResponseWriter, *gateway.Conn, gateway.Grant) bool { return false }
