package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"ssegateway/internal/connections"
	"ssegateway/internal/gateway"
	"ssegateway/internal/outbox"
	"ssegateway/internal/topics"
	"ssegateway/sse"
)

// The fuzz targets of this file hold the decoders against encoding/json, which knows nothing of
// them: what is accepted has the values that it has there, and nothing else.

// object is a JSON object as encoding/json reads it, with names in exactly this case.
type object map[string]json.RawMessage

// asObject fails unless a text that was accepted is an object there too, in valid UTF-8.
func asObject(t *testing.T, text []byte) (o object) {
	t.Helper()
	if err := json.Unmarshal(text, &o); err != nil || o == nil || !utf8.Valid(text) {
		t.Fatalf("%q is accepted: %v", text, err)
	}
	return o
}

// read reads a member of an object; false if it is absent, or not of that type.
func read[T any](o object, name string) (v T, ok bool) {
	raw, there := o[name]
	return v, there && !bytes.Equal(raw, []byte("null")) && json.Unmarshal(raw, &v) == nil
}

// hasText checks that a member is this string, or, if the string is empty, absent or empty.
func (o object) hasText(t *testing.T, name, got string) {
	t.Helper()
	if want, _ := read[string](o, name); want != got {
		t.Errorf("%s is %q here, and %q there", name, got, want)
	}
	if _, there := o[name]; there {
		if _, ok := read[string](o, name); !ok {
			t.Errorf("%s is %s, which is accepted", name, o[name])
		}
	}
}

// hasFlag checks that a member is this boolean, or absent where that means the same.
func (o object) hasFlag(t *testing.T, name string, got, absent bool) {
	t.Helper()
	raw, there := o[name]
	if want, ok := read[bool](o, name); there && (!ok || want != got) || !there && got != absent {
		t.Errorf("%s is %s, and read as %v", name, raw, got)
	}
}

// hasEvent checks that an event is what the member says, and that its bytes on the wire are that
// event again: nothing is forged in them.
func (o object) hasEvent(t *testing.T, got sse.Event) {
	t.Helper()
	e, ok := read[object](o, "event")
	if !ok {
		t.Fatalf("the event %s is accepted", o["event"])
	}
	if _, ok := read[string](e, "data"); !ok {
		t.Errorf("the data %s is accepted", e["data"])
	}
	e.hasText(t, "data", got.Data)
	e.hasText(t, "name", got.Name.String())
	e.hasText(t, "id", got.ID.String())
	if raw, there := e["retry"]; there != got.Retry.IsSet() || there && !got.Retry.IsSet() {
		t.Errorf("retry %s is read as %v", raw, got.Retry)
	} else if ms, ok := read[uint64](e, "retry"); there && (!ok || ms != got.Retry.Millis() || ms>>retryBits > 0) {
		t.Errorf("retry %s is read as %d", raw, got.Retry.Millis())
	}
	unforged(t, got)
}

// unforged checks that the bytes of an event are one event, the same.
func unforged(t *testing.T, e sse.Event) {
	t.Helper()
	d := sse.NewDecoder(bytes.NewReader(e.AppendTo(nil)))
	want := e
	want.Data = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(e.Data)
	if got, err := d.Next(); err != nil || got != want {
		t.Errorf("%+v is on the wire %+v, %v", want, got, err)
	}
	if more, err := d.Next(); !errors.Is(err, io.EOF) || d.Unfinished() {
		t.Errorf("%+v is more than one event: %+v, %v", e, more, err)
	}
}

// hasTopics checks that a member is this array of topics.
func (o object) hasTopics(t *testing.T, name string, got []string, most int) {
	t.Helper()
	if want, ok := read[[]string](o, name); !ok || !slices.Equal(got, want) || len(got) > most {
		t.Errorf("%s is %q here, and %s there", name, got, o[name])
	}
	for _, topic := range got {
		if !topics.ValidName(topic) || topic == "" || len(topic) > 256 || strings.ContainsAny(topic, "\x00\n\r\x7f") {
			t.Errorf("the topic %q is accepted", topic)
		}
	}
}

