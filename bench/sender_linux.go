package bench

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	"golang.org/x/sys/unix"
)

// sender sends requests on one connection, each after the answer to the one before. It
// does not allocate for each request.
type sender struct {
	addr unix.SockaddrInet4
	fd   int
	out  []byte // the request
	sent int    // bytes of out that were sent
	in   []byte // the answer so far
}

// resolve sets the address to send to.
func resolve(host string, port int) (unix.SockaddrInet4, error) {
	ip, err := net.ResolveIPAddr("ip4", host)
	if err != nil {
		return unix.SockaddrInet4{}, err
	}
	return unix.SockaddrInet4{Port: port, Addr: [4]byte(ip.IP.To4())}, nil
}

func (s *sender) connect() (err error) {
	if s.fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	t := unix.NsecToTimeval(int64(patience))
	return errors.Join(
		unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &t), // for connect, too
		unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &t),
		s.connected(unix.Connect(s.fd, &s.addr)),
	)
}

// connected waits for the end of a connect that a signal has interrupted: it goes on in the
// background, and must not be called again (connect(2)).
func (s *sender) connected(err error) error {
	for errors.Is(err, unix.EINTR) {
		if _, err = unix.Poll([]unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLOUT}}, int(patience.Milliseconds())); err != nil {
			continue
		}
		code, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && code != 0 {
			err = unix.Errno(code)
		}
		return err
	}
	return err
}

func (s *sender) close() {
	unix.Close(s.fd) //nolint:errcheck // nothing is lost with it
}

// write sends the rest of the request. It may return EAGAIN.
func (s *sender) write() error {
	n, err := unix.Write(s.fd, s.out[s.sent:])
	if err != nil {
		return err
	}
	s.sent += n
	return nil
}

// read reads from the answer. done reports whether it is complete.
func (s *sender) read() (a reply, done bool, err error) {
	if cap(s.in)-len(s.in) < 512 {
		s.in = append(s.in, make([]byte, 4096)...)[:len(s.in)]
	}
	n, err := unix.Read(s.fd, s.in[len(s.in):cap(s.in)])
	if err != nil {
		return a, false, err
	}
	s.in = s.in[:len(s.in)+n]
	if a, done, err = parseReply(s.in, n == 0); !done || err != nil {
		if n == 0 && err == nil {
			err = errors.New("the server closed the connection of a publisher without an answer")
		}
		return a, false, err
	}
	s.in = s.in[:0]
	return a, true, nil
}

// do sends the request in out, and waits for the answer to it.
func (s *sender) do() (reply, error) {
	for s.sent = 0; s.sent < len(s.out); {
		if err := s.write(); err != nil && !errors.Is(err, unix.EINTR) {
			return reply{}, fmt.Errorf("publishing: %w", err)
		}
	}
	for {
		a, done, err := s.read()
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return a, fmt.Errorf("publishing: %w", err)
		case done && a.closes:
			s.close()
			return a, s.connect()
		case done:
			return a, nil
		}
	}
}

// reply is the server's answer to a publisher.
type reply struct {
	status int
	body   []byte // valid until the next answer
	closes bool   // the server closes the connection
}

// err returns an error if the status is not 2xx.
func (a *reply) err() error {
	if a.status/100 == 2 {
		return nil
	}
	return fmt.Errorf("the publisher was answered %d: %.200s", a.status, a.body)
}

// parseReply parses the answer at the beginning of b. done reports whether it is complete.
// It parses answers with a length on a kept connection itself, as most are, and any other with net/http.
func parseReply(b []byte, eof bool) (a reply, done bool, err error) {
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		return a, false, nil
	}
	length, plain := -1, true
	status, head, _ := bytes.Cut(b[:end], []byte("\r\n"))
	for len(head) > 0 && plain {
		var line []byte
		line, head, _ = bytes.Cut(head, []byte("\r\n"))
		name, value, _ := bytes.Cut(line, []byte{':'})
		switch value = bytes.TrimSpace(value); {
		case bytes.EqualFold(name, []byte("Content-Length")):
			length = decimal(value)
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			plain = false
		case bytes.EqualFold(name, []byte("Connection")):
			plain = bytes.EqualFold(value, []byte("keep-alive"))
		}
	}
	if plain && length >= 0 && bytes.HasPrefix(status, []byte("HTTP/1.1 ")) && len(status) >= 12 {
		a.status, a.body = decimal(status[9:12]), b[end+4:]
		if len(a.body) < length {
			return a, false, nil
		}
		if len(a.body) > length || a.status < 200 {
			return a, false, fmt.Errorf("%.100q instead of an answer", b)
		}
		return a, true, nil
	}
	var more asked
	resp, err := http.ReadResponse(bufio.NewReader(io.MultiReader(bytes.NewReader(b), &more)), nil)
	if err != nil {
		return a, false, err
	}
	defer resp.Body.Close()
	if resp.StatusCode < 200 {
		return a, false, fmt.Errorf("%.100q instead of an answer", b)
	}
	a.status, a.closes = resp.StatusCode, resp.Close
	a.body, err = io.ReadAll(resp.Body)
	if bool(more) && !eof {
		return reply{}, false, nil
	}
	return a, err == nil, err
}

// asked is an empty reader that records whether it was read, which means that the answer is incomplete.
type asked bool

func (a *asked) Read([]byte) (int, error) {
	*a = true
	return 0, io.EOF
}

// decimal parses a number of at most nine digits. It returns -1 if b is not one.
func decimal(b []byte) (n int) {
	if len(b) == 0 || len(b) > 9 {
		return -1
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return -1
		}
		n = n*10 + int(c-'0')
	}
	return n
}
