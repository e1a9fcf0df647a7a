package nats

import (
	"math/rand/v2"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"ssegateway/internal/broker/brokertest"
)

// roomy is at, with a log of which nothing is trimmed.
func roomy(url string) place {
	p := at(url)
	p.MaxBytes = 1 << 28
	return p
}

// Topics come to a node and go, while they are published on.
func TestComeAndGo(t *testing.T) {
	t.Parallel()
	s := serve(t, server.Options{Port: -1, StoreDir: t.TempDir()})
	all, some := mustEngine(t, roomy(s.ClientURL())), mustSelective(t, roomy(s.ClientURL()))
	runEngine(t, all)
	runEngine(t, some.Engine)
	brokertest.TestComeAndGo(t, all, some, 60, nil)
}

// The same, while the node's connection to NATS is cut.
func TestComeAndGoWhileCut(t *testing.T) {
	t.Parallel()
	s := serve(t, server.Options{Port: -1, StoreDir: t.TempDir()})
	relay := newRelay(t, s)
	all, some := mustEngine(t, roomy(s.ClientURL())), mustSelective(t, roomy(relay.url()))
	runEngine(t, all)
	runEngine(t, some.Engine)
	brokertest.TestComeAndGo(t, all, some, 25, func(*rand.Rand) { relay.cut() })
}
