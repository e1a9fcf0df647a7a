package server

import (
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"

	"ssegateway/internal/api"
	"ssegateway/internal/gateway"
	"ssegateway/internal/stream"
	"ssegateway/sse"
)

// The values of EVENTSOURCE_ERRORS beside "status". A browser's EventSource gives up for ever on an
// error status (HTML section 9.2.3, "fail the connection"), and its page cannot read the status.
const (
	retryErrors = "retry" // a temporary refusal is a stream
	eventErrors = "event" // every refusal is a stream
)

const (
	// defaultRetry is the reconnection time in milliseconds of a stream whose backend names none. A
	// browser would else keep the one of a refusal before.
	defaultRetry = 3000
	// maxRetry is the longest reconnection time in milliseconds: that of a refusal which is final,
	// and the bound on a backend's Retry-After.
	maxRetry = uint64(time.Hour / time.Millisecond)
	// retrySpread spreads the clients that got the same Retry-After, in milliseconds.
	retrySpread = 4000
)

// isRetrySet reports whether the client of a request may have the reconnection time of a refusal.
func (s *Server) isRetrySet(r *http.Request) bool {
	return (s.cfg.EventSourceErrors == retryErrors || s.cfg.EventSourceErrors == eventErrors) && isEventSource(r)
}

// isEventSource reports whether a request is one that an EventSource makes.
func isEventSource(r *http.Request) bool { return r.Method == http.MethodGet && api.WantsStream(r) }

// refuseStream refuses a stream. An EventSource gets a stream instead of a status if
// EVENTSOURCE_ERRORS asks for that.
func (s *Server) refuseStream(w http.ResponseWriter, r *http.Request, e *api.Error) {
	switch {
	case !s.isRetrySet(r):
		refuse(w, r, e)
	case isTemporary(e.Status):
		millis := gateway.RetryMillis()
		if least := retryAfter(w.Header().Get("Retry-After"), time.Now()); least > 0 {
			millis = max(millis, least+rand.Uint64N(retrySpread)) //nolint:gosec // jitter, not a secret
		}
		end(w, r, sse.AppendRetry(nil, sse.RetryMillis(min(millis, maxRetry))))
	case s.cfg.EventSourceErrors == eventErrors:
		end(w, r, rejection(e))
	default:
		refuse(w, r, e)
	}
}

// isTemporary reports whether the same request may succeed later.
func isTemporary(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	}
	return status >= 500
}

// retryAfter returns the time in milliseconds that a Retry-After field (RFC 9110 section 10.2.3)
// asks for; 0 if there is none that can be read.
func retryAfter(field string, now time.Time) uint64 {
	if seconds, err := strconv.ParseUint(field, 10, 64); err == nil {
		return min(seconds, maxRetry/1000) * 1000
	}
	at, err := http.ParseTime(field)
	if err != nil || at.Before(now) {
		return 0
	}
	return uint64(at.Sub(now) / time.Millisecond) //nolint:gosec // not negative
}

// rejection returns the stream of a refusal that is final: the event, and a long reconnection time.
func rejection(e *api.Error) []byte {
	data, err := json.Marshal(struct {
		Status  int    `json:"status"`
		Code    string `json:"code"`
		Message string `json:"message"`
	}{e.Status, e.Code, e.Message})
	if err != nil {
		panic(err) // numbers and strings can be JSON
	}
	name, _ := sse.NewName("rejected") // valid
	return sse.Event{Name: name, Data: string(data), Retry: sse.RetryMillis(maxRetry)}.AppendTo(nil)
}

// comeBack answers with a stream that only asks the client to try again. A browser gives up for
// ever on an error status, but reconnects after this.
func comeBack(w http.ResponseWriter, r *http.Request) { end(w, r, gateway.RetryBlock()) }

// end answers with a stream of these bytes, and its end.
func end(w http.ResponseWriter, r *http.Request, wire []byte) {
	stream.SetHeader(w.Header())
	closeBehind(w, r)
	_, _ = w.Write(wire)
}