// checkSend checks a send that was accepted.
func checkSend(t *testing.T, o object, s connections.Send) {
	t.Helper()
	text, ok := read[string](o, "token")
	if token, _ := gateway.ParseToken(text); !ok || text == "" || s.Token != token {
		t.Errorf("the token %s is read as %v", o["token"], s.Token)
	}
	o.hasFlag(t, "close", s.Close, false)
	if wait, _ := read[string](o, "wait"); s.Wait != (wait == "written") || o["wait"] != nil && !s.Wait {
		t.Errorf("wait %s is read as %v", o["wait"], s.Wait)
	}
	o.hasText(t, "idempotency_key", s.IdempotencyKey)
	if _, there := o["event"]; there != s.HasEvent {
		t.Errorf("an event: %v here, %v there", s.HasEvent, there)
	}
	if s.HasEvent {
		o.hasEvent(t, s.Event)
	}
}

const mostTopics = 5

// checkPublish checks a publish that was accepted.
func checkPublish(t *testing.T, o object, p connections.Publication) {
	t.Helper()
	if _, one := o["topic"]; one {
		if topic, ok := read[string](o, "topic"); !ok || !slices.Equal(p.Topics, []string{topic}) || o["topics"] != nil {
			t.Errorf("topic %s is read as %q", o["topic"], p.Topics)
		}
	} else {
		o.hasTopics(t, "topics", p.Topics, mostTopics)
	}
	o.hasEvent(t, p.Event)
	o.hasFlag(t, "store", p.Store, true)
	o.hasFlag(t, "retain", p.Retain, false)
	o.hasText(t, "key", p.Key)
	o.hasText(t, "idempotency_key", p.IdempotencyKey)
	if count, _ := read[string](o, "count"); p.All != (count == "all") {
		t.Errorf("count %s is read as %v", o["count"], p.All)
	}
	if p.Event.ID.IsSet() || p.Retain && !p.Store || p.Key != "" && !p.Retain || len(p.Topics) == 0 {
		t.Errorf("%+v is accepted", p)
	}
}

// mistyped adds bodies in each of which one member has a value of another type, or a strange one.
func mistyped(f *testing.F, body string, names ...string) {
	for _, name := range names {
		for _, value := range []string{"0", "1", "1.5", "-1", "null", "true", "false", `""`, `"x"`, `"\u0000"`, "[]", `["x"]`, "{}", "9007199254740992", "18446744073709551616"} {
			f.Add(strings.Replace(body, "{", `{"`+name+`":`+value+",", 1))
			f.Add(strings.Replace(body, `"data"`, `"`+name+`":`+value+`,"data"`, 1))
		}
	}
}

// FuzzDecodeSend: what is accepted has the values that encoding/json reads, and encodes as one event.
func FuzzDecodeSend(f *testing.F) {
	f.Add(`{"token":"t","event":{"name":"n","data":"a\r\nb","id":"1","retry":5},"close":true}`)
	f.Add(`{"token":"t","event":{"data":"\r\ndata: forged"}}`)
	f.Add(`{"token":"0190a0a0-0000-4000-8000-000000000000","wait":"written","idempotency_key":"k-1"}`)
	f.Add(`{"tok\u0065n":"t","event":{"d\u0061ta":"\ud83d\ude00","Data":1,"retry":9007199254740991}}`)
	f.Add(`{"token":"\ud83d\ude00","x":[[[{}]]]}`)
	mistyped(f, `{"token":"t","event":{"data":"d"}}`, "close", "wait", "idempotency_key", "name", "id", "retry")
	f.Fuzz(func(t *testing.T, body string) {
		s, problem := decode(t, body)
		if problem == nil {
			checkSend(t, asObject(t, []byte(body)), s)
		}
	})
}

// FuzzDecodePublish: the same of a publish.
func FuzzDecodePublish(f *testing.F) {
	f.Add(`{"topic":"a","event":{"name":"n","data":"a\r\nb","retry":5},"store":false,"count":"all"}`)
	f.Add(`{"topics":["a","b\ud83d\ude00"],"event":{"data":"\u000ddata: forged"},"retain":true,"key":"k","idempotency_key":"i"}`)
	f.Add(`{"topics":["a"],"topic":"b","event":{"data":"","id":"1"},"x":{"topic":"c"}}`)
	mistyped(f, `{"topic":"t","event":{"data":"d"}}`, "topics", "store", "retain", "key", "count", "idempotency_key", "id")
	mistyped(f, `{"event":{"data":"d"}}`, "topic", "topics")
	f.Fuzz(func(t *testing.T, body string) {
		q := &request{body: []byte(body)}
		p, problem := q.decodePublish(mostTopics)
		if problem == nil {
			checkPublish(t, asObject(t, []byte(body)), p)
		}
	})
}

