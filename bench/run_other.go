//go:build !linux

package bench

import (
	"context"
	"errors"
)

// Run says that it cannot be done here.
func Run(context.Context, Options) (Report, error) {
	return Report{}, errors.New("bench needs Linux: it reads streams with epoll, and figures from /proc")
}
