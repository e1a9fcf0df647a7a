//go:build unix

package disk

import (
	"context"
	"encoding/binary"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"ssegateway/internal/broker"
	"ssegateway/sse"
)

// cpu is what this process has used so far.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func benchStore(b *testing.B) *Store {
	s, err := Open(b.TempDir(), Options{MaxBytes: 64 << 20, MaxAge: time.Hour})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan error, 1)
	go func() { over <- s.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := <-over; err != nil {
			b.Error(err)
		}
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	return s
}

// A connection's record, from its connect to its end.
func BenchmarkPutDelete(b *testing.B) {
	s := benchStore(b)
	record := make([]byte, 400)
	began := cpu(b)
	for n := range b.N {
		var token broker.Token
		binary.LittleEndian.PutUint64(token[8:], uint64(n)*0x9E3779B97F4A7C15)
		if s.Put(token, record) != nil || s.Delete(token) != nil {
			b.Fatal("not written")
		}
	}
	b.ReportMetric(float64(cpu(b)-began)/float64(b.N), "cpu-ns/op")
}

func BenchmarkAppend(b *testing.B) {
	for _, publishers := range []int{1, 64} {
		b.Run(strconv.Itoa(publishers), func(b *testing.B) {
			s := benchStore(b)
			p := broker.Publication{Topics: []string{"orders"}, Store: true, Event: sse.Event{Data: string(make([]byte, 200))}}
			began := cpu(b)
			var group sync.WaitGroup
			var begun atomic.Int64
			for range publishers {
				group.Go(func() {
					for begun.Add(1) <= int64(b.N) {
						if _, err := s.Append(context.Background(), p); err != nil {
							b.Error(err)
						}
					}
				})
			}
			group.Wait()
			b.ReportMetric(float64(cpu(b)-began)/float64(b.N), "cpu-ns/op")
		})
	}
}

// A start after a kill with the records of 100,000 connections.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	s, err := Open(dir, Options{MaxBytes: 64 << 20, MaxAge: time.Hour})
	if err != nil {
		b.Fatal(err)
	}
	for n := range 100_000 {
		var token broker.Token
		binary.LittleEndian.PutUint64(token[8:], uint64(n)*0x9E3779B97F4A7C15)
		if err := s.Put(token, make([]byte, 400)); err != nil {
			b.Fatal(err)
		}
	}
	_ = s.dir.Close()
	began := cpu(b)
	for b.Loop() {
		s, err := Open(dir, Options{MaxBytes: 64 << 20, MaxAge: time.Hour})
		if err != nil || len(s.found) != 100_000 {
			b.Fatal(err)
		}
		_ = s.dir.Close()
	}
	b.ReportMetric(float64(cpu(b)-began)/float64(b.N), "cpu-ns/op")
}
