package server

import (
	"log/slog"
	"strings"
	"time"

	"ssegateway/internal/logging"
)

// serverLog gets the log lines of net/http. Strangers can cause most of them as often as
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
		level = slog.LevelDebug // a client's errors matter only for debugging it
	}
	l.throttle.Log(l.log, level, message)
	return len(p), nil
}
