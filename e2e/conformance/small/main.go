// Command small is an implementation of a part of the contract, for the tests of conformance: it connects, sends, closes and
// tells the backend of the end. What it deliberately lacks: heartbeats, sends to a pending connection, retries, a drain, most of the
// checks of a send, and everything beyond the core.
package main

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"
)

var (
	fault    = flag.String("fault", "", "a planted fault: twice (tells each end twice), status (answers 410 for a token that is not there), or order (writes data before the event's name)")
	callback = os.Getenv("CALLBACK_URL")
	backend  = &http.Client{
		Timeout:       5 * time.Second,
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	lineEnds = strings.NewReplacer("\r\n", "\ndata: ", "\r", "\ndata: ", "\n", "\ndata: ")

	mu      sync.Mutex
	streams = map[string]*stream{} // the open ones, by token
)

// stream is an open stream. mu guards what is written.
type stream struct {
	mu    sync.Mutex
	w     http.ResponseWriter
	ended bool
	done  chan struct{} // closed when the backend closes it
}

func main() {
	flag.Parse()
	go func() {
		stop := make(chan os.Signal, 1)
		signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
		<-stop
		os.Exit(0) // there is no drain
	}()
	port := cmp.Or(os.Getenv("PORT"), "3000")
	slog.Info("started", "port", port)
	server := &http.Server{Addr: ":" + port, Handler: http.HandlerFunc(serve), ReadHeaderTimeout: 10 * time.Second}
	slog.Error("PORT", "error", server.ListenAndServe())
	os.Exit(1)
}

func serve(w http.ResponseWriter, r *http.Request) {
	path, _, _ := strings.Cut(r.RequestURI, "?")
	switch {
	case path == "/healthz":
		answer(w, 200, map[string]any{"status": "ok"})
	case path == "/readyz" && callback != "":
		answer(w, 200, map[string]any{"status": "ready", "configured": true})
	case path == "/internal/send" && r.Method == http.MethodPost:
		send(w, r)
	case strings.HasPrefix(path, "/internal/"):
		refuse(w, 404, "NOT_FOUND", "Not found")
	case r.Method != http.MethodGet:
		w.Header().Set("Allow", "GET")
		refuse(w, 405, "METHOD_NOT_ALLOWED", "Method not allowed")
	case callback == "":
		refuse(w, 503, "SERVICE_NOT_CONFIGURED", "Service not configured")
	default:
		connect(w, r)
	}
}

func connect(w http.ResponseWriter, r *http.Request) {
	headers := map[string]string{"host": r.Host}
	for name, values := range r.Header {
		headers[strings.ToLower(name)] = strings.Join(values, ", ")
	}
	token := newToken()
	request := map[string]any{"url": r.RequestURI, "headers": headers}
	status, err := post(map[string]any{"action": "connect", "token": token, "request": request})
	switch {
	case err != nil:
		refuse(w, 503, "BACKEND_UNAVAILABLE", "Backend unavailable")
		return
	case status == 401:
		refuse(w, 401, "BACKEND_AUTH_FAILED", "Backend returned 401")
		return
	case status == 403:
		refuse(w, 403, "BACKEND_FORBIDDEN", "Backend returned 403")
		return
	case status > 299:
		refuse(w, status, "BACKEND_ERROR", fmt.Sprintf("Backend returned %d", status))
		return
	}
	s := &stream{w: w, done: make(chan struct{})}
	for name, value := range map[string]string{
		"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "X-Accel-Buffering": "no",
		"X-Content-Type-Options": "nosniff", "Connection": "keep-alive",
	} {
		w.Header().Set(name, value)
	}
	s.mu.Lock() // a send writes behind the head
	mu.Lock()
	streams[token] = s
	mu.Unlock()
	w.WriteHeader(http.StatusOK)
	_ = http.NewResponseController(w).Flush()
	s.mu.Unlock()
	reason := "client_closed"
	select {
	case <-r.Context().Done():
	case <-s.done:
		reason = "server_closed"
	}
	mu.Lock()
	delete(streams, token)
	mu.Unlock()
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	end := map[string]any{"action": "disconnect", "reason": reason, "token": token, "request": request}
	go func() {
		_, _ = post(end)
		if *fault == "twice" {
			_, _ = post(end)
		}
	}()
}

func send(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Token string
		Event *struct{ Name, Data string }
		Close bool
	}
	if json.NewDecoder(r.Body).Decode(&body) != nil {
		refuse(w, 400, "INVALID_JSON", "body must be one JSON object in valid UTF-8")
		return
	}
	mu.Lock()
	s := streams[body.Token]
	if body.Close {
		delete(streams, body.Token)
	}
	mu.Unlock()
	if s == nil {
		status := 404
		if *fault == "status" {
			status = 410
		}
		refuse(w, status, "TOKEN_NOT_FOUND", "Token not found")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if body.Event != nil && !s.ended {
		name, data := "", "data: "+lineEnds.Replace(body.Event.Data)+"\n"
		if body.Event.Name != "" {
			name = "event: " + body.Event.Name + "\n"
		}
		if *fault == "order" {
			name, data = data, name
		}
		_, _ = fmt.Fprint(s.w, name, data, "\n")
		_ = http.NewResponseController(s.w).Flush()
	}
	if body.Close {
		s.ended = true
		close(s.done)
	}
	answer(w, 200, map[string]any{"status": "ok"})
}

// post makes a callback, and returns the status of its answer.
func post(body any) (status int, err error) {
	text, err := json.Marshal(body)
	if err != nil {
		return 0, err
	}
	resp, err := backend.Post(callback, "application/json", bytes.NewReader(text))
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	answer(w, status, map[string]any{"error": map[string]any{"message": message, "code": code}})
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// newToken returns a UUID of version 4.
func newToken() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
