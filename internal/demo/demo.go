// Package demo runs the gateway together with a small backend that is a model of
// how to integrate: backend.go is what to copy, site.go a page to try it with. answers.go is an application that streams
// by itself, behind the gateway as a relay.
package demo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"ssegateway/internal/config"
	"ssegateway/internal/server"
)

// DefaultPagePort is the default port of the page.
const DefaultPagePort = 8080

// Port is a port of this host.
type Port struct {
	Number int
	// Fixed: nobody may take another one if it is taken.
	Fixed bool
}

// Run runs both until ctx ends, and prints instructions on out. Of cfg it
// replaces the callback URL, the relay and the port, and adds the page to the origins that may open streams. run
// runs the gateway.
func Run(ctx context.Context, cfg config.Config, page, gateway Port, version string, out io.Writer, logger *slog.Logger,
	run func(context.Context, *server.Server) error,
) error {
	if cfg.TLSCertFile != "" || cfg.InternalTLSCertFile != "" {
		return errors.New("the demo is plain HTTP: run it without TLS_CERT_FILE, TLS_KEY_FILE and their like of INTERNAL_ADDR")
	}
	listeners, pagePort, err := listenPage(ctx, page, out)
	port, err2 := gatewayPort(ctx, gateway, out)
	if err := errors.Join(err, err2); err != nil {
		closeAll(listeners)
		return err
	}
	cfg.Port = port
	s := newSite(cfg, pagePort)
	g, err := server.New(s.configure(cfg, pagePort), version, logger)
	if err != nil {
		closeAll(listeners)
		return err
	}
	return s.run(ctx, listeners, out, func(ctx context.Context) error { return run(ctx, g) })
}

// RunBeside runs the backend and its page alone, for gateways that run separately
// behind one port of this host. cfg has their callback URL, and their internal address if
// it differs.
func RunBeside(ctx context.Context, cfg config.Config, gatewayPort, pagePort int, out io.Writer) error {
	callbacks, err := url.Parse(cfg.CallbackURL)
	if err != nil || callbacks.Query().Get("secret") == "" {
		return errors.New("CALLBACK_URL: here it is that of the gateways, with ?secret=")
	}
	cfg.Port = gatewayPort
	s := newSite(cfg, pagePort)
	s.secret = callbacks.Query().Get("secret")
	s.configure(cfg, pagePort)
	listeners, _, err := listenPage(ctx, Port{pagePort, true}, out)
	if err != nil {
		return err
	}
	return s.run(ctx, listeners, out, func(ctx context.Context) error {
		<-ctx.Done()
		return nil
	})
}

// run runs the backend, and the gateway, if there is one.
func (s *site) run(ctx context.Context, listeners []net.Listener, out io.Writer, gateway func(context.Context) error) error {
	s.introduce(out)

	// The backend outlives the gateway, which reports the end of every stream to it.
	pages := &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute, // longer than the gateway keeps an idle connection
		ErrorLog:          log.New(io.Discard, "", 0),
	}
	ctx, stop := context.WithCancel(ctx)
	failed := make(chan error, len(listeners))
	var running sync.WaitGroup
	for _, l := range listeners {
		running.Go(func() {
			if err := pages.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				failed <- err
				stop()
			}
		})
	}
	running.Go(func() { s.clock(ctx) })
	err := gateway(ctx)
	stop()
	_ = pages.Close()
	running.Wait()
	s.client.CloseIdleConnections()
	close(failed)
	return errors.Join(err, <-failed) // nil, unless the page's port could not be served
}

func newSite(cfg config.Config, pagePort int) *site {
	b := &backend{
		secret:  rand.Text(),
		streams: map[string]stream{},
		// No proxy from the environment: the gateway is on this host.
		client: &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
			DialContext: dial(cfg.InternalAddr), MaxIdleConnsPerHost: 16, IdleConnTimeout: time.Minute,
		}},
	}
	s := &site{backend: b, started: time.Now().UnixMilli()}
	b.app = s
	s.view = view{
		GatewayPort: cfg.Port,
		Page:        "http://localhost:" + strconv.Itoa(pagePort),
		Gateway:     "http://localhost:" + strconv.Itoa(cfg.Port),
	}
	s.view.OpenCommand = "curl -N " + s.view.Gateway + streamPath + "terminal"

	internal := s.view.Gateway
	switch cfg.InternalAddr.Network {
	case "tcp":
		internal = "http://" + local(cfg.InternalAddr.Address)
	case "unix":
		internal = "http://localhost" // whatever: dial knows
		s.curlFlags = " --unix-socket '" + cfg.InternalAddr.Address + "'"
	}
	s.internalURL = internal + "/internal/"
	b.sendURL = s.internalURL + "send"
	if cfg.InternalToken != "" {
		b.authorization = "Bearer " + cfg.InternalToken
		s.curlFlags += ` -H "Authorization: Bearer $INTERNAL_TOKEN"` // a terminal is no place for a secret
	}
	return s
}

