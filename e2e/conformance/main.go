// Command conformance holds any implementation of the contract of the gateway (docs/contract.md) against it, and reports by
// section what it keeps. It is run from this module:
//
//	go run ./e2e/conformance [--all] [--json] [--run REGEXP] COMMAND...
//
// The cases are those of e2e/contract, which starts COMMAND many times, with its settings in the environment. What is not
// passed on: every other variable but PATH and HOME. See docs/conformance.md.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
)

// The exit codes.
const (
	conforms  = 0
	fails     = 1 // a case that was asked for
	unchecked = 2 // the suite could not be run, or not to its end
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr)) //nolint:gocritic // there is nothing left to stop
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (code int) {
	flags := flag.NewFlagSet("conformance", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprintln(stderr, "usage: go run ./e2e/conformance [--all] [--json] [--run REGEXP] COMMAND...")
		flags.PrintDefaults()
	}
	all := flags.Bool("all", false, "run the sections beyond the core, too, and require them")
	asJSON := flags.Bool("json", false, "write the report as JSON")
	only := flags.String("run", "", "only cases that match this `regexp` of go test: SECTION/CASE, with _ for blanks")
	if flags.Parse(args) != nil {
		return unchecked
	}
	if flags.NArg() == 0 {
		flags.Usage()
		return unchecked
	}
	command, err := quoted(flags.Args())
	if err != nil {
		fmt.Fprintln(stderr, err)
		return unchecked
	}
	test := exec.CommandContext(ctx, "go", "test", "-json", "-count=1", "-timeout=20m", "-run=^TestContract$/^foreign$/"+*only, "ssegateway/e2e/contract")
	sections := "core"
	if *all {
		sections = "all"
	}
	test.Env = append(os.Environ(), "CONTRACT_COMMAND="+command, "CONTRACT_SECTIONS="+sections)
	test.Stderr = stderr
	events, err := test.StdoutPipe()
	if err == nil {
		err = test.Start()
	}
	if err != nil {
		fmt.Fprintln(stderr, err)
		return unchecked
	}
	r, err := read(events)
	failed := test.Wait()
	if err != nil {
		fmt.Fprintln(stderr, err)
		return unchecked
	}
	r.Command = flags.Args()
	r.finish(failed != nil)
	if *asJSON {
		encoder := json.NewEncoder(stdout)
		encoder.SetIndent("", "  ")
		err = encoder.Encode(r)
	} else {
		err = r.write(stdout)
	}
	switch {
	case err != nil:
		fmt.Fprintln(stderr, err)
		return unchecked
	case r.Error != "":
		return unchecked
	case !r.Conforms:
		return fails
	}
	return conforms
}

// quoted returns the command for a shell. It is run in the present directory, though the suite runs in another one.
func quoted(command []string) (string, error) {
	dir, err := os.Getwd()
	text := `/bin/sh -c 'cd "$0" && exec "$@"'`
	for _, word := range append([]string{dir}, command...) {
		text += " '" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	return text, err
}
