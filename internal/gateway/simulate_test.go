//go:build simulate && unix

package gateway_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"ssegateway/internal/api"
	"ssegateway/internal/broker"
	"ssegateway/internal/connections"
	"ssegateway/internal/frame"
	"ssegateway/internal/gateway"
	"ssegateway/internal/topics"
	"ssegateway/sse"
)

var (
	simulateMost = flag.Int("most", 1_000_000, "the most connections to simulate")
	simulateDocs = flag.String("docs", "", "the directory whose scale.md and scale.svg get the figures")
)

// figure is a measured figure, and a line of the table.
type figure int

const (
	heapBytes figure = iota
	register
	remove
	fanOut
	fanOutAll
	beat
	beatAll
	collection
	pause
	postP50
	postP99
	postGrowth
	sendP50
	sendP99
	hotP50
	hotP99
	fetch
	figures
)

// measured are the figures for a number of connections.
type measured struct {
	conns int
	of    [figures]float64
}

const (
	fewest  = 10_000
	rounds  = 3 // each with all sizes, so that a drift of the machine affects all; figures are medians
	hotSet  = 1000
	sends   = 200_000
	posts   = 1000 // in a turn
	turns   = 30
	fetches = 1_000_000
)

// TestSimulation measures a gateway whose streams are in memory, with more and more connections.
// The cost of one connection must not depend on their number, except that the machine's memory
// is slower than its caches.
func TestSimulation(t *testing.T) {
	few, _ := newSimulation(t, fewest)
	var runs [][]*measured // by size and round
	for round := range rounds {
		for i, n := range []int{fewest, 30_000, 100_000, 300_000, 1_000_000} {
			if n > *simulateMost {
				break
			}
			if round == 0 {
				runs = append(runs, nil)
			}
			m := simulate(t, n, few)
			t.Logf("%+v", *m)
			runs[i] = append(runs[i], m)
		}
	}
	few.close()
	var rows []*measured
	for _, of := range runs {
		m := &measured{conns: of[0].conns}
		for f := range m.of {
			var values []float64
			for _, run := range of {
				values = append(values, run.of[f])
			}
			m.of[f] = middle(values)
		}
		rows = append(rows, m)
	}
	judge(t, rows)
	t.Log("\n" + table(rows))
	if *simulateDocs != "" {
		writeDocs(t, *simulateDocs, rows)
	}
}

// touched is how many cache lines an operation fetches from memory if none of them are cached.
// The address of each is in the one before, so none can be prefetched.
var touched = map[figure]float64{
	beat:    2, // the connection and its stream
	fanOut:  3, // what the connection has for its topics too
	sendP50: 4, // two of the registry's map too
}

// judge fails the test if a figure grows faster than it may.
func judge(t *testing.T, rows []*measured) {
	t.Helper()
	first, last := rows[0], rows[len(rows)-1]
	if few, many := first.of[heapBytes], last.of[heapBytes]; many > 1.1*few {
		t.Errorf("%.0f bytes for a connection of %d, %.0f of %d", many, last.conns, few, first.conns)
	}
	if grown := last.of[postGrowth]; grown > 1.2 { // what a backend sees
		t.Errorf("the p99 of POST /internal/send to one of %d is %.2f times that of %d", last.conns, grown, first.conns)
	}
	// The rest may grow only by the time of the fetches, plus half of that as a margin.
	for f, lines := range touched {
		few, many := first.of[f], last.of[f]
		if may := few + 1.5*lines*(last.of[fetch]-first.of[fetch]); many > 1.2*may {
			t.Errorf("%s: %.0f of %d, %.0f of %d: more than %g fetches of %.0f ns explain",
				figureNames[f].name, few, first.conns, many, last.conns, lines, last.of[fetch])
		}
	}
}

// content is a backend that accepts every connection, and keeps nothing.
type content struct{}

