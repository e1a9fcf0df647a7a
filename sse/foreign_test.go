package sse

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// foreignDiffers names the vectors that eventsource-parser decodes otherwise
// than the HTML standard. (Its BOM and UTF-8 are the TextDecoder's of node.)
var foreignDiffers = map[string]string{
	"final CR dispatches":       "a CR at the very end waits for a possible LF",
	"block of only an id":       "an id without data is forgotten at the empty line",
	"the Latin-1 look of a BOM": "the three characters are stripped like a BOM",
	"retry far over 64 bits":    "numbers are not bounded",
}

// foreignCase is a stream and what this package makes of it.
type foreignCase struct {
	name string
	wire []byte
	want foreignResult
}

type foreignResult struct {
	Events []foreignEvent
	Retry  *float64 // as JavaScript has it
}

type foreignEvent struct {
	Name, Data string
	ID         *string
}

func newForeignCase(name string, wire []byte, r result) foreignCase {
	c := foreignCase{name: name, wire: wire}
	for _, e := range r.Events {
		f := foreignEvent{Name: e.Name.s, Data: e.Data}
		if e.ID.set {
			f.ID = &e.ID.s
		}
		c.want.Events = append(c.want.Events, f)
	}
	if r.Retry.set {
		ms := float64(r.Retry.ms)
		c.want.Retry = &ms
	}
	return c
}

// TestForeignDecoder has npm's eventsource-parser decode the vectors, random
// events and random streams.
func TestForeignDecoder(t *testing.T) {
	var cases []foreignCase
	vectors := readVectors(t)
	for _, v := range vectors.Encode {
		e := v.Event.event()
		e.Data = normalise(e.Data)
		cases = append(cases, newForeignCase("encode: "+v.Name, []byte(v.Wire), result{Events: []Event{e}, Retry: e.Retry}))
	}
	for _, v := range vectors.Decode {
		cases = append(cases, newForeignCase(v.Name, v.wire(), v.result()))
	}

	rng := rand.New(rand.NewPCG(1, 2))
	text := func(from []string) string {
		var s strings.Builder
		for range rng.IntN(10) {
			s.WriteString(from[rng.IntN(len(from))])
		}
		return s.String()
	}
	for range 3000 {
		var e Event
		e.Name, _ = NewName(text(fragments)) // a refused one is the zero Name
		e.ID, _ = NewID(text(fragments))
		if rng.IntN(2) == 0 {
			e.Retry = RetryMillis(rng.Uint64())
		}
		e.Data = text(fragments)
		wire := e.AppendTo(nil)
		e.Data = normalise(e.Data)
		cases = append(cases, newForeignCase("random event", wire, result{Events: []Event{e}, Retry: e.Retry}))
	}
	lines := append([]string{
		"id: 7\ndata: x\n", "event: n\n", "event\n", "event:\r\n", "data\r", "retry: 12\n", "retry: 1x\n", "foo: \xe2\n",
	}, "\n", "\r", "\r\n", ":", " ", "a", "\x00", "\u2028", "\uFEFF", "é", "\xff", "\xf0\x9f\x98", "data:", "data: ")
	for range 3000 {
		wire := []byte(text(lines) + "\n\n") // no CR at the end
		cases = append(cases, newForeignCase("random stream", wire, drain(NewDecoder(bytes.NewReader(wire)))))
	}

	got := runForeign(t, cases)
	for i, c := range cases {
		diff := cmp.Diff(c.want, got[i])
		reason, differs := foreignDiffers[c.name]
		switch {
		case differs && diff == "":
			t.Errorf("%s: no longer differs: %s", c.name, reason)
		case !differs && diff != "":
			t.Errorf("%s: %q (-want +got):\n%s", c.name, c.wire, diff)
		}
	}
}

func runForeign(t *testing.T, cases []foreignCase) []foreignResult {
	t.Helper()
	const dir = "testdata/eventsource-parser"
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%s not found: this test needs Node.js 18 or later with npm; install it and run again", tool)
		}
	}
	// npm writes this file last.
	if _, err := os.Stat(filepath.Join(dir, "node_modules", ".package-lock.json")); err != nil {
		install := exec.CommandContext(t.Context(), "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
		install.Dir = dir
		if out, err := install.CombinedOutput(); err != nil {
			t.Fatalf("npm ci in %s: %v\n%s", dir, err, out)
		}
	}

	var in, stderr bytes.Buffer
	enc := json.NewEncoder(&in)
	for _, c := range cases {
		if err := enc.Encode(map[string][]byte{"wire": c.wire}); err != nil {
			t.Fatal(err)
		}
	}
	node := exec.CommandContext(t.Context(), "node", "parse.mjs")
	node.Dir, node.Stdin, node.Stderr = dir, &in, &stderr
	out, err := node.Output()
	if err != nil {
		t.Fatalf("node parse.mjs: %v\n%s", err, &stderr)
	}

	results := make([]foreignResult, len(cases))
	dec := json.NewDecoder(bytes.NewReader(out))
	for i := range results {
		r := &results[i]
		if err := dec.Decode(r); err != nil {
			t.Fatalf("answer %d of %d: %v", i+1, len(cases), err)
		}
		var id *string // the parser leaves it to its caller to let ids persist
		for j := range r.Events {
			if r.Events[j].ID != nil {
				id = r.Events[j].ID
			}
			r.Events[j].ID = id
		}
		if len(r.Events) == 0 {
			r.Events = nil
		}
	}
	return results
}
