package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"ssegateway/e2e/harness"
)

// measure measures every scenario as often as it is asked to. The first failure ends it: figures without delivery are worth nothing.
func (o *options) measure(ctx context.Context, progress io.Writer) (r results, err error) {
	dir, err := os.MkdirTemp("", "growth")
	if err != nil {
		return r, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary directory
	fmt.Fprintln(progress, "building NATS, which takes about a minute the first time")
	p := programs{nats: filepath.Join(dir, "nats-server")}
	if err := harness.BuildNATS(p.nats); err != nil {
		return r, err
	}
	if p.gateway, err = harness.Build(dir); err != nil {
		return r, err
	}
	r.options = *o
	if r.about, err = about(ctx); err != nil {
		return r, err
	}
	for repetition := range o.runs {
		for n, s := range o.scenarios(repetition) {
			one, err := o.measureOnce(ctx, p, s, fmt.Sprintf("growth-%d-%d", repetition, n), progress)
			if err != nil {
				return r, fmt.Errorf("%s: %w", s, err)
			}
			r.runs = append(r.runs, one)
			fmt.Fprintf(progress, "%d/%d %s: %d publishes in %.1f s\n", repetition+1, o.runs, s, one.published, one.took.Seconds())
		}
	}
	return r, nil
}

// measureOnce starts a cluster for one scenario.
func (o *options) measureOnce(ctx context.Context, p programs, s scenario, prefix string, progress io.Writer) (r result, err error) {
	c, err := startCluster(ctx, p, s, prefix)
	if err != nil {
		return r, err
	}
	defer c.stop() //nolint:errcheck // its directory is a temporary one
	t, err := open(ctx, c, s, o)
	if err != nil {
		return r, err
	}
	defer t.close()
	r, err = o.measureTraffic(t)
	for _, line := range c.warnings() {
		fmt.Fprintf(progress, "%s: %s\n", s, line)
	}
	return r, err
}

func (o *options) measureTraffic(t *traffic) (r result, err error) {
	if err := t.everywhere(); err != nil {
		return r, err
	}
	if err := t.during(o.warmUp, o.publishers); err != nil {
		return r, err
	}
	published := t.published.Load()
	nodes, nats, err := t.cluster.cpu()
	if err != nil {
		return r, err
	}
	began := time.Now()
	if err := t.during(o.duration, o.publishers); err != nil {
		return r, err
	}
	r = result{scenario: t.scenario, published: int(t.published.Load() - published), took: time.Since(began)}
	nodesAfter, natsAfter, err := t.cluster.cpu()
	if err != nil {
		return r, err
	}
	for i := range nodes {
		r.nodes = append(r.nodes, nodesAfter[i]-nodes[i])
	}
	r.nats = natsAfter - nats
	return r, nil
}

// during publishes for some time, with that many publishers on each node that is published on, and waits until everything has
// arrived, at nodes without a client of it too: behind it, an event for one client of each node is published on the first.
func (t *traffic) during(d time.Duration, publishers int) error {
	stop := t.start(t.scenario.publishers(publishers))
	select {
	case <-time.After(d):
	case <-t.ctx.Done():
	}
	stop()
	for _, topics := range t.topics {
		if err := t.publish(t.ctx, 0, topics[0]); err != nil {
			return err
		}
	}
	return t.arrived()
}

// everywhere publishes an event of each topic on each node: all clients get what any node publishes.
func (t *traffic) everywhere() error {
	for node := range t.scenario.nodes {
		for _, topic := range t.all {
			if err := t.publish(t.ctx, node, topic); err != nil {
				return err
			}
		}
	}
	return t.arrived()
}

// about describes the machine, the programs, and the day.
func about(ctx context.Context) (string, error) {
	nats, err := output(ctx, "go", "list", "-m", "-f", "{{.Version}}", "github.com/nats-io/nats-server/v2")
	if err != nil {
		return "", err
	}
	commit, err := output(ctx, "git", "describe", "--always", "--dirty")
	if err != nil {
		commit = "unknown" // not a git clone
	}
	what := fmt.Sprintf("commit %s, %s; NATS %s, %s on %s/%s, %d cores", commit, time.Now().UTC().Format(time.DateOnly),
		strings.TrimPrefix(nats, "v"), runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	cpus, err := os.ReadFile("/proc/cpuinfo")
	if _, rest, ok := strings.Cut(string(cpus), "model name\t: "); ok {
		name, _, _ := strings.Cut(rest, "\n")
		what += " (" + name + ")"
	}
	return what, err
}

// output runs a command and returns its output.
func output(ctx context.Context, name string, args ...string) (string, error) {
	text, err := exec.CommandContext(ctx, name, args...).Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return strings.TrimSpace(string(text)), nil
}
