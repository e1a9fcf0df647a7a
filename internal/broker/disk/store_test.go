package disk

import (
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"ssegateway/internal/broker"
	"ssegateway/internal/broker/brokertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestStore: the engine passes the suite of all engines.
func TestStore(t *testing.T) {
	for _, synced := range []bool{false, true} {
		t.Run(map[bool]string{false: "second", true: "always"}[synced], func(t *testing.T) {
			brokertest.Run(t, brokertest.Suite{
				Open: func(t testing.TB, maxBytes int64, maxAge time.Duration) broker.Engine {
					s, err := Open(t.TempDir(), Options{MaxBytes: maxBytes, MaxAge: maxAge, Sync: synced})
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
				Within: synctest.Test,
			})
		})
	}
}
