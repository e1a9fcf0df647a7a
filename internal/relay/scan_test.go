package relay

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

var scanCorpus = []string{
	"data: a\n\n", "data\r\r", "a\r\n\r\ndata:\r\n\r\n", "\n\n", "dat\n\ndata2: x\n\n:\n\nid: 1\ndata:b\n\nrest", "\r\n\r\n\r",
	"\xef\xbb\xbfdata: x\n\n", "\xef\xbb\xbf", "data: a\r\r\ndata: b\n\r\n", "retry: 5\n\nevent: e\ndata: 1\ndata: 2\r\n\r\n: c\n\n", "data: a\n\nid\ndata: b\n\ndata: c\n\n", "event: x\n\ndata: y\n\n",
}

// FuzzScan: however a stream is cut into pieces, the blocks are those that a look at the whole says.
func FuzzScan(f *testing.F) {
	for _, s := range scanCorpus {
		f.Add(s, uint8(1))
		f.Add(s, uint8(3))
	}
	line := regexp.MustCompile(`(?s)[^\r\n]*(\r\n|\r|\n)`)
	f.Fuzz(func(t *testing.T, s string, step uint8) {
		var want []block
		whole := strings.TrimPrefix(s, byteOrderMark)
		b, from := block{}, 0
		for _, at := range line.FindAllStringIndex(whole, -1) {
			text := whole[at[0]:at[1]]
			switch name, _, _ := strings.Cut(strings.TrimRight(text, "\r\n"), ":"); {
			case text[0] == '\r' || text[0] == '\n':
				b.end, b.id = at[1], at[0]-from
				want = append(want, b)
				b, from = block{}, at[1]
			case name == "data":
				b.data = true
			case name == "id":
				b.ownID = true
			}
		}
		var scan scanner
		var got []block
		var rest []byte
		taken := 0
		for from := 0; from < len(s); {
			to := min(len(s), from+1+int(step%7))
			rest = append(rest, s[from:to]...)
			for {
				b, ok := scan.next(rest)
				if !ok {
					break
				}
				rest = rest[b.end:]
				if b.mark {
					continue
				}
				if taken += b.end; b.id == 0 && b.end == 1 && len(got) > 0 && whole[taken-2:taken] == "\r\n" && got[len(got)-1].end == taken-1 {
					got[len(got)-1].end++ // the LF of a CR that ended a block
					continue
				}
				b.end = taken
				got = append(got, b)
			}
			from = to
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q in pieces of %d: %+v, want %+v", s, 1+step%7, got, want)
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
