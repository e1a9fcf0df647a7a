package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"ssegateway/bench"
	"ssegateway/e2e/harness"
)

const patience = 20 * time.Second // for a process to become ready, and for events to arrive

// programs are the programs that are measured.
type programs struct{ gateway, nats string }

// cluster is a NATS server, gateways on it, and their backend. It is new for each measurement.
type cluster struct {
	dir     string
	backend *harness.Backend
	nats    *harness.Process
	nodes   []*harness.Process
}

// startCluster starts a cluster, and returns when all of it is ready.
func startCluster(ctx context.Context, p programs, s scenario, prefix string) (c *cluster, err error) {
	c = &cluster{}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.stop())
		}
	}()
	if c.dir, err = os.MkdirTemp("", "growth"); err != nil {
		return c, err
	}
	if c.backend, err = harness.NewBackend(); err != nil {
		return c, err
	}
	c.backend.Forget()
	c.backend.On("", harness.Script{Connect: grant})
	url, err := c.startNATS(ctx, p)
	if err != nil {
		return c, fmt.Errorf("NATS: %w", err)
	}
	for range s.nodes {
		node, err := harness.Start(harness.Command{
			Args: []string{p.gateway, "--log-level=warn"},
			Env: []string{
				"CALLBACK_URL=" + c.backend.URL("/"), "NATS_URL=" + url, "NATS_PREFIX=" + prefix, "NATS_READ=" + s.read,
				"HEARTBEAT_INTERVAL_SECONDS=3600", // none comes
			},
		}, func(port int) harness.Endpoint { return harness.Local(port, nil) })
		if err != nil {
			return c, err
		}
		c.nodes = append(c.nodes, node)
	}
	for i := range c.nodes {
		if err := c.awaitReady(ctx, i); err != nil {
			return c, err
		}
	}
	return c, nil
}

// grant gives a client the topic that is its path.
func grant(call *harness.Callback) harness.Answer {
	name := call.URL[strings.LastIndexByte(call.URL, '/')+1:]
	return harness.Answer{Body: fmt.Sprintf(`{"topics":[%q]}`, name)}
}

func (c *cluster) startNATS(ctx context.Context, p programs) (url string, err error) {
	port, err := harness.FreePort()
	if err != nil {
		return "", err
	}
	c.nats, err = harness.Run(harness.Command{
		Args: []string{p.nats, "--addr", "127.0.0.1", "--port", strconv.Itoa(port), "--jetstream", "--store_dir", c.dir},
	})
	if err != nil {
		return "", err
	}
	addr := "127.0.0.1:" + strconv.Itoa(port)
	return "nats://" + addr, await(ctx, func() error {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", addr)
		if err == nil {
			conn.Close()
		}
		return err
	})
}

func (c *cluster) base(node int) string {
	return "http://127.0.0.1:" + strconv.Itoa(c.nodes[node].Port)
}

func (c *cluster) awaitReady(ctx context.Context, node int) error {
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	return await(ctx, func() error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base(node)+"/readyz", http.NoBody)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("node %d is not ready: status %d", node+1, resp.StatusCode)
		}
		return nil
	})
}

// await repeats a check until it succeeds.
func await(ctx context.Context, check func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-poll.C:
		}
	}
}

// cpu returns the processor time that each process has used.
func (c *cluster) cpu() (nodes []time.Duration, nats time.Duration, err error) {
	for _, node := range c.nodes {
		used, err := bench.CPUOf(node.Pid())
		if err != nil {
			return nil, 0, err
		}
		nodes = append(nodes, used)
	}
	nats, err = bench.CPUOf(c.nats.Pid())
	return nodes, nats, err
}

// warnings returns what the nodes have logged: warnings and errors.
func (c *cluster) warnings() (lines []string) {
	for i, node := range c.nodes {
		for line := range strings.Lines(node.Log.Text()) {
			if line = strings.TrimSpace(line); line != "" {
				lines = append(lines, fmt.Sprintf("node %d: %s", i+1, line))
			}
		}
	}
	return lines
}

// stop kills the processes. Nothing of them is needed any more.
func (c *cluster) stop() error {
	for _, node := range c.nodes {
		node.Kill()
	}
	if c.nats != nil {
		c.nats.Kill()
	}
	if c.backend != nil {
		c.backend.CalmDown()
		c.backend.Close()
	}
	return os.RemoveAll(c.dir)
}
