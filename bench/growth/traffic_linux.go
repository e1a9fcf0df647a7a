package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
)

// traffic is the clients of a cluster, and those that publish.
type traffic struct {
	cluster  *cluster
	scenario scenario
	client   *http.Client
	topics   [][]*topic // of each node
	all      []*topic

	ctx       context.Context // ended by the first error, which is its cause
	fail      context.CancelCauseFunc
	readers   sync.WaitGroup
	published atomic.Int64
}

// open opens a stream for each topic.
func open(ctx context.Context, c *cluster, s scenario, o *options) (*traffic, error) {
	t := &traffic{
		cluster: c, scenario: s, topics: make([][]*topic, s.nodes),
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: o.publishers}},
	}
	t.ctx, t.fail = context.WithCancelCause(ctx)
	for node := range s.nodes {
		for i := range o.topics {
			topic := &topic{name: fmt.Sprintf("n%d-%d", node+1, i), node: node}
			if err := t.openStream(topic); err != nil {
				t.close()
				return nil, fmt.Errorf("stream of node %d: %w", node+1, err)
			}
			t.topics[node] = append(t.topics[node], topic)
			t.all = append(t.all, topic)
		}
	}
	return t, nil
}

func (t *traffic) openStream(topic *topic) error {
	req, err := http.NewRequestWithContext(t.ctx, http.MethodGet, t.cluster.base(topic.node)+"/"+topic.name, http.NoBody)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "text/event-stream")
	resp, err := t.client.Do(req)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	t.readers.Go(func() {
		defer resp.Body.Close()
		t.fail(read(resp.Body, topic)) // nothing new if this ends because of another error
	})
	return nil
}

// read reads the events of a topic until the stream ends.
func read(stream io.Reader, topic *topic) error {
	lines := bufio.NewScanner(stream)
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "data":
			if err := topic.take(value); err != nil {
				return err
			}
		case "event":
			return fmt.Errorf("topic %s: event %s", topic.name, value) // gap, say
		}
	}
	return errors.Join(fmt.Errorf("topic %s: the stream has ended", topic.name), lines.Err())
}

// publish publishes the next event of a topic on a node.
func (t *traffic) publish(ctx context.Context, node int, topic *topic) error {
	type event struct {
		Data string `json:"data"`
	}
	body, err := json.Marshal(struct {
		Topic string `json:"topic"`
		Event event  `json:"event"`
	}{topic.name, event{topic.next()}})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.cluster.base(node)+"/internal/publish", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := t.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("publish on node %d: status %d: %.200s", node+1, resp.StatusCode, answer)
	}
	t.published.Add(1)
	return nil
}

// start has the publishers publish until stop is called, which waits for their last answers.
func (t *traffic) start(publishers int) (stop func()) {
	var stopped atomic.Bool
	var running sync.WaitGroup
	own := t.assign(publishers)
	for publisher, topics := range own {
		node := t.scenario.publishesAt(publisher)
		running.Go(func() {
			for i := 0; !stopped.Load(); i++ {
				if err := t.publish(t.ctx, node, topics[i%len(topics)]); err != nil {
					t.fail(err)
					return
				}
			}
		})
	}
	return func() {
		stopped.Store(true)
		running.Wait()
	}
}

// assign returns the topics of each publisher: its share of those of the node on which it publishes.
func (t *traffic) assign(publishers int) [][]*topic {
	byNode := make([][]int, t.scenario.nodes)
	for p := range publishers {
		node := t.scenario.publishesAt(p)
		byNode[node] = append(byNode[node], p)
	}
	own := make([][]*topic, publishers)
	for node, ps := range byNode {
		for i, topic := range t.topics[node] {
			if len(ps) > 0 {
				p := ps[i%len(ps)]
				own[p] = append(own[p], topic)
			}
		}
	}
	return own
}

// arrived waits until every event is at its client. Nothing is published meanwhile.
func (t *traffic) arrived() error {
	err := await(t.ctx, func() error {
		if lack := missing(t.all); lack != "" {
			return errors.New(lack)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("not everything arrived: %w", err)
	}
	return context.Cause(t.ctx) // an event that came twice, say
}

// close ends the streams, and waits for their readers.
func (t *traffic) close() {
	t.fail(nil)
	t.readers.Wait()
	t.client.CloseIdleConnections()
}
