package sse

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// vectors is testdata/vectors.json: the format in examples, for other languages too.
type vectors struct {
	// Encode: the event gives exactly the wire, and the wire the event again with
	// line ends normalised.
	Encode []struct {
		Name  string
		Event vectorEvent
		Wire  string
	}
	// Decode: the wire gives exactly the events.
	Decode []decodeVector
}

type decodeVector struct {
	Name        string
	Wire        string
	WireBase64  []byte `json:"wire_base64"` // instead, where it is not UTF-8
	Events      []vectorEvent
	LastEventID *string `json:"last_event_id"`
	Retry       *uint64
}

// vectorEvent has no id where the stream had none so far.
type vectorEvent struct {
	Name  string
	ID    *string
	Retry *uint64
	Data  string
}

func (v decodeVector) wire() []byte {
	if v.WireBase64 != nil {
		return v.WireBase64
	}
	return []byte(v.Wire)
}

func (v decodeVector) result() result {
	r := result{LastID: idOf(v.LastEventID), Retry: retryOf(v.Retry)}
	for _, e := range v.Events {
		r.Events = append(r.Events, e.event())
	}
	return r
}

func (v vectorEvent) event() Event {
	return Event{Name{v.Name}, idOf(v.ID), retryOf(v.Retry), v.Data}
}

func idOf(s *string) ID {
	if s == nil {
		return ID{}
	}
	return ID{*s, true}
}

func retryOf(ms *uint64) Retry {
	if ms == nil {
		return Retry{}
	}
	return RetryMillis(*ms)
}

func readVectors(t *testing.T) (v vectors) {
	t.Helper()
	raw, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(strings.NewReader(string(raw)))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	if len(v.Encode) == 0 || len(v.Decode) == 0 {
		t.Fatal("vectors.json lacks a section")
	}
	return v
}

func TestEncodeVectors(t *testing.T) {
	for _, v := range readVectors(t).Encode {
		t.Run(v.Name, func(t *testing.T) {
			e := v.Event.event()
			if diff := cmp.Diff(v.Wire, string(e.AppendTo(nil))); diff != "" {
				t.Errorf("wire (-want +got):\n%s", diff)
			}
			if e.Len() != len(v.Wire) {
				t.Errorf("Len = %d, want %d", e.Len(), len(v.Wire))
			}
			e.Data = normalise(e.Data)
			want := result{Events: []Event{e}, LastID: e.ID, Retry: e.Retry}
			if diff := cmp.Diff(want, decodeAll(t, []byte(v.Wire)), exported); diff != "" {
				t.Errorf("decoded again (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDecodeVectors(t *testing.T) {
	for _, v := range readVectors(t).Decode {
		t.Run(v.Name, func(t *testing.T) {
			if diff := cmp.Diff(v.result(), decodeAll(t, v.wire()), exported); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(v.result(), reference(v.wire()), exported); diff != "" {
				t.Errorf("the tests' own reference (-want +got):\n%s", diff)
			}
		})
	}
}
