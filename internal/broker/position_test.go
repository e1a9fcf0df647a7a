package broker

import (
	"regexp"
	"strconv"
	"testing"
)

// FuzzPosition: each position has one text, and a text of another form is none.
func FuzzPosition(f *testing.F) {
	for _, s := range []string{"K7WQ2M4XHD-17", "K7WQ2M4XHD-0", "K7WQ2M4XHD-017", "K7WQ2M4XHD-18446744073709551616", "-1", "K7WQ2M4XHD--1", "k7wq2m4xhd-1", "K7WQ2M4XH1-1", "a-1-2"} {
		f.Add(s)
	}
	form := regexp.MustCompile(`\A[A-Z2-7]{10}-(0|[1-9][0-9]{0,19})\z`)
	f.Fuzz(func(t *testing.T, s string) {
		p, ok := ParsePosition(s)
		if ok && (p.String() != s || p.Epoch == "") {
			t.Errorf("%q is read as %+v, which is %q", s, p, p)
		}
		want := form.MatchString(s)
		if want {
			_, err := strconv.ParseUint(s[11:], 10, 64)
			want = err == nil
		}
		if got := IsPosition(s); got != want || got && !ok {
			t.Errorf("%q is a position: %v, want %v; it is read: %v", s, got, want, ok)
		}
	})
}
