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

// errEnded is the error of a part that ended unasked and returned nil.
var errEnded = errors.New("it ended")

// parts are the goroutines that run for as long as the server does. Each has a run and an
// interrupt. The first failure ends all of them.
//
// oklog/run has the same idea. Here the others are interrupted only after the drain, which
// needs them. The wait for them has a bound: a part that panicked may hold a lock that
// others wait for.
type parts struct {
	failed chan error // has the first failure

	mu      sync.Mutex
	running []*part
	ending  bool // parts may end now without failure
}

type part struct {
	name      string
	interrupt func()
	over      chan struct{}
}

func newParts() *parts { return &parts{failed: make(chan error, 1)} }

// start runs a part until interrupt is called, which may happen more than once and after run has
// returned. If run returns before end is called it is a failure, also if it returns nil or panics.
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

// startUntil is start for a function that runs until its context ends. That context outlives ctx.
func (p *parts) startUntil(ctx context.Context, name string, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	p.start(name, func() error { return run(ctx) }, cancel)
}

// fail records a failure, if it is the first and comes before end.
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

// end allows parts to end from now on without failure.
func (p *parts) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ending = true
}

// stop interrupts all parts, and waits for their end. Its error names those that have not ended
// in time.
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
