package web

import (
	"bytes"
	"compress/gzip"
	"testing"
)

// What a page loads is small, as servers compress it.
func TestSize(t *testing.T) {
	for _, c := range []struct {
		name  string
		limit int
	}{{"events.js", 1000}, {"stream.js", 3000}, {"tabs.js", 3000}, {"relay.js", 1500}} {
		text, err := Files.ReadFile(c.name)
		if err != nil {
			t.Fatal(err)
		}
		var compressed bytes.Buffer
		w, err := gzip.NewWriterLevel(&compressed, gzip.BestCompression)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(text); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if compressed.Len() >= c.limit {
			t.Errorf("%s has %d bytes compressed, want fewer than %d", c.name, compressed.Len(), c.limit)
		}
	}
}
