package api

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"ssegateway/internal/gateway"
	"ssegateway/internal/outbox"
	"ssegateway/sse"
)

func clone(s string) string { return strings.Clone(s) }

// maxRewind bounds how many events of each topic come with a rewind.
const maxRewind = 1000

// DecodeGrant decodes the body with which a backend accepted a connection. All fields are
// optional, unknown ones are ignored, and an empty body is an empty grant. The error names the
// invalid field, also if that has more topics than allowed. The grant is empty then.
func DecodeGrant(body []byte, maxTopics int) (g gateway.Grant, err error) {
	if len(bytes.TrimSpace(body)) == 0 {
		return g, nil
	}
	q := &request{body: body}
	d, ok := q.start()
	if !ok {
		return g, errors.New("not a JSON object")
	}
	wrong := ""
	fields := map[string]func(jsontext.Value) bool{
		"topics": func(v jsontext.Value) bool {
			var problem *Error
			if g.Topics, problem = decodeTopics(v, maxTopics, errTopics); problem != nil && problem != errTopics && wrong == "" {
				wrong = "topics: " + problem.Message
			}
			return problem == nil
		},
		"subject": func(v jsontext.Value) (ok bool) {
			g.Subject, ok = unquote(v)
			return ok
		},
		"position": func(v jsontext.Value) (ok bool) {
			g.Position, ok = unquote(v)
			return ok
		},
		"rewind": func(v jsontext.Value) bool {
			n, err := strconv.ParseUint(string(v), 10, 16)
			g.Rewind = int(n)
			return err == nil && 1 <= n && n <= maxRewind
		},
		"events": func(v jsontext.Value) (ok bool) {
			g.Events, ok = decodeEvents(v)
			return ok
		},
		"retry_ms": func(v jsontext.Value) bool {
			ms, err := strconv.ParseUint(string(v), 10, 53)
			g.Retry = sse.RetryMillis(ms)
			return err == nil
		},
		"max_age_seconds": func(v jsontext.Value) bool {
			seconds, err := strconv.ParseUint(string(v), 10, 32)
			g.MaxAge = time.Duration(seconds) * time.Second
			return err == nil && seconds > 0
		},
		"overflow": func(v jsontext.Value) (ok bool) {
			s, _ := unquote(v)
			g.Overflow, ok = outbox.ParseOverflow(s)
			return ok
		},
	}
	err = members(d, func(name string) error {
		field := fields[name]
		if field == nil {
			return d.SkipValue()
		}
		var v jsontext.Value
		if err := q.take(&v); err != nil {
			return err
		}
		if !field(v) && wrong == "" {
			wrong = name + " is not as documented"
		}
		return nil
	})
	switch {
	case hasHalfPair(err):
		return gateway.Grant{}, errors.New(errSurrogate.Message)
	case err != nil || !q.end():
		return gateway.Grant{}, errors.New("not one JSON object in valid UTF-8")
	case wrong != "":
		return gateway.Grant{}, errors.New(wrong)
	}
	return g, nil
}

func decodeEvents(value jsontext.Value) (events []sse.Event, ok bool) {
	if value.Kind() != '[' {
		return nil, false
	}
	q := new(request)
	err := elements(q.decoderOf(value), func() error {
		var raw rawEvent
		if err := q.takeEvent(&raw); err != nil {
			return err
		}
		e, problem := raw.decode()
		if problem != nil {
			return errNotAnObject
		}
		events = append(events, e)
		return nil
	})
	return events, err == nil
}
