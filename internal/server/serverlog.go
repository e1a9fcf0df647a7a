package server

import (
	"log/slog"
	"strings"
	"time"

	"ssegateway/internal/logging"
)

// serverLog takes the words of net/http, most of which strangers can cause as often as
// they like.
type serverLog struct {
	log      *slog.Logger
	throttle *logging.Throttle
}

func newServerLog(log *slog.Logger) serverLog {
	return serverLog{log, logging.Every(time.Second)}
}

func (l serverLog) Write(p []byte) (int, error) {
	message := logging.Cut(strings.TrimSpace(string(p)))
	level := slog.LevelError
	if strings.Contains(message, "TLS handshake error") {
		level = slog.LevelDebug // what a client did wrong is of interest only to who debugs it
	}
	l.throttle.Log(l.log, level, message)
	return len(p), nil
}
