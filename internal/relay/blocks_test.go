package relay

import (
	"bytes"
	"regexp"
	"testing"
)

// FuzzBlocks: however a stream is cut into pieces, what is let through is the same, and is what a look at the whole says.
func FuzzBlocks(f *testing.F) {
	for _, s := range []string{"data: a\n\n", "data\r\r", "a\r\n\r\ndata:\r\n\r\n", "\n\n", "dat\n\ndata2: x\n\n:\n\nid: 1\ndata:b\n\nrest", "\r\n\r\n\r"} {
		f.Add(s, uint8(1))
		f.Add(s, uint8(3))
	}
	line := regexp.MustCompile(`(?s)[^\r\n]*(\r\n|\r|\n)`)
	f.Fuzz(func(t *testing.T, s string, step uint8) {
		wantEnd, wantEvents, hasData := 0, 0, false
		for _, at := range line.FindAllStringIndex(s, -1) {
			text := s[at[0]:at[1]]
			switch name, _, _ := bytes.Cut(bytes.TrimRight([]byte(text), "\r\n"), []byte(":")); {
			case text[0] == '\r' || text[0] == '\n':
				wantEnd = at[1]
				if hasData {
					wantEvents++
				}
				hasData = false
			case string(name) == "data":
				hasData = true
			}
		}
		var b blocks
		end, events := 0, 0
		for from := 0; from < len(s); {
			to := min(len(s), from+1+int(step%7))
			e, n := b.scan([]byte(s[from:to]))
			if e > 0 {
				end = from + e
			}
			events += n
			from = to
		}
		if end != wantEnd || events != wantEvents {
			t.Errorf("%q in pieces of %d: %d bytes and %d events, want %d and %d", s, 1+step%7, end, events, wantEnd, wantEvents)
		}
	})
}

func TestDotSegments(t *testing.T) {
	for path, want := range map[string]bool{
		"/a/b": false, "/a/...": false, "/a/.b": false, "/a/./b": true, "/..": true, "/a/%2e%2e/b": true, "/a/%2E": true, "/a\\..\\b": true, "/a%5c..": true,
		"/a%2f..%2fb": true, "/a/..;x/b": true, "/a/%2e%3bx": true, "/a/..x;y": false, "/a;../b": false, "/a/%252e%252e": false, "/%zz": true,
	} {
		if got := hasDotSegment(path); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
}

func TestCovers(t *testing.T) {
	for _, c := range []struct {
		prefix, path string
		want         bool
	}{{"/chat", "/chat", true}, {"/chat", "/chat/", true}, {"/chat", "/chat/1", true}, {"/chat", "/chatter", false}, {"/chat", "/%63hat", false}, {"", "/x", true}, {"", "*", false}, {"", "", true}} {
		if got := Covers([]string{c.prefix}, c.path); got != c.want {
			t.Errorf("%q %q: %v", c.prefix, c.path, got)
		}
	}
}
