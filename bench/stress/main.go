// Stress runs the scenarios that show what docs/guarantees.md promises, each at its full size, and
// writes that page. `make stress` runs it.
//
// A scenario is a test of this repository with larger flags. One whose code has not changed since its
// figure was measured is left out, unless it is named. Scenarios run one after the other; each ends
// by itself within an hour. What one measured is kept as soon as it ends, so a run can be broken off
// at any time. It needs Linux, and root where a test drops packets or limits memory.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"
)

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
	fs := pflag.NewFlagSet("stress", pflag.ContinueOnError)
	list := fs.Bool("list", false, "Run nothing, and say of each scenario whether it would be run")
	page := fs.Bool("page", false, "Run nothing, and write the page anew")
	docs := fs.String("docs", "docs", "`Directory` of guarantees.md and guarantees.json")
	if err := fs.Parse(args); err != nil {
		return err
	}
	chosen, err := choose(fs.Args())
	if err != nil {
		return err
	}
	figures, err := readFigures(*docs)
	if err != nil {
		return err
	}
	if *page {
		return write(*docs, figures)
	}
	var failed []string
	for _, s := range chosen {
		code, err := fingerprint(ctx, s)
		if err != nil {
			return err
		}
		have := figures[s.name]
		current := have.Code == code
		if *list {
			fmt.Fprintf(progress, "%-22s %s\n", s.name, standing(have, current))
			continue
		}
		if current && len(fs.Args()) == 0 {
			continue
		}
		fmt.Fprintf(progress, "%s %s: %s\n", time.Now().Format(time.TimeOnly), s.name, strings.Join(s.command(), " "))
		measured, err := s.run(ctx, progress)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			fmt.Fprintf(progress, "%s failed: %v\n", s.name, err)
			failed = append(failed, s.name)
			continue
		}
		measured.Code = code
		figures[s.name] = measured
		if err := write(*docs, figures); err != nil {
			return err
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("failed: %s", strings.Join(failed, ", "))
	}
	return nil
}

// standing says of a scenario whether its figure holds.
func standing(have figure, current bool) string {
	switch {
	case have.Figures == nil:
		return "not measured yet"
	case current:
		return "measured on " + have.Date
	default:
		return "measured on " + have.Date + ", and its code has changed since"
	}
}

// choose finds the scenarios of these names; without names, all.
func choose(names []string) ([]scenario, error) {
	if len(names) == 0 {
		return scenarios, nil
	}
	var chosen []scenario
	for _, name := range names {
		i := slices.IndexFunc(scenarios, func(s scenario) bool { return s.name == name })
		if i < 0 {
			return nil, fmt.Errorf("no scenario %q; --list names them all", name)
		}
		chosen = append(chosen, scenarios[i])
	}
	return chosen, nil
}
