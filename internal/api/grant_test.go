package api

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"ssegateway/internal/gateway"
	"ssegateway/internal/outbox"
	"ssegateway/internal/topics"
	"ssegateway/sse"
)

func name(t testing.TB, s string) sse.Name {
	t.Helper()
	n, err := sse.NewName(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// grants are connect answers: what is read out of them, or which field is wrong.
var grants = map[string]struct {
	body          string
	want          gateway.Grant
	wrong         string
	undescribable bool // a schema cannot tell
}{
	"nothing":                    {body: ""},
	"white space":                {body: " \r\n"},
	"empty":                      {body: "{}"},
	"unknown fields":             {body: `{"ok":true,"TOPICS":1,"x":{"topics":1}}`},
	"topics":                     {body: `{"topics":["b","a","b"]}`, want: gateway.Grant{Topics: []string{"b", "a", "b"}}},
	"no topics":                  {body: `{"topics":[]}`},
	"topic of 256 bytes":         {body: `{"topics":["` + strings.Repeat("x", 256) + `"]}`, want: gateway.Grant{Topics: []string{strings.Repeat("x", 256)}}},
	"topic of 257 bytes":         {body: `{"topics":["` + strings.Repeat("x", 257) + `"]}`, wrong: "topics"},
	"topic of 258 bytes in 129":  {body: `{"topics":["` + strings.Repeat("é", 129) + `"]}`, wrong: "topics", undescribable: true},
	"empty topic":                {body: `{"topics":[""]}`, wrong: "topics"},
	"topic with a control":       {body: `{"topics":["a\u0085"]}`, wrong: "topics"},
	"topics is a string":         {body: `{"topics":"a"}`, wrong: "topics"},
	"topics is null":             {body: `{"topics":null}`, wrong: "topics"},
	"topics of numbers":          {body: `{"topics":[1]}`, wrong: "topics"},
	"too many topics":            {body: `{"topics":["a","b","c","d"]}`, wrong: "topics: there may be at most 3 topics (MAX_TOPICS)", undescribable: true},
	"subject":                    {body: `{"subject":"user-\u0034\u0032"}`, want: gateway.Grant{Subject: "user-42"}},
	"subject is a number":        {body: `{"subject":42}`, wrong: "subject"},
	"events is an object":        {body: `{"events":{}}`, wrong: "events"},
	"event without data":         {body: `{"events":[{"name":"x"}]}`, wrong: "events"},
	"event with a forged name":   {body: `{"events":[{"name":"x\ndata: y","data":""}]}`, wrong: "events"},
	"event with a tab in its id": {body: `{"events":[{"data":"","id":"a\tb"}]}`, wrong: "events"},
	"event with an outer blank":  {body: `{"events":[{"data":"","id":"a "}]}`, wrong: "events"},
	"retry":                      {body: `{"retry_ms":3000}`, want: gateway.Grant{Retry: sse.RetryMillis(3000)}},
	"retry 0":                    {body: `{"retry_ms":0}`, want: gateway.Grant{Retry: sse.RetryMillis(0)}},
	"retry is a string":          {body: `{"retry_ms":"3000"}`, wrong: "retry_ms"},
	"retry is a fraction":        {body: `{"retry_ms":0.5}`, wrong: "retry_ms"},
	"retry is negative":          {body: `{"retry_ms":-1}`, wrong: "retry_ms"},
	"retry too large":            {body: `{"retry_ms":9007199254740992}`, wrong: "retry_ms"},
	"max age":                    {body: `{"max_age_seconds":3600}`, want: gateway.Grant{MaxAge: time.Hour}},
	"max age 0":                  {body: `{"max_age_seconds":0}`, wrong: "max_age_seconds"},
	"max age too large":          {body: `{"max_age_seconds":4294967296}`, wrong: "max_age_seconds"},
	"rewind":                     {body: `{"rewind":1000}`, want: gateway.Grant{Beginning: topics.Beginning{Rewind: 1000}}},
	"rewind 0":                   {body: `{"rewind":0}`, wrong: "rewind"},
	"rewind too far":             {body: `{"rewind":1001}`, wrong: "rewind"},
	"rewind is a string":         {body: `{"rewind":"1"}`, wrong: "rewind"},
	"disconnect":                 {body: `{"overflow":"disconnect"}`},
	"drop oldest":                {body: `{"overflow":"drop_oldest"}`, want: gateway.Grant{Overflow: outbox.DropOldest}},
	"latest":                     {body: `{"overflow":"latest"}`, want: gateway.Grant{Overflow: outbox.Latest}},
	"no such overflow":           {body: `{"overflow":"drop_newest"}`, wrong: "overflow"},
	"overflow is empty":          {body: `{"overflow":""}`, wrong: "overflow"},
	"two wrong, the first":       {body: `{"subject":1,"overflow":1}`, wrong: "subject"},
	"one wrong, none counts":     {body: `{"topics":["a"],"overflow":1}`, wrong: "overflow"},
	"an array":                   {body: `[]`, wrong: "object"},
	"no JSON":                    {body: `<html>`, wrong: "object", undescribable: true},
	"text":                       {body: `ok`, wrong: "object", undescribable: true},
	"unfinished":                 {body: `{"topics":["a"]`, wrong: "object", undescribable: true},
	"trailing data":              {body: `{"topics":["a"]} x`, wrong: "object", undescribable: true},
	"duplicate field":            {body: `{"topics":["a"],"topics":["b"]}`, wrong: "object", undescribable: true},
	"invalid UTF-8":              {body: "{\"subject\":\"\xff\"}", wrong: "object", undescribable: true},
	"invalid UTF-8, unknown one": {body: "{\"x\":\"\xff\"}", wrong: "object", undescribable: true},
}

func TestDecodeGrant(t *testing.T) {
	for title, c := range grants {
		g, err := DecodeGrant([]byte(c.body), 3)
		if c.wrong == "" {
			if err != nil || !reflect.DeepEqual(g, c.want) {
				t.Errorf("%s: %+v %v, want %+v", title, g, err, c.want)
			}
		} else if err == nil || !strings.Contains(err.Error(), c.wrong) || !reflect.DeepEqual(g, gateway.Grant{}) {
			t.Errorf("%s: %+v %v, want an error that says %q", title, g, err, c.wrong)
		}
	}
	g, err := DecodeGrant([]byte(`{"events":[{"name":"hi","data":"a\nb","retry":5},{"data":""}]}`), 3)
	want := []sse.Event{{Name: name(t, "hi"), Data: "a\nb", Retry: sse.RetryMillis(5)}, {}}
	if err != nil || !reflect.DeepEqual(g.Events, want) {
		t.Errorf("events %+v %v, want %+v", g.Events, err, want)
	}
}
