package api

import (
	"strings"
	"testing"

	"ssegateway/internal/connections"
)

func decode(t testing.TB, body string) (connections.Send, *Error) {
	t.Helper()
	q := &request{body: []byte(body)}
	return q.decodeSend()
}

func TestDecodeSend(t *testing.T) {
	const token = `"token":"t"`
	for name, c := range map[string]struct {
		body string
		want *Error
	}{
		"only a token":                 {`{` + token + `}`, nil},
		"white space around":           {" {" + token + "}\r\n", nil},
		"escaped names":                {`{"tok\u0065n":"t","event":{"d\u0061ta":""}}`, nil},
		"everything":                   {`{` + token + `,"event":{"name":"n","data":"d","id":"","retry":0},"close":true,"wait":"written"}`, nil},
		"unknown fields":               {`{` + token + `,"x":{"y":[1,null]},"event":{"data":"","x":[]}}`, nil},
		"empty body":                   {``, errJSON},
		"null":                         {`null`, errJSON},
		"array":                        {`[]`, errJSON},
		"two objects":                  {`{` + token + `}{}`, errJSON},
		"trailing data":                {`{` + token + `}x`, errJSON},
		"unfinished":                   {`{` + token, errJSON},
		"byte order mark":              {"\ufeff{" + token + "}", errJSON},
		"duplicate name":               {`{` + token + `,` + token + `}`, errJSON},
		"duplicate name, escaped":      {`{` + token + `,"tok\u0065n":"t"}`, errJSON},
		"duplicate name in event":      {`{` + token + `,"event":{"data":"","data":""}}`, errJSON},
		"duplicate name, ignored":      {`{` + token + `,"x":{"a":1,"a":1}}`, errJSON},
		"invalid UTF-8":                {"{\"token\":\"\xff\"}", errJSON},
		"invalid UTF-8 in a name":      {"{" + token + ",\"\xff\":1}", errJSON},
		"lone surrogate":               {`{"token":"\ud800"}`, errSurrogate},
		"two high surrogates":          {`{"token":"\ud800\ud800"}`, errSurrogate},
		"a low surrogate first":        {`{"token":"\uDC00\ud800"}`, errSurrogate},
		"half a pair, ignored":         {`{` + token + `,"x":["\ud800x"]}`, errSurrogate},
		"half a pair in a name":        {`{` + token + `,"\ud800":1}`, errSurrogate},
		"a whole pair":                 {`{` + token + `,"x":"\ud83d\ude00"}`, nil},
		"no escape":                    {`{"token":"\x"}`, errJSON},
		"too deep":                     {`{` + token + `,"x":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `}`, errJSON},
		"no token":                     {`{}`, errTokenMissing},
		"empty token":                  {`{"token":""}`, errTokenMissing},
		"token is no string":           {`{"token":1}`, errTokenMissing},
		"token in another case":        {`{"TOKEN":"t"}`, errTokenMissing},
		"event is null":                {`{` + token + `,"event":null}`, errEventType},
		"event is an array":            {`{` + token + `,"event":[]}`, errEventType},
		"no data":                      {`{` + token + `,"event":{}}`, errEventData},
		"data is null":                 {`{` + token + `,"event":{"data":null}}`, errEventData},
		"name is null":                 {`{` + token + `,"event":{"data":"","name":null}}`, errEventNameType},
		"name with a line end":         {`{` + token + `,"event":{"data":"","name":"a\nb"}}`, errEventName},
		"name with an escape sequence": {`{` + token + `,"event":{"data":"","name":"\u001b"}}`, errEventName},
		"id is a number":               {`{` + token + `,"event":{"data":"","id":1}}`, errEventID},
		"id with NUL":                  {`{` + token + `,"event":{"data":"","id":"\u0000"}}`, errEventID},
		"id with a form feed":          {`{` + token + `,"event":{"data":"","id":"a\fb"}}`, errEventID},
		"id with a tab":                {`{` + token + `,"event":{"data":"","id":"a\tb"}}`, errEventID},
		"id with U+0001":               {`{` + token + `,"event":{"data":"","id":"\u0001"}}`, errEventID},
		"id with U+007F":               {`{` + token + `,"event":{"data":"","id":"a\u007f"}}`, errEventID},
		"id with U+0085":               {`{` + token + `,"event":{"data":"","id":"a\u0085"}}`, errEventID},
		"id begins with a blank":       {`{` + token + `,"event":{"data":"","id":" a"}}`, errEventID},
		"id ends with a blank":         {`{` + token + `,"event":{"data":"","id":"a "}}`, errEventID},
		"id of a blank":                {`{` + token + `,"event":{"data":"","id":" "}}`, errEventID},
		"id with blanks inside":        {`{` + token + `,"event":{"data":"","id":"a  b"}}`, nil},
		"retry of 2^53":                {`{` + token + `,"event":{"data":"","retry":9007199254740992}}`, errEventRetry},
		"id too long":                  {`{` + token + `,"event":{"data":"","id":"` + strings.Repeat("i", 129) + `"}}`, errEventID},
		"retry is a fraction":          {`{` + token + `,"event":{"data":"","retry":1.5}}`, errEventRetry},
		"retry is negative":            {`{` + token + `,"event":{"data":"","retry":-1}}`, errEventRetry},
		"retry is a string":            {`{` + token + `,"event":{"data":"","retry":"1"}}`, errEventRetry},
		"close is null":                {`{` + token + `,"close":null}`, errCloseType},
		"close is a string":            {`{` + token + `,"close":"true"}`, errCloseType},
		"wait is something else":       {`{` + token + `,"wait":"read"}`, errWait},
		"token before event":           {`{"event":1}`, errTokenMissing},
		"data before name":             {`{` + token + `,"event":{"name":1}}`, errEventData},
		"event before close":           {`{"close":1,` + token + `,"event":1}`, errEventType},
		"JSON before all":              {`{"token":1}x`, errJSON},
	} {
		t.Run(name, func(t *testing.T) {
			if _, problem := decode(t, c.body); problem != c.want {
				t.Errorf("%s: %+v, want %+v", c.body, problem, c.want)
			}
		})
	}
}

// What is decoded is what was meant, also where the request is used again.
func TestDecodeSendValues(t *testing.T) {
	q := &request{}
	for range 3 {
		q.body = append(q.body[:0], `{"token":"0b8a2f7e-\u0034c1d-4c1d-8c1d-0b8a2f7e0b8a","event":{"name":"näme","data":"a\nb\u00e9","id":"7","retry":1500},"close":true,"wait":"written"}`...)
		s, problem := q.decodeSend()
		if problem != nil {
			t.Fatal(problem)
		}
		e := s.Event
		if s.Token.String() != "0b8a2f7e-4c1d-4c1d-8c1d-0b8a2f7e0b8a" || e.Name.String() != "näme" || e.Data != "a\nbé" || e.ID.String() != "7" || !s.Close || !s.Wait ||
			string(e.AppendTo(nil)) != "event: näme\nid: 7\nretry: 1500\ndata: a\ndata: bé\n\n" {
			t.Errorf("%+v", s)
		}
	}
}

// An empty id is as none: it would erase the one that a client has.
func TestDecodeEmptyID(t *testing.T) {
	s, problem := decode(t, `{"token":"t","event":{"data":"x","id":""}}`)
	if problem != nil || s.Event.ID.IsSet() {
		t.Errorf("%+v, %+v", s.Event, problem)
	}
	q := &request{body: []byte(`{"topic":"t","event":{"data":"x","id":""}}`)}
	if p, problem := q.decodePublish(10_000); problem != nil || p.Event.ID.IsSet() {
		t.Errorf("%+v, %+v", p.Event, problem)
	}
}

const typicalSend = `{"token":"0190a0a0-0000-4000-8000-000000000000","event":{"name":"message","data":"{\"text\":\"hello there\"}"}}`

func BenchmarkDecodeSend(b *testing.B) {
	q := &request{}
	b.ReportAllocs()
	for b.Loop() {
		q.body = append(q.body[:0], typicalSend...)
		if _, problem := q.decodeSend(); problem != nil {
			b.Fatal(problem)
		}
	}
}

// What a send is read into shares the body's bytes; only what has escapes is copied.
func TestDecodeSendAllocations(t *testing.T) {
	q := &request{}
	n := testing.AllocsPerRun(1000, func() {
		q.body = append(q.body[:0], typicalSend...)
		if _, problem := q.decodeSend(); problem != nil {
			t.Error(problem)
		}
	})
	if n > 3 { // the data, which has escapes, among them
		t.Errorf("%v allocations", n)
	}
}

const typicalPublish = `{"topics":["room.7","user.42"],"event":{"name":"message","data":"{\"text\":\"hello there\"}"}}`

func BenchmarkDecodePublish(b *testing.B) {
	q := &request{}
	b.ReportAllocs()
	for b.Loop() {
		q.body = append(q.body[:0], typicalPublish...)
		if _, problem := q.decodePublish(100); problem != nil {
			b.Fatal(problem)
		}
	}
}

// The topics are kept beyond the request, so they are copied; the rest is as for a send.
func TestDecodePublishAllocations(t *testing.T) {
	q := &request{}
	n := testing.AllocsPerRun(1000, func() {
		q.body = append(q.body[:0], typicalPublish...)
		if _, problem := q.decodePublish(100); problem != nil {
			t.Error(problem)
		}
	})
	if n > 9 {
		t.Errorf("%v allocations", n)
	}
}
