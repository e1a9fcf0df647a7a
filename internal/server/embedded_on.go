//go:build embedded

package server

import (
	"log/slog"

	"ssegateway/internal/broker/nats/embedded"
)

func startEmbedded(dir string, maxEvent int64, log *slog.Logger) (embeddedServer, error) {
	s, err := embedded.Start(dir, maxEvent, log)
	if err != nil {
		return nil, err
	}
	return s, nil
}
