//go:build embedded

package server

import (
	"log/slog"

	"ssegateway/internal/broker/nats/embedded"
)

// ErrEmbedded is why this program has no NATS of its own; nil: it has one.
var ErrEmbedded error

func startEmbedded(dir string, maxEvent int64, log *slog.Logger) (embeddedServer, error) {
	s, err := embedded.Start(dir, maxEvent, log)
	if err != nil {
		return nil, err
	}
	return s, nil
}
