package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"ssegateway/internal/config"
	"ssegateway/internal/operator"
)

// healthCommand asks the gateway on this host how it is: for the health check of a container, which
// has no other program.
func healthCommand() *cobra.Command {
	var ready bool
	c := &cobra.Command{
		Use:   "health",
		Short: "Ask the gateway on this host whether it is healthy",
		Long: "health asks the gateway that runs on this host with the same settings whether it is alive, or with --ready whether it is ready for streams.\n" +
			"It exits with 0 if so, and else with 1 and the reason.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, _, err := config.Load(c.Flags(), os.Environ(), 0)
			if err != nil {
				return err
			}
			answer, err := operator.Public(cfg).Health(c.Context(), ready)
			if err != nil {
				return err
			}
			fmt.Fprintln(c.OutOrStdout(), answer)
			return nil
		},
	}
	c.Flags().BoolVar(&ready, "ready", false, "Ask whether it is ready for streams")
	return c
}
