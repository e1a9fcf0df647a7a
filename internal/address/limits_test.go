package address_test

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/time/rate"
	"pgregory.net/rapid"

	"ssegateway/internal/address"
	"ssegateway/internal/bubble"
)

// start runs the limits until the test's bubble ends.
func start(t interface{ Cleanup(func()) }, streams, perMinute int) *address.Limits {
	l := address.NewLimits(streams, perMinute)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = l.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return l
}

// countsAs is the model's key of an address.
func countsAs(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap().WithZone("")
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	p, _ := addr.Prefix(bits)
	return p
}

// clients are few addresses, some of which count as one.
var clients = []string{
	"192.0.2.1", "192.0.2.2", "::ffff:192.0.2.1", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "::1", "::192.0.2.1", "0:1:c000:201::", "0.0.0.0", "fe80::1%a", "fe80::2%b",
}

// TestLimits opens and ends streams at random, beside a model that has a counter and a bucket of
// golang.org/x/time/rate for each address. Afterwards nothing is left.
func TestLimits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rapid.SyncTest(t, func(t *rapid.T) {
			most := rapid.IntRange(0, 4).Draw(t, "most")
			perMinute := rapid.SampledFrom([]int{0, 1, 2, 3, 10, 60}).Draw(t, "per minute")
			clients := clients[:rapid.SampledFrom([]int{1, 1, 3, len(clients)}).Draw(t, "clients")]
			l := start(t, most, perMinute)
			var open []netip.Addr
			buckets := map[netip.Prefix]*rate.Limiter{}
			tooMany, tooFast := uint64(0), uint64(0)
			t.Repeat(map[string]func(*rapid.T){
				"open": func(t *rapid.T) {
					addr := netip.MustParseAddr(rapid.SampledFrom(clients).Draw(t, "client"))
					k := countsAs(addr)
					has := 0
					for _, other := range open {
						if countsAs(other) == k {
							has++
						}
					}
					if buckets[k] == nil && perMinute > 0 {
						buckets[k] = rate.NewLimiter(rate.Every(time.Minute/time.Duration(perMinute)), perMinute)
					}
					err := l.Take(addr)
					e := (*address.TooManyError)(nil)
					switch {
					case most > 0 && has >= most:
						if !errors.As(err, &e) || e.Wait != 0 {
							t.Fatalf("%v has %d of %d streams: %v", addr, has, most, err)
						}
						l.Refuse(e)
						tooMany++
					case perMinute > 0 && !buckets[k].Allow():
						if !errors.As(err, &e) || e.Wait <= 0 || e.Wait > time.Minute {
							t.Fatalf("%v opens streams too fast: %v", addr, err)
						}
						short := time.Duration((1 - buckets[k].Tokens()) * float64(time.Minute) / float64(perMinute))
						if d := e.Wait - short; d < -time.Microsecond || d > time.Microsecond {
							t.Fatalf("%v has to wait for %v, want %v", addr, e.Wait, short)
						}
						l.Refuse(e)
						tooFast++
					case err != nil:
						t.Fatalf("%v has %d of %d streams: %v", addr, has, most, err)
					default:
						open = append(open, addr)
					}
				},
				"end": func(t *rapid.T) {
					if len(open) == 0 {
						t.Skip("nothing is open")
					}
					i := rapid.IntRange(0, len(open)-1).Draw(t, "which")
					l.Give(open[i])
					open = slices.Delete(open, i, i+1)
				},
				"wait": func(t *rapid.T) { // often about until a token comes, never to that very moment, which rounding decides
					each := 60_000 / max(perMinute, 1)
					ms := rapid.OneOf(rapid.IntRange(0, 40_000), rapid.Map(rapid.IntRange(-500, 10), func(n int) int { return each + n }),
						rapid.Map(rapid.IntRange(-500, 10), func(n int) int { return 60_000 + n })).Draw(t, "ms")
					time.Sleep(time.Duration(ms)*time.Millisecond + 317_130*time.Nanosecond) // fake clock
				},
				"": func(t *rapid.T) {
					if err := l.Check(); err != nil {
						t.Fatal(err)
					}
					if many, fast := l.Refused(); many != tooMany || fast != tooFast {
						t.Fatalf("%d and %d refused, want %d and %d", many, fast, tooMany, tooFast)
					}
					distinct := map[netip.Prefix]bool{}
					for _, addr := range open {
						distinct[countsAs(addr)] = true
					}
					if n := l.Addresses(); n < len(distinct) || perMinute == 0 && n != len(distinct) {
						t.Fatalf("%d addresses, and %d have streams", n, len(distinct))
					}
				},
			})
			for _, addr := range open {
				l.Give(addr)
			}
			time.Sleep(2 * time.Minute) // fake clock
			if n := l.Addresses(); n != 0 {
				t.Fatalf("%d addresses are left", n)
			}
			for _, client := range clients { // all buckets are full, and no counter is above or below 0
				if n := takeAll(l, netip.MustParseAddr(client)); most > 0 && perMinute == 0 && n != most || perMinute > 0 && n > perMinute {
					t.Fatalf("%s opens %d of %d streams, %d in a minute", client, n, most, perMinute)
				}
			}
		})
	})
}