func (content) Connect(_, _ context.Context, _ gateway.Token, _ []byte) gateway.Answer {
	return gateway.Answer{Outcome: gateway.Accepted}
}
func (content) Disconnect(gateway.Notice) {}

// simulation is a gateway with its connections.
type simulation struct {
	gw     *gateway.Gateway
	topics *topics.Topics
	conns  []*gateway.Conn
	tokens []gateway.Token
	close  func()
}

var everybody = gateway.Grant{Topics: []string{"all"}}

// newSimulation returns a gateway with n connections. It measures their creation too.
func newSimulation(t *testing.T, n int) (*simulation, *measured) {
	t.Helper()
	m := &measured{conns: n}
	all := topics.New(broker.NewMemory(1<<20, time.Hour), false)
	s := &simulation{topics: all, gw: gateway.New(gateway.Config{
		Heartbeat: time.Hour, MaxConnections: n, QueueBytes: 1 << 20, BudgetBytes: 1 << 30,
		Topics: all, Log: slog.New(slog.DiscardHandler),
	}, content{})}
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error, 2)
	go func() { over <- s.gw.Run(ctx) }()
	go func() { over <- all.Run(ctx) }()
	s.conns = make([]*gateway.Conn, 0, n)
	before := heap()
	m.of[register], _ = costOf(n, 1, func() {
		for range n {
			c, _, err := s.gw.Connect(ctx, []byte(`{"url":"/events?room=7","headers":{"Host":"app.example.org","Cookie":"session=0123456789abcdef"}}`))
			if err != nil || !c.Open(&sink{}, frame.Frame{}, everybody) {
				t.Fatal("the connection did not open", err)
			}
			s.conns = append(s.conns, c)
		}
	})
	m.of[heapBytes] = float64(heap()-before) / float64(n)
	for _, c := range s.conns {
		s.tokens = append(s.tokens, c.Token())
	}
	s.close = func() {
		m.of[remove], _ = costOf(n, 1, func() {
			for _, c := range s.conns {
				c.Abort(gateway.ClientClosed, 0)
			}
		})
		cancel()
		for range cap(over) {
			if err := <-over; err != nil {
				t.Error(err)
			}
		}
		for _, left := range s.gw.Leftovers() {
			t.Error(left)
		}
	}
	return s, m
}

// simulate measures n connections, and a few of another gateway for comparison.
func simulate(t *testing.T, n int, few *simulation) *measured {
	t.Helper()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	collections := stats.NumGC
	s, m := newSimulation(t, n)
	m.of[collection], _ = costOf(n, 3, runtime.GC)
	event := sse.Event{Data: strings.Repeat("x", 256)}
	times := max(7, 1_000_000/n) // a round of few connections is short
	m.of[fanOut], m.of[fanOutAll] = costOf(n, times, func() {
		if _, got, err := s.topics.Publish(t.Context(), everybody.Topics, event, true); err != nil || got != n {
			t.Fatalf("%d receivers, %v", got, err)
		}
	})
	m.of[beat], m.of[beatAll] = costOf(n, times, s.gw.Turn)

	f := eventOf(t, 256)
	send := func(token gateway.Token) { s.gw.Find(token).Send(f, false, nil) }
	m.of[sendP50], m.of[sendP99] = timesOf(sends, s.tokens, send)
	hot := make([]gateway.Token, hotSet)
	for i := range hot {
		hot[i] = s.tokens[rand.IntN(n)]
	}
	timesOf(sends/10, hot, send) // from now on they are hot
	m.of[hotP50], m.of[hotP99] = timesOf(sends, hot, send)
	m.of[fetch] = fetchTime(4 * n)
	m.of[postP50], m.of[postP99], m.of[postGrowth] = timePosts(t, s, few)

	runtime.ReadMemStats(&stats)
	for i := max(collections, stats.NumGC-min(stats.NumGC, 256)); i < stats.NumGC; i++ {
		m.of[pause] = max(m.of[pause], float64(stats.PauseNs[i%256])/1e3)
	}
	s.close()
	return m
}

