package harness

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"sync/atomic"
)

// Ports are taken from below the usual ephemeral ranges (Linux: 32768 and up), so
// that no outgoing connection takes one between its choice and its use.
const (
	lowestPort = 11_000
	portCount  = 20_000
)

var portCounter atomic.Uint32

func init() { portCounter.Store(rand.Uint32N(portCount)) }

// FreePort returns a port that is free and that it has not returned lately. Another process
// can take the port before it is used; [Start] then tries another one.
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
