package server

import (
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"

	"ssegateway/internal/guard"
	"ssegateway/internal/logging"
)

// catchPanics counts and logs a panic of the handler, with its stack. The panic ends its request
// only, as in net/http.
func (s *Server) catchPanics(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			v := recover()
			if v == nil {
				return
			}
			if v != http.ErrAbortHandler { //nolint:errorlint // it is thrown as it is
				s.metrics.CountPanic()
				stack := debug.Stack()
				if err, ok := v.(error); ok {
					if p := (*guard.Panic)(nil); errors.As(err, &p) { // of a goroutine of the handler's
						v, stack = p.Value, p.Stack
					}
				}
				s.panics.Log(s.log, slog.LevelError, "a request's handler panicked",
					slog.Any("panic", v), slog.String("method", logging.Cut(r.Method)), slog.String("stack", string(stack)))
			}
			panic(http.ErrAbortHandler) // the connection, or the stream of HTTP/2, ends without another word
		}()
		h.ServeHTTP(w, r)
	})
}
