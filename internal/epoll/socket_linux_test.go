package epoll

import (
	"net"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A peer's address is what package net takes it for.
func TestAddressOfPeer(t *testing.T) {
	for _, listen := range localAddrs(t) {
		t.Run(listen, func(t *testing.T) {
			l, err := net.Listen("tcp", net.JoinHostPort(listen, "0"))
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			raw, err := l.(*net.TCPListener).SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			c, err := net.Dial("tcp", net.JoinHostPort(listen, strconv.Itoa(l.Addr().(*net.TCPAddr).Port)))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			var fd int
			var peer *net.TCPAddr
			var errno syscall.Errno
			if err := raw.Control(func(listener uintptr) {
				_, _ = unix.Poll([]unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}, -1)
				fd, peer, errno = Accept(int(listener), false)
			}); err != nil || errno != 0 {
				t.Fatal(err, errno)
			}
			defer Close(fd)
			if peer.String() != c.LocalAddr().String() {
				t.Errorf("%s, want %s", peer, c.LocalAddr())
			}
			if _, _, errno := Accept(fd, true); errno == 0 {
				t.Error("a connection was accepted of a socket that does not listen")
			}
		})
	}
	for id, want := range map[uint32]string{0: "", 1<<31 - 1: "2147483647"} { // there is no such interface
		if got := zoneOf(id); got != want {
			t.Errorf("zone %d is %q, want %q", id, got, want)
		}
	}
}

// localAddrs returns addresses of this host of each kind that it has.
func localAddrs(t *testing.T) []string {
	addrs := []string{"127.0.0.1"}
	if l, err := net.Listen("tcp", "[::1]:0"); err == nil {
		_ = l.Close()
		addrs = append(addrs, "::1")
	}
	interfaces, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range interfaces {
		of, _ := i.Addrs()
		for _, a := range of {
			if text, _, _ := strings.Cut(a.String(), "/"); net.ParseIP(text).IsLinkLocalUnicast() && strings.Contains(text, ":") {
				addrs = append(addrs, text+"%"+i.Name)
			}
		}
	}
	return addrs
}
