package start

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// block is a fenced block of a page: a file, if its first line is a comment with a name, commands, or what is shown.
type block struct {
	language, file, text string
}

var (
	fence    = regexp.MustCompile("(?ms)^```([a-z]+)\n(.*?)^```$")
	fileName = regexp.MustCompile(`^(?:#|//|<!--|<\?php //) ([\w./-]+\.\w+)`)
)

// sections returns the blocks of a page below each of its headings.
func sections(t *testing.T, file string) map[string][]block {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "start", file))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][]block{}
	for part := range strings.SplitSeq(string(text), "\n## ") {
		heading, rest, _ := strings.Cut(part, "\n")
		for _, m := range fence.FindAllStringSubmatch(rest, -1) {
			b := block{language: m[1], text: m[2]}
			if name := fileName.FindStringSubmatch(b.text); name != nil {
				b.file = name[1]
			}
			found[heading] = append(found[heading], b)
		}
	}
	return found
}

// commands returns the only block of commands among these.
func commands(t *testing.T, blocks []block) string {
	t.Helper()
	if len(blocks) != 1 || blocks[0].language != "sh" {
		t.Fatalf("%d blocks, want one of commands", len(blocks))
	}
	return blocks[0].text
}
