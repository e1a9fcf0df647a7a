// Floor shows the least that fan-out can cost: one thread accepts connections, and sends
// each published event to every stream with one system call. It knows nothing of HTTP
// except where a request ends. It listens on PORT.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	maxFDs     = 1 << 16 // descriptors are below it, and used as indexes
	maxRequest = 1 << 20 // bytes
)

const (
	head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" // the body ends with the connection
	done = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
)

type floor struct {
	listener, epoll int
	streams         [maxFDs]bool
	last            int            // the highest descriptor that ever was a stream
	requests        map[int][]byte // by descriptor that is not a stream: the request so far
	buf             []byte
}

func main() {
	runtime.LockOSThread()
	fmt.Fprintln(os.Stderr, run(os.Getenv("PORT")))
	os.Exit(1)
}

// run serves until an error, and returns it.
func run(portText string) error {
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return fmt.Errorf("PORT: %w", err)
	}
	f := &floor{requests: map[int][]byte{}, buf: make([]byte, 64<<10)}
	if f.listener, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
		return err
	}
	if err := unix.Bind(f.listener, &unix.SockaddrInet4{Port: int(port), Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return err
	}
	if err := unix.Listen(f.listener, 4096); err != nil {
		return err
	}
	if f.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	if err := f.watch(f.listener); err != nil {
		return err
	}
	ready := make([]unix.EpollEvent, 256)
	for {
		n, err := unix.EpollWait(f.epoll, ready, -1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		for _, e := range ready[:max(n, 0)] {
			if fd := int(e.Fd); fd == f.listener {
				err = f.accept()
			} else {
				err = f.read(fd)
			}
			if err != nil {
				return err
			}
		}
	}
}

func (f *floor) watch(fd int) error {
	return unix.EpollCtl(f.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

func (f *floor) accept() error {
	for {
		fd, _, err := unix.Accept4(f.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.ECONNABORTED) || errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		case fd >= maxFDs:
			return fmt.Errorf("descriptor %d is too high", fd)
		}
		// As on Go's own sockets: an event must not wait for the acknowledgement of the one before.
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
			return err
		}
		if err := f.watch(fd); err != nil {
			return err
		}
	}
}

func (f *floor) close(fd int) error {
	f.streams[fd] = false
	delete(f.requests, fd)
	return unix.Close(fd)
}

func (f *floor) read(fd int) error {
	n, err := unix.Read(fd, f.buf)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
		return nil
	}
	request := append(f.requests[fd], f.buf[:max(n, 0)]...)
	if err != nil || n == 0 || f.streams[fd] || len(request) > maxRequest {
		return f.close(fd) // closed by the client, or it sent too much
	}
	end := bytes.Index(request, []byte("\r\n\r\n"))
	if end < 0 {
		f.requests[fd] = request
		return nil
	}
	if bytes.HasPrefix(request, []byte("GET ")) {
		delete(f.requests, fd)
		f.streams[fd], f.last = true, max(f.last, fd)
		return f.send(fd, []byte(head))
	}
	body := request[end+4:]
	if length := contentLength(request[:end+2]); len(body) < length {
		f.requests[fd] = request
		return nil
	}
	f.requests[fd] = request[:0]
	return errors.Join(f.publish(body), f.send(fd, []byte(done)))
}

// contentLength returns the Content-Length of a head, or 0.
func contentLength(head []byte) int {
	const name = "content-length:"
	_, value, _ := bytes.Cut(bytes.ToLower(head), []byte("\r\n"+name))
	value, _, _ = bytes.Cut(value, []byte("\r\n"))
	n, _ := strconv.Atoi(string(bytes.TrimSpace(value)))
	return n
}

func (f *floor) publish(data []byte) error {
	event := fmt.Appendf(nil, "data: %s\n\n", data)
	for fd, stream := range f.streams[:f.last+1] {
		if stream {
			if err := f.send(fd, event); err != nil {
				return err
			}
		}
	}
	return nil
}

// send closes a connection that does not take the whole event. It makes a raw system call,
// without the scheduler's part, because it does not block.
func (f *floor) send(fd int, b []byte) error {
	n, _, _ := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_NOSIGNAL, 0, 0)
	if int(n) != len(b) {
		return f.close(fd)
	}
	return nil
}
