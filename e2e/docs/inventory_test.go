package docs

import (
	"fmt"
	"strings"
	"testing"
)

// entry says what runs or checks some blocks of a page.
type entry struct {
	page   string
	begins string // what the block begins with; empty: every block of the page that no other entry has
	how    check
}

// check runs or checks a block. The rest are the blocks that follow it on its page.
type check func(t *testing.T, b block, rest []block)

// Every block of every page has one entry, and every entry a block.
func TestBlocks(t *testing.T) {
	entries := inventory()
	used := make([]int, len(entries))
	for _, page := range pages(t) {
		blocks := blocksOf(page, read(t, page))
		for i, b := range blocks {
			t.Run(fmt.Sprintf("%s:%d", strings.TrimPrefix(page, "docs/"), b.line), func(t *testing.T) {
				n := find(entries, b)
				if n < 0 {
					t.Fatalf("%s:%d: nobody runs this block: give it an entry in entries_test.go\n%s", page, b.line, b.text)
				}
				used[n]++
				if b.language == "sh" || b.language == "" {
					commandsExist(t, b)
				}
				entries[n].how(t, b, blocks[i+1:])
			})
		}
	}
	for i, e := range entries {
		if used[i] == 0 {
			t.Errorf("%s has no block that begins with %q", e.page, e.begins)
		}
		if used[i] > 1 && e.begins != "" {
			t.Errorf("%s has %d blocks that begin with %q: say more of it", e.page, used[i], e.begins)
		}
	}
}

// find returns the entry of a block: the one that says most of its beginning.
func find(entries []entry, b block) int {
	best := -1
	for i, e := range entries {
		if e.page == strings.TrimPrefix(b.page, "docs/") && strings.HasPrefix(b.text, e.begins) && (best < 0 || len(e.begins) > len(entries[best].begins)) {
			best = i
		}
	}
	return best
}

// by is for a block that a test elsewhere runs, compares or writes. The evidence stands in that test.
func by(file, evidence string) check {
	return func(t *testing.T, b block, _ []block) {
		t.Helper()
		if !strings.Contains(read(t, file), evidence) {
			t.Errorf("%s:%d: %s, which should run this block, does not have %q", b.page, b.line, file, evidence)
		}
	}
}

// notRun is for a block that cannot be run, for a reason. Its commands, flags and settings are looked at all the same.
func notRun(string) check { return func(*testing.T, block, []block) {} }

// drawn is for a block that shows no command and no bytes.
func drawn(*testing.T, block, []block) {}

// commandsOnly is for a block of which it is enough that its commands, flags, settings and files exist: what it does is tested elsewhere, by other values.
func commandsOnly(t *testing.T, b block, _ []block) {
	t.Helper()
	if n := commandsExist(t, b); n == 0 {
		t.Errorf("%s:%d: no command of this project, no setting and no file is in it: the check is blind\n%s", b.page, b.line, b.text)
	}
}
