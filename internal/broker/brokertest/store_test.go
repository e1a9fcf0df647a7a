package brokertest

import (
	"testing"

	"ssegateway/internal/broker"
)

func TestStore(t *testing.T) {
	RunNodes(t, func(t testing.TB) func() broker.Nodes {
		s := NewStore()
		return func() broker.Nodes {
			n, err := s.Link().Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	})
}
