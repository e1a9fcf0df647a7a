//go:build simulate && unix

package gateway_test

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"ssegateway/internal/broker"
	"ssegateway/internal/frame"
	"ssegateway/internal/gateway"
	"ssegateway/sse"
)

var (
	simulateMost = flag.Int("most", 1_000_000, "the most connections to simulate")
	simulateOut  = flag.String("out", ".", "the directory for simulation.md and simulation.svg")
)

// content accepts everybody, and keeps nothing.
type content struct{}

func (content) Connect(context.Context, gateway.Token, []byte) gateway.Answer {
	return gateway.Answer{Outcome: gateway.Accepted}
}
func (content) Disconnect(gateway.Notice) {}

// figure is a column of the table.
type figure struct {
	name   string
	colour string // of its line in the plot; none: only in the table
	of     func(*measured) float64
}

var figures = []figure{
	{"heap, B/connection", "#000", func(m *measured) float64 { return m.heap }},
	{"register, CPU ns", "#1f77b4", func(m *measured) float64 { return m.register.cpu }},
	{"remove, CPU ns", "#17becf", func(m *measured) float64 { return m.remove.cpu }},
	{"fan-out, ms to all", "", func(m *measured) float64 { return m.fanout.wall * float64(m.conns) / 1e6 }},
	{"fan-out, CPU ns/delivery", "#d62728", func(m *measured) float64 { return m.fanout.cpu }},
	{"heartbeat round, ms", "", func(m *measured) float64 { return m.beat.wall * float64(m.conns) / 1e6 }},
	{"heartbeat, CPU ns/beat", "#ff7f0e", func(m *measured) float64 { return m.beat.cpu }},
	{"send to one, p50 ns", "", func(m *measured) float64 { return m.p50 }},
	{"send to one, p99 ns", "#2ca02c", func(m *measured) float64 { return m.p99 }},
	// What memory and caches alone have to do with that.
	{"look at one, p99 ns", "#8c564b", func(m *measured) float64 { return m.look }},
	{"one collection, CPU ns/connection", "#9467bd", func(m *measured) float64 { return m.gc }},
	{"longest GC pause, µs", "", func(m *measured) float64 { return m.pause }},
}

// cost is in nanoseconds for each connection.
type cost struct{ wall, cpu float64 }

// measured is a row of the table.
type measured struct {
	conns                           int
	heap, p50, p99, look, gc, pause float64
	register, remove, fanout, beat  cost
}

// TestSimulation measures a gateway whose streams are in memory, with more and more
// connections: what one of them costs must not depend on how many there are. Only
// memory is judged here, since times depend on the machine and its caches.
func TestSimulation(t *testing.T) {
	var rows []*measured
	for _, n := range []int{10_000, 30_000, 100_000, 300_000, 1_000_000} {
		if n > *simulateMost {
			break
		}
		m := simulate(t, n)
		t.Logf("%+v", *m)
		rows = append(rows, m)
	}
	if first, last := rows[0], rows[len(rows)-1]; last.heap > 1.3*first.heap {
		t.Errorf("%.0f bytes for a connection of %d, %.0f of %d", last.heap, last.conns, first.heap, first.conns)
	}
	for name, content := range map[string]string{"simulation.md": table(rows), "simulation.svg": plot(rows)} {
		if err := os.WriteFile(filepath.Join(*simulateOut, name), []byte(content), 0o644); err != nil {
			t.Error(err)
		}
	}
}

