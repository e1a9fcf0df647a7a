package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"ssegateway/internal/config"
	"ssegateway/internal/operator"
	"ssegateway/internal/probe"
)

// exitCode is the error of a command that has said why it exits with this code.
type exitCode int

// Exit codes of the probe.
const (
	foundFaults exitCode = 1
	noProbe     exitCode = 2
)

// Error implements error.
func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// probeCommand probes the path from a client to the gateway.
func probeCommand() *cobra.Command {
	o := probe.Options{Header: http.Header{}}
	var headers, cookies []string
	var asJSON bool
	c := &cobra.Command{
		Use:   "probe URL",
		Short: "Find what the proxies in front of the gateway do to streams",
		Long: "probe opens streams at the public URL, sends to them by the gateway's API, and says what the proxies in between do to them, and which setting ends that.\n" +
			"The backend has to accept the streams. It exits with 0 if nothing was found, 1 if something was, and 2 if it could not probe.",
		Example: "  ssegateway probe https://events.example.com/orders/7 --cookie session=abc --for 10m",
	}
	c.Args = func(c *cobra.Command, args []string) error {
		if len(args) != 1 {
			return cannotProbe(c, errors.New("it takes one URL, that of a stream: see --help"))
		}
		return nil
	}
	c.SetFlagErrorFunc(cannotProbe)
	c.RunE = func(c *cobra.Command, args []string) error {
		cfg, err := probeOptions(c, &o, args[0], headers, cookies)
		if err != nil {
			return cannotProbe(c, err)
		}
		ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGTERM, os.Interrupt)
		defer stop()
		report, err := runProbe(ctx, c, operator.New(cfg), o)
		if err == nil {
			err = printReport(c.OutOrStdout(), report, asJSON)
		}
		switch {
		case err != nil:
			return cannotProbe(c, err)
		case len(report.Findings) > 0:
			return foundFaults
		}
		return nil
	}
	c.Flags().StringArrayVar(&headers, "header", nil, "A `header` of each request, as \"Name: value\"; may be repeated")
	c.Flags().StringArrayVar(&cookies, "cookie", nil, "A `cookie` of each request, as name=value; may be repeated")
	c.Flags().DurationVar(&o.For, "for", 20*time.Second, "How long streams are watched for cuts, as 90s or 10m")
	c.Flags().BoolVar(&o.Bodies, "bodies", false, "A request body that is held back is a fault: for relayed paths")
	c.Flags().BoolVar(&asJSON, "json", false, "Print the report as JSON")
	showOnly(c, addressSettings...)
	return c
}

// cannotProbe says why, and returns the exit code for it.
func cannotProbe(c *cobra.Command, err error) error {
	if refusal := (*operator.Error)(nil); errors.As(err, &refusal) {
		err = fmt.Errorf("the gateway's API refuses: %w; run the probe with the settings of the gateway, or with --internal-token", err)
	}
	for _, problem := range problems(err) {
		fmt.Fprintln(c.ErrOrStderr(), "cannot probe:", problem)
	}
	return noProbe
}

// probeOptions fills in what the arguments and the gateway's settings say.
func probeOptions(c *cobra.Command, o *probe.Options, target string, headers, cookies []string) (cfg config.Config, err error) {
	if o.URL, err = probedURL(target); err != nil {
		return cfg, err
	}
	if err := addHeaders(o.Header, headers, cookies); err != nil {
		return cfg, err
	}
	if o.For <= 0 {
		return cfg, errors.New("--for has to be more than 0")
	}
	if cfg, _, err = config.Load(c.Flags(), os.Environ(), 0); err != nil {
		return cfg, err
	}
	host := o.URL.Hostname()
	ip := net.ParseIP(host)
	o.Direct = o.URL.Port() == strconv.Itoa(cfg.Port) && (host == "localhost" || ip != nil && ip.IsLoopback())
	return cfg, nil
}

// runProbe probes, with a bar on a terminal.
func runProbe(ctx context.Context, c *cobra.Command, client *operator.Client, o probe.Options) (*probe.Report, error) {
	if notes := c.ErrOrStderr(); isTerminal(notes) {
		o.Progress = func(over time.Duration) { fmt.Fprintf(notes, "\r%s\x1b[K", probe.Bar(over, o.For)) }
		defer fmt.Fprint(notes, "\r\x1b[K")
	}
	return probe.Run(ctx, client, o)
}

func printReport(out io.Writer, report *probe.Report, asJSON bool) error {
	if !asJSON {
		report.Print(out)
		return nil
	}
	text, err := json.Marshal(report, jsontext.WithIndent("  "))
	if err == nil {
		_, err = fmt.Fprintf(out, "%s\n", text)
	}
	return err
}

func probedURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, fmt.Errorf("URL: %w", errors.Unwrap(err)) // without the URL, which may have a secret
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return nil, errors.New("URL: it has to begin with http:// or https://, and a host")
	case u.User != nil:
		return nil, errors.New("URL: it has a user; say --header \"Authorization: …\" instead")
	}
	u.Fragment = ""
	return u, nil
}

func addHeaders(h http.Header, headers, cookies []string) error {
	for _, text := range headers {
		name, value, ok := strings.Cut(text, ":")
		if name = strings.TrimSpace(name); !ok || name == "" {
			return errors.New("--header: it has to be \"Name: value\"")
		}
		h.Add(name, strings.TrimSpace(value))
	}
	if len(cookies) > 0 {
		h.Add("Cookie", strings.Join(cookies, "; "))
	}
	return nil
}
