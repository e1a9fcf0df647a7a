package web

import (
	"bytes"
	"compress/gzip"
	"testing"
)

// A page that reads answers loads less than 1.5 kB for it, as servers compress it.
func TestSize(t *testing.T) {
	text, err := Files.ReadFile("relay.js")
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
	if compressed.Len() >= 1500 {
		t.Errorf("relay.js has %d bytes compressed, want fewer than 1500", compressed.Len())
	}
}
