package vanish

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"ssegateway/e2e/harness"
	"ssegateway/e2e/harness/netns"
)

// retries is net.ipv4.tcp_retries2 of the proxy's host: its kernel gives a client up about 6 s after what
// was sent to it. With Linux's default, 15, that takes a quarter of an hour.
const retries = "4"

// Clients of a proxy vanish, and the proxy does not. It finds out when its kernel does, closes its
// connections to the gateway, and the backend is told that these clients have left.
func TestVanishBehindProxy(t *testing.T) {
	s := newSite(t)
	const sysctl = "/proc/sys/net/ipv4/tcp_retries2"
	usual, err := os.ReadFile(sysctl)
	if err != nil {
		t.Fatal(err)
	}
	set := func(value string) {
		if err := os.WriteFile(sysctl, []byte(value), 0); err != nil {
			t.Error(err)
		}
	}
	set(retries)
	t.Cleanup(func() { set(string(usual)) })
	behind := kindOf("/nginx/")
	s.populate(behind, traffics[len(traffics)-1], *peers)
	connects := s.await(harness.Patience, *peers, "connect")
	<-time.After(settling)
	// Clients and proxy are on one host, and the loopback interface is between them.
	tc(t, "qdisc add dev lo root blackhole")
	t.Cleanup(func() { tc(t, "qdisc del dev lo root") })
	gone := time.Now()
	ends := s.await(deadline, *peers, "disconnect")
	var took harness.Latencies
	for url := range connects {
		c := ends[url]
		if c == nil {
			t.Errorf("%s: disconnect not reported within %v", url, deadline)
			continue
		}
		took = append(took, c.At.Sub(gone))
		if c.Reason != "client_closed" || c.Detail != "" {
			t.Errorf("%s: disconnect reported as %s, %q", url, c.Reason, c.Detail)
		}
	}
	if len(took) == 0 {
		return
	}
	if took.Quantile(0) < time.Second || took.Quantile(1) > deadline {
		t.Errorf("disconnects reported %v after the clients vanished", took)
	}
	harness.Figure(t, "%d clients that vanished behind nginx, on a host with tcp_retries2 = %s, are told of as client_closed, the last after %.1f s (bound: heartbeat + 12 s = %v)",
		len(took), retries, took.Quantile(1).Seconds(), deadline)
}

// tc runs the command of that name, which comes with ip.
func tc(t *testing.T, arguments string) {
	t.Helper()
	if out, err := exec.Command(netns.Find(t, "tc"), strings.Fields(arguments)...).CombinedOutput(); err != nil {
		t.Fatalf("tc %s: %v\n%s", arguments, err, out)
	}
}
