//go:build unix && !race

package callback

import (
	"testing"

	"ssegateway/internal/gateway"
)

// A signature takes no memory either. (The race detector has a sync.Pool forget what it holds.)
func TestSigningAllocations(t *testing.T) {
	c, err := New(Config{URL: "http://backend.example.org/", SigningSecrets: secrets})
	if err != nil {
		t.Fatal(err)
	}
	token, body := gateway.NewToken(), encoded(browserRequest)
	dst := make([]byte, 0, 4096)
	if n := testing.AllocsPerRun(1000, func() { dst = c.appendConnect(dst[:0], token, atPosition, body, "") }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
