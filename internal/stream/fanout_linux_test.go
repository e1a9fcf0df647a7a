//go:build linux && !portable

package stream_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ssegateway/internal/frame"
	"ssegateway/internal/gateway"
	"ssegateway/sse"
)

var fanoutStreams = flag.Int("fanout.streams", 1000, "how many streams BenchmarkFanout sends to")

// audience is many open streams over real sockets. Nobody reads them but drain:
// what they take is bounded by the sockets' buffers, so that a measurement is of
// the sending alone. The clients are bare descriptors, which Go's poller does not
// know: it would wake up for each event that arrives.
type audience struct {
	site    *site
	conns   []*gateway.Conn
	clients []int
}

// acceptor accepts every connection and forgets it.
type acceptor struct{}

func (acceptor) Connect(_, _ context.Context, _ gateway.Token, _ []byte) gateway.Answer {
	return gateway.Answer{Outcome: gateway.Accepted, Status: 200}
}
func (acceptor) Disconnect(gateway.Notice) {}

func newAudience(t testing.TB, n int) *audience {
	t.Helper()
	a := &audience{}
	a.site = newSite(t, http11, acceptor{}, func(cfg *gateway.Config) { cfg.Heartbeat = 1000 * 60 * 60 * 1e9 })
	opened := make(chan *gateway.Conn, 1)
	a.site.serve(func(w http.ResponseWriter, r *http.Request) {
		c, _, err := a.site.gw.Connect(r.Context(), []byte(`{"url":"/","headers":{}}`))
		if err != nil {
			t.Error(err)
			return
		}
		a.site.opener.Open(w, r, c, gateway.Grant{})
		opened <- c
	})
	for range n {
		a.clients = append(a.clients, dialBare(t, a.site.addr))
		a.conns = append(a.conns, <-opened)
	}
	t.Cleanup(func() {
		for _, c := range a.clients {
			_ = unix.Close(c)
		}
		a.site.settle(t)
	})
	return a
}

// send sends a frame to every stream.
func (a *audience) send(t testing.TB, f frame.Frame) {
	for i, c := range a.conns {
		if r := c.Send(f, false, nil); r != gateway.Sent {
			t.Fatalf("stream %d: %d", i, r)
		}
	}
}

// drain reads what there is to read.
func (a *audience) drain(t testing.TB) {
	b := make([]byte, 1<<16)
	for _, c := range a.clients {
		for {
			_, _, err := unix.Recvfrom(c, b, unix.MSG_DONTWAIT)
			if errors.Is(err, unix.EAGAIN) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

// dialBare connects a client and makes its request.
func dialBare(t testing.TB, addr string) (fd int) {
	t.Helper()
	at, err := netip.ParseAddrPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: at.Addr().As4(), Port: int(at.Port())}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Sendto(fd, []byte("GET / HTTP/1.1\r\nHost: test\r\n\r\n"), 0, nil); err != nil {
		t.Fatal(err)
	}
	return fd
}

// perDrain is how many events of 256 bytes fit into the buffers of a socket for sure.
const perDrain = 100

func event256() frame.Frame {
	return frame.Event(sse.Event{Data: strings.Repeat("x", 256)})
}

// BenchmarkFanout is one event to many detached streams: from an encoded frame to
// the sockets, for each stream.
func BenchmarkFanout(b *testing.B) {
	a := newAudience(b, *fanoutStreams)
	f := event256()
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		if i%perDrain == 0 {
			b.StopTimer()
			a.drain(b)
			b.StartTimer()
		}
		a.send(b, f)
	}
	b.StopTimer()
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N**fanoutStreams), "ns/stream")
	a.drain(b)
	if n := a.site.gw.QueuedBytes(); n > 0 {
		b.Fatalf("%d bytes were queued", n)
	}
}

// To send an encoded event to a stream allocates nothing.
func TestFanoutAllocates(t *testing.T) {
	a := newAudience(t, 100)
	f := event256()
	a.drain(t)
	if n := testing.AllocsPerRun(perDrain, func() { a.send(t, f) }); n > 0 {
		t.Errorf("%v allocations for an event to 100 streams", n)
	}
}

const (
	auditStreams = 200
	auditEnv     = "STREAM_TEST_EVENTS"
)

// To send an encoded event to a stream is one system call. strace counts them, in
// a process that sends few events and in one that sends many: what is more in the
// second is what the events cost.
func TestFanoutSystemCalls(t *testing.T) {
	if events, err := strconv.Atoi(os.Getenv(auditEnv)); err == nil {
		a := newAudience(t, auditStreams)
		f := event256()
		for range events {
			a.send(t, f)
		}
		return
	}
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Fatal("strace is not installed, and this test counts by it: run `make test-deps`")
	}
	const few, many = 10, 110
	before, after := auditSystemCalls(t, strace, few), auditSystemCalls(t, strace, many)
	if n := after["sendto"] - before["sendto"]; n != (many-few)*auditStreams {
		t.Errorf("%d system calls sendto more for %d events more to %d streams", n, many-few, auditStreams)
	}
	others, waits := 0, 0
	for name := range after {
		switch more := after[name] - before[name]; {
		case scheduling[name]:
			waits += more
		case name != "sendto":
			others += more
		}
	}
	// The runtime does this and that beside it.
	if sends := (many - few) * auditStreams; others > sends/20 || waits > sends/4 {
		t.Errorf("%d system calls to wait and to wake, and %d others, for %d sends:\n%v\n%v", waits, others, sends, before, after)
	}
}

// scheduling is what the runtime calls to wait and to wake, the more often the less time it gets from a busy machine.
var scheduling = map[string]bool{
	"futex": true, "nanosleep": true, "sched_yield": true, "epoll_pwait": true, "getpid": true, "tgkill": true, "rt_sigreturn": true, "restart_syscall": true,
}

// auditSystemCalls counts the system calls of a process that sends events.
func auditSystemCalls(t *testing.T, strace string, events int) map[string]int {
	t.Helper()
	counts := filepath.Join(t.TempDir(), "counts")
	cmd := exec.CommandContext(t.Context(), strace, "-f", "-c", "-U", "calls,name", "-o", counts,
		os.Args[0], "-test.run", "^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", auditEnv, events), "GOGC=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	b, err := os.ReadFile(counts)
	if err != nil {
		t.Fatal(err)
	}
	calls := map[string]int{}
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		if len(fields) != 2 {
			continue
		}
		if n, err := strconv.Atoi(fields[0]); err == nil && fields[1] != "total" {
			calls[fields[1]] = n
		}
	}
	if calls["sendto"] < events*auditStreams {
		t.Fatalf("strace did not count: %v", calls)
	}
	return calls
}
