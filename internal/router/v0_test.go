package router

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ssegateway/internal/connections"
)

// golden returns the messages of version 0, as that version wrote them, by name.
func golden(t testing.TB) map[string][2]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "v0", "*.ask"))
	if err != nil || len(files) < 38 {
		t.Fatal(len(files), err)
	}
	all := map[string][2]string{}
	for _, file := range files {
		name := strings.TrimSuffix(file, ".ask")
		var pair [2]string
		for i, suffix := range []string{".ask", ".answer"} {
			text, err := os.ReadFile(name + suffix)
			if err != nil {
				t.Fatal(err)
			}
			pair[i] = string(text)
		}
		all[filepath.Base(name)] = pair
	}
	return all
}

// Every message of version 0 is understood, and what is written to nodes of that version
// is what they would have written.
func TestVersion0(t *testing.T) {
	// Backends may write the same in other ways, and the query of a list, too.
	free := map[string]bool{"describe_head": true, "list": true, "list_more": true, "list_page": true, "send_ok": true}
	for name, pair := range golden(t) {
		ask, answer := pair[0], pair[1]
		q, ok := decodeV0([]byte(ask))
		if name == "unknown_op" {
			if ok {
				t.Errorf("%s is understood", name)
			}
			if got := string(encodeAnswerV0(q, failed(errUnknown), 0)); got != answer {
				t.Errorf("%s: answered %q, want %q", name, got, answer)
			}
			continue
		}
		if !ok {
			t.Errorf("%s is not understood", name)
			continue
		}
		again := encodeV0(q)
		if !free[name] && string(again) != ask {
			t.Errorf("%s: asked\n%q, want\n%q", name, again, ask)
		}
		same, ok := decodeV0(again)
		if diff := cmp.Diff(q, same); !ok || diff != "" {
			t.Errorf("%s: %v %s", name, ok, diff)
		}
		a, err := decodeAnswerV0(q, []byte(answer))
		if err != nil {
			t.Errorf("%s: the answer %q: %v", name, answer, err)
		} else if got := string(encodeAnswerV0(q, a, 10_000)); got != answer {
			t.Errorf("%s: answered\n%q, want\n%q", name, got, answer)
		}
	}
}

// A node of version 0 goes on behind events that an overflow policy dropped: of a write it
// learns what it would of one that was written, of a send what its caller is to learn.
func TestVersion0Dropped(t *testing.T) {
	all := golden(t)
	write, _ := decodeV0([]byte(all["stream_write"][0]))
	if got, want := string(encodeAnswerV0(write, failed(connections.ErrDropped), 0)), all["stream_write"][1]; got != want {
		t.Errorf("a write that was dropped: answered %q, want %q", got, want)
	}
	send, _ := decodeV0([]byte(all["send_dropped"][0]))
	sent := nodeAnswer{Sent: []sent{encodeSent(connections.Dropped, nil)}}
	if got, want := string(encodeAnswerV0(send, sent, 0)), all["send_dropped"][1]; got != want {
		t.Errorf("a send that was dropped: answered %q, want %q", got, want)
	}
}

// What some of the messages of version 0 say.
func TestVersion0Meaning(t *testing.T) {
	one, five, all := "1", uint64(5), golden(t)
	for name, want := range map[string]nodeRequest{
		"send_ok": {Send: []sendRequest{{
			Token: "cb83fa1a-2606-4b2c-9ea6-be355bb77257",
			Event: &event{Name: "n", ID: &one, Retry: &five, Data: "éA\nb"},
		}}},
		"list_page": {List: &listRequest{Filter: filter{"b", "ada"}, After: "cb83fa1a-0506-448f-b1df-a1889d815b0a", Limit: 7}},
		"list":      {List: &listRequest{Limit: 100}},
		"patch": {Change: &changeRequest{
			Token: "cb83fa1a-2606-4b2c-9ea6-be355bb77257", Add: []string{"x", "é"}, Remove: []string{"a"},
		}},
	} {
		got, _ := decodeV0([]byte(all[name][0]))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}
