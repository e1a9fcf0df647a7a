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
	q, _ := requests.Get().(*request)
	buffer := q.body
	q.body = body
	defer func() {
		q.body = buffer
		q.release()
	}()
	d, ok := q.start()
	if !ok {
		return g, errors.New("not a JSON object")
	}
	wrong := ""
	err = members(d, func(name string) error {
		var v jsontext.Value
		if err := q.take(&v); err != nil {
			return err
		}
		if problem := setGrantField(&g, name, v, maxTopics); problem != "" && wrong == "" {
			wrong = problem
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

// setGrantField decodes a field. It returns what is wrong with it, "" if nothing is. Unknown ones are ignored.
func setGrantField(g *gateway.Grant, name string, v jsontext.Value, maxTopics int) (wrong string) {
	var ok bool
	switch name {
	case "topics":
		var problem *Error
		if g.Topics, problem = decodeTopics(v, maxTopics, errTopics); problem != nil && problem != errTopics {
			return "topics: " + problem.Message
		}
		ok = problem == nil
	case "subject":
		g.Subject, ok = unquote(v)
	case "position":
		g.Position, ok = unquote(v)
	case "rewind":
		n, err := strconv.ParseUint(string(v), 10, 16)
		g.Rewind, ok = int(n), err == nil && 1 <= n && n <= maxRewind
	case "events":
		g.Events, ok = decodeEvents(v)
	case "retry_ms":
		ms, err := strconv.ParseUint(string(v), 10, 53)
		g.Retry, ok = sse.RetryMillis(ms), err == nil
	case "max_age_seconds":
		seconds, err := strconv.ParseUint(string(v), 10, 32)
		g.MaxAge, ok = time.Duration(seconds)*time.Second, err == nil && seconds > 0
	case "overflow":
		s, _ := unquote(v)
		g.Overflow, ok = outbox.ParseOverflow(s)
	default:
		ok = true
	}
	if !ok {
		return name + " is not as documented"
	}
	return ""
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
