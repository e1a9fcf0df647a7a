package browser

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/heapprofiler"
	"github.com/chromedp/cdproto/memory"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"ssegateway/e2e/harness/chromium"
)

var session = flag.Duration("session", 0, "how long TestConsoleSession has the console open")

// TestConsoleSession measures what an open overview costs the browser, and its gateway. Beside it runs another gateway. Each has 10,000
// streams, and 50 more a second come and go. The other one's console is open in every second part of the time: so the two are
// compared with each other and with themselves, and neither what differs between them nor what else the machine does counts.
func TestConsoleSession(t *testing.T) {
	if *session == 0 {
		t.Skip("-session is not given")
	}
	looked, alone := startBusy(t), startBusy(t)
	for _, b := range []*busy{looked, alone} {
		b.wantsStreams(10_000)
	}
	o := looked.operator
	o.open()
	o.wants("figures", `() => /^[0-9]/.test(document.querySelector(".tile .value")?.textContent)`)
	t.Logf("loading: %s", o.loading())
	alone.operator.open()
	churn(10*time.Second, looked, alone)
	var firstHeap, heap float64
	var cpu, other [2]time.Duration // of looked and alone; with a page on both, and on looked only
	const parts = 20
	for i := range parts + 1 {
		used := o.memory()
		if heap = used.heap; i == 0 {
			firstHeap = heap
		}
		t.Logf("after %v: heap of the page %.0f KiB, %.0f nodes, %.0f listeners; resident %.1f MiB, the other %.1f MiB", *session*time.Duration(i)/parts,
			used.heap/1024, used.nodes, used.listeners, looked.resident(), alone.resident())
		if i == parts {
			break
		}
		page := alone.url
		if i%2 == 1 {
			page = "about:blank"
		}
		chromium.Run(t, alone.tab, chromedp.Navigate(page))
		looked.lap()
		alone.lap()
		churn(*session/parts, looked, alone)
		cpu[i%2] += looked.lap()
		other[i%2] += alone.lap()
	}
	both, one := cpu[0].Seconds()/other[0].Seconds(), cpu[1].Seconds()/other[1].Seconds()
	t.Logf("CPU: %v, and the other with a page %v; %v, and the other without a page %v: the page costs %+.2f %%", cpu[0], other[0], cpu[1], other[1], 100*(one/both-1))
	if heap > 1.1*firstHeap+256<<10 {
		t.Errorf("the page has grown from %.0f to %.0f KiB", firstHeap/1024, heap/1024)
	}
}

// busy is a gateway with a console, and streams that bench holds.
type busy struct {
	*operator

	used  time.Duration // processor time of the laps so far
	out   *bytes.Buffer // of bench
	ended chan struct{} // when bench has
	n     int           // streams of churn so far
	last  []net.Conn    // of churn
}

func startBusy(t *testing.T) *busy {
	t.Helper()
	b := &busy{operator: startConsole(t, "HEARTBEAT_INTERVAL_SECONDS=15"), out: new(bytes.Buffer), ended: make(chan struct{})}
	bench := exec.CommandContext(t.Context(), binary, "bench", "idle", "--streams", "10000", "--settle", (2 * *session).String(),
		"--url", "http://"+b.gw.Endpoint.Addr+"/rooms/100/events?user={n}")
	bench.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}
	bench.Stdout, bench.Stderr = b.out, b.out
	if err := bench.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(b.ended)
		_ = bench.Wait() // the end of the test kills it
	}()
	t.Cleanup(func() { <-b.ended })
	return b
}

// churn has streams come and go for a while.
func churn(d time.Duration, on ...*busy) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(d); time.Now().Before(end); <-tick.C {
		slices.Reverse(on) // the first finds the processor's caches cold
		for _, b := range on {
			b.churn()
		}
	}
}

// churn opens five streams, and closes those of the call before.
func (b *busy) churn() {
	b.t.Helper()
	select {
	case <-b.ended:
		b.t.Fatalf("bench has ended: %s", b.out)
	default:
	}
	for _, c := range b.last {
		_ = c.Close()
	}
	b.last = b.streams(b.n, 5)
	b.n += 5
}

func (b *busy) wantsStreams(n int) {
	b.t.Helper()
	for end := time.Now().Add(2 * time.Minute); ; <-time.After(time.Second) {
		var stats struct{ Connections struct{ Open int } }
		_, text := b.gw.Call(b.t, http.MethodGet, "/internal/stats", "")
		if err := json.Unmarshal([]byte(text), &stats); err != nil {
			b.t.Fatal(err)
		}
		if stats.Connections.Open == n {
			return
		}
		if time.Now().After(end) {
			b.t.Fatalf("%d streams", stats.Connections.Open)
		}
	}
}

// lap returns the gateway's processor time since the lap before, to a hundredth of a second.
func (b *busy) lap() time.Duration {
	b.t.Helper()
	now, err := b.gw.CPU()
	if err != nil {
		b.t.Fatal(err)
	}
	since := now - b.used
	b.used = now
	return since
}

// resident returns the gateway's memory in MiB.
func (b *busy) resident() float64 {
	b.t.Helper()
	n, err := b.gw.Memory("VmRSS")
	if err != nil {
		b.t.Fatal(err)
	}
	return float64(n) / (1 << 20)
}

type pageMemory struct{ heap, nodes, listeners float64 }

// memory returns what the page holds behind a garbage collection.
func (o *operator) memory() (m pageMemory) {
	o.t.Helper()
	_, err := chromedp.Run(o.tab, chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		if _, err := cdp.Call(ctx, target, heapprofiler.CollectGarbage, cdp.Empty{}); err != nil {
			return err
		}
		heap, err := cdp.Call(ctx, target, runtime.GetHeapUsage, cdp.Empty{})
		if err != nil {
			return err
		}
		dom, err := cdp.Call(ctx, target, memory.GetDOMCounters, cdp.Empty{})
		if err == nil {
			m = pageMemory{heap.UsedSize, float64(dom.Nodes), float64(dom.JsEventListeners)}
		}
		return err
	}))
	if err != nil {
		o.t.Fatal(err)
	}
	return m
}
