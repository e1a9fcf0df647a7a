package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ssegateway/internal/config"
)

// healthTimeout is how long the gateway may take to answer.
const healthTimeout = 2 * time.Second

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
			cfg, _, err := config.Load(c.Flags(), os.Environ())
			if err != nil {
				return err
			}
			path := "/healthz"
			if ready {
				path = "/readyz"
			}
			answer, err := askHealth(c.Context(), cfg, path)
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

// askHealth returns the answer of the public listener, or an error unless that is 200.
func askHealth(ctx context.Context, cfg config.Config, path string) (answer string, err error) {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	scheme := "http"
	transport := &http.Transport{DisableKeepAlives: true}
	if cfg.TLSCertFile != "" {
		scheme = "https"
		// The certificate names the public host, and the connection does not leave this one.
		transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // see above
	}
	url := scheme + "://127.0.0.1:" + strconv.Itoa(cfg.Port) + path
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return "", fmt.Errorf("no answer: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return "", fmt.Errorf("%s: %w", url, err)
	}
	answer = strings.TrimSpace(string(body))
	if resp.StatusCode != http.StatusOK {
		return "", errors.New(url + " answers " + resp.Status + ": " + answer)
	}
	return answer, nil
}