// takeAll opens as many streams as an address may, and 100 at most, and ends them again.
func takeAll(l *address.Limits, addr netip.Addr) (n int) {
	for n < 100 && l.Take(addr) == nil {
		n++
	}
	for range n {
		l.Give(addr)
	}
	return n
}

func TestUnknownAddress(t *testing.T) {
	l := address.NewLimits(1, 1)
	for range 3 {
		if err := l.Take(netip.Addr{}); err != nil {
			t.Error(err)
		}
		l.Give(netip.Addr{})
	}
	if n := l.Addresses(); n != 0 {
		t.Errorf("%d addresses", n)
	}
}

// Many goroutines open and end streams: the limit holds at each moment, and nothing is left.
func TestConcurrent(t *testing.T) {
	const most = 3
	l := address.NewLimits(most, 0)
	addr := netip.MustParseAddr("192.0.2.1")
	var wg sync.WaitGroup
	have := make(chan struct{}, most)
	for range 8 {
		wg.Go(func() {
			for range 5000 {
				if l.Take(addr) != nil {
					continue
				}
				select {
				case have <- struct{}{}:
					<-have
				default:
					t.Error("more streams than allowed")
				}
				l.Give(addr)
			}
		})
	}
	wg.Wait()
	if n := l.Addresses(); n != 0 {
		t.Errorf("%d addresses are left", n)
	}
}

// An address takes 100 bytes at most, and a storm of them leaves nothing.
func TestMemory(t *testing.T) {
	const n = 300_000
	bubble.Test(t, func(t *testing.T) {
		l := start(t, 10, 10)
		random := rand.New(rand.NewPCG(1, 2))
		before := heap()
		var kept []netip.Addr
		for i := range n {
			var b [16]byte
			binary.BigEndian.PutUint64(b[:], 0x2001_0db8<<32|random.Uint64N(1<<32))
			addr := netip.AddrFrom16(b)
			if err := l.Take(addr); err != nil {
				t.Fatal(err)
			}
			if i%2 == 0 {
				l.Give(addr)
			} else {
				kept = append(kept, addr)
			}
		}
		known := l.Addresses()
		kept = slices.Clip(kept)
		each := float64(heap()-before-len(kept)*24) / float64(known)
		t.Logf("%.1f bytes for each of %d addresses", each, known)
		if each > 100 {
			t.Errorf("%.1f bytes for an address", each)
		}
		for _, addr := range kept[1:] {
			l.Give(addr)
		}
		time.Sleep(2 * time.Minute) // fake clock
		kept = kept[:1:1]
		if known := l.Addresses(); known != 1 {
			t.Errorf("%d addresses are left", known)
		}
		l.Give(kept[0])
		if left := heap() - before; left > 100<<10+cap(kept)*24 {
			t.Errorf("%d bytes are left", left)
		}
		runtime.KeepAlive(l)
	})
}

// A storm of addresses, each with one stream and gone, does not grow the table without end.
func TestStorm(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	l := address.NewLimits(0, 1)
	for i := range uint32(address.MaxAddresses + address.MaxAddresses/8) {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], i)
		addr := netip.AddrFrom4(b)
		if err := l.Take(addr); err != nil {
			t.Fatal(err)
		}
		l.Give(addr)
	}
	if n := l.Addresses(); n > address.MaxAddresses || n < address.MaxAddresses*9/10 {
		t.Errorf("%d addresses are remembered, and the bound is %d", n, address.MaxAddresses)
	}
	if err := l.Check(); err != nil {
		t.Error(err)
	}
}

func heap() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

func BenchmarkTakeGive(b *testing.B) {
	l := address.NewLimits(100, 1_000_000)
	addr := netip.MustParseAddr("2001:db8::1")
	b.ReportAllocs()
	for b.Loop() {
		_ = l.Take(addr)
		l.Give(addr)
	}
}
