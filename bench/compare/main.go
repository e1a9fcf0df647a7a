// Compare measures this program and other servers of event streams with `ssegateway bench`,
// and writes docs/benchmarks.md. `make compare` runs it.
//
// Each server is started anew for each scenario, and the servers take turns, so that
// the figures that are compared are measured within minutes of each other. It needs Linux,
// and root to install the other servers and to create the namespaces in which they run.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/pflag"
)

type options struct {
	servers, scenarios []string // empty: all
	runs, streams      int
	from, out          string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stderr)
	stop()
	if err != nil && !errors.Is(err, pflag.ErrHelp) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, progress io.Writer) error {
	var o options
	fs := pflag.NewFlagSet("compare", pflag.ContinueOnError)
	fs.SortFlags = false
	fs.StringSliceVar(&o.servers, "servers", nil, "Only these `servers`: "+strings.Join(serverKeys(), ", "))
	fs.StringSliceVar(&o.scenarios, "scenarios", nil, "Only these `scenarios`: "+strings.Join(scenarioNames(), ", "))
	fs.IntVar(&o.runs, "runs", 5, "Repetitions")
	fs.IntVar(&o.streams, "streams", 0, "Streams, instead of each scenario's own number")
	fs.StringVar(&o.from, "from", "", "Measure nothing, and make the document from this `file`")
	fs.StringVar(&o.out, "out", "docs", "`Directory` for benchmarks.md, and for the directory benchmarks with its plots and results.json")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if err := o.check(fs.Args()); err != nil {
		return err
	}
	if o.from != "" {
		results, err := readResults(o.from)
		if err != nil {
			return err
		}
		return write(o.out, &results)
	}
	results, err := o.measure(ctx, progress)
	if len(results.Runs) > 0 {
		err = errors.Join(err, write(o.out, &results))
	}
	if err != nil {
		return err
	}
	for _, run := range results.Runs {
		if run.Server == ours && run.Error != "" {
			return fmt.Errorf("%s failed: %s: %s", ours, run.Scenario, run.Error)
		}
	}
	return nil
}

func (o *options) check(args []string) error {
	for _, chosen := range []struct {
		flag       string
		given, are []string
	}{{"servers", o.servers, serverKeys()}, {"scenarios", o.scenarios, scenarioNames()}} {
		for _, name := range chosen.given {
			if !slices.Contains(chosen.are, name) {
				return fmt.Errorf("--%s: %q is none of %s", chosen.flag, name, strings.Join(chosen.are, ", "))
			}
		}
	}
	if o.runs < 1 || o.streams < 0 {
		return errors.New("--runs and --streams: whole numbers from 1")
	}
	if len(args) > 0 {
		return fmt.Errorf("%q: only flags are known here", args[0])
	}
	return nil
}

func serverKeys() (keys []string) {
	for _, s := range servers {
		keys = append(keys, s.key())
	}
	return keys
}

func scenarioNames() (names []string) {
	for _, s := range scenarios {
		names = append(names, s.name)
	}
	return names
}

func (o *options) chosenServers() (chosen []server) {
	for _, s := range servers {
		if len(o.servers) == 0 || slices.Contains(o.servers, s.key()) {
			chosen = append(chosen, s)
		}
	}
	return chosen
}

func (o *options) chosenScenarios() (chosen []scenario) {
	for _, s := range scenarios {
		if len(o.scenarios) == 0 || slices.Contains(o.scenarios, s.name) {
			chosen = append(chosen, s)
		}
	}
	return chosen
}

// write writes the results, and the document and plots that are made from them.
func write(dir string, r *Results) error {
	raw, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	files := map[string]string{"benchmarks.md": document(r), "benchmarks/results.json": string(raw) + "\n"}
	for _, s := range scenarios {
		if plot := bars(r, s); plot != "" {
			files["benchmarks/"+s.name+".svg"] = plot
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "benchmarks"), 0o755); err != nil {
		return err
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}
