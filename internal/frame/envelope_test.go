package frame_test

import (
	"encoding/json"
	"testing"
	"unicode/utf8"

	"ssegateway/internal/frame"
	"ssegateway/sse"
)

func named(t testing.TB, name, data string) sse.Event {
	t.Helper()
	n, err := sse.NewName(name)
	if err != nil {
		t.Skip(err)
	}
	id, _ := sse.NewID("7")
	return sse.Event{Name: n, ID: id, Retry: sse.RetryMillis(5), Data: data}
}

func TestEnvelope(t *testing.T) {
	for _, test := range []struct{ name, data, want string }{
		{"order", `{"number":7}`, "id: 7\nretry: 5\ndata: {\"type\":\"order\",\"payload\":{\"number\":7}}\n\n"},
		{"order", `shipped`, "id: 7\nretry: 5\ndata: {\"type\":\"order\",\"payload\":\"shipped\"}\n\n"},
		{"order", ``, "id: 7\nretry: 5\ndata: {\"type\":\"order\",\"payload\":\"\"}\n\n"},
		{"order", "a\nb\"\\", "id: 7\nretry: 5\ndata: {\"type\":\"order\",\"payload\":\"a\\nb\\\"\\\\\"}\n\n"},
		{"order", "{\n \"a\": 1,\n \"a\": 2}", "id: 7\nretry: 5\ndata: {\"type\":\"order\",\"payload\":{\ndata:  \"a\": 1,\ndata:  \"a\": 2}}\n\n"},
		{"order", `7`, "id: 7\nretry: 5\ndata: {\"type\":\"order\",\"payload\":7}\n\n"},
		{"order", `{"a":1} {}`, "id: 7\nretry: 5\ndata: {\"type\":\"order\",\"payload\":\"{\\\"a\\\":1} {}\"}\n\n"},
		{`a"b`, `null`, "id: 7\nretry: 5\ndata: {\"type\":\"a\\\"b\",\"payload\":null}\n\n"},
		{"", `{"number":7}`, "id: 7\nretry: 5\ndata: {\"number\":7}\n\n"},
	} {
		if got := string(frame.Envelope(named(t, test.name, test.data)).AppendTo(nil)); got != test.want {
			t.Errorf("%q %q:\n got %q\nwant %q", test.name, test.data, got, test.want)
		}
	}
}

// FuzzEnvelope: what a page gets is always an object with the name, and the data as JSON or as a string.
func FuzzEnvelope(f *testing.F) {
	for _, data := range []string{"", "{}", "[1,2", "\"x\"", " 1 ", "a\r\nb", "\u2028", "1e999", `{"a":1,"a":2}`, "\"\\ud800\""} {
		f.Add("order", data)
	}
	f.Fuzz(func(t *testing.T, name, data string) {
		if name == "" || !utf8.ValidString(data) {
			t.Skip()
		}
		e := frame.Envelope(named(t, name, data))
		var got struct {
			Type    *string          `json:"type"`
			Payload *json.RawMessage `json:"payload"`
		}
		if err := json.Unmarshal([]byte(e.Data), &got); err != nil || e.Name.String() != "" {
			t.Fatalf("%q %q: %q: %v", name, data, e.Data, err)
		}
		if got.Type == nil || *got.Type != name {
			t.Errorf("%q: %q", name, e.Data)
		}
		if json.Valid([]byte(data)) {
			return
		}
		var text string
		if err := json.Unmarshal(*got.Payload, &text); err != nil || text != data {
			t.Errorf("%q: payload %s", data, *got.Payload)
		}
	})
}
