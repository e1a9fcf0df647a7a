package router

import (
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// Whatever comes as a request: what is understood of it can be written, and says the same then.
func FuzzRequest(f *testing.F) {
	for _, pair := range golden(f) {
		f.Add([]byte(pair[0]))
		if q, ok := decodeV0([]byte(pair[0])); ok {
			f.Add(q.encode(1))
		}
	}
	f.Add([]byte("PATCH /internal/connections/0\n{\"topics\":{\"add\":[]}}"))
	f.Fuzz(func(t *testing.T, message []byte) {
		if q, ok := decodeV0(message); ok {
			again, ok := decodeV0(q.encode(0))
			if diff := cmp.Diff(q, again, cmpopts.EquateEmpty()); !ok || diff != "" {
				t.Errorf("version 0: %v %s", ok, diff)
			}
		}
		var q, again nodeRequest
		if json.Unmarshal(message, &q) == nil {
			if err := json.Unmarshal(q.encode(1), &again); err != nil {
				t.Error(err)
			}
			for _, s := range q.Send {
				_, _ = s.decode()
			}
			if q.Write != nil {
				_, _ = decodeBlocks(q.Write.Blocks)
			}
		}
	})
}

// Whatever comes as an answer to any request is understood, or an error.
func FuzzAnswer(f *testing.F) {
	var requests []nodeRequest
	for _, pair := range golden(f) {
		q, ok := decodeV0([]byte(pair[0]))
		if !ok {
			continue
		}
		requests = append(requests, q)
		f.Add([]byte(pair[1]))
		if a, err := decodeAnswerV0(q, []byte(pair[1])); err == nil {
			f.Add(encodeJSON(a))
		}
	}
	f.Fuzz(func(_ *testing.T, message []byte) {
		for _, q := range requests {
			for version := range Version + 1 {
				a, err := q.decodeAnswer(version, message)
				if err != nil {
					continue
				}
				_, _ = a.sent(0)
				_, _ = a.Page.decode()
				if a.Statistics != nil {
					a.Statistics.decode()
				}
				_ = a.failure()
			}
		}
	})
}
