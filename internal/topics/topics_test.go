package topics

import (
	"strings"
	"testing"
)

func TestValidName(t *testing.T) {
	for s, want := range map[string]bool{
		"": false, "a": true, "room.7": true, "ä ö": true, "a\nb": false, "a\x00": false, "a\x7f": false, "a\u0085": false, "\xff": false,
		strings.Repeat("x", 256): true, strings.Repeat("x", 257): false, strings.Repeat("ä", 128): true, strings.Repeat("ä", 129): false,
	} {
		if got := ValidName(s); got != want {
			t.Errorf("%q: %v", s, got)
		}
	}
}