// timePosts sends by HTTP over a socket, one send after another, each to a random connection.
// Turns with many connections and with few alternate, so that other load on the machine affects
// both. The times, in µs, and the growth of the p99 are medians over the turns.
func timePosts(t *testing.T, many, few *simulation) (p50, p99, grown float64) {
	t.Helper()
	toMany, stop := many.sender(t)
	defer stop()
	toFew, stop := few.sender(t)
	defer stop()
	var p50s, p99s, fewP99s []float64
	for range turns {
		_, p99 := timesOf(posts, few.tokens, toFew)
		fewP99s = append(fewP99s, p99)
		p50, p99 := timesOf(posts, many.tokens, toMany)
		p50s, p99s = append(p50s, p50), append(p99s, p99)
	}
	return middle(p50s) / 1e3, middle(p99s) / 1e3, middle(p99s) / middle(fewP99s)
}

// sender serves the simulation's API on a socket, and returns a function that sends over it.
func (s *simulation) sender(t *testing.T) (send func(gateway.Token), stop func()) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	own := connections.NewOwn(s.gw, s.topics, func() string { return "node" }, log)
	server := &http.Server{Handler: api.New(own, 1<<20, s.gw.MaxTopics(), nil, api.Past{}, log), ReadHeaderTimeout: time.Minute}
	over := make(chan error)
	go func() { over <- server.Serve(listener) }()
	client, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	const token = "00000000-0000-4000-8000-000000000000"
	body := `{"token":"` + token + `","event":{"data":"` + strings.Repeat("x", 256) + `"}}`
	request := fmt.Appendf(nil, "POST /internal/send HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	at := bytes.Index(request, []byte(token))
	answer := make([]byte, 4096)
	send = func(to gateway.Token) {
		copy(request[at:], to.String())
		if _, err := client.Write(request); err != nil {
			t.Fatal(err)
		}
		for got := 0; !bytes.HasSuffix(answer[:got], []byte(`{"status":"ok"}`)); {
			n, err := client.Read(answer[got:])
			if err != nil {
				t.Fatalf("%v after %q", err, answer[:got])
			}
			got += n
		}
	}
	return send, func() {
		_ = client.Close()
		_ = server.Close()
		if err := <-over; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}
}

// line is a cache line that points to the next one.
type line struct {
	next *line
	_    [56]byte
}

// fetchTime returns the time in ns to follow one pointer, in a chain through n cache lines in an
// unpredictable order.
func fetchTime(n int) float64 {
	lines := make([]line, n)
	order := rand.Perm(n)
	for i, at := range order {
		lines[at].next = &lines[order[(i+1)%n]]
	}
	at := &lines[0]
	start := time.Now()
	for range fetches {
		at = at.next
	}
	took := time.Since(start)
	runtime.KeepAlive(at)
	return float64(took) / fetches
}

// timesOf calls do many times, each time with a random token, and returns how long a call takes
// in ns, including the clock's own time.
func timesOf(times int, tokens []gateway.Token, do func(gateway.Token)) (p50, p99 float64) {
	took := make([]time.Duration, times)
	for k := range took {
		token := tokens[rand.IntN(len(tokens))]
		start := time.Now()
		do(token)
		took[k] = time.Since(start)
	}
	slices.Sort(took)
	return float64(took[len(took)/2]), float64(took[len(took)*99/100])
}

// costOf calls do, which does something for n connections, several times. It returns the medians
// of the CPU time in ns per connection, and of the time in ms for all.
func costOf(n, times int, do func()) (cpu, all float64) {
	used, took := make([]float64, times), make([]float64, times)
	for i := range times {
		start, before := time.Now(), usedCPU()
		do()
		took[i] = float64(time.Since(start)) / 1e6
		used[i] = float64(usedCPU()-before) / float64(n)
	}
	return middle(used), middle(took)
}

func middle(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

func usedCPU() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
