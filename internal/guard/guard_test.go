package guard_test

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"ssegateway/internal/guard"
)

func planted() { panic("planted") }

// TestRun: an error stays, a panic becomes one, with the stack of where it was.
func TestRun(t *testing.T) {
	want := errors.New("it broke")
	if got := guard.Run(func() error { return want }); !errors.Is(got, want) {
		t.Error(got)
	}
	err := guard.Run(func() error { planted(); return nil })
	var p *guard.Panic
	if !errors.As(err, &p) || p.Error() != "panic: planted" || !strings.Contains(string(p.Stack), "guard_test.planted") {
		t.Error(err)
	}
}

// TestRecover: all who watch are told of a goroutine's panic, which ends nothing else.
func TestRecover(t *testing.T) {
	var told []string
	tell := func(p *guard.Panic) { told = append(told, p.Error()) }
	defer guard.Watch(tell)()
	stop := guard.Watch(tell)
	var group sync.WaitGroup
	for range 2 {
		group.Go(func() {
			defer guard.Recover()
			planted()
		})
		group.Wait()
		stop() // twice does no harm
	}
	group.Go(func() { defer guard.Recover() })
	group.Wait()
	if strings.Join(told, ", ") != "panic: planted, panic: planted, panic: planted" {
		t.Error(told)
	}
}

// TestRecoverWithoutWatch: a panic stays what it is where nobody would end the process.
func TestRecoverWithoutWatch(t *testing.T) {
	defer func() {
		if v := recover(); v != "planted" {
			t.Error(v)
		}
	}()
	func() {
		defer guard.Recover()
		planted()
	}()
}
