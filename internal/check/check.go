// Package check looks at the settings of a gateway and at what they name, before it is started or
// beside one that runs. It changes nothing, and asks the backend nothing.
package check

import (
	"context"
	"fmt"
	"io"
	"time"

	"ssegateway/internal/broker/disk"
	"ssegateway/internal/broker/nats"
	"ssegateway/internal/config"
	"ssegateway/internal/operator"
	"ssegateway/internal/server"
)

const (
	// patience is how long each look at the network may take.
	patience = 5 * time.Second
	// soon is how near the end of a certificate is a warning.
	soon = 14 * 24 * time.Hour
)

// report prints what was found, one line each.
type report struct {
	out    io.Writer
	failed bool
}

func (r *report) ok(format string, args ...any) { fmt.Fprintf(r.out, "ok    "+format+"\n", args...) }

func (r *report) warn(format string, args ...any) { fmt.Fprintf(r.out, "warn  "+format+"\n", args...) }

func (r *report) fail(format string, args ...any) {
	r.failed = true
	fmt.Fprintf(r.out, "fail  "+format+"\n", args...)
}

// Settings prints the problems of the settings, and reports whether there are none. What they name
// is worth a look only then.
func Settings(cfg config.Config, warnings, problems []error, out io.Writer) bool {
	r := &report{out: out}
	for _, problem := range problems {
		r.fail("%v", problem)
	}
	for _, warning := range warnings {
		r.warn("%v", warning)
	}
	if r.failed {
		return false
	}
	from := "flags and environment"
	if cfg.ConfigFile != "" {
		from += ", and " + cfg.ConfigFile
	}
	r.ok("settings: valid (%s)", from)
	return true
}

// Named looks at what valid settings name, prints what it finds, and reports whether nothing failed.
func Named(ctx context.Context, cfg config.Config, out io.Writer) bool {
	r := &report{out: out}
	for _, warning := range server.Warnings(cfg) {
		r.warn("%s", warning)
	}
	r.listeners(ctx, cfg)
	r.certificates(cfg)
	r.descriptors(cfg)
	r.callback(ctx, cfg)
	r.broker(ctx, cfg)
	r.state(ctx, cfg)
	return !r.failed
}

// descriptors looks at the limit on open files.
func (r *report) descriptors(cfg config.Config) {
	limit, streams, err := server.Descriptors(cfg)
	switch {
	case err != nil:
		r.fail("%v", err)
	case cfg.MaxConnections > streams:
		r.warn("MAX_CONNECTIONS: %d streams, but the limit on open files here is %d, which has room for %d: raise it (ulimit -n, LimitNOFILE=)", cfg.MaxConnections, limit, streams)
	default:
		r.ok("MAX_CONNECTIONS: the limit on open files here is %d, which has room for %d streams", limit, streams)
	}
}

// state looks whether STATE_DIR can be used.
func (r *report) state(ctx context.Context, cfg config.Config) {
	if cfg.StateDir == "" {
		return
	}
	inUse, err := disk.Look(cfg.StateDir)
	switch {
	case err != nil:
		r.fail("STATE_DIR: %v", err)
	case inUse && isGateway(ctx, operator.Public(cfg)):
		r.ok("STATE_DIR: %s is in use, and a gateway runs", cfg.StateDir)
	case inUse:
		r.fail("STATE_DIR: %s is in use by another process: stop that one, or name another directory", cfg.StateDir)
	default:
		r.directory("STATE_DIR", cfg.StateDir)
	}
}

// broker looks whether NATS can be used.
func (r *report) broker(ctx context.Context, cfg config.Config) {
	if cfg.NATSURL == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	version, err := nats.Probe(ctx, nats.Config{URL: cfg.NATSURL, CredentialsFile: cfg.NATSCredentialsFile, CAFile: cfg.NATSCAFile})
	if err != nil {
		r.fail("NATS_URL: %v", err)
		return
	}
	r.ok("NATS_URL: NATS %s takes connections, and has JetStream", version)
}
