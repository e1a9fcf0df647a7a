// Plain is a server of the same contract, written with net/http alone: the handler of each
// stream is a goroutine that asks the backend, receives events from a channel, has a timer
// for the heartbeat, and notifies the backend of the disconnect. It implements only the
// part of the contract that the comparison needs.
//
// PORT, CALLBACK_URL and HEARTBEAT_INTERVAL_SECONDS mean the same as for the gateway.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	callbacks     = 64 // at a time, and connections that are kept
	callbackLimit = 5 * time.Second
	bodyLimit     = 1 << 20 // bytes
	queued        = 64      // events of a stream
)

// stream is a stream that is open, or about to be.
type stream struct {
	events chan []byte
	left   <-chan struct{}
}

type server struct {
	callback  string
	client    *http.Client
	heartbeat time.Duration

	mu      sync.RWMutex
	streams map[string]*stream            // by token
	topics  map[string]map[string]*stream // by topic, then token
}

func main() {
	fmt.Fprintln(os.Stderr, run())
	os.Exit(1)
}

// run serves until an error, and returns it.
func run() error {
	seconds, err := strconv.Atoi(os.Getenv("HEARTBEAT_INTERVAL_SECONDS"))
	if err != nil {
		return fmt.Errorf("HEARTBEAT_INTERVAL_SECONDS: %w", err)
	}
	s := &server{
		callback:  os.Getenv("CALLBACK_URL"),
		client:    &http.Client{Timeout: callbackLimit, Transport: &http.Transport{MaxIdleConnsPerHost: callbacks, MaxConnsPerHost: callbacks}},
		heartbeat: time.Duration(seconds) * time.Second,
		streams:   map[string]*stream{},
		topics:    map[string]map[string]*stream{},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /", s.stream)
	mux.HandleFunc("POST /internal/send", s.operation)
	mux.HandleFunc("POST /internal/publish", s.operation)
	mux.HandleFunc("POST /internal/batch", s.batch)
	mux.HandleFunc("POST /internal/connections/{token}/stream", s.events)
	web := &http.Server{Addr: "127.0.0.1:" + os.Getenv("PORT"), Handler: mux, ReadHeaderTimeout: callbackLimit}
	return web.ListenAndServe()
}

type callback struct {
	Action  string  `json:"action"`
	Reason  string  `json:"reason,omitempty"`
	Token   string  `json:"token"`
	Request request `json:"request"`
}

type request struct {
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers"`
}

func requestOf(r *http.Request) request {
	headers := map[string]string{"host": r.Host}
	for name, values := range r.Header {
		headers[strings.ToLower(name)] = strings.Join(values, ", ")
	}
	return request{URL: r.RequestURI, Headers: headers}
}

// call makes a callback, and returns the topics that the backend grants.
func (s *server) call(ctx context.Context, c callback) (topics []string, status int, err error) {
	body, err := json.Marshal(c)
	if err != nil {
		return nil, 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.callback, bytes.NewReader(body))
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, bodyLimit))
	if err != nil {
		return nil, 0, err
	}
	var grant struct{ Topics []string }
	_ = json.Unmarshal(text, &grant) // an answer that is not an object grants nothing
	return grant.Topics, resp.StatusCode, nil
}

func (s *server) stream(w http.ResponseWriter, r *http.Request) {
	told := callback{Action: "connect", Token: rand.Text(), Request: requestOf(r)}
	topics, status, err := s.call(r.Context(), told)
	switch {
	case err != nil:
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	case status/100 != 2:
		w.WriteHeader(status)
		return
	}
	st := &stream{events: make(chan []byte, queued), left: r.Context().Done()}
	s.add(told.Token, topics, st)
	defer func() {
		s.remove(told.Token, topics)
		told.Action, told.Reason = "disconnect", "client_closed"
		if _, _, err := s.call(context.WithoutCancel(r.Context()), told); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}()

	out := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	if err := out.Flush(); err != nil {
		return
	}
	heartbeat := time.NewTicker(s.heartbeat)
	defer heartbeat.Stop()
	for {
		var err error
		select {
		case <-st.left:
			return
		case e := <-st.events:
			_, err = w.Write(e)
		case <-heartbeat.C:
			_, err = io.WriteString(w, ": heartbeat\n\n")
		}
		if err != nil || out.Flush() != nil {
			return
		}
	}
}

