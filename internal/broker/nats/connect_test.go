package nats

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"ssegateway/e2e/harness"
	"ssegateway/internal/broker"
	"ssegateway/sse"
)

// works says that an engine can be opened, and takes an event.
func works(t *testing.T, cfg place) {
	t.Helper()
	e := mustOpen(t, cfg)
	run(t, e)
	publish(t, e, "x")
}

// refused says that no engine can be opened, for a reason that has the words given.
func refused(t *testing.T, cfg place, words string) {
	t.Helper()
	e, err := tryOpen(t, cfg)
	if err == nil {
		run(t, e)
		t.Fatalf("opened, want %q", words)
	}
	if !strings.Contains(err.Error(), words) || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v, want %q and no password", err, words)
	}
}

func TestPassword(t *testing.T) {
	s := serve(t, server.Options{Port: -1, StoreDir: t.TempDir(), Username: "gateway", Password: "secret"})
	cfg := at("")
	as := func(user string) place {
		cfg.URL = strings.Replace(s.ClientURL(), "//", "//"+user, 1)
		return cfg
	}
	works(t, as("gateway:secret@"))
	refused(t, as("gateway:secret2@"), "Authorization Violation")
	refused(t, as(""), "Authorization Violation")
	cfg.URL = "nats://gateway:secret@127.0.0.1:port"
	refused(t, cfg, "invalid port")
}

// Credentials are a user's claims, signed by an account that the server trusts, and the
// user's key, in one file.
func TestCredentialsFile(t *testing.T) {
	operator, account, user := newKey(t, nkeys.PrefixByteOperator), newKey(t, nkeys.PrefixByteAccount), newKey(t, nkeys.PrefixByteUser)
	system := newKey(t, nkeys.PrefixByteAccount) // without one the server has no JetStream
	claims := jwt.NewAccountClaims(publicKey(t, account))
	claims.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: jwt.NoLimit, DiskStorage: jwt.NoLimit, Streams: jwt.NoLimit, Consumer: jwt.NoLimit}
	known := &server.MemAccResolver{}
	for _, c := range []*jwt.AccountClaims{claims, jwt.NewAccountClaims(publicKey(t, system))} {
		if err := known.Store(c.Subject, sign(t, c, operator)); err != nil {
			t.Fatal(err)
		}
	}
	s := serve(t, server.Options{
		Port: -1, StoreDir: t.TempDir(), TrustedKeys: []string{publicKey(t, operator)}, AccountResolver: known, SystemAccount: publicKey(t, system),
	})
	cfg := at(s.ClientURL())
	with := func(name string, signer nkeys.KeyPair) place {
		seed, err := user.Seed()
		if err != nil {
			t.Fatal(err)
		}
		text, err := jwt.FormatUserConfig(sign(t, jwt.NewUserClaims(publicKey(t, user)), signer), seed)
		if err != nil {
			t.Fatal(err)
		}
		cfg.CredentialsFile = filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(cfg.CredentialsFile, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return cfg
	}
	works(t, with("user.creds", account))
	refused(t, with("stranger.creds", newKey(t, nkeys.PrefixByteAccount)), "Authorization Violation")
	cfg.CredentialsFile = filepath.Join(t.TempDir(), "none.creds")
	refused(t, cfg, "none.creds")
	cfg.CredentialsFile = ""
	refused(t, cfg, "Authorization Violation")
}

