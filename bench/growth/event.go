package main

import (
	"fmt"
	"strings"
	"sync/atomic"
)

// dataBytes is the size of an event's data.
const dataBytes = 200

// topic is a topic with one client. Its events are numbered, from 1.
type topic struct {
	name string
	node int // of its client
	sent int64
	got  atomic.Int64
}

// next returns the data of the topic's next event. One goroutine at a time calls it.
func (t *topic) next() string {
	t.sent++
	data := fmt.Sprintf("%s %d ", t.name, t.sent)
	return data + strings.Repeat(".", max(dataBytes-len(data), 0))
}

// take checks the data of an event that came to the topic's client: it is the one behind the last.
func (t *topic) take(data string) error {
	var name string
	var number int64
	if _, err := fmt.Sscan(data, &name, &number); err != nil {
		return fmt.Errorf("topic %s: unknown event %.40q: %w", t.name, data, err)
	}
	if want := t.got.Load() + 1; name != t.name || number != want {
		return fmt.Errorf("topic %s: event %d of topic %s came instead of event %d", t.name, number, name, want)
	}
	t.got.Add(1)
	return nil
}

// missing describes what has not arrived; empty: everything has. Nothing is sent meanwhile.
func missing(topics []*topic) string {
	var short int
	var first string
	for _, t := range topics {
		if got := t.got.Load(); got != t.sent {
			if short++; short == 1 {
				first = fmt.Sprintf("topic %s of node %d got %d of %d events", t.name, t.node+1, got, t.sent)
			}
		}
	}
	if short > 1 {
		first += fmt.Sprintf(", and %d topics more lack some", short-1)
	}
	return first
}
