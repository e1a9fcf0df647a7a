package disk

import (
	"testing"

	"go.uber.org/goleak"

	"ssegateway/internal/broker"
	"ssegateway/internal/broker/brokertest"
	"ssegateway/internal/bubble"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestStore: the engine passes the suite of all engines.
func TestStore(t *testing.T) {
	for _, synced := range []bool{false, true} {
		t.Run(map[bool]string{false: "second", true: "always"}[synced], func(t *testing.T) {
			brokertest.Run(t, brokertest.Suite{
				Open: func(t testing.TB, bounds brokertest.Bounds) broker.Engine {
					s, err := Open(t.TempDir(), Options{MaxBytes: bounds.MaxBytes, MaxAge: bounds.MaxAge, RetainedBytes: bounds.RetainedBytes, Sync: synced})
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
				Within: bubble.Test,
			})
		})
	}
}
