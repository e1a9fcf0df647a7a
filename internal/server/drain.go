package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ssegateway/internal/guard"
)

// A drain without a window is over after flushGrace and twice closeGrace, within the
// 4.5 s of the contract.
const (
	endGrace   = 2 * time.Second // for streams and pending connects to end
	flushGrace = 4200 * time.Millisecond
	closeGrace = 100 * time.Millisecond // for requests that are being answered

	// drainGrace is when, counted as flushGrace is, a drain is given up that does not come to
	// its end: something that it waits for hangs.
	drainGrace = leaveGrace + 50*time.Millisecond
	stopGrace  = time.Second // for the parts to end, which they do at once
)

var errDrainHangs = errors.New("the drain did not come to its end")

// Hurry ends the window of the drain, now or as soon as it begins: the remaining streams are
// closed at once, and the backend is notified within the time of a drain without a window.
func (s *Server) Hurry() {
	s.hurryOnce.Do(func() {
		s.hurriedAt = time.Now()
		s.gw.Hurry()
		close(s.hurried)
	})
}

// drainBeside drains, from begin on, while the parts still work. If a part fails meanwhile, or has failed
// before, it returns that error.
func (s *Server) drainBeside(begin time.Time, parts *parts, failure error) error {
	limit, cancel := s.behindWindow(begin, drainGrace)
	defer cancel()
	over := make(chan error, 1)
	go func() { over <- guard.Run(func() error { return s.drain(begin) }) }()
	for {
		select {
		case err := <-over:
			if errors.As(err, new(*guard.Panic)) {
				s.fail(err)
			}
			if failure != nil {
				return failure
			}
			return err
		case another := <-parts.failed:
			s.fail(another)
			if failure == nil {
				failure = another
			}
		case <-limit.Done():
			s.log.Error(errDrainHangs.Error())
			return errors.Join(failure, errDrainHangs)
		}
	}
}

// behindWindow returns a context that ends grace after the window of the drain that began at
// begin.
func (s *Server) behindWindow(begin time.Time, grace time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithDeadline(context.Background(), begin.Add(s.cfg.DrainWindow+grace))
	go func() {
		defer guard.Recover()
		select {
		case <-ctx.Done():
			return
		case <-s.hurried:
		}
		end := begin
		if s.hurriedAt.After(begin) {
			end = s.hurriedAt
		}
		timer := time.NewTimer(time.Until(end.Add(grace)))
		defer timer.Stop()
		select {
		case <-ctx.Done():
		case <-timer.C:
			cancel()
		}
	}()
	return ctx, cancel
}

// undelivered is the error of a drain that could not report that many ends to the backend.
type undelivered int

func (n undelivered) Error() string {
	return fmt.Sprintf("%d disconnect callbacks could not be delivered", int(n))
}

// drain ends all streams, and notifies the backend.
func (s *Server) drain(begin time.Time) error {
	s.log.Info("draining", "connections", s.gw.Stats().Open.Load(), "pending", s.gw.Stats().Pending.Load(), "window", s.cfg.DrainWindow.String())
	s.gw.Drain(s.cfg.DrainWindow, endGrace)
	var left undelivered
	if s.callbacks != nil {
		flushing, cancel := s.behindWindow(begin, flushGrace)
		defer cancel()
		left = undelivered(s.callbacks.Flush(flushing))
	}
	s.leaveCluster(begin, left == 0)
	if left > 0 {
		if s.records == nil {
			s.log.Error("stopped before the backend was told of every end", "undelivered", int(left))
		}
		return left
	}
	s.log.Info("stopped", "ms", time.Since(begin).Milliseconds())
	return nil
}

// closeListeners closes the listeners. Requests in progress have closeGrace to be answered, first those of net/http and
// then those of Fronts.
func (s *Server) closeListeners(listeners []listening) {
	closing, cancel := context.WithTimeout(context.Background(), closeGrace)
	defer cancel()
	for _, l := range listeners {
		_ = l.server.Shutdown(closing)
		_ = l.server.Close() // ends the requests that Shutdown did not wait for
	}
	settling, cancel := context.WithTimeout(context.Background(), closeGrace)
	defer cancel()
	s.streams.Settle(settling)
}
