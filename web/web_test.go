package web

import (
	"bytes"
	"compress/gzip"
	"testing"
)

// What a page loads is small, as servers compress it.
func TestSize(t *testing.T) {
	for _, c := range []struct {
		limit int
		files []string
	}{
		{3000, []string{"stream.js"}},
		{4000, []string{"stream.js", "events.js"}},
		{3000, []string{"tabs.js"}},
		{2000, []string{"relay.js", "events.js"}},
	} {
		sum := 0
		for _, name := range c.files {
			sum += compressed(t, name)
		}
		if sum >= c.limit {
			t.Errorf("%q have %d bytes compressed, want fewer than %d", c.files, sum, c.limit)
		}
	}
}

// compressed returns the size of a file as gzip -9 makes it.
func compressed(t *testing.T, name string) int {
	t.Helper()
	text, err := Files.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Len()
}
