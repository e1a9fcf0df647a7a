package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
)

// passedSocket returns the socket of PORT that systemd has opened and passes to this process
// (sd_listen_fds(3)), or nil if there is none. It stays open while the gateway restarts: clients that
// come meanwhile wait, and are not refused.
func passedSocket(port int) (*net.TCPListener, error) {
	files := activation.Files(true)
	if len(files) == 0 {
		return nil, nil //nolint:nilnil // there is none
	}
	defer func() {
		for _, f := range files {
			_ = f.Close() // the listener has a copy
		}
	}()
	if len(files) > 1 {
		return nil, fmt.Errorf("systemd passes %d sockets, and only that of PORT is expected: remove the others from the socket unit", len(files))
	}
	l, err := net.FileListener(files[0])
	if err != nil {
		return nil, fmt.Errorf("the socket that systemd passes: %w", err)
	}
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		return nil, errors.Join(errors.New("the socket that systemd passes is no TCP socket: ListenStream= must be a port"), l.Close())
	}
	if addr, ok := tcp.Addr().(*net.TCPAddr); !ok || addr.Port != port {
		return nil, errors.Join(fmt.Errorf("the socket that systemd passes has the address %v, and PORT is %d: make them the same", tcp.Addr(), port), l.Close())
	}
	return tcp, nil
}

// notifySystemd tells systemd the state of the service (sd_notify(3)), if it runs as one.
func (s *Server) notifySystemd(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		s.log.Warn("systemd cannot be notified", "error", err.Error())
	}
}

// feedWatchdog shows systemd's watchdog (WatchdogSec=) that the gateway is not stuck, until ctx ends.
// It takes the locks that every request takes first.
func (s *Server) feedWatchdog(ctx context.Context) error {
	limit, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return err
	}
	if limit == 0 {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(limit / 3)
	defer tick.Stop()
	for {
		s.edge.Stats()
		s.topics.Count("")
		s.gw.QueuedBytes()
		s.notifySystemd(daemon.SdNotifyWatchdog)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
