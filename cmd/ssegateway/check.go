package main

import (
	"os"

	"github.com/spf13/cobra"

	"ssegateway/internal/check"
	"ssegateway/internal/config"
)

// checkCommand looks at the settings, and at what they name.
func checkCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "check",
		Short: "Check the settings, and what they name",
		Long: "check looks at the settings, and at what they name: addresses, certificates, the limit on open files, the backend, NATS.\n" +
			"It prints one line for each, and exits with 1 if one fails. The backend gets a connection, and no request. A gateway that runs is not disturbed.",
		Example: "  ssegateway check --config /etc/ssegateway/config.yaml",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, warnings, err := config.Load(c.Flags(), os.Environ(), memoryLimit())
			if !check.Settings(cfg, warnings, problems(err), c.OutOrStdout()) || !check.Named(c.Context(), cfg, c.OutOrStdout()) {
				return errLogged
			}
			return nil
		},
	}
	showOnly(c, "config")
	return c
}