// FuzzDecodeBatch: each operation is what it would be if it had come alone.
func FuzzDecodeBatch(f *testing.F) {
	f.Add(`{"operations":[{"token":"t","event":{"data":"x"}},{"topic":"a","event":{"data":"y"}},1,null,{}]}`)
	f.Add(`{"x":[{"operations":[]}],"op\u0065rations":[{"tok\u0065n":"t"}]}`)
	f.Fuzz(func(t *testing.T, body string) {
		q := &request{body: []byte(body)}
		operations, problem := q.decodeBatch()
		if problem != nil {
			return
		}
		o := asObject(t, []byte(body))
		want, ok := read[[]json.RawMessage](o, "operations")
		if !ok || len(want) != len(operations) {
			t.Fatalf("%d operations of %s", len(operations), o["operations"])
		}
		a := &API{maxTopics: mostTopics}
		valid, problems := a.decodeOperations(operations)
		for i := range operations {
			if problems[i] != nil {
				continue
			}
			o, next := asObject(t, want[i]), valid[0]
			valid = valid[1:]
			if _, isSend := o["token"]; isSend != (next.Publish == nil) {
				t.Errorf("%s is a send: %v", want[i], next.Publish == nil)
			} else if isSend {
				checkSend(t, o, next.Send)
			} else {
				checkPublish(t, o, *next.Publish)
			}
		}
		if len(valid) > 0 {
			t.Errorf("%d operations too many", len(valid))
		}
	})
}

// FuzzDecodeGrant: the answer to a connect counts as a whole, with the values that encoding/json
// reads, or not at all.
func FuzzDecodeGrant(f *testing.F) {
	f.Add(`{"topics":["room.7"],"subject":"u","retry_ms":3000,"max_age_seconds":3600,"overflow":"drop_oldest","events":[{"name":"hello","data":"a\rb"}]}`)
	f.Add(`{"position":"K7WQ2M4XHD-17","rewind":1000,"overflow":"latest"}`)
	f.Add(`{"position":"now","topics":null}`)
	f.Add(" \r\n")
	mistyped(f, `{"x":{"data":"d"}}`, "topics", "subject", "position", "rewind", "events", "retry_ms", "max_age_seconds", "overflow")
	f.Fuzz(func(t *testing.T, body string) {
		g, err := DecodeGrant([]byte(body), mostTopics)
		if err != nil {
			if g.Topics != nil || g.Subject != "" || g.Position != "" || g.Events != nil || g.Rewind != 0 || g.MaxAge != 0 || g.Retry.IsSet() || g.Overflow != outbox.Disconnect {
				t.Errorf("%v, but %+v", err, g)
			}
			return
		}
		o := object{}
		if strings.TrimSpace(body) != "" {
			o = asObject(t, []byte(body))
		}
		if _, there := o["topics"]; there {
			o.hasTopics(t, "topics", g.Topics, mostTopics)
		} else if g.Topics != nil {
			t.Errorf("topics %q", g.Topics)
		}
		o.hasText(t, "subject", g.Subject)
		o.hasText(t, "position", g.Position)
		number := func(name string, got uint64, least, most uint64) {
			want, ok := read[uint64](o, name)
			if _, there := o[name]; there && (!ok || got < least || got > most) || got != want {
				t.Errorf("%s is %s, and read as %d", name, o[name], got)
			}
		}
		number("rewind", uint64(g.Rewind), 1, maxRewind)
		number("retry_ms", g.Retry.Millis(), 0, 1<<53-1)
		number("max_age_seconds", uint64(g.MaxAge/time.Second), 1, 1<<32-1)
		want, _ := read[string](o, "overflow")
		if policy, ok := outbox.ParseOverflow(want); o["overflow"] != nil && !ok || policy != g.Overflow {
			t.Errorf("overflow %s is read as %v", o["overflow"], g.Overflow)
		}
		events, _ := read[[]json.RawMessage](o, "events")
		if len(events) != len(g.Events) {
			t.Fatalf("%d events of %s", len(g.Events), o["events"])
		}
		for i, e := range g.Events {
			object{"event": events[i]}.hasEvent(t, e)
		}
	})
}

