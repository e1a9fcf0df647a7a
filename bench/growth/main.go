// Growth measures what a publish costs in a cluster of more and more gateways, with each value of NATS_READ,
// and writes a section of docs/scale.md. `make growth` runs it. It needs Linux.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/pflag"
)

type options struct {
	nodes                    []int // sizes of the clusters
	runs, topics, publishers int
	duration, warmUp         time.Duration
	docs                     string // empty: nothing is written there
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil && !errors.Is(err, pflag.ErrHelp) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out, progress io.Writer) error {
	var o options
	fs := pflag.NewFlagSet("growth", pflag.ContinueOnError)
	fs.SortFlags = false
	fs.IntSliceVar(&o.nodes, "nodes", []int{1, 2, 3, 4, 5}, "`Gateways` of each cluster")
	fs.IntVar(&o.runs, "runs", 3, "Repetitions")
	fs.DurationVar(&o.duration, "duration", 3*time.Second, "For which it is published each time")
	fs.DurationVar(&o.warmUp, "warm-up", 500*time.Millisecond, "For which it is published before")
	fs.IntVar(&o.publishers, "publishers", 20, "Publishers at once, on each node that is published on")
	fs.IntVar(&o.topics, "topics", 64, "Topics of each node, with one client each")
	fs.StringVar(&o.docs, "docs", "", "`Directory` of scale.md, of which a section is written")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if err := o.check(fs.Args()); err != nil {
		return err
	}
	r, err := o.measure(ctx, progress)
	if err != nil {
		return err
	}
	fmt.Fprint(out, section(&r))
	if o.docs == "" {
		return nil
	}
	page := filepath.Join(o.docs, "scale.md")
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	whole, err := replaced(string(text), section(&r))
	if err != nil {
		return fmt.Errorf("%s: %w", page, err)
	}
	return os.WriteFile(page, []byte(whole), 0o644)
}

func (o *options) check(args []string) error {
	switch {
	case len(args) > 0:
		return fmt.Errorf("%q: only flags are known here", args[0])
	case len(o.nodes) == 0 || slices.Min(o.nodes) < 1 || slices.Max(o.nodes) > maxNodes:
		return fmt.Errorf("--nodes: numbers from 1 to %d", maxNodes)
	case o.runs < 1:
		return errors.New("--runs: a whole number from 1")
	case o.duration <= 0 || o.warmUp < 0:
		return errors.New("--duration and --warm-up: durations")
	case o.publishers < 1 || o.publishers > o.topics: // each has topics of its own, whose order is checked
		return errors.New("--publishers: from 1 to as many as --topics")
	}
	return nil
}
