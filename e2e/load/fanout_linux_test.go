package load

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ssegateway/e2e/harness"
	"ssegateway/internal/broker"
	"ssegateway/internal/frame"
	"ssegateway/internal/gateway"
	"ssegateway/internal/stream"
	"ssegateway/internal/topics"
	"ssegateway/sse"
)

// readAll opens streams and reads them until they end.
func readAll(addr, count string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	for i := range n {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			return err
		}
		if _, err := conn.Write(request(addr, i)); err != nil {
			return err
		}
		line, err := bufio.NewReaderSize(conn, 16).ReadString('\n')
		if err != nil || !strings.Contains(line, "200") {
			return fmt.Errorf("%q %w", line, err)
		}
		wg.Go(func() {
			buf := make([]byte, 2048)
			for {
				if _, err := conn.Read(buf); err != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	return nil
}

// accepting accepts every stream.
type accepting struct{}

func (accepting) Connect(_, _ context.Context, _ gateway.Token, _ []byte) gateway.Answer {
	return gateway.Answer{Outcome: gateway.Accepted, Status: 200}
}
func (accepting) Disconnect(gateway.Notice) {}

// cpu returns the CPU time that this process has used.
func cpu(t *testing.T) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// Publishing an event to 10,000 connections costs at most a tenth more for each than writing
// it to the same streams without topics. The test alternates between both.
func TestFanout(t *testing.T) {
	const rounds, events = 7, 20
	streams := *streams
	all := topics.New(broker.NewMemory(64<<20, time.Minute), false)
	gw := gateway.New(gateway.Config{
		Topics: all, Heartbeat: time.Hour, MaxConnections: streams,
		QueueBytes: 1 << 20, BudgetBytes: 1 << 30, Log: slog.New(slog.DiscardHandler),
	}, accepting{})
	opener, err := stream.NewOpener()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go all.Run(ctx)    //nolint:errcheck // ends by ctx
	go gw.Run(ctx)     //nolint:errcheck // ends by ctx
	go opener.Run(ctx) //nolint:errcheck // ends by ctx
	var mu sync.Mutex
	var conns []*gateway.Conn
	lc := stream.ListenConfig()
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, _, err := gw.Connect(r.Context(), []byte(`{"url":"/","headers":{}}`))
		if err != nil {
			panic(err)
		}
		opener.Open(w, r, c, gateway.Grant{Topics: []string{"everybody"}})
		mu.Lock()
		defer mu.Unlock()
		conns = append(conns, c)
	})}
	go server.Serve(l) //nolint:errcheck // ends by Close
	defer server.Close()
	readers := exec.Command(os.Args[0], strconv.Itoa(streams))
	readers.Env = append(os.Environ(), readersAt+"="+l.Addr().String())
	readers.Stderr = os.Stderr
	if err := readers.Start(); err != nil {
		t.Fatal(err)
	}
	defer readers.Wait()         //nolint:errcheck // killed
	defer readers.Process.Kill() //nolint:errcheck // it may have ended
	await(t, time.Minute, "all streams open", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(conns) == streams
	})

	event := sse.Event{Data: strings.Repeat("x", 256)}
	drained := func() { await(t, 10*time.Second, "everything read", func() bool { return gw.QueuedBytes() == 0 }) }
	direct := func() {
		// The part of the work that delivery needs: divided among the cores, each stream on one.
		var wg sync.WaitGroup
		for part := range slices.Chunk(conns, (streams+1)/2) {
			wg.Go(func() {
				for range events {
					f := frame.Event(event)
					for _, c := range part {
						c.Send(f, false, nil)
					}
				}
			})
		}
		wg.Wait()
	}
	published := func() {
		for range events {
			if _, n, err := all.Publish(ctx, []string{"everybody"}, event, true); err != nil || n != streams {
				t.Errorf("%d receivers, %v", n, err)
			}
		}
	}
	cost := map[string]harness.Latencies{}
	for range rounds {
		for name, f := range map[string]func(){"direct": direct, "published": published} {
			before := cpu(t)
			f()
			cost[name] = append(cost[name], (cpu(t)-before)/time.Duration(streams*events))
			drained()
		}
	}
	d, p := cost["direct"].Quantile(.5), cost["published"].Quantile(.5)
	harness.Figure(t, "CPU of a delivery to %d streams: published %v, written directly %v (%+.1f %%, bound +10 %%)", streams, p, d, 100*(float64(p)/float64(d)-1))
	if *strict && float64(p) > 1.1*float64(d) {
		t.Error("publishing costs over a tenth more than writing directly")
	}
}