// pieces gives data in pieces of 0 to 7 bytes.
type pieces struct {
	data []byte
	rng  *rand.Rand
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.data) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.data[:min(p.rng.IntN(8), len(p.data))])
	p.data = p.data[n:]
	return n, nil
}

// blocksOf reads the body of a streaming request to its end.
func blocksOf(body []byte, lines bool, limit int64, seed uint64) (blocks []connections.Block, line int, problem *Error) {
	s := &streaming{limit: limit}
	in := &pieces{body, rand.New(rand.NewPCG(seed, 0))}
	if lines {
		s.fromLines(in, limit)
	} else {
		s.fromEventStream(in, limit)
	}
	for {
		b, err := s.next()
		if err != nil {
			return blocks, s.line(), s.problem(err)
		}
		blocks = append(blocks, b)
	}
}

// FuzzStreaming: a streamed body says the same in whatever pieces it comes, and each block of it is
// one block on the wire. What ends with an error has only what came before that.
func FuzzStreaming(f *testing.F) {
	f.Add([]byte("event: n\nid: 1\ndata: a\r\n\r\nid: 2\n\nretry: 5\n\n: c\n\ndata: b\n"), false, uint64(1))
	f.Add([]byte("id: \x00\ndata: a\n\nevent: \x1b\ndata: b\n\n"), false, uint64(2))
	f.Add([]byte("{\"data\":\"a\\r\\nb\",\"name\":\"n\"}\r\n\n {\"data\":\"\",\"id\":\"1\",\"retry\":0} \n{\"data\":1}"), true, uint64(3))
	var many []byte // none is as another, so that bytes that are used again show
	for i := range 100 {
		many = append(many, `{"data":"`+strings.Repeat(strconv.Itoa(i), 1+i%40)+"\"}\n"...)
	}
	f.Add(many, true, uint64(4))
	f.Fuzz(func(t *testing.T, body []byte, lines bool, seed uint64) {
		const limit = 256
		blocks, line, problem := blocksOf(body, lines, limit, seed)
		again, line2, problem2 := blocksOf(body, lines, limit, seed+1)
		if !slices.Equal(blocks, again) || line != line2 || (problem == nil) != (problem2 == nil) || problem != nil && *problem != *problem2 {
			t.Fatalf("in other pieces: %+v, line %d, %+v, and %+v, line %d, %+v", blocks, line, problem, again, line2, problem2)
		}
		for _, b := range blocks {
			if !b.Bare {
				unforged(t, b.Event)
			}
			if strings.ContainsFunc(b.ID.String(), func(c rune) bool { return c < ' ' || c == 0x7f }) || b.Retry.Millis()>>retryBits > 0 {
				t.Errorf("%+v is accepted", b)
			}
			if b.Bare && (b.Data != "" || !b.ID.IsSet() && !b.Retry.IsSet()) {
				t.Errorf("%+v is a block of nothing", b)
			}
		}
		if !lines {
			checkBrowser(t, body, blocks, problem)
			return
		}
		for i, text := range slices.DeleteFunc(bytes.Split(body, []byte("\n")), func(l []byte) bool { return len(bytes.TrimSpace(l)) == 0 }) {
			if i < len(blocks) {
				object{"event": asRaw(t, text)}.hasEvent(t, blocks[i].Event)
			}
		}
	})
}

func asRaw(t *testing.T, text []byte) json.RawMessage {
	t.Helper()
	asObject(t, text)
	return text
}

// checkBrowser checks that the events of a streamed body are those that a browser would read.
func checkBrowser(t *testing.T, body []byte, blocks []connections.Block, problem *Error) {
	t.Helper()
	d := sse.NewDecoder(bytes.NewReader(body))
	for _, b := range blocks {
		if b.Bare {
			continue
		}
		if e, err := d.Next(); err != nil || e.Data != b.Data || e.Name != b.Name || e.Retry != b.Retry || b.ID.IsSet() && b.ID != e.ID {
			t.Errorf("%+v, and a browser reads %+v, %v", b, e, err)
		}
	}
	if e, err := d.Next(); problem == nil && !errors.Is(err, io.EOF) {
		t.Errorf("a browser reads %+v too, %v", e, err)
	}
}