func (s *server) add(token string, topics []string, st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams[token] = st
	for _, topic := range topics {
		if s.topics[topic] == nil {
			s.topics[topic] = map[string]*stream{}
		}
		s.topics[topic][token] = st
	}
}

func (s *server) remove(token string, topics []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, token)
	for _, topic := range topics {
		delete(s.topics[topic], token)
	}
}

type event struct{ Name, Data string }

// encode returns the event as bytes on the wire.
func (e event) encode() []byte {
	var b bytes.Buffer
	if e.Name != "" {
		fmt.Fprintf(&b, "event: %s\n", e.Name)
	}
	for line := range strings.SplitSeq(e.Data, "\n") {
		fmt.Fprintf(&b, "data: %s\n", line)
	}
	b.WriteByte('\n')
	return b.Bytes()
}

// operation is a send, if it has a token, or a publish.
type operation struct {
	Token, Topic string
	Event        event
}

type failure struct {
	Error struct {
		Message string `json:"message"`
		Code    string `json:"code"`
	} `json:"error"`
}

func failed(message, code string) (f failure) {
	f.Error.Message, f.Error.Code = message, code
	return f
}

// perform performs an operation, and returns the status and body of the answer. It waits
// while a stream's channel is full, unless the client disconnects.
func (s *server) perform(o operation) (status int, answer any) {
	s.mu.RLock()
	var to []*stream
	if o.Token == "" {
		to = slices.Collect(maps.Values(s.topics[o.Topic]))
	} else if st := s.streams[o.Token]; st != nil {
		to = append(to, st)
	}
	s.mu.RUnlock()
	if o.Token != "" && len(to) == 0 {
		return http.StatusNotFound, failed("Token not found", "TOKEN_NOT_FOUND")
	}
	frame := o.Event.encode()
	for _, st := range to {
		select {
		case st.events <- frame:
		case <-st.left:
		}
	}
	return http.StatusOK, map[string]string{"status": "ok"}
}

func (s *server) operation(w http.ResponseWriter, r *http.Request) {
	var o operation
	if decode(w, r, &o) {
		status, result := s.perform(o)
		answer(w, status, result)
	}
}

func (s *server) batch(w http.ResponseWriter, r *http.Request) {
	var all struct{ Operations []operation }
	if !decode(w, r, &all) {
		return
	}
	results := make([]any, len(all.Operations))
	for i, o := range all.Operations {
		_, results[i] = s.perform(o)
	}
	answer(w, http.StatusOK, map[string]any{"results": results})
}

// events sends the events of a body, one on each line, as they arrive.
func (s *server) events(w http.ResponseWriter, r *http.Request) {
	for lines := json.NewDecoder(r.Body); ; {
		o := operation{Token: r.PathValue("token")}
		switch err := lines.Decode(&o.Event); {
		case errors.Is(err, io.EOF):
			answer(w, http.StatusOK, map[string]string{"status": "ok"})
			return
		case err != nil:
			answer(w, http.StatusBadRequest, failed(err.Error(), "INVALID_JSON"))
			return
		}
		if status, result := s.perform(o); status != http.StatusOK {
			answer(w, status, result)
			return
		}
	}
}

func decode(w http.ResponseWriter, r *http.Request, into any) bool {
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, bodyLimit)).Decode(into); err != nil {
		answer(w, http.StatusBadRequest, failed(err.Error(), "INVALID_JSON"))
		return false
	}
	return true
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // it fails only if the caller has gone
}
