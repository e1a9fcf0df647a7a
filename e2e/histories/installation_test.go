package histories

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"ssegateway/e2e/harness"
)

// installation is one gateway or three, with a backend.
type installation struct {
	configuration configuration
	dir           string
	backend       *harness.Backend
	nodes         []node
	prefix        string // of what it has on NATS
}

type node struct {
	*harness.Process

	public, internal harness.Endpoint
	client           *http.Client
}

var (
	kinds  []harness.Kind
	broker struct {
		url     string
		streams jetstream.JetStream
	}
	prefixes atomic.Int64
)

// serveBroker runs NATS for all installations; each has its own prefix there.
func serveBroker(t *testing.T) {
	t.Helper()
	broker.url = harness.StartNATS(t).URL()
	conn, err := nats.Connect(broker.url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	if broker.streams, err = jetstream.New(conn); err != nil {
		t.Fatal(err)
	}
}

// install starts everything, and waits until all nodes are ready.
func install(c configuration) (_ *installation, err error) {
	in := &installation{configuration: c}
	defer func() {
		if err != nil {
			in.remove()
		}
	}()
	if in.dir, err = os.MkdirTemp("", "h"); err != nil {
		return nil, err
	}
	if in.backend, err = harness.NewBackend(); err != nil {
		return nil, err
	}
	in.nodes = make([]node, 1)
	settings := append(c.settings(), "CALLBACK_URL="+in.backend.URL("/callback"))
	switch c["engine"] {
	case "disk":
		settings = append(settings, "STATE_DIR="+filepath.Join(in.dir, "state"))
	case "three nodes":
		in.nodes = make([]node, 3)
		fallthrough
	case "nats":
		in.prefix = fmt.Sprintf("h%d", prefixes.Add(1))
		settings = append(settings, "NATS_URL="+broker.url, "NATS_PREFIX="+in.prefix, "NATS_READ="+c["read"])
	}
	errs := make([]error, len(in.nodes))
	var wg sync.WaitGroup
	for i := range in.nodes {
		wg.Go(func() { errs[i] = in.start(i, settings) })
	}
	wg.Wait()
	return in, errors.Join(errs...)
}

func (in *installation) start(i int, settings []string) (err error) {
	n := &in.nodes[i]
	var kind harness.Kind
	for _, k := range kinds {
		if k.Name == in.configuration["kind"] {
			kind = k
		}
	}
	settings = append(settings[:len(settings):len(settings)], kind.Settings...)
	if mode := in.configuration["internal"]; mode == "unix" {
		n.internal.Addr = filepath.Join(in.dir, strconv.Itoa(i)+".sock")
		settings = append(settings, "INTERNAL_ADDR=unix:"+n.internal.Addr)
	} else if mode != "public" {
		port, err := harness.FreePort()
		if err != nil {
			return err
		}
		n.internal.Addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		settings = append(settings, "INTERNAL_ADDR="+n.internal.Addr)
		if mode != "tcp" {
			cert := kinds[2].Cert
			settings = append(settings, "INTERNAL_TLS_CERT_FILE="+cert.CertFile, "INTERNAL_TLS_KEY_FILE="+cert.KeyFile)
			n.internal.TLS = &tls.Config{RootCAs: cert.Roots, MinVersion: tls.VersionTLS12}
			n.internal.Protocol = harness.HTTP1TLS
			if mode == "tls-http2" {
				n.internal.Protocol = harness.HTTP2TLS
			}
		}
	}
	n.Process, err = harness.Start(harness.Command{Args: kind.Command, Env: settings}, func(port int) harness.Endpoint {
		n.public = kind.At("127.0.0.1", port)
		return n.public
	})
	if err != nil {
		return err
	}
	if in.configuration["internal"] == "public" {
		n.internal = n.public
	}
	n.client = n.internal.Client()
	return in.until(func() (bool, string) {
		status, answer, err := in.call(i, http.MethodGet, "/readyz", "", "")
		return err == nil && status == http.StatusOK, fmt.Sprint(status, answer, err)
	})
}

// until waits for another process's state, which can only be asked for.
func (in *installation) until(done func() (ok bool, what string)) error {
	for end := time.Now().Add(harness.Patience); ; {
		ok, what := done()
		if ok {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("%w: %s", harness.ErrTimeout, what)
		}
		<-time.After(2 * time.Millisecond)
	}
}

// unsized hides how long a body is, so that it is sent in chunks.
type unsized struct{ io.Reader }

// call makes a request of the backend to a node.
func (in *installation) call(node int, method, path, contentType, body string) (status int, answer string, err error) {
	n := in.nodes[node]
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
		if in.configuration["requests"] == "chunked" {
			reader = unsized{reader}
		}
	}
	r, err := http.NewRequestWithContext(context.Background(), method, n.internal.Scheme()+"://localhost"+path, reader)
	if err != nil {
		return 0, "", err
	}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	r.Close = in.configuration["requests"] == "fresh"
	if in.configuration["token"] == "on" {
		r.Header.Set("Authorization", "Bearer "+internalToken)
	}
	resp, err := n.client.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

// drain ends all nodes at the same time.
func (in *installation) drain() error {
	errs := make([]error, len(in.nodes))
	var wg sync.WaitGroup
	for i, n := range in.nodes {
		wg.Go(func() {
			code, err := n.Stop(harness.Patience)
			if text := n.Log.Text(); err != nil || code != 0 || strings.Contains(text, "WARNING: DATA RACE") || strings.Contains(text, "panic: ") {
				errs[i] = fmt.Errorf("node %d exited with code %d: %w\n%s", i, code, err, text)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// remove leaves nothing behind, whatever has happened.
func (in *installation) remove() {
	for _, n := range in.nodes {
		if n.Process != nil {
			n.Kill()
		}
		if n.client != nil {
			n.client.CloseIdleConnections()
		}
	}
	if in.backend != nil {
		in.backend.Close()
	}
	_ = os.RemoveAll(in.dir)
	if in.prefix == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), harness.Patience)
	defer cancel()
	names := broker.streams.StreamNames(ctx)
	for name := range names.Name() {
		if name == in.prefix || strings.HasPrefix(name, in.prefix+"_") {
			_ = broker.streams.DeleteStream(ctx, name)
		}
	}
}
