package cluster

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ssegateway/e2e/harness/netns"
)

// A slow link works without netem, which not every kernel has. A pair of interfaces takes the
// place of the port at its bridge, and packet sockets carry the frames between port and pair,
// each after a delay.

const (
	slowDelay = 100 * time.Millisecond // in each direction
	slowQueue = 4096                   // frames under way in one direction; more are dropped

	// longestFrame is the size of the longest frame of segmentation offload, with the headers of Ethernet and of the socket.
	longestFrame = 66 << 10
)

// slow delays all packets of the link, until heal is called.
func (l link) slow(t *testing.T) (heal func()) {
	t.Helper()
	const pair, atBridge = "slow", "slow-bridge"
	l.cut(t)
	netns.IP(t, "-n "+switchHost+" link add "+pair+" type veth peer name "+atBridge)
	netns.IP(t, "-n "+switchHost+" link set "+pair+" up")
	netns.IP(t, "-n "+switchHost+" link set "+atBridge+" up master "+l.network)
	host, bridge := packetSocket(t, l.port()), packetSocket(t, pair)
	var wg sync.WaitGroup
	wg.Go(func() { carry(host, bridge) })
	wg.Go(func() { carry(bridge, host) })
	return func() {
		// The deadline makes the reads fail, which ends carry.
		now := time.Now()
		_, _ = host.SetDeadline(now), bridge.SetDeadline(now)
		wg.Wait()
		host.Close()
		bridge.Close()
		netns.IP(t, "-n "+switchHost+" link del "+pair)
		l.mend(t)
	}
}

// carry forwards frames from one interface to the other, each after slowDelay.
func carry(from, to *os.File) {
	type frame struct {
		due  time.Time
		data []byte
	}
	queue := make(chan frame, slowQueue)
	var wg sync.WaitGroup
	wg.Go(func() {
		for f := range queue {
			<-time.After(time.Until(f.due))
			_, _ = to.Write(f.data) // an error means a lost frame, as on any link
		}
	})
	buffer := make([]byte, longestFrame)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			break
		}
		select {
		case queue <- frame{time.Now().Add(slowDelay), append([]byte(nil), buffer[:n]...)}:
		default:
		}
	}
	close(queue)
	wg.Wait()
}

// packetSocket returns a socket for the frames of an interface of the switch. Each frame
// begins with the kernel's state of its checksum and segmentation (PACKET_VNET_HDR), so that
// frames that the kernel has not completed yet are forwarded unchanged.
func packetSocket(t *testing.T, name string) *os.File {
	t.Helper()
	fd, err := openPacketSocket(name)
	if err != nil {
		t.Fatalf("packet socket of %s: %v", name, err)
	}
	return os.NewFile(uintptr(fd), name)
}

func openPacketSocket(name string) (fd int, err error) {
	// The thread enters the namespace of the switch for a moment. If it cannot return, it
	// stays locked, so that it ends with this goroutine.
	runtime.LockOSThread()
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return -1, err
	}
	defer own.Close()
	there, err := os.Open("/run/netns/" + switchHost)
	if err != nil {
		return -1, err
	}
	defer there.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		return -1, err
	}
	fd, err = boundPacketSocket(name)
	if err := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET); err != nil {
		return -1, fmt.Errorf("returning to the network namespace: %w", err)
	}
	runtime.UnlockOSThread()
	return fd, err
}

func boundPacketSocket(name string) (int, error) {
	var all [2]byte
	binary.BigEndian.PutUint16(all[:], unix.ETH_P_ALL)
	protocol := binary.NativeEndian.Uint16(all[:])
	index, err := interfaceIndex(name)
	if err != nil {
		return -1, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	for _, option := range []int{unix.PACKET_VNET_HDR, unix.PACKET_IGNORE_OUTGOING} {
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, option, 1); err != nil {
			return -1, err
		}
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20); err != nil {
		return -1, err
	}
	return fd, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: protocol, Ifindex: index})
}

func interfaceIndex(name string) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq(name)
	if err != nil {
		return 0, err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, request); err != nil {
		return 0, err
	}
	return int(request.Uint32()), nil
}
