package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"ssegateway/internal/config"
	"ssegateway/internal/operator"
)

// addressSettings are those by which a command finds the gateway.
var addressSettings = []string{"config", "port", "internal-addr", "internal-token-file"}

// operatorCommands are those that ask the running gateway.
func operatorCommands() []*cobra.Command {
	commands := []*cobra.Command{healthCommand(), connectionsCommand(), sendCommand(), publishCommand(), tailCommand(), statsCommand()}
	for _, c := range commands {
		showOnly(c, addressSettings...)
		for _, sub := range c.Commands() {
			showOnly(sub, addressSettings...)
		}
	}
	return commands
}

// asking returns the RunE of a command that asks the gateway. It prints its error as it is, for a
// program to read.
func asking(run func(ctx context.Context, client *operator.Client, args []string) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		cfg, _, err := config.Load(c.Flags(), os.Environ(), 0)
		if err != nil {
			return err
		}
		ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGTERM, os.Interrupt)
		defer stop()
		if err := run(ctx, operator.New(cfg), args); err != nil {
			fmt.Fprintln(c.ErrOrStderr(), err)
			return errLogged
		}
		return nil
	}
}

func connectionsCommand() *cobra.Command {
	var q operator.Query
	c := &cobra.Command{
		Use:   "connections [TOKEN]",
		Short: "List the connections, or show one",
		Long: "connections lists the connections of the gateway, in a cluster those of all nodes, in the order of their tokens.\n" +
			"With a token it shows everything about that one.",
		Example: "  ssegateway connections --topic room.7",
		Args:    cobra.MaximumNArgs(1),
	}
	c.RunE = asking(func(ctx context.Context, client *operator.Client, args []string) error {
		if len(args) > 0 {
			return client.Show(ctx, args[0], q.JSON, c.OutOrStdout())
		}
		return client.List(ctx, q, c.OutOrStdout(), c.ErrOrStderr())
	})
	c.Flags().StringVar(&q.Topic, "topic", "", "Only those that have this `topic`")
	c.Flags().StringVar(&q.Subject, "subject", "", "Only those of this `subject`")
	c.Flags().IntVar(&q.Limit, "limit", 100, "At most this `number`; 0: all")
	c.Flags().StringVar(&q.After, "after", "", "Go on behind this `token`")
	c.Flags().BoolVar(&q.JSON, "json", false, "Print each as JSON, in a line of its own")

	end := &cobra.Command{
		Use:   "close TOKEN",
		Short: "Close a connection",
		Long: "close ends a connection, behind what was sent to it before. The backend is told of the end.\n" +
			"A browser comes back, unless the backend refuses it then.",
		Example: "  ssegateway connections close 0b8a2f7e-6d0c-4c53-9a57-2f1e3f0f8f11",
		Args:    cobra.ExactArgs(1),
	}
	end.RunE = asking(func(ctx context.Context, client *operator.Client, args []string) error {
		return client.Close(ctx, args[0], end.OutOrStdout())
	})
	c.AddCommand(end)
	return c
}

func sendCommand() *cobra.Command {
	var e operator.Event
	var end bool
	c := &cobra.Command{
		Use:     "send TOKEN [DATA]",
		Short:   "Send an event to one connection",
		Long:    "send sends an event to the connection with this token. " + dataHelp + " Without DATA and --event only --close takes effect.",
		Example: `  ssegateway send 0b8a2f7e-6d0c-4c53-9a57-2f1e3f0f8f11 "shipped" --event order`,
		Args:    cobra.RangeArgs(1, 2),
	}
	c.RunE = asking(func(ctx context.Context, client *operator.Client, args []string) error {
		if len(args) == 1 && e == (operator.Event{}) {
			if !end {
				return errors.New("nothing to send: give DATA, --event or --close")
			}
			return client.Send(ctx, args[0], nil, end, c.OutOrStdout())
		}
		var err error
		if e.Data, err = data(c.InOrStdin(), args[1:]); err != nil {
			return err
		}
		return client.Send(ctx, args[0], &e, end, c.OutOrStdout())
	})
	c.Flags().StringVar(&e.Name, "event", "", "The event's `name`")
	c.Flags().StringVar(&e.ID, "id", "", "The event's `id`; a connection with topics gets a gap when it comes back with it")
	c.Flags().BoolVar(&end, "close", false, "Close the connection behind the event")
	return c
}