// configure returns the gateway's configuration: the user's, changed for the demo.
func (s *site) configure(cfg config.Config, pagePort int) config.Config {
	port := strconv.Itoa(pagePort)
	cfg.CallbackURL = "http://" + net.JoinHostPort("127.0.0.1", port) + "/callback?secret=" + url.QueryEscape(s.secret)
	// The same backend is what answers are relayed from.
	cfg.RelayURL, cfg.RelayPaths, cfg.RelayResume = "http://"+net.JoinHostPort("127.0.0.1", port), []string{answersPath}, keptTime
	// Not "any": a page whose cookies are to reach the backend has to be named.
	own := []string{s.view.Page, "http://127.0.0.1:" + port}
	others := slices.DeleteFunc(slices.Clone(cfg.CORSAllowedOrigins), func(o string) bool { return o == "*" || slices.Contains(own, o) })
	cfg.CORSAllowedOrigins = append(own, others...)
	s.view.CORS = "CORS_ALLOWED_ORIGINS=" + s.view.Page
	return cfg
}

// dial connects to a gateway whose internal listener is a Unix socket; nil: over TCP.
func dial(a config.Addr) func(context.Context, string, string) (net.Conn, error) {
	if a.Network != "unix" {
		return nil
	}
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, a.Network, a.Address)
	}
}

// local returns the address to connect to for an address to listen on.
func local(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		return net.JoinHostPort("localhost", port)
	}
	return addr
}

// more is how many other ports are tried in place of one that is taken.
const more = 20

// listenPage opens the page's port, or one of the next ones, on the loopback addresses.
func listenPage(ctx context.Context, p Port, out io.Writer) (listeners []net.Listener, port int, err error) {
	port, err = p.choose("page", "PAGE_PORT", out, func(port int) (err error) {
		listeners, err = listenLoopback(ctx, port)
		return err
	})
	return listeners, port, err
}

// gatewayPort returns the gateway's port, or one of the next ones: one that is free, before the introduction
// promises it.
func gatewayPort(ctx context.Context, p Port, out io.Writer) (int, error) {
	return p.choose("gateway", "PORT", out, func(port int) error {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", ":"+strconv.Itoa(port))
		if err == nil {
			_ = l.Close()
		}
		return err
	})
}

// choose returns the port, or one of the next ones, at which open succeeds, and says which if it is another one.
func (p Port) choose(what, setting string, out io.Writer, open func(port int) error) (int, error) {
	for port := p.Number; ; port++ {
		err := open(port)
		if err == nil {
			if port != p.Number {
				fmt.Fprintf(out, "  Port %d is taken, so the %s is on %d.\n", p.Number, what, port)
			}
			return port, nil
		}
		if p.Fixed || port == p.Number+more {
			return 0, fmt.Errorf("the %s cannot have port %d, choose another with %s: %w", what, p.Number, setting, err)
		}
	}
}

func listenLoopback(ctx context.Context, port int) (listeners []net.Listener, err error) {
	var lc net.ListenConfig
	// "localhost" is both, and browsers differ in which they try first.
	for _, host := range []string{"127.0.0.1", "::1"} {
		l, err := lc.Listen(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		switch {
		case err == nil:
			listeners = append(listeners, l)
		case host == "127.0.0.1" || hasLoopback6(ctx):
			closeAll(listeners)
			return nil, err
		}
	}
	return listeners, nil
}

func hasLoopback6(ctx context.Context) bool {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "[::1]:0")
	if err == nil {
		_ = l.Close()
	}
	return err == nil
}

func closeAll(listeners []net.Listener) {
	for _, l := range listeners {
		_ = l.Close()
	}
}

// sendCommand returns a shell command that sends to the stream of a token.
func (s *site) sendCommand(token string) string {
	return "curl " + s.sendURL + s.curlFlags + ` -H 'Content-Type: application/json' -d '{"token": "` + token +
		`", "event": {"name": "hello", "data": "Hello from the terminal"}}'`
}

func (s *site) introduce(out io.Writer) {
	fmt.Fprintf(out, `
  Open this page in a browser:  %[1]s
  Answers that can be resumed:  %[1]s/answers

  Or open a stream here, in a second terminal:

    %[3]s

  and send to it, in a third:

    %[4]s

  The page comes from its backend at %[1]s, its streams from the gateway at %[2]s.
  These are two origins, so the gateway has %[5]s.
  Ctrl-C ends it all. The gateway's log follows.

`, s.view.Page, s.view.Gateway, s.view.OpenCommand, s.sendCommand(`'"$(curl -s `+s.view.Page+`/token/terminal)"'`), s.view.CORS)
}
