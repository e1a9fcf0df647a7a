package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"github.com/spf13/cobra"

	"ssegateway/internal/config"
	"ssegateway/internal/logging"
	"ssegateway/internal/server"
)

// process is what a command has of its process: settings, a log, and signals.
type process struct {
	command *cobra.Command
	cfg     config.Config
	log     *slog.Logger
	level   *slog.LevelVar
	lines   *logging.Writer
	ends    chan os.Signal
	reloads chan os.Signal
}

// newProcess reads the settings, and makes the logger that they configure. The caller must
// call end, even after an error.
func newProcess(c *cobra.Command) (*process, error) {
	p := &process{command: c, level: new(slog.LevelVar), ends: make(chan os.Signal, 2), reloads: make(chan os.Signal, 1)}
	signal.Notify(p.ends, syscall.SIGTERM, os.Interrupt) // what comes before run is obeyed then
	// Neither may ever end the process: SIGHUP requests a reload, and SIGPIPE means
	// that nobody reads the log any more.
	signal.Notify(p.reloads, syscall.SIGHUP)
	signal.Ignore(syscall.SIGPIPE)
	cfg, warnings, err := config.Load(c.Flags(), os.Environ(), memoryLimit())
	p.cfg = cfg
	p.level.Set(cfg.LogLevel)
	p.log, p.lines = logging.Start(os.Stderr, p.level, cfg.LogFormat)
	p.complain(warnings, err)
	if err != nil {
		return p, errLogged
	}
	if !cfg.PProf {
		runtime.MemProfileRate = 0 // sampling allocations costs memory and time, and nobody could read it
	}
	if cfg.MemoryLimit > 0 {
		limitGo(cfg.MemoryLimit, p.log)
	}
	return p, nil
}

// end writes what is left of the log.
func (p *process) end() { p.lines.Close() }

// complain logs the problems of the settings.
func (p *process) complain(warnings []error, err error) {
	for _, w := range warnings {
		p.log.Error(w.Error())
	}
	if err != nil {
		for _, problem := range problems(err) {
			p.log.Error(problem.Error())
		}
	}
}

// fail logs why a command failed.
func (p *process) fail(err error) error {
	p.log.Error(err.Error())
	return errLogged
}

// run runs s, which may be nil, under the signals of the process: SIGTERM and SIGINT end ctx,
// a second one hurries, a third kills; SIGHUP reloads.
func (p *process) run(ctx context.Context, s *server.Server, run func(context.Context) error) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer signal.Stop(p.ends)
	var obeying sync.WaitGroup
	defer obeying.Wait()
	over := make(chan struct{})
	defer close(over)
	obeying.Go(func() {
		for n := 0; ; {
			select {
			case <-over:
				return
			case <-p.reloads:
				p.reload(s)
			case name := <-p.ends:
				if n++; n == 1 {
					stop()
					continue
				}
				signal.Stop(p.ends) // what comes now kills
				p.log.Warn("told to hurry: what is left is closed at once, another signal kills", "signal", name.String())
				if s != nil {
					s.Hurry()
				}
			}
		}
	})
	return run(ctx)
}

// reload applies what may change while s runs: certificates, and the log level of the
// configuration file. It logs in one line what it has applied.
func (p *process) reload(s *server.Server) {
	var done []slog.Attr
	level := p.level.Level()
	cfg, warnings, err := config.Load(p.command.Flags(), os.Environ(), memoryLimit())
	if p.complain(warnings, err); err == nil {
		level = cfg.LogLevel
		done = append(done, slog.String("log_level", strings.ToLower(level.String())))
	}
	if s != nil {
		loaded, err := s.ReloadCertificates()
		if err != nil {
			p.log.Error("the TLS certificate is not usable, the former stays in use", "error", err.Error())
		}
		if len(loaded) > 0 {
			done = append(done, slog.String("certificate", strings.Join(loaded, ",")))
		}
	}
	message := "reloaded"
	if len(done) == 0 {
		message = "nothing was reloaded"
	}
	p.level.Set(min(level, p.level.Level())) // so that the line is there by the one or the other
	p.log.LogAttrs(context.Background(), slog.LevelInfo, message, done...)
	p.level.Set(level)
}
