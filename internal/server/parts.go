package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"ssegateway/internal/guard"
)

// errEnded is of a part that ended though nobody asked for it.
var errEnded = errors.New("it ended")

// parts are what runs for as long as the server does. Each has a run and an interrupt;
// the first that fails is the end of all.
//
// oklog/run has the same idea. Here the others are not interrupted at once but when the
// drain is over, which they are needed for, and the wait for them has a bound: who
// panicked may have left a lock behind that others wait for.
type parts struct {
	failed chan error // has the first failure

	mu      sync.Mutex
	running []*part
	ending  bool // what ends now was asked to
}

type part struct {
	name      string
	interrupt func()
	over      chan struct{}
}

func newParts() *parts { return &parts{failed: make(chan error, 1)} }

// start runs a part until interrupt, which may be called more than once, and when run is
// over. Whatever run returns before that is a failure, nil and a panic too.
func (p *parts) start(name string, run func() error, interrupt func()) {
	started := &part{name, interrupt, make(chan struct{})}
	p.mu.Lock()
	p.running = append(p.running, started)
	p.mu.Unlock()
	go func() {
		defer close(started.over)
		err := guard.Run(run)
		if err == nil {
			err = errEnded
		}
		p.fail(fmt.Errorf("%s: %w", name, err))
	}()
}

// startUntil is start for what runs until a context ends. That outlives ctx.
func (p *parts) startUntil(ctx context.Context, name string, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	p.start(name, func() error { return run(ctx) }, cancel)
}

// fail takes note of a failure, if it is the first, and nobody has asked for the end.
func (p *parts) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ending {
		return
	}
	select {
	case p.failed <- err:
	default:
	}
}

// end lets parts end from now on.
func (p *parts) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ending = true
}

// stop interrupts all parts, and waits for their end. It names those that have not come to
// it in time.
func (p *parts) stop(patience time.Duration) error {
	p.end()
	p.mu.Lock()
	running := slices.Clone(p.running)
	p.mu.Unlock()
	for _, part := range running {
		part.interrupt()
	}
	var left []string
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for _, part := range running {
		if len(left) > 0 { // the time is over
			select {
			case <-part.over:
			default:
				left = append(left, part.name)
			}
			continue
		}
		select {
		case <-part.over:
		case <-timeout.C:
			left = append(left, part.name)
		}
	}
	if len(left) > 0 {
		return fmt.Errorf("these parts did not end: %s", strings.Join(left, ", "))
	}
	return nil
}
