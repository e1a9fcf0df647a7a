package cluster

import (
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"ssegateway/e2e/harness"
	"ssegateway/e2e/harness/netns"
)

// A cut link drops all packets, a slow link delays them, and both are as before when mended.
func TestLinks(t *testing.T) {
	newNetwork(t)
	l, err := net.Listen("tcp", addresses[worldHost][front]+":7000")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.CopyN(io.Discard, conn, 4)
				_, _ = conn.Write(make([]byte, 1<<20)) // long enough for segmentation offload
			}()
		}
	}()
	ask := func(limit time.Duration) (took time.Duration, got int, err error) {
		begin := time.Now()
		p, err := harness.Run(harness.Command{Args: netns.On(t, nginxHost, "bash", "-c",
			"exec 3<>/dev/tcp/"+addresses[worldHost][front]+"/7000 && printf 'ping' >&3 && wc -c <&3")})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Kill()
		if _, err := p.Exit(limit); err != nil {
			return 0, 0, err
		}
		_, err = fmt.Sscan(p.Log.Text(), &got)
		return time.Since(begin), got, err
	}
	whole := func(when string) time.Duration {
		t.Helper()
		took, got, err := ask(harness.Patience)
		if err != nil || got != 1<<20 {
			t.Fatalf("%s: %d bytes, %v", when, got, err)
		}
		return took
	}
	nginx := link{nginxHost, front}
	whole("before")
	heal := nginx.slow(t)
	// The handshake and the request take a round trip each.
	if took := whole("slow"); took < 4*slowDelay {
		t.Errorf("a request through a slow link took only %v", took)
	}
	heal()
	whole("after it was slow")
	nginx.cut(t)
	if _, got, err := ask(time.Second); !errors.Is(err, harness.ErrTimeout) {
		t.Errorf("%d bytes came through a cut link, %v", got, err)
	}
	nginx.mend(t)
	whole("after the cut")
}
