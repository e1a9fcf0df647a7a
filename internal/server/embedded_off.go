//go:build !embedded

package server

import (
	"errors"
	"log/slog"
)

func startEmbedded(string, int64, *slog.Logger) (embeddedServer, error) {
	return nil, errors.New("NATS_EMBEDDED: this program was built without it; build it with make build TAGS=embedded")
}
