package cluster

import (
	"flag"
	"testing"
	"time"

	"ssegateway/e2e/harness/netns"
)

// The size of a run. The defaults are for tests of every change; `make chaos` sets larger ones.
var (
	faults  = flag.Int("faults", 8, "how many faults TestChaos makes")
	longest = flag.Duration("longest", 4*time.Second, "the longest fault; the shortest takes 1 s")
	clients = flag.Int("clients", 300, "how many clients there are")
	lease   = flag.Int("lease", 3, "NODE_LEASE_SECONDS")
	drain   = flag.Int("drain", 6, "DRAIN_SECONDS")
	seed    = flag.Uint64("seed", uint64(time.Now().UnixNano()), "decides which faults there are; printed")
	strict  = flag.Bool("strict", false, "hold the bounds that an otherwise idle machine has to hold")
	own     = flag.Int("own", 2, "how many of the nodes have NATS_READ=own")
	only    = flag.String("only", "", "the only kind of fault there is")
)

func TestMain(m *testing.M) { netns.Main(m) }
