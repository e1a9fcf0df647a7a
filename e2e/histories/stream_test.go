package histories

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"ssegateway/e2e/harness"
)

// stream is a stream that a client asked for, and what the backend makes of it.
type stream struct {
	*harness.Exchange

	number  int
	token   string
	topics  map[string]bool
	subject string
	head    *harness.Head
	got     string // all bytes
	blocks  []string
	open    bool
	end     string

	release chan struct{} // lets the callback be answered; closed
	answer  harness.Answer

	mu       sync.Mutex
	failures int // how many disconnects still fail
	refused  int // how many did
	told     chan struct{}
	once     sync.Once
}

func (s *stream) key() string { return fmt.Sprintf("c%d", s.number) }

// script answers the callbacks.
func (s *stream) script() harness.Script {
	return harness.Script{
		Connect: func(*harness.Callback) harness.Answer {
			<-s.release
			return s.answer
		},
		Disconnect: func(*harness.Callback) harness.Answer {
			if s.fails() {
				return harness.Answer{Status: http.StatusServiceUnavailable}
			}
			s.once.Do(func() { close(s.told) })
			return harness.Answer{}
		},
	}
}

// fails reports whether a disconnect is to fail, and counts it.
func (s *stream) fails() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failures == 0 {
		return false
	}
	s.failures--
	s.refused++
	return true
}

// awaitTold waits until the backend has taken the stream's end.
func (s *stream) awaitTold() error {
	select {
	case <-s.told:
		return nil
	case <-time.After(harness.Patience):
		return fmt.Errorf("%s: the end was not told: %w", s.key(), harness.ErrTimeout)
	}
}

// take adds what was received, and returns how many blocks there are. Heartbeats are none.
func (s *stream) take(text string) {
	s.got += text
	s.blocks = s.blocks[:0]
	blocks := strings.Split(s.got, "\n\n")
	for i, block := range blocks {
		switch {
		case block == ": heartbeat":
		case i < len(blocks)-1:
			s.blocks = append(s.blocks, block)
		case block != "":
			s.blocks = append(s.blocks, block+" (unfinished)")
		}
	}
}

// until waits until enough was received.
func (s *stream) until(done func() bool, what string) error {
	for end := time.Now().Add(harness.Patience); !done(); {
		first, err := s.Next(1, time.Until(end))
		if err != nil {
			return fmt.Errorf("%s waits for %s: %w; it has %.2000q", s.key(), what, err, s.blocks)
		}
		more, _ := s.Next(1<<30, 0)
		s.take(first + more)
	}
	return nil
}

// awaitBlocks waits for n blocks in all.
func (s *stream) awaitBlocks(n int) error {
	return s.until(func() bool { return len(s.blocks) >= n && !strings.HasSuffix(s.blocks[n-1], "(unfinished)") }, fmt.Sprintf("block %d", n))
}

// awaitEnd waits for the end of the response, and of the connection.
func (s *stream) awaitEnd() error {
	rest, end, err := s.Rest(harness.Patience)
	s.take(rest)
	s.open, s.end = false, end.String()
	if end == harness.NotEnded {
		return fmt.Errorf("%s: %w; it has %.2000q", s.key(), err, s.blocks)
	}
	return s.awaitTold()
}

// lastID is what a browser would come back with.
func (s *stream) lastID() string {
	for _, block := range slices.Backward(s.blocks) {
		for _, line := range slices.Backward(strings.Split(block, "\n")) {
			if id, ok := strings.CutPrefix(line, "id: "); ok {
				return id
			}
		}
	}
	return ""
}

func (s *stream) topicList() []string { return slices.Sorted(maps.Keys(s.topics)) }

// ended is an end as a callback tells it, alone or in a batch.
type ended struct {
	WebhookID string `json:"webhook_id"`
	Token     string
	Reason    string
	Detail    string
	Request   json.RawMessage
}

// endsIn returns the ends that a callback tells.
func endsIn(c *harness.Callback) ([]ended, error) {
	switch c.Action {
	case "disconnect":
		var e ended
		if err := json.Unmarshal(c.Body, &e); err != nil {
			return nil, err
		}
		if e.WebhookID != "" {
			return nil, errors.New("a disconnect alone has a webhook_id")
		}
		e.WebhookID = c.Header.Get("webhook-id")
		return []ended{e}, nil
	case "disconnects":
		var batch struct{ Events []ended }
		err := json.Unmarshal(c.Body, &batch)
		return batch.Events, err
	}
	return nil, nil
}
