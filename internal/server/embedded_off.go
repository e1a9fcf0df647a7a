//go:build !embedded

package server

import (
	"errors"
	"log/slog"
)

// ErrEmbedded is why this program has no NATS of its own; nil: it has one.
var ErrEmbedded = errors.New("NATS_EMBEDDED: this program was built without it; build it with make build TAGS=embedded")

func startEmbedded(string, int64, *slog.Logger) (embeddedServer, error) { return nil, ErrEmbedded }
