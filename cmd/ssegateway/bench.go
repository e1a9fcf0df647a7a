package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"ssegateway/bench"
)

// benchCommand measures a gateway, or any server of event streams.
func benchCommand() *cobra.Command {
	var o bench.Options
	var asJSON bool
	var svg string
	c := &cobra.Command{
		Use:   "bench [" + strings.Join(bench.Scenarios, "] [") + "]",
		Short: "Measure a gateway, or another server of event streams",
		Long: "bench opens streams, has events published to them, checks every byte, and prints what it cost.\n" +
			"Without --server and --url it starts this program anew for each scenario, with the settings given, and answers its callbacks.\n" +
			"It fails if an event is lost, doubled, torn or out of order. What each figure means: docs/bench.md.",
		RunE: func(c *cobra.Command, scenarios []string) error {
			o.Scenarios = scenarios
			if err := benchProgram(c, &o); err != nil {
				return err
			}
			o.Progress = c.ErrOrStderr()
			o.Live = o.Live || isTerminal(o.Progress)
			ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGTERM, os.Interrupt)
			defer stop()
			context.AfterFunc(ctx, stop) // a second signal does not wait for the end
			report, err := bench.Run(ctx, o)
			report.Options = map[string]string{}
			c.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) { report.Options[f.Name] = f.Value.String() })
			if svg != "" {
				err = errors.Join(err, report.WriteSVG(svg))
			}
			if asJSON {
				out := json.NewEncoder(c.OutOrStdout())
				out.SetIndent("", "  ")
				return errors.Join(err, out.Encode(report))
			}
			return errors.Join(err, report.Print(c.OutOrStdout()))
		},
	}
	o.Flags(c.Flags())
	c.Flags().BoolVar(&asJSON, "json", false, "Print the figures as JSON")
	c.Flags().StringVar(&svg, "svg", "", "`Directory` for plots of latencies and memory")
	c.Flags().BoolVar(&o.Live, "progress", false, "Say every second how far it is; so it does on a terminal")
	c.AddCommand(&cobra.Command{
		Use: "worker", Hidden: true, Args: cobra.NoArgs, Short: "Hold streams for bench, which says on stdin which",
		RunE: func(c *cobra.Command, _ []string) error {
			signal.Ignore(os.Interrupt) // it is meant for bench
			return bench.Work(c.InOrStdin(), c.OutOrStdout())
		},
	})
	return c
}

// benchProgram returns the program to start, with the given settings, and the heartbeat interval.
func benchProgram(c *cobra.Command, o *bench.Options) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	o.Gateway, o.Worker, o.Version = []string{program}, []string{program, "bench", "worker"}, versionString()
	o.Heartbeat = 1
	interval, given := os.LookupEnv("HEARTBEAT_INTERVAL_SECONDS")
	c.InheritedFlags().VisitAll(func(f *pflag.Flag) {
		switch {
		case !f.Changed:
		case f.Name == "heartbeat-interval-seconds":
			interval, given = f.Value.String(), true
		default:
			o.Gateway = append(o.Gateway, "--"+f.Name+"="+f.Value.String())
		}
	})
	if given {
		if o.Heartbeat, err = strconv.Atoi(interval); err != nil {
			return fmt.Errorf("heartbeat interval: %q is no whole number of seconds", interval)
		}
	}
	if o.URL != "" || o.Server != "" {
		if len(o.Gateway) > 1 {
			return errors.New("a gateway's settings, and --server or --url: bench does not start the server that these name")
		}
	} else if given {
		o.Gateway = append(o.Gateway, "--heartbeat-interval-seconds="+interval)
	}
	return nil
}

// isTerminal reports whether output goes to a terminal.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
