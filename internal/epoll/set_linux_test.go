package epoll

import (
	"errors"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Whoever waits for events that are always there lets others run. Whoever had to wait, does so at once.
func TestWaitYields(t *testing.T) {
	set, err := New(1)
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	fd := int(w.Fd())
	if err := unix.EpollCtl(set.FD, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLOUT, Fd: int32(fd)}); err != nil {
		t.Fatal(err)
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for range 100 {
		var ran atomic.Bool
		if _, err := set.Wait(); err != nil {
			t.Fatal(err)
		}
		go ran.Store(true)
		for range 2 { // before one of them the scheduler may look at this goroutine first
			if events, err := set.Wait(); err != nil || len(events) != 1 {
				t.Fatal(events, err)
			}
		}
		if !ran.Load() {
			t.Fatal("the other goroutine had no turn")
		}
	}
	set.SetDeadline(time.Unix(1, 0))
	if _, err := set.Wait(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("behind the deadline: %v", err)
	}
}