func newKey(t *testing.T, kind nkeys.PrefixByte) nkeys.KeyPair {
	t.Helper()
	k, err := nkeys.CreatePair(kind)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func publicKey(t *testing.T, k nkeys.KeyPair) string {
	t.Helper()
	name, err := k.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func sign(t *testing.T, claims jwt.Claims, signer nkeys.KeyPair) string {
	t.Helper()
	token, err := claims.Encode(signer)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestTLS(t *testing.T) {
	ours, err := harness.NewCertificate(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	other, err := harness.NewCertificate(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(ours.CertFile, ours.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, server.Options{
		Port: -1, StoreDir: t.TempDir(), TLS: true, TLSTimeout: patience.Seconds(),
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}},
	})
	cfg := at(s.ClientURL())
	with := func(file string) place {
		cfg.CAFile = file
		return cfg
	}
	works(t, with(ours.CertFile))
	refused(t, with(other.CertFile), "certificate")
	refused(t, with(""), "certificate")
	refused(t, with(filepath.Join(t.TempDir(), "none.pem")), "none.pem")
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, with(empty), "empty.pem")
	// A CA file asks for TLS: a server without it is refused, not spoken to in the clear.
	cfg.URL = serve(t, server.Options{Port: -1, StoreDir: t.TempDir()}).ClientURL()
	refused(t, with(ours.CertFile), "secure connection not available")
}

// fake speaks as much of the protocol as it takes to be connected to. It breaks the
// connection off when something is published.
func fake(t *testing.T, version string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = io.WriteString(conn, `INFO {"server_id":"x","version":"`+version+`","proto":1,"headers":true,"jetstream":true,"max_payload":1048576}`+"\r\n")
		for lines := bufio.NewScanner(conn); lines.Scan(); {
			switch command, _, _ := strings.Cut(lines.Text(), " "); command {
			case "PING":
				_, _ = io.WriteString(conn, "PONG\r\n")
			case "PUB", "HPUB":
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-ended
	})
	return "nats://" + l.Addr().String()
}

func TestServerTooOld(t *testing.T) {
	refused(t, at(fake(t, "2.10.29")), "2.10.29 is too old: at least 2.11 is needed")
}

// An append that is under way ends with the connection, not with its time.
func TestAppendEndsWithConnection(t *testing.T) {
	conn, err := Dial(at(fake(t, "2.11.0")).Config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn.nats)
	if err != nil {
		t.Fatal(err)
	}
	s := &session{conn: conn, js: js, subject: "x", waiting: map[uint64]chan readBack{}, closed: make(chan struct{})}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err = s.append(ctx, broker.Publication{Topics: []string{"a"}, Event: sse.Event{Data: "x"}})
	if !errors.Is(err, broker.ErrUnavailable) || ctx.Err() != nil {
		t.Errorf("%v, %v", err, ctx.Err())
	}
}

func TestNoJetStream(t *testing.T) {
	s := start(t, server.Options{Port: -1})
	refused(t, at(s.ClientURL()), "jetstream not enabled")
}

// An event that is too large for NATS is refused with the sizes, and is not in the log.
func TestTooLarge(t *testing.T) {
	const limit = 4096
	s := serve(t, server.Options{Port: -1, StoreDir: t.TempDir(), MaxPayload: limit})
	e := mustOpen(t, at(s.ClientURL()))
	run(t, e)
	before := publish(t, e, strings.Repeat("x", limit/2))
	_, err := e.append(t.Context(), broker.Publication{Topics: []string{"a"}, Event: sse.Event{Data: strings.Repeat("x", limit)}, Store: true})
	if !errors.Is(err, broker.ErrTooLarge) || !strings.Contains(err.Error(), "at most 4096") {
		t.Errorf("an event of %d bytes: %v", limit, err)
	}
	if after := publish(t, e, "x"); after.Offset != before.Offset+1 {
		t.Errorf("%v comes behind %v", after, before)
	}
}

// New bounds are the stream's too when the engine is opened with them, and no other node reads it.
func TestNewBounds(t *testing.T) {
	s := serve(t, server.Options{Port: -1, StoreDir: t.TempDir()})
	cfg := at(s.ClientURL())
	t.Run("before", func(t *testing.T) { works(t, cfg) })
	awaitUnread(t, mustOpen(t, cfg))
	cfg.MaxBytes, cfg.MaxAge = 2<<20, time.Minute // an age below the default window of NATS for duplicates
	e := mustOpen(t, cfg)
	run(t, e)
	if last := e.log.Stats().Last; last != 1 {
		t.Errorf("the log ends at %d, want 1", last)
	}
	stream, err := e.js.Stream(t.Context(), e.name)
	if err != nil {
		t.Fatal(err)
	}
	if have := stream.CachedInfo().Config; have.MaxAge != time.Minute || have.MaxBytes != 2<<20+streamMargin {
		t.Errorf("%+v", have)
	}
}

// While another node reads the log, its bounds are made larger, but not smaller. When nobody
// does any more, they are.
func TestBoundsWhileInUse(t *testing.T) {
	t.Parallel()
	s := serve(t, server.Options{Port: -1, StoreDir: t.TempDir()})
	cfg := at(s.ClientURL())
	bounds := func(maxBytes int64, maxAge time.Duration, want place) {
		t.Helper()
		e := mustOpen(t, place{cfg.Config, LogConfig{Prefix: cfg.Prefix, MaxBytes: maxBytes, MaxAge: maxAge}})
		have := mustStream(t, e).CachedInfo().Config
		if have.MaxBytes != want.MaxBytes+streamMargin || have.MaxAge != want.MaxAge {
			t.Errorf("%d bytes for %v are wanted by another node, and the log has %d for %v", maxBytes, maxAge, have.MaxBytes-streamMargin, have.MaxAge)
		}
	}
	e := mustOpen(t, cfg)
	ctx, stop := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() { over <- e.run(ctx) }()
	publish(t, e, "x")
	bounds(1, time.Second, cfg)
	cfg.MaxAge *= 2
	bounds(1, cfg.MaxAge, cfg)
	cfg.MaxBytes *= 2
	bounds(cfg.MaxBytes, time.Second, cfg)
	stop()
	if err := <-over; err != nil {
		t.Error(err)
	}
	awaitUnread(t, e)
	cfg.MaxBytes, cfg.MaxAge = 1<<20, time.Minute
	bounds(cfg.MaxBytes, cfg.MaxAge, cfg)
}

// awaitUnread waits until nobody reads the log: the end of a reader is not waited for.
func awaitUnread(t *testing.T, e *session) {
	t.Helper()
	for end := time.Now().Add(patience); mustStream(t, e).CachedInfo().State.Consumers > 0; {
		if time.Now().After(end) {
			t.Fatal("the log is read still")
		}
		<-time.After(20 * time.Millisecond)
	}
}

// Run ends at once while the server is away: it waits for nothing of it.
func TestEndWithoutServer(t *testing.T) {
	s := serve(t, server.Options{Port: -1, StoreDir: t.TempDir()})
	e := mustOpen(t, at(s.ClientURL()))
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() { over <- e.run(ctx) }()
	publish(t, e, "x")
	status := e.conn.nats.StatusChanged(nats.RECONNECTING)
	s.Shutdown()
	s.WaitForShutdown()
	select {
	case <-status:
	case <-time.After(patience):
		t.Error("the server's end is not noticed")
	}
	cancel()
	select {
	case err := <-over:
		if err != nil {
			t.Errorf("Run: %v", err)
		}
	case <-time.After(patience):
		t.Fatal("Run does not end")
	}
}
