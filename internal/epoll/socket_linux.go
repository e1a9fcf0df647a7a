package epoll

import (
	"net"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The system calls here never block, so the scheduler is not told of them. Their sockets are non-blocking, and SO_LINGER is
// not set, or is 0.

// Take returns a descriptor of its own for the socket of a connection, and closes the
// connection, which removes it from the netpoller; the socket stays open. If the connection
// is not a plain socket, Take returns false and leaves it alone.
func Take(nc net.Conn) (fd int, ok bool) {
	c, ok := nc.(syscall.Conn)
	if !ok {
		return -1, false
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, false
	}
	// File() would make the socket blocking, for both descriptors.
	if raw.Control(func(s uintptr) { fd, err = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 0) }) != nil || err != nil {
		return -1, false
	}
	_ = nc.Close()
	return fd, true
}

// Accept accepts a connection of a listener, if there is one. A listener that other processes have, too, may have become
// blocking by them. With shared the scheduler is told of the call, as of any that may wait.
func Accept(listener int, shared bool) (fd int, peer *net.TCPAddr, errno syscall.Errno) {
	const flags = unix.SOCK_NONBLOCK | unix.SOCK_CLOEXEC
	var from unix.RawSockaddrAny
	size := uint32(unix.SizeofSockaddrAny)
	var r uintptr
	if shared {
		r, _, errno = syscall.Syscall6(unix.SYS_ACCEPT4, uintptr(listener), uintptr(unsafe.Pointer(&from)), uintptr(unsafe.Pointer(&size)), flags, 0, 0)
	} else {
		r, _, errno = syscall.RawSyscall6(unix.SYS_ACCEPT4, uintptr(listener), uintptr(unsafe.Pointer(&from)), uintptr(unsafe.Pointer(&size)), flags, 0, 0)
	}
	if errno != 0 {
		return -1, nil, errno
	}
	return int(r), addrOf(&from), 0
}

// addrOf returns the address of a peer as package net does.
func addrOf(from *unix.RawSockaddrAny) *net.TCPAddr {
	switch from.Addr.Family {
	case unix.AF_INET:
		sa := (*unix.RawSockaddrInet4)(unsafe.Pointer(from))
		return &net.TCPAddr{IP: append(net.IP(nil), sa.Addr[:]...), Port: portOf(&sa.Port)}
	case unix.AF_INET6:
		sa := (*unix.RawSockaddrInet6)(unsafe.Pointer(from))
		return &net.TCPAddr{IP: append(net.IP(nil), sa.Addr[:]...), Port: portOf(&sa.Port), Zone: zoneOf(sa.Scope_id)}
	}
	return &net.TCPAddr{}
}

// portOf returns a port that is in the network's order.
func portOf(port *uint16) int {
	b := (*[2]byte)(unsafe.Pointer(port))
	return int(b[0])<<8 | int(b[1])
}

// zoneOf returns the zone of a link-local peer: the name of its interface, or its number if that has gone. 0 is no zone.
func zoneOf(id uint32) string {
	if id == 0 {
		return ""
	}
	if i, err := net.InterfaceByIndex(int(id)); err == nil {
		return i.Name
	}
	return strconv.FormatUint(uint64(id), 10)
}

// Send sends as much of p as the socket takes now. p must not be empty.
func Send(fd int, p []byte) (n int, errno syscall.Errno) {
	r, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)),
		unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	return int(r), errno
}

// Receive reads what has arrived.
func Receive(fd int, p []byte) (n int, errno syscall.Errno) { return receive(fd, p, 0) }

// Peek is Receive that leaves what has arrived where it is.
func Peek(fd int, p []byte) (n int, errno syscall.Errno) { return receive(fd, p, unix.MSG_PEEK) }

func receive(fd int, p []byte, flags uintptr) (n int, errno syscall.Errno) {
	r, _, errno := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)),
		unix.MSG_DONTWAIT|flags, 0, 0)
	return int(r), errno
}

// Close closes a socket.
func Close(fd int) { _, _, _ = syscall.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }
