// Package operator is what the commands of an operator do: it asks the gateway that runs on this
// host with the same settings, and prints the answers for people.
package operator

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"syscall"
	"time"

	"github.com/go-json-experiment/json"

	"ssegateway/internal/config"
)

const (
	// answerTimeout is how long an answer may take. A publish takes at most 5 s while the log is away.
	answerTimeout = 15 * time.Second
	// healthTimeout is how long the gateway may take to say how it is.
	healthTimeout = 2 * time.Second
)

// Client calls a gateway.
type Client struct {
	url     string // its beginning
	address string // as messages name it
	setting string // the one that the address comes from
	token   string
	http    *http.Client
}

// New makes a Client of the API under /internal, where a gateway with these settings serves it.
func New(cfg config.Config) *Client {
	addr := cfg.InternalAddr
	if addr == (config.Addr{}) {
		return Public(cfg)
	}
	if addr.Network == "unix" {
		c := newClient("http://localhost", "INTERNAL_ADDR", cfg, &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", addr.Address)
		}})
		c.address = addr.String()
		return c
	}
	if cfg.InternalTLSCertFile != "" {
		return newClient("https://"+reachable(addr.Address), "INTERNAL_ADDR", cfg, &http.Transport{TLSClientConfig: internalTLS(cfg)})
	}
	return newClient("http://"+reachable(addr.Address), "INTERNAL_ADDR", cfg, &http.Transport{})
}

// Public makes a Client of the public listener on this host.
func Public(cfg config.Config) *Client {
	host := "127.0.0.1:" + strconv.Itoa(cfg.Port)
	if cfg.TLSCertFile == "" {
		return newClient("http://"+host, "PORT", cfg, &http.Transport{})
	}
	// The certificate names the public host, and the connection does not leave this one.
	return newClient("https://"+host, "PORT", cfg, &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}) //nolint:gosec // see above
}

func newClient(url, setting string, cfg config.Config, transport *http.Transport) *Client {
	return &Client{url: url, address: url, setting: setting, token: cfg.InternalToken, http: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // no gateway redirects
	}}
}

// reachable returns an address to connect to for one that is listened at: one that stands for all
// addresses of this host becomes its loopback address.
func reachable(listened string) string {
	host, port, err := net.SplitHostPort(listened)
	addr, noAddr := netip.ParseAddr(host)
	switch {
	case err != nil || host != "" && (noAddr != nil || !addr.IsUnspecified()):
		return listened
	case addr.Is6():
		return net.JoinHostPort("::1", port)
	default:
		return net.JoinHostPort("127.0.0.1", port)
	}
}

// String returns the client's address and the setting that it comes from.
func (c *Client) String() string { return c.address + " (" + c.setting + ")" }

// Error is an error that the gateway answered with.
type Error struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Error implements error.
func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Call makes a request, and decodes the answer. body is encoded as JSON, unless it is nil. What the gateway refuses is an
// [*Error].
func (c *Client) Call(ctx context.Context, method, path string, body, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	var content []byte
	if body != nil {
		var err error
		if content, err = json.Marshal(body); err != nil {
			return err
		}
	}
	resp, err := c.do(ctx, method, path, content, http.Header{"Content-Type": {"application/json"}})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return c.refusal(resp)
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("the answer of the gateway at %s broke off: %w", c, err)
	}
	if json.Unmarshal(text, answer) != nil {
		return c.foreign(resp)
	}
	return nil
}

// do makes a request. The caller closes the body of the answer.
func (c *Client) do(ctx context.Context, method, path string, content []byte, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.url+path, bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	req.Header = header
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(err)
	}
	return resp, nil
}

// refusal returns the error that an answer has.
func (c *Client) refusal(resp *http.Response) error {
	var answer struct {
		Error *Error `json:"error"`
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil || json.Unmarshal(text, &answer) != nil || answer.Error == nil {
		return c.foreign(resp)
	}
	return answer.Error
}

// foreign returns the error of an answer that no gateway gives.
func (c *Client) foreign(resp *http.Response) error {
	return fmt.Errorf("what listens at %s is no gateway: it answers %s, %q", c, resp.Status, resp.Header.Get("Content-Type"))
}

// unreachable returns the error of a request that was not answered.
func (c *Client) unreachable(err error) error {
	if wrapped := (*url.Error)(nil); errors.As(err, &wrapped) {
		err = wrapped.Err // without the URL, which is said already
	}
	hint := ""
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist) {
		hint = "; is it running?"
	}
	if number := syscall.Errno(0); errors.As(err, &number) {
		err = number
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = errors.New("no answer in time")
	}
	return fmt.Errorf("cannot reach the gateway at %s: %w%s", c, err, hint)
}

// Health asks whether the gateway is alive, or ready for streams, and returns its answer. Any answer
// but 200 is an error. Every listener answers that.
func (c *Client) Health(ctx context.Context, ready bool) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	path := "/healthz"
	if ready {
		path = "/readyz"
	}
	resp, err := c.do(ctx, http.MethodGet, path, nil, http.Header{})
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return "", fmt.Errorf("%s%s: %w", c.address, path, err)
	}
	answer := string(bytes.TrimSpace(body))
	if resp.StatusCode != http.StatusOK {
		return "", errors.New(c.address + path + " answers " + resp.Status + ": " + answer)
	}
	return answer, nil
}
