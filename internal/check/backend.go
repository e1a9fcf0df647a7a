package check

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/url"
	"os"
	"time"

	"ssegateway/internal/config"
	"ssegateway/internal/server"
)

// callback looks whether the backend takes connections.
func (r *report) callback(ctx context.Context, cfg config.Config) {
	backend, socket, err := config.Backend(cfg.CallbackURL)
	if cfg.CallbackURL == "" || err != nil { // the latter is no valid setting
		return
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if socket != "" {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
		if err != nil {
			r.fail("CALLBACK_URL: the backend takes no connection: %v", err)
			return
		}
		_ = conn.Close()
		r.ok("CALLBACK_URL: unix:%s takes connections (it was asked nothing)", socket)
		return
	}
	host, port := backend.Hostname(), backend.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[backend.Scheme]
	}
	if _, err := net.DefaultResolver.LookupHost(ctx, host); err != nil {
		r.fail("CALLBACK_URL: the host does not resolve: %v", err)
		return
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		r.fail("CALLBACK_URL: the backend takes no connection: %v", err)
		return
	}
	defer conn.Close()
	over := ""
	if backend.Scheme == "https" {
		over = " with TLS"
		if err := handshake(ctx, conn, backend, cfg); err != nil {
			r.fail("CALLBACK_URL: the backend at %s has no TLS that can be used: %v", conn.RemoteAddr(), err)
			return
		}
	}
	r.ok("CALLBACK_URL: %s takes connections%s (it was asked nothing)", conn.RemoteAddr(), over)
}

// refusalTime is how long a backend has to refuse the gateway's certificate, which it does, with TLS 1.3, behind the handshake.
const refusalTime = 300 * time.Millisecond

// handshake makes a TLS connection to the backend, as the gateway does.
func handshake(ctx context.Context, conn net.Conn, backend *url.URL, cfg config.Config) error {
	c := &tls.Config{ServerName: backend.Hostname(), MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	var err error
	if cfg.BackendCAFile != "" {
		if c.RootCAs, err = server.Authorities("BACKEND_CA_FILE", cfg.BackendCAFile); err != nil {
			return err
		}
	}
	asked := false
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		asked = true
		if cfg.BackendClientCertFile == "" {
			return &tls.Certificate{}, nil
		}
		pair, err := tls.LoadX509KeyPair(cfg.BackendClientCertFile, cfg.BackendClientKeyFile)
		return &pair, err
	}
	secured := tls.Client(conn, c)
	if err := secured.HandshakeContext(ctx); err != nil || !asked {
		return err
	}
	_ = conn.SetDeadline(time.Now().Add(refusalTime))
	if _, err := secured.Read(make([]byte, 1)); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return nil
}
