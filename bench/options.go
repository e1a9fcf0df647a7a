package bench

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// Scenarios are what can be measured, in the order in which they run.
var Scenarios = []string{"connect", "idle", "fanout", "unicast"}

// patience is how long a run waits for anything that has to happen before it fails.
const patience = 20 * time.Second

// Options say what to measure, and on which server.
type Options struct {
	Scenarios []string // in any order; empty: all

	Streams    int           // to open, in each scenario
	Connecting int           // streams being opened at a time
	Settle     time.Duration // idle: from the last stream to the look at the memory
	Events     int           // fanout: one after the other
	Size       int           // bytes of an event's data
	Rate       int           // unicast: sends a second, paced
	Duration   time.Duration // unicast: of the paced part and of the saturated one
	Senders    int           // unicast: connections that send

	// URL of stream {n}. Empty: Run starts Gateway, and the publisher is known.
	URL string
	// PublishURL and PublishBody are the request that publishes {data}; {n} is the
	// number of the stream that is to have it.
	PublishURL, PublishBody string
	// PIDs are the server's processes. Empty: its CPU and memory are not known.
	PIDs []int

	// Gateway is the program to start, with its arguments.
	Gateway []string
	// Progress is told what is being done.
	Progress io.Writer
}

// Flags registers a flag for each option that a user sets.
func (o *Options) Flags(fs *pflag.FlagSet) {
	fs.SortFlags = false
	fs.IntVar(&o.Streams, "streams", 1000, "Streams to open")
	fs.IntVar(&o.Connecting, "connecting", 64, "Streams being opened at a time")
	fs.DurationVar(&o.Settle, "settle", 5*time.Second, "idle: time between the last stream and the look at the memory")
	fs.IntVar(&o.Events, "events", 100, "fanout: events, one after the other")
	fs.IntVar(&o.Size, "size", 256, "Bytes of an event's data")
	fs.IntVar(&o.Rate, "rate", 2000, "unicast: sends a second of the paced part")
	fs.DurationVar(&o.Duration, "duration", 5*time.Second, "unicast: of the paced part, and of the saturated one")
	fs.IntVar(&o.Senders, "senders", 64, "unicast: connections that send")
	fs.StringVar(&o.URL, "url", "", "Measure this server: the `URL` of stream {n}")
	fs.StringVar(&o.PublishURL, "publish-url", "", "With --url: `URL` that events are POSTed to; {n} is the stream's number")
	fs.StringVar(&o.PublishBody, "publish-body", "{data}", "With --url: the `body` of that POST; {n} and {data} are replaced")
	fs.IntSliceVar(&o.PIDs, "pid", nil, "With --url: `processes` of the server, for its CPU and memory")
}

// check says what is wrong with the options.
func (o *Options) check() error {
	for _, s := range o.Scenarios {
		if !slices.Contains(Scenarios, s) {
			return fmt.Errorf("%q is no scenario; there are %s", s, strings.Join(Scenarios, ", "))
		}
	}
	for _, bound := range []struct {
		flag        string
		value, from int
	}{
		{"streams", o.Streams, 1},
		{"connecting", o.Connecting, 1},
		{"events", o.Events, 1},
		{"size", o.Size, minSize},
		{"rate", o.Rate, 1},
		{"senders", o.Senders, 1},
	} {
		if bound.value < bound.from {
			return fmt.Errorf("--%s: %d is too small; allowed is a whole number from %d", bound.flag, bound.value, bound.from)
		}
	}
	if o.Settle < 0 || o.Duration <= 0 {
		return errors.New("--settle, --duration: a time cannot be negative, nor may the duration be 0")
	}
	if o.URL == "" {
		if o.PublishURL != "" || len(o.PIDs) > 0 {
			return errors.New("--publish-url and --pid: only together with --url")
		}
		return nil
	}
	if o.PublishURL == "" && (o.runs("fanout") || o.runs("unicast")) {
		return errors.New("--publish-url: fanout and unicast need it beside --url")
	}
	for flag, template := range map[string]string{"url": o.URL, "publish-url": o.PublishURL} {
		if template == "" {
			continue
		}
		u, err := url.Parse(template)
		if err != nil || u.Scheme != "http" || u.Hostname() == "" || strings.Contains(u.Host, "{") {
			return fmt.Errorf("--%s: %q is not an http URL with a host", flag, template)
		}
	}
	return nil
}

func (o *Options) runs(scenario string) bool {
	return len(o.Scenarios) == 0 || slices.Contains(o.Scenarios, scenario)
}
