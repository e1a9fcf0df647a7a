// Command ssegateway holds browsers' Server-Sent-Events streams on behalf of any
// backend.
package main

import (
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"ssegateway/internal/config"
	"ssegateway/internal/server"
)

// version and commit are set by the linker for releases.
var version, commit string

func main() {
	// Only net/http's client writes there, about servers that speak before they are asked. What
	// matters is in its errors.
	log.SetOutput(io.Discard)
	if err := command().Execute(); err != nil {
		if code := exitCode(0); errors.As(err, &code) {
			os.Exit(int(code))
		}
		if !errors.Is(err, errLogged) {
			for _, problem := range problems(err) {
				fmt.Fprintln(os.Stderr, "[ERROR]", problem)
			}
		}
		os.Exit(1)
	}
}

// errLogged is returned by a command that has logged its error.
var errLogged = errors.New("failed")

func command() *cobra.Command {
	root := &cobra.Command{
		Use:           "ssegateway",
		Short:         "Holds Server-Sent-Events streams on behalf of any backend",
		Long:          "ssegateway holds browsers' Server-Sent-Events streams on behalf of any backend.\nWithout a command it serves. Every flag can be given as an environment variable too: --callback-url as CALLBACK_URL.",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       versionString(),
		RunE:          serve,
	}
	config.Flags(root.PersistentFlags())
	root.AddCommand(
		&cobra.Command{Use: "serve", Short: "Run the gateway (the default)", Args: cobra.NoArgs, RunE: serve},
		demoCommand(),
		benchCommand(),
		checkCommand(),
		probeCommand(),
		versionCommand(),
	)
	root.AddCommand(operatorCommands()...)
	help := root.HelpFunc()
	root.SetHelpFunc(func(c *cobra.Command, args []string) {
		hidden := false
		if shown, few := c.Annotations[shownSettings]; few {
			c.InheritedFlags().VisitAll(func(f *pflag.Flag) {
				f.Hidden = !slices.Contains(strings.Fields(shown), f.Name)
				hidden = hidden || f.Hidden && shown != ""
			})
		}
		if help(c, args); hidden {
			fmt.Fprintln(c.OutOrStdout(), "\nAll settings: ssegateway serve --help")
		}
	})
	return root
}

// shownSettings is the annotation of a command whose help shows few of the settings: their flags.
const shownSettings = "settings"

// showOnly has the help of a command show only these settings of the gateway.
func showOnly(c *cobra.Command, flags ...string) {
	c.Annotations = map[string]string{shownSettings: strings.Join(flags, " ")}
}

// versionCommand prints what a report of a fault has to name.
func versionCommand() *cobra.Command {
	c := &cobra.Command{Use: "version", Short: "Print the version, the commit and the Go that built it", Args: cobra.NoArgs, Run: func(c *cobra.Command, _ []string) {
		fmt.Fprintf(c.OutOrStdout(), "ssegateway %s, commit %s, %s %s/%s\n", versionString(), commitString(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	}}
	showOnly(c)
	return c
}

// commitString returns the commit that the program was built from.
func commitString() string {
	if commit != "" {
		return commit
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
	}
	return "unknown"
}

func versionString() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

// serve runs the gateway until a signal ends it.
func serve(c *cobra.Command, _ []string) error {
	p, err := newProcess(c)
	defer p.end()
	if err != nil {
		return err
	}
	s, err := server.New(p.cfg, versionString(), p.log)
	if err != nil {
		return p.fail(err)
	}
	if err := p.run(c.Context(), s, s.Run); err != nil {
		return p.fail(err)
	}
	return nil
}

// problems returns the errors that are joined in err.
func problems(err error) []error {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}
