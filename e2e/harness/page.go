package harness

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// KeepPage checks that a page of the documentation has want between two marks, each of which it has once. With update it
// writes that.
func KeepPage(t testing.TB, file, begin, end, want string, update bool) {
	t.Helper()
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(page), begin)
	have, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s does not have both %q and %q", file, begin, end)
	}
	switch {
	case have == want:
	case !update:
		t.Errorf("%s is not what it was made from: run this test with -update (-want +page):\n%s", file, cmp.Diff(want, have))
	default:
		if err := os.WriteFile(file, []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
