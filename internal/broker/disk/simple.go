package disk

import (
	"bufio"
	"context"
	"encoding/json"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"ssegateway/internal/broker"
	"ssegateway/sse"
)

// store is a first implementation: lines of JSON in one file, which only grows.
type store struct {
	o     Options
	log   *broker.Log
	mu    sync.Mutex
	file  *os.File
	last  uint64
	live  map[broker.Token][]byte
	found []broker.Token
}

type line struct {
	Epoch  string        `json:"epoch,omitempty"`
	Offset uint64        `json:"offset,omitempty"`
	At     time.Time     `json:"at,omitzero"`
	Topics []string      `json:"topics,omitempty"`
	Name   string        `json:"name,omitempty"`
	Retry  *uint64       `json:"retry,omitempty"`
	Data   string        `json:"data,omitempty"`
	Token  *broker.Token `json:"token,omitempty"`
	Record []byte        `json:"record,omitempty"`
}

func open(dir string, o Options) (*store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "journal"), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	s := &store{o: o, file: f, live: map[broker.Token][]byte{}}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<30)
	for lines.Scan() {
		var l line
		if json.Unmarshal(lines.Bytes(), &l) != nil {
			break
		}
		switch {
		case l.Epoch != "":
			s.log = broker.NewLog(l.Epoch, o.MaxBytes, o.MaxAge)
		case l.Token != nil && l.Record == nil:
			delete(s.live, *l.Token)
		case l.Token != nil:
			s.live[*l.Token] = l.Record
		default:
			name, _ := sse.NewName(l.Name)
			p := broker.Publication{Topics: l.Topics, Store: true, Event: sse.Event{Name: name, Data: l.Data}}
			if l.Retry != nil {
				p.Event.Retry = sse.RetryMillis(*l.Retry)
			}
			s.last = l.Offset
			_, _ = s.log.AppendAt(p, l.Offset, l.At)
		}
	}
	for t := range s.live {
		s.found = append(s.found, t)
	}
	slices.SortFunc(s.found, func(a, b broker.Token) int { return slices.Compare(a[:], b[:]) })
	if s.log == nil {
		s.log = broker.NewLog(broker.NewEpoch(), o.MaxBytes, o.MaxAge)
		return s, s.write(line{Epoch: s.log.Epoch()})
	}
	return s, nil
}

func (s *store) write(l line) error {
	b, err := json.Marshal(l)
	if err == nil {
		_, err = s.file.Write(append(b, '\n'))
	}
	return err
}

func (s *store) append(_ context.Context, p broker.Publication) (broker.Position, error) {
	if !p.Store {
		return s.log.Append(p)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l := line{Offset: s.last + 1, At: time.Now(), Topics: p.Topics, Name: p.Event.Name.String(), Data: p.Event.Data}
	if p.Event.Retry.IsSet() {
		ms := p.Event.Retry.Millis()
		l.Retry = &ms
	}
	if err := s.write(l); err != nil {
		return broker.Position{}, broker.ErrUnavailable
	}
	s.last++
	return s.log.AppendAt(p, s.last, l.At)
}

func (s *store) run(ctx context.Context) error {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	defer s.log.Close()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			s.log.Trim()
		}
	}
}

func (s *store) put(token broker.Token, record []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live[token] = slices.Clone(record)
	return s.write(line{Token: &token, Record: record})
}

func (s *store) delete(token broker.Token) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, there := s.live[token]; !there {
		return nil
	}
	delete(s.live, token)
	return s.write(line{Token: &token})
}

func (s *store) survivors() iter.Seq2[broker.Token, []byte] {
	return func(yield func(broker.Token, []byte) bool) {
		for _, t := range s.found {
			s.mu.Lock()
			record, there := s.live[t]
			s.mu.Unlock()
			if there && !yield(t, record) {
				return
			}
		}
	}
}

func (s *store) away() time.Duration { return 0 }

func (s *store) close() error { return s.file.Close() }
