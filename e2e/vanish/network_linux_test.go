package vanish

import (
	"flag"
	"testing"

	"ssegateway/e2e/harness/netns"
)

var peers = flag.Int("peers", 20, "how many peers of each kind vanish, or leave; at least 20")

func TestMain(m *testing.M) { netns.Main(m) }

// The clients and the backend are in this process, and the gateway is on a host of its own.
// Clients and backend have separate links. The addresses are from the range for network
// benchmarks (RFC 2544).
const (
	gatewayHost = "gateway"
	clientAddr  = "198.18.0.1"
	publicAddr  = "198.18.0.2"
	backendAddr = "198.18.1.1"
	privateAddr = "198.18.1.2"
)

// newNetwork creates the host and both links. A bridge between clients and gateway keeps the
// gateway's own interface up when the clients' link is cut.
func newNetwork(t *testing.T) {
	t.Helper()
	netns.Need(t)
	for _, arguments := range []string{
		"link set lo up",
		"netns add " + gatewayHost,
		"-n gateway link set lo up",
		"netns add switch",
		"-n switch link add bridge type bridge forward_delay 0",
		"-n switch link set bridge up",
		"link add front type veth peer name clients netns switch",
		"-n gateway link add front type veth peer name gateway netns switch",
		"-n switch link set clients up master bridge",
		"-n switch link set gateway up master bridge",
		"link add back type veth peer name back netns gateway",
		"addr add " + clientAddr + "/24 dev front",
		"addr add " + backendAddr + "/24 dev back",
		"-n gateway addr add " + publicAddr + "/24 dev front",
		"-n gateway addr add " + privateAddr + "/24 dev back",
		"link set front up",
		"link set back up",
		"-n gateway link set front up",
		"-n gateway link set back up",
	} {
		netns.IP(t, arguments)
	}
	t.Cleanup(func() {
		netns.IP(t, "link del front")
		netns.IP(t, "link del back")
		netns.IP(t, "netns del "+gatewayHost)
		netns.IP(t, "netns del switch")
	})
}

// cut removes the clients' port from the bridge. Every packet is dropped, in both directions,
// and neither end is notified.
func cut(t *testing.T) {
	t.Helper()
	netns.IP(t, "-n switch link set clients nomaster")
}