func publishCommand() *cobra.Command {
	var p operator.Publication
	var noStore bool
	c := &cobra.Command{
		Use:     "publish TOPIC [DATA]",
		Short:   "Publish an event to a topic",
		Long:    "publish sends an event to all connections that have this topic. " + dataHelp,
		Example: `  ssegateway publish room.7 "hello" --event message`,
		Args:    cobra.RangeArgs(1, 2),
	}
	c.RunE = asking(func(ctx context.Context, client *operator.Client, args []string) error {
		if len(args) == 1 && p.Event.Name == "" {
			return errors.New("nothing to publish: give DATA or --event")
		}
		var err error
		if p.Event.Data, err = data(c.InOrStdin(), args[1:]); err != nil {
			return err
		}
		p.Topic, p.Store = args[0], !noStore
		return client.Publish(ctx, p, c.OutOrStdout(), c.ErrOrStderr())
	})
	c.Flags().StringVar(&p.Event.Name, "event", "", "The event's `name`")
	c.Flags().BoolVar(&noStore, "no-store", false, "Do not keep it for clients that come back")
	c.Flags().BoolVar(&p.Retain, "retain", false, "Retain it as the last of the topic, for clients that begin")
	c.Flags().StringVar(&p.Key, "key", "", "With --retain: as the last of this `key` of the topic")
	return c
}

const dataHelp = "DATA is its data, - reads that from the standard input, up to its last line end."

// data returns the data of an event: the argument, or for - what in has, without a line end behind
// it. No argument is no data.
func data(in io.Reader, args []string) (string, error) {
	if len(args) == 0 {
		return "", nil
	}
	if args[0] != "-" {
		return args[0], nil
	}
	text, err := io.ReadAll(in)
	if err != nil {
		return "", fmt.Errorf("the standard input: %w", err)
	}
	text = bytes.TrimSuffix(text, []byte("\n"))
	return string(bytes.TrimSuffix(text, []byte("\r"))), nil
}

func tailCommand() *cobra.Command {
	var t operator.Tail
	c := &cobra.Command{
		Use:   "tail TOPIC...",
		Short: "Print what is published to topics",
		Long: "tail prints the events that are published to these topics as they come, one line each: time, id, name, data. In a cluster it prints those of all nodes.\n" +
			"When it loses the gateway it goes on behind the last event. It ends on Ctrl-C.",
		Example: "  ssegateway tail room.7 room.8",
		Args:    cobra.MinimumNArgs(1),
	}
	c.RunE = asking(func(ctx context.Context, client *operator.Client, args []string) error {
		t.Topics = args
		return client.Tail(ctx, t, c.OutOrStdout(), c.ErrOrStderr())
	})
	c.Flags().StringVar(&t.From, "from", "", "Begin behind this `id`, instead of now")
	c.Flags().BoolVar(&t.JSON, "json", false, "Print each event as JSON, in a line of its own")
	c.Flags().BoolVar(&t.Raw, "raw", false, "Print the bytes of the stream")
	c.MarkFlagsMutuallyExclusive("json", "raw")
	return c
}

func statsCommand() *cobra.Command {
	var watch, asJSON bool
	c := &cobra.Command{
		Use:   "stats",
		Short: "Show counts and rates",
		Long: "stats shows the counts of the gateway, in a cluster also the sums over all nodes. With --watch it shows them every second with\n" +
			"rates: on a terminal as a screen, else as one line each.",
		Example: "  ssegateway stats --watch",
		Args:    cobra.NoArgs,
	}
	c.RunE = asking(func(ctx context.Context, client *operator.Client, _ []string) error {
		if watch {
			return client.Watch(ctx, isTerminal(c.OutOrStdout()), c.OutOrStdout(), c.ErrOrStderr())
		}
		return client.Stats(ctx, asJSON, c.OutOrStdout())
	})
	c.Flags().BoolVar(&watch, "watch", false, "Go on until Ctrl-C")
	c.Flags().BoolVar(&asJSON, "json", false, "Print what the gateway answers")
	c.MarkFlagsMutuallyExclusive("watch", "json")
	return c
}
