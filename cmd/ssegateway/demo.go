package main

import (
	"context"
	"errors"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"ssegateway/internal/demo"
	"ssegateway/internal/server"
)

// demoCommand runs the gateway with a backend and a page to try it with.
func demoCommand() *cobra.Command {
	var pagePort string
	var besidePort uint16
	c := &cobra.Command{
		Use:   "demo",
		Short: "Run the gateway with a small backend and a page to open",
		Long: "demo runs the gateway together with a small backend, whose page shows what the gateway does.\n" +
			"All settings are the gateway's, but CALLBACK_URL, RELAY_URL, RELAY_PATHS and RELAY_RESUME_SECONDS, which are the demo's; its page is added to CORS_ALLOWED_ORIGINS.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			p, err := newProcess(c)
			defer p.end()
			if err != nil {
				return err
			}
			pagePortNamed := c.Flags().Changed("page-port")
			if env := os.Getenv("PAGE_PORT"); env != "" && !pagePortNamed {
				pagePort, pagePortNamed = env, true
			}
			port, err := strconv.ParseUint(pagePort, 10, 16)
			if err != nil || port == 0 {
				return errors.New("--page-port: " + strconv.Quote(pagePort) + " is not valid: must be a whole number, 1 to 65535")
			}
			page := int(port)
			if besidePort != 0 {
				err = p.run(c.Context(), nil, func(ctx context.Context) error {
					return demo.RunBeside(ctx, p.cfg, int(besidePort), page, c.OutOrStdout())
				})
			} else {
				// A port that somebody has chosen is not changed.
				_, named := os.LookupEnv("PORT")
				port := c.Flags().Lookup("port")
				gateway := demo.Port{Number: p.cfg.Port, Fixed: named || port.Changed || strconv.Itoa(p.cfg.Port) != port.DefValue}
				err = demo.Run(c.Context(), p.cfg, demo.Port{Number: page, Fixed: pagePortNamed}, gateway, versionString(), c.OutOrStdout(), p.log, func(ctx context.Context, s *server.Server) error {
					return p.run(ctx, s, s.Run)
				})
			}
			if err != nil {
				return p.fail(err)
			}
			return nil
		},
	}
	c.Flags().StringVar(&pagePort, "page-port", strconv.Itoa(demo.DefaultPagePort), "Port of the page and its backend, on this host only (a whole `number`, 1 to 65535)")
	c.Flags().Uint16Var(&besidePort, "beside", 0, "Run no gateway, only the backend and its page, for gateways behind this `port` of this host; CALLBACK_URL is theirs, with ?secret=")
	return c
}
