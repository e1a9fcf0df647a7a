package nats

import (
	"fmt"

	"github.com/go-json-experiment/json"

	"ssegateway/internal/broker"
	"ssegateway/sse"
)

// message is a publication in the form that the stream stores. The stream decides its position.
type message struct {
	Origin string   `json:"origin"` // the engine that appended it
	Number uint64   `json:"number"` // among the appends of that engine
	Ref    uint64   `json:"ref,omitzero"`
	Topics []string `json:"topics"`
	Store  bool     `json:"store,omitzero"`
	Retain bool     `json:"retain,omitzero"`
	Remove bool     `json:"remove,omitzero"`
	Key    string   `json:"key,omitzero"`
	Name   string   `json:"name,omitzero"`
	Retry  *uint64  `json:"retry,omitzero"`
	Data   string   `json:"data"`
}

func encode(p broker.Publication, by author) ([]byte, error) {
	m := message{
		Origin: by.origin, Number: by.number, Ref: p.Ref, Topics: p.Topics, Store: p.Store, Retain: p.Retain, Remove: p.Remove, Key: p.Key,
		Name: p.Event.Name.String(), Data: p.Event.Data,
	}
	if p.Event.Retry.IsSet() {
		ms := p.Event.Retry.Millis()
		m.Retry = &ms
	}
	return json.Marshal(m)
}

func decode(data []byte) (p broker.Publication, by author, err error) {
	var m message
	if err := json.Unmarshal(data, &m); err != nil {
		return p, by, fmt.Errorf("not an event: %w", err)
	}
	name, err := sse.NewName(m.Name)
	if err != nil {
		return p, by, fmt.Errorf("not an event: %w", err)
	}
	p = broker.Publication{
		Topics: m.Topics, Store: m.Store, Retain: m.Retain, Remove: m.Remove, Key: m.Key, Ref: m.Ref,
		Event: sse.Event{Name: name, Data: m.Data},
	}
	if m.Retry != nil {
		p.Event.Retry = sse.RetryMillis(*m.Retry)
	}
	return p, author{m.Origin, m.Number}, nil
}
