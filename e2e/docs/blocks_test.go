package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// block is a fenced or an indented block of a page.
type block struct {
	page     string // from the root of the repository
	line     int    // of its first line, from 1
	language string // of a fenced one
	text     string // without its indentation
}

var (
	fence    = regexp.MustCompile("^( *)```+ *([a-z]*)")
	indented = regexp.MustCompile(`^ {4,}\S`)
	item     = regexp.MustCompile(`^ *(?:[-*]|\d+\.) `)
)

// blocksOf returns the blocks of a page in their order.
func blocksOf(page, text string) (all []block) {
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		if m := fence.FindStringSubmatch(lines[i]); m != nil {
			begin := i + 1
			for i++; i < len(lines) && strings.TrimSpace(lines[i]) != "```"; i++ {
			}
			all = append(all, newBlock(page, begin, m[2], lines[begin:i], len(m[1])))
			continue
		}
		if !indented.MatchString(lines[i]) || item.MatchString(lines[i]) || i > 0 && lines[i-1] != "" {
			continue
		}
		begin := i
		for i < len(lines) && (lines[i] == "" || strings.HasPrefix(lines[i], "    ") && !(lines[i-1] == "" && item.MatchString(lines[i]))) {
			i++
		}
		end := i
		for lines[end-1] == "" {
			end--
		}
		all = append(all, newBlock(page, begin, "", lines[begin:end], len(lines[begin])-len(strings.TrimLeft(lines[begin], " "))))
		i--
	}
	return all
}

func newBlock(page string, begin int, language string, lines []string, indent int) block {
	var text strings.Builder
	for _, line := range lines {
		text.WriteString(strings.TrimPrefix(line, strings.Repeat(" ", min(indent, len(line)-len(strings.TrimLeft(line, " "))))))
		text.WriteByte('\n')
	}
	return block{page, begin + 1, language, text.String()}
}

// pages returns README.md and every page of docs/ but the decisions.
func pages(t *testing.T) (all []string) {
	t.Helper()
	all = []string{"README.md"}
	for _, pattern := range []string{"docs/*.md", "docs/[^a]*/*.md"} {
		found, err := filepath.Glob(inRepository(pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range found {
			all = append(all, strings.TrimPrefix(filepath.ToSlash(file), "../../"))
		}
	}
	return all
}

func inRepository(path string) string { return filepath.Join("..", "..", filepath.FromSlash(path)) }

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(inRepository(path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestBlocksOf(t *testing.T) {
	text := "# x\n\n    one\n\n    two\n\ntext\n    no block\n\n- item\n\n      three\n\n    - no block\n\n  ```sh\n  four\n  ```\n"
	var got []string
	for _, b := range blocksOf("x.md", text) {
		got = append(got, b.language+":"+b.text)
	}
	if want := ":one\n\ntwo\n|:three\n|sh:four\n"; strings.Join(got, "|") != want {
		t.Errorf("%q, want %q", strings.Join(got, "|"), want)
	}
}
