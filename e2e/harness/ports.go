package harness

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"sync/atomic"
)

// Ports are taken from below the usual ephemeral ranges (Linux: 32768 and up), so
// that no outgoing connection of anybody takes one between choice and use.
const (
	lowestPort = 11_000
	portCount  = 20_000
)

var portCounter atomic.Uint32

func init() { portCounter.Store(rand.Uint32N(portCount)) }

// FreePort chooses a port that nobody listens on and that it did not give out lately.
// It can be lost to another process before it is used; [Start] then takes another.
func FreePort() (int, error) {
	for range portCount {
		port := lowestPort + int(portCounter.Add(1)%portCount)
		l, err := net.Listen("tcp", ":"+strconv.Itoa(port))
		if err != nil {
			continue
		}
		return port, l.Close()
	}
	return 0, errors.New("no free port")
}
