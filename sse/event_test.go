package sse

import (
	"strings"
	"testing"
)

func TestNewName(t *testing.T) {
	for _, s := range []string{"", "a", " a ", "a:b", "é😀", "\u2028", "\uFEFF", strings.Repeat("x", 1<<16)} {
		n, err := NewName(s)
		if err != nil || n.String() != s {
			t.Errorf("NewName(%.9q) = %.9q, %v", s, n, err)
		}
	}
	for _, s := range []string{"\n", "a\r", "a\x00b", "\t", "\x1b[0m", "\x7f", "\u0085", "\xff", "a\xe2\x82"} {
		if n, err := NewName(s); err == nil || n != (Name{}) {
			t.Errorf("NewName(%q) = %q, %v", s, n, err)
		}
	}
	if n, _ := NewName(""); n != (Name{}) {
		t.Error("the empty name is not the zero Name")
	}
}

func TestNewID(t *testing.T) {
	for _, s := range []string{"", "7", " a ", "\t\x7f", "é😀", strings.Repeat("x", MaxIDLen)} {
		id, err := NewID(s)
		if err != nil || !id.IsSet() || id.String() != s {
			t.Errorf("NewID(%q) = %q, %v, set %v", s, id, err, id.IsSet())
		}
	}
	for _, s := range []string{"\n", "a\r", "a\x00b", "\xff", strings.Repeat("x", MaxIDLen+1), strings.Repeat("é", MaxIDLen/2) + "x"} {
		if id, err := NewID(s); err == nil || id.IsSet() {
			t.Errorf("NewID(%q) = %q, %v", s, id, err)
		}
	}
	if (ID{}).IsSet() {
		t.Error("the zero ID is set")
	}
}

func TestRetry(t *testing.T) {
	if (Retry{}).IsSet() || (Retry{}).Millis() != 0 {
		t.Error("the zero Retry is set")
	}
	if r := RetryMillis(0); !r.IsSet() || r.Millis() != 0 {
		t.Error("a retry of 0 is not set")
	}
	if r := RetryMillis(1500); r.Millis() != 1500 {
		t.Errorf("Millis = %d", r.Millis())
	}
}
