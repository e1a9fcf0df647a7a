package disk

import (
	"testing"
	"time"

	"ssegateway/internal/broker"
	"ssegateway/internal/broker/brokertest"
)

// TestStore: the engine passes the suite of all engines.
func TestStore(t *testing.T) {
	brokertest.Run(t, brokertest.Suite{
		Open: func(t testing.TB, maxBytes int64, maxAge time.Duration) broker.Engine {
			s, err := Open(t.TempDir(), Options{MaxBytes: maxBytes, MaxAge: maxAge})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
			return s
		},
	})
}
