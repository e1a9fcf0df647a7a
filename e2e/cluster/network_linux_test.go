package cluster

import (
	"fmt"
	"os"
	"testing"

	"ssegateway/e2e/harness/netns"
)

// There are two networks, as in a real installation. The front network has clients, nginx,
// backend and gateways; the back network has gateways and NATS. Nodes communicate only
// through NATS, so there is no link between two nodes to cut.
//
// The addresses are from the range for network benchmarks (RFC 2544).
const (
	worldHost = "world" // this process: clients and backend
	nginxHost = "nginx"
	natsHost  = "nats"

	front = "front"
	back  = "back"
)

const nodeCount = 3

func nodeHost(i int) string { return fmt.Sprintf("node%d", i+1) }

// addresses has the addresses of each host, by network.
var addresses = map[string]map[string]string{
	worldHost:   {front: "198.18.0.1"},
	nginxHost:   {front: "198.18.0.2"},
	natsHost:    {back: "198.18.1.3"},
	nodeHost(0): {front: "198.18.0.11", back: "198.18.1.11"},
	nodeHost(1): {front: "198.18.0.12", back: "198.18.1.12"},
	nodeHost(2): {front: "198.18.0.13", back: "198.18.1.13"},
}

// switchHost has the bridges. The peers of the hosts' interfaces are the bridges' ports.
const switchHost = "switch"

// link is a host's interface to a network.
type link struct{ host, network string }

// port returns the name of the interface at the bridge's end.
func (l link) port() string { return l.host + "-" + l.network }

// newNetwork creates and joins the hosts, once for all tests of this process.
func newNetwork(t *testing.T) {
	t.Helper()
	netns.Need(t)
	if _, err := os.Stat("/run/netns/" + switchHost); err == nil {
		return // another test has created it
	}
	netns.IP(t, "netns add "+switchHost)
	for _, network := range []string{front, back} {
		netns.IP(t, "-n "+switchHost+" link add "+network+" type bridge forward_delay 0")
		netns.IP(t, "-n "+switchHost+" link set "+network+" up")
	}
	netns.IP(t, "link set lo up")
	for host, networks := range addresses {
		in := "-n " + host + " "
		if host == worldHost {
			in = ""
		} else {
			netns.IP(t, "netns add "+host)
			netns.IP(t, in+"link set lo up")
		}
		for network, address := range networks {
			l := link{host, network}
			netns.IP(t, in+"link add "+network+" type veth peer name "+l.port()+" netns "+switchHost)
			netns.IP(t, in+"addr add "+address+"/24 dev "+network)
			netns.IP(t, in+"link set "+network+" up")
			netns.IP(t, "-n "+switchHost+" link set "+l.port()+" up")
			l.mend(t)
		}
	}
}

// cut removes the link's port from its bridge. Every packet is dropped, in both directions,
// and neither end is notified.
func (l link) cut(t *testing.T) {
	t.Helper()
	netns.IP(t, "-n "+switchHost+" link set "+l.port()+" nomaster")
}

func (l link) mend(t *testing.T) {
	t.Helper()
	netns.IP(t, "-n "+switchHost+" link set "+l.port()+" master "+l.network)
}
