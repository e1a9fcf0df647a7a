package hostile

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"ssegateway/e2e/harness"
)

var lasting = flag.Duration("lasting", time.Second, "how long an attack lasts, in whole seconds")

// plenty is a limit on open files that is no limit.
const plenty = 20_000

// pace is the time between two connects that are timed.
const pace = 10 * time.Millisecond

// Slow clients keep as many connections as they can, with requests that never end and answers that
// they hardly read. Others connect meanwhile as if they were not there.
func TestSlowClients(t *testing.T) {
	t.Run("slowloris", func(t *testing.T) {
		v := newVisitorWith(t, plenty, false)
		k := kind{say: says("GET / HTTP/1.1\r\nHost: x\r\nX: "), drip: "x"}
		s, err := besiege(t.Context(), v.g.Endpoint.Addr, k, *peers)
		defer s.end()
		if err != nil {
			t.Error(err)
		}
		if held := s.held.Load(); held < int64(*peers)*9/10 {
			t.Errorf("only %d of %d peers hold a connection, so this is no attack", held, *peers)
		}
		over, cancel := context.WithTimeout(t.Context(), *lasting)
		defer cancel()
		v.connects(over, t, fmt.Sprintf("slowloris, %d connections", *peers))
	})
	for _, mode := range [][]string{{"slow headers", "-H"}, {"slow bodies", "-B"}, {"ranges", "-R"}, {"slow reading", "-X"}} {
		t.Run("slowhttptest, "+mode[0], func(t *testing.T) {
			v := newVisitorWith(t, plenty, false)
			over, ended := slowhttptest(t, v.g.Endpoint, mode[1:])
			v.connects(over, t, fmt.Sprintf("slowhttptest, %s, %d connections", mode[0], *peers))
			ended()
		})
	}
}

var (
	colours   = regexp.MustCompile("\x1b\\[[0-9;]*[A-Za-z]")
	available = regexp.MustCompile(`service available: *(YES|NO)`)
)

// slowhttptest attacks with the program of that name, and as many connections as there are peers. The
// program ends early when the gateway has closed all of these, and is then started again. slowhttptest
// returns a context that is done when the attack is over, and a function that looks at what the program
// has said.
func slowhttptest(t *testing.T, e harness.Endpoint, mode []string) (over context.Context, ended func()) {
	t.Helper()
	path, err := exec.LookPath("slowhttptest")
	if err != nil {
		t.Fatal("slowhttptest is not installed: run `make test-deps`")
	}
	args := append(mode[:len(mode):len(mode)], "-c", strconv.Itoa(*peers), "-r", strconv.Itoa(*peers), "-i", "1", "-p", "3",
		"-l", strconv.Itoa(int(lasting.Seconds())), "-u", e.Scheme()+"://"+e.Addr+"/events/attack")
	over, cancel := context.WithCancel(context.Background())
	var failed error
	var out bytes.Buffer
	go func() {
		defer cancel()
		for end := time.Now().Add(*lasting); time.Now().Before(end) && failed == nil; {
			attack := exec.CommandContext(t.Context(), path, args...)
			attack.Stdout, attack.Stderr = &out, &out
			failed = attack.Run()
		}
	}()
	return over, func() {
		<-over.Done()
		text := colours.ReplaceAll(out.Bytes(), nil)
		found := available.FindAllSubmatch(text, -1)
		if failed != nil || len(found) == 0 {
			t.Errorf("slowhttptest failed: %v\n%s", failed, text)
		}
		if slices.ContainsFunc(found, func(f [][]byte) bool { return string(f[1]) == "NO" }) {
			t.Errorf("slowhttptest found the gateway unavailable:\n%s", text)
		}
	}
}

// connects opens streams, one after the other, until the attack is over, and times them.
func (v *visitor) connects(over context.Context, t *testing.T, attack string) {
	t.Helper()
	var took harness.Latencies
	ticker := time.NewTicker(pace)
	defer ticker.Stop()
	for over.Err() == nil || len(took) == 0 {
		begin := time.Now()
		if err := v.open(); err != nil {
			t.Errorf("connect: %v", err)
		}
		took = append(took, time.Since(begin))
		select {
		case <-ticker.C:
		case <-over.Done():
		}
	}
	if took.Quantile(0.99) > *limit {
		t.Errorf("connect: %v", took)
	}
	harness.Figure(t, "%s: p99 of a legitimate connect %.1f ms (bound %v), %d connects", attack, milliseconds(took.Quantile(0.99)), *limit, len(took))
}