func simulate(t *testing.T, n int) *measured {
	t.Helper()
	m := &measured{conns: n}
	gw := gateway.New(gateway.Config{
		Heartbeat: time.Hour, MaxConnections: n, QueueBytes: 1 << 20, BudgetBytes: 1 << 30,
		Broker: broker.NewMemory(1<<20, time.Hour), Log: slog.New(slog.DiscardHandler),
	}, content{})
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error)
	go func() { over <- gw.Run(ctx) }()
	conns := make([]*gateway.Conn, 0, n)
	tokens := make([]gateway.Token, 0, n)
	grant := gateway.Grant{Topics: []string{"all"}}
	before := heap()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	collections := stats.NumGC
	m.register = costOf(n, 1, func() {
		for range n {
			c, _, err := gw.Connect(ctx, []byte(`{"url":"/events?room=7","headers":{"Host":"app.example.org","Cookie":"session=0123456789abcdef"}}`))
			if err != nil || !c.Open(&sink{}, frame.Frame{}, grant) {
				t.Fatal("the connection did not open", err)
			}
			conns = append(conns, c)
		}
	})
	m.heap = float64(heap()-before) / float64(n)
	for _, c := range conns {
		tokens = append(tokens, c.Token())
	}

	m.gc = costOf(n, 3, runtime.GC).cpu
	event := sse.Event{Data: strings.Repeat("x", 256)}
	m.fanout = costOf(n, 7, func() {
		if _, got, err := gw.Publish(ctx, grant.Topics, event, true); err != nil || got != n {
			t.Fatalf("%d receivers, %v", got, err)
		}
	})
	m.beat = costOf(n, 7, gw.Turn)
	f := eventOf(t, 256)
	m.p50, m.p99 = timesOf(n, func(i int) { gw.Find(tokens[i]).Send(f, false, nil) })
	_, m.look = timesOf(n, func(i int) { conns[i].State() })
	runtime.ReadMemStats(&stats)
	for i := max(collections, stats.NumGC-min(stats.NumGC, 256)); i < stats.NumGC; i++ {
		m.pause = max(m.pause, float64(stats.PauseNs[i%256])/1e3)
	}
	m.remove = costOf(n, 1, func() {
		for _, c := range conns {
			c.Leave(gateway.ClientClosed, 0)
		}
	})
	cancel()
	if err := <-over; err != nil {
		t.Error(err)
	}
	for _, left := range gw.Leftovers() {
		t.Error(left)
	}
	return m
}

// timesOf does something many times, each time with another of n, at random.
func timesOf(n int, do func(i int)) (p50, p99 float64) {
	took := make([]time.Duration, 300_000)
	for k := range took {
		i := rand.IntN(n)
		start := time.Now()
		do(i)
		took[k] = time.Since(start)
	}
	slices.Sort(took)
	return float64(took[len(took)/2]), float64(took[len(took)*99/100])
}

// costOf is the median of several rounds that each do something for n connections.
func costOf(n, rounds int, round func()) cost {
	wall, cpu := make([]float64, rounds), make([]float64, rounds)
	for i := range rounds {
		began, used := time.Now(), usedCPU()
		round()
		wall[i] = float64(time.Since(began)) / float64(n)
		cpu[i] = float64(usedCPU()-used) / float64(n)
	}
	slices.Sort(wall)
	slices.Sort(cpu)
	return cost{wall[rounds/2], cpu[rounds/2]}
}

func usedCPU() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func table(rows []*measured) string {
	var b strings.Builder
	line := func(first string, cell func(*measured) string) {
		fmt.Fprintf(&b, "| %s |", first)
		for _, m := range rows {
			fmt.Fprintf(&b, " %s |", cell(m))
		}
		b.WriteByte('\n')
	}
	line("connections", func(m *measured) string { return fmt.Sprint(m.conns) })
	line("---", func(*measured) string { return "---:" })
	for _, f := range figures {
		line(f.name, func(m *measured) string { return fmt.Sprintf("%.4g", f.of(m)) })
	}
	return b.String()
}

// plot shows how each cost grows: both axes are logarithmic, and 1 is what it is
// with the fewest connections. A level line is linear growth of the whole.
func plot(rows []*measured) string {
	const width, height, left, top = 640, 320, 50, 20
	first, last := float64(rows[0].conns), float64(rows[len(rows)-1].conns)
	x := func(m *measured) float64 {
		return left + width*math.Log(float64(m.conns)/first)/max(math.Log(last/first), 1)
	}
	y := func(ratio float64) float64 { // from 1/4 to 16
		return top + height*(4-math.Log2(min(max(ratio, 0.25), 16)))/6
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 960 380" font-family="sans-serif" font-size="12">`+"\n"+`<rect width="960" height="380" fill="#fff"/>`+"\n")
	for ratio := 0.25; ratio <= 16; ratio *= 2 {
		fmt.Fprintf(&b, `<path d="M%d %.1fh%d" stroke="#ddd"/><text x="8" y="%.1f">%g×</text>`+"\n", left, y(ratio), width, y(ratio)+4, ratio)
	}
	for _, m := range rows {
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%d</text>`+"\n", x(m), top+height+20, m.conns)
	}
	at := top
	for _, f := range figures {
		if f.colour == "" {
			continue
		}
		var points []string
		for _, m := range rows {
			points = append(points, fmt.Sprintf("%.1f,%.1f", x(m), y(f.of(m)/f.of(rows[0]))))
		}
		fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/><text x="%d" y="%d" fill="%s">%s</text>`+"\n",
			strings.Join(points, " "), f.colour, left+width+40, at+10, f.colour, f.name)
		at += 20
	}
	return b.String() + "</svg>\n"
}
