package probe

import (
	"context"
	"fmt"
	"time"
)

// departure opens a stream, leaves it, and looks when the gateway knows.
func (p *prober) departure(ctx context.Context, _ *stream) error {
	s, err := p.open(ctx, request{})
	if err != nil {
		return err
	}
	return p.leaving(ctx, s)
}

// leaving leaves a stream. A gateway that does not hear of it hears it at the next write, or never.
func (p *prober) leaving(ctx context.Context, s *stream) error {
	s.leave()
	left := time.Now()
	gone, err := p.isLeft(ctx, s, patience)
	if err != nil {
		return err
	}
	if gone {
		p.measured("leaving", fmt.Sprintf("the gateway knew after %v (%s)", time.Since(left).Round(time.Millisecond), s.version.name))
		return nil
	}
	const writes = 8
	for i := range writes {
		if s.conn.Kind != relayed {
			e, _ := p.next("")
			if err := p.send(ctx, s.conn.Token, e, false); err != nil {
				return err
			}
		}
		if gone, err = p.isLeft(ctx, s, time.Second); err != nil {
			return err
		}
		if gone {
			p.found(LeavingLate, fmt.Sprintf("the gateway did not know for %v that a client had left, and then at write number %d, over %s", patience, i+1, s.version.name))
			return nil
		}
	}
	p.found(LeavingHidden, fmt.Sprintf("%v after a client had left, and %d events, the gateway did not know of it, over %s",
		time.Since(left).Round(time.Second), writes, s.version.name))
	return p.end(ctx, s.conn.Token)
}

// isLeft waits for the gateway to have the connection no more.
func (p *prober) isLeft(ctx context.Context, s *stream, d time.Duration) (bool, error) {
	pause := pollEvery / 10
	for begin := time.Now(); time.Since(begin) < d; pause = min(2*pause, pollEvery) {
		if _, there, err := p.look(ctx, s.conn.Token); err != nil || !there {
			return !there, err
		}
		if err := wait(ctx, pause); err != nil {
			return false, err
		}
	}
	return false, nil
}
