package server

import (
	"strings"
	"testing"
)

// Every part has its room, whatever the limit on open files and the settings that draw on it.
func TestShareOut(t *testing.T) {
	for _, files := range []int{256, 512, 768, 1024, 4096, 20_000, 1 << 20} {
		for _, connections := range []int{0, 1, 100, files / 2, files, 10_000_000} {
			for _, concurrency := range []int{0, 1, 16, 256, files / 8, files} {
				d, err := shareOut(files, connections, concurrency)
				if err != nil {
					if concurrency < files/8 && files >= 768 || !strings.Contains(err.Error(), "CALLBACK_CONCURRENCY") {
						t.Errorf("%d files, MAX_CONNECTIONS %d, CALLBACK_CONCURRENCY %d: %v", files, connections, concurrency, err)
					}
					continue
				}
				if sum := d.own + d.reserve + 2*d.concurrency + d.streams; sum != files {
					t.Errorf("%+v adds up to %d", d, sum)
				}
				if d.own < 48 || d.reserve < minReserve || d.streams < 1 || d.concurrency < 1 || concurrency > 0 && d.concurrency != concurrency {
					t.Errorf("%d files, %d, %d: %+v", files, connections, concurrency, d)
				}
			}
		}
	}
	for _, test := range []struct{ files, connections, concurrency, streams int }{
		{256, 0, 0, 100}, {512, 0, 0, 300}, {768, 0, 0, 450}, {1024, 0, 0, 700}, {1024, 900, 0, 820}, {20_000, 0, 0, 19_000},
	} {
		if d, err := shareOut(test.files, test.connections, test.concurrency); err != nil || d.streams < test.streams {
			t.Errorf("%+v: %+v, %v", test, d, err)
		}
	}
	if _, err := shareOut(20_000, 0, 10_000); err == nil || !strings.Contains(err.Error(), "set it to at most 9") {
		t.Error(err)
	}
	if _, err := shareOut(100, 0, 0); err == nil || !strings.Contains(err.Error(), "ulimit -n") {
		t.Error(err)
	}
}
