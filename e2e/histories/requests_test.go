package histories

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// operate performs operations one behind the other, in one request or in several, and returns
// what each was answered: the status of the operation, or the code of its error.
func (p *player) operate(path string, operations []map[string]any) (answers []map[string]any) {
	if p.configuration["form"] == "single" {
		for _, o := range operations {
			text := p.request(http.MethodPost, path, o)
			_, body, _ := strings.Cut(text, " ")
			answers = append(answers, decoded(body))
		}
		return answers
	}
	text := p.request(http.MethodPost, "/internal/batch", map[string]any{"operations": operations})
	var batch struct{ Results []map[string]any }
	if err := json.Unmarshal([]byte(strings.TrimPrefix(text, "200 ")), &batch); err != nil || len(batch.Results) != len(operations) {
		must(fmt.Errorf("batch: %s: %w", text, err))
	}
	return batch.Results
}

func decoded(text string) (answer map[string]any) {
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		must(fmt.Errorf("%s: %w", text, err))
	}
	return answer
}

// done reports whether an operation was carried out by this request.
func done(answer map[string]any) bool { return answer["status"] != nil && answer["duplicate"] == nil }

// note adds the answers, without what may differ, and each only once where equal ones follow
// each other: a request that streams has one answer for all its events.
func (p *player) note(answers []map[string]any, without ...string) {
	var last string
	for _, a := range answers {
		for _, field := range without {
			delete(a, field)
		}
		text, err := json.Marshal(a)
		must(err)
		if string(text) != last {
			p.answer("%s", text)
		}
		last = string(text)
	}
}

// send sends the step's events to a stream, and waits for them.
func (p *player) send(of *stream, s step) {
	if s.Keyed != unkeyed {
		p.sendKeyed(of, s)
		return
	}
	before := len(of.blocks)
	if form := p.configuration["form"]; form == "event stream" || form == "ndjson" {
		p.streamInto(of, s, form)
	} else {
		var operations []map[string]any
		for i, e := range s.Events {
			o := map[string]any{"token": of.token, "event": e.value()}
			if s.Written {
				o["wait"] = "written"
			}
			if s.Close && i == len(s.Events)-1 {
				o["close"] = true
			}
			operations = append(operations, o)
		}
		p.note(p.operate("/internal/send", operations))
	}
	p.sent(of, before+len(s.Events), s.Close)
}

// sent waits for what a send has caused.
func (p *player) sent(of *stream, blocks int, closed bool) {
	if !of.open {
		return
	}
	must(of.awaitBlocks(blocks))
	if closed {
		must(of.awaitEnd())
	}
}

// streamInto sends the events as the body of one request.
func (p *player) streamInto(of *stream, s step, form string) {
	var body strings.Builder
	contentType := "text/event-stream"
	for _, e := range s.Events {
		if form == "ndjson" {
			contentType = "application/x-ndjson"
			text, err := json.Marshal(e.value())
			must(err)
			body.Write(append(text, '\n'))
		} else {
			body.WriteString(e.text())
		}
	}
	path := "/internal/connections/" + of.token + "/stream"
	if s.Close {
		path += "?close=true"
	}
	status, text, err := p.call(p.node(), http.MethodPost, path, contentType, body.String())
	must(err)
	answer := decoded(text)
	if status == http.StatusOK {
		if answer["events"] != float64(len(s.Events)) {
			must(fmt.Errorf("%d events were streamed, the answer is %s", len(s.Events), text))
		}
		delete(answer, "events")
		if s.Written {
			answer["status"] = "written"
		}
	}
	p.note([]map[string]any{answer})
}

// sendKeyed sends the first of the events under a key.
func (p *player) sendKeyed(of *stream, s step) {
	operation := map[string]any{
		"token": of.token, "event": s.Events[0].value(), "close": s.Close, "idempotency_key": fmt.Sprintf("key-%d", len(p.keyed)),
	}
	do := func(o map[string]any) {
		before := len(of.blocks)
		answers := p.operate("/internal/send", []map[string]any{o})
		acted := done(answers[0])
		p.note(answers)
		if acted {
			p.sent(of, before+1, s.Close)
		}
	}
	p.repeat(s, operation, do)
}

// repeat does an operation, and again as the step says.
func (p *player) repeat(s step, operation map[string]any, do func(map[string]any)) {
	do(operation)
	p.keyed = append(p.keyed, func() { do(operation) })
	switch s.Keyed {
	case repeated:
		p.steps++ // at another node
		do(operation)
	case repeatedNot:
		other := map[string]any{}
		for name, value := range operation {
			other[name] = value
		}
		other["event"] = map[string]any{"data": "another"}
		p.steps++
		do(other)
	}
}

// publish publishes the step's events, and waits for them at each stream that has the topics.
func (p *player) publish(topics []string, s step) {
	var operations []map[string]any
	for _, e := range s.Events {
		o := map[string]any{"topics": topics, "event": e.value()}
		if s.Retain {
			o["retain"] = true
			if s.Key != "" {
				o["key"] = s.Key
			}
		}
		if s.Volatile {
			o["store"] = false
		}
		if s.CountAll || s.Volatile {
			o["count"] = "all"
		}
		operations = append(operations, o)
	}
	without := []string{}
	if !s.CountAll && !s.Volatile {
		without = append(without, "receivers")
	}
	do := func(operations []map[string]any) {
		awaited := map[*stream]int{}
		for _, of := range p.opened() {
			awaited[of] = len(of.blocks)
		}
		answers := p.operate("/internal/publish", operations)
		for _, a := range answers {
			if !done(a) {
				delete(a, "receivers")
				continue
			}
			if id, ok := a["id"].(string); ok {
				p.ids = append(p.ids, id)
			}
			for of := range awaited {
				if slices.ContainsFunc(topics, func(topic string) bool { return of.topics[topic] }) {
					awaited[of]++
				}
			}
		}
		p.note(answers, without...)
		for of, n := range awaited {
			must(of.awaitBlocks(n))
		}
		p.settle(p.node())
	}
	if s.Keyed == unkeyed {
		do(operations)
		return
	}
	operations[0]["idempotency_key"] = fmt.Sprintf("key-%d", len(p.keyed))
	p.repeat(s, operations[0], func(o map[string]any) { do([]map[string]any{o}) })
}
