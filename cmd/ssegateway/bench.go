package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"ssegateway/bench"
)

// benchCommand measures a gateway, or any server of event streams.
func benchCommand() *cobra.Command {
	var o bench.Options
	var asJSON bool
	c := &cobra.Command{
		Use:   "bench [connect] [idle] [fanout] [unicast]",
		Short: "Measure a gateway, or another server of event streams",
		Long: "bench opens streams, has events published to them, checks every byte, and prints what it cost.\n" +
			"Without --url it starts this program anew for each scenario, with the settings given, and answers its callbacks.\n" +
			"It fails if an event is lost, doubled, torn or out of order. What each figure means: docs/bench.md.",
		RunE: func(c *cobra.Command, scenarios []string) error {
			o.Scenarios = scenarios
			program, err := os.Executable()
			if err != nil {
				return err
			}
			o.Gateway = []string{program}
			c.InheritedFlags().VisitAll(func(f *pflag.Flag) {
				if f.Changed {
					o.Gateway = append(o.Gateway, "--"+f.Name+"="+f.Value.String())
				}
			})
			if o.URL != "" && len(o.Gateway) > 1 {
				return errors.New("a gateway's settings, and --url: bench does not start the server that --url names")
			}
			o.Progress = c.ErrOrStderr()
			ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGTERM, os.Interrupt)
			defer stop()
			context.AfterFunc(ctx, stop) // a second signal does not wait for the end
			report, err := bench.Run(ctx, o)
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
	return c
}
