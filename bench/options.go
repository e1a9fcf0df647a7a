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
var Scenarios = []string{"connect", "storm", "churn", "idle", "heartbeat", "fanout", "readers", "unicast", "mixed"}

// publishes reports whether events are published in the scenario.
func publishes(scenario string) bool {
	return slices.Contains([]string{"fanout", "readers", "unicast", "mixed"}, scenario)
}

// hasBeats reports whether heartbeats are measured in the scenario.
func hasBeats(scenario string) bool { return scenario == "heartbeat" || scenario == "mixed" }

// common reports whether all streams of the scenario have the same {channel}.
func common(scenario string) bool {
	return !slices.Contains([]string{"unicast", "churn", "mixed"}, scenario)
}

// patience is how long a run waits for something that must happen before it fails.
const patience = 20 * time.Second

// Options are what to measure, and on which server.
type Options struct {
	Scenarios []string // in any order; empty: all

	Streams     int           // to open, in each scenario but churn
	Connecting  int           // streams being opened at a time
	Settle      time.Duration // idle: from the last stream to the measurement of the memory
	Events      int           // fanout: one after the other
	Size        int           // bytes of an event's data
	Rate        int           // unicast, mixed: sends a second, paced
	PublishRate int           // readers, mixed: publishes a second
	Duration    time.Duration // of each part that is not bounded otherwise
	Senders     int           // unicast, mixed: connections that send
	Heartbeat   int           // heartbeat, mixed: the server's interval, in seconds

	StreamsPerProcess int // 0: as many as the limit on open files allows

	// Profile is one of Profiles; empty: custom where there is a URL, else ssegateway.
	Profile string
	// Server and PublishServer are the beginnings of URLs. Both, and the URL, empty: Run
	// starts Gateway.
	Server, PublishServer string
	// Backend is where to answer the callbacks of such a server.
	Backend string
	// The request that opens a stream, and the one that publishes an event. What is
	// empty is the profile's.
	Method, URL, Body                      string
	Headers                                []string
	PublishMethod, PublishURL, PublishBody string
	PublishHeaders                         []string
	// PIDs are the server's processes. Empty: its CPU and memory are not known.
	PIDs []int
	// BackendPIDs are the processes of the backend that such a server asks, unless it is answered here. Empty: it asks nobody.
	BackendPIDs []int

	// Gateway is the program to start, with its arguments, and Worker the one that
	// calls Work.
	Gateway, Worker []string
	// Version is the program's.
	Version string
	// Progress is told what is being done; Live: every second.
	Progress io.Writer
	Live     bool
}

// Flags registers a flag for each option that a user sets.
func (o *Options) Flags(fs *pflag.FlagSet) {
	fs.SortFlags = false
	fs.IntVar(&o.Streams, "streams", 1000, "Streams to open")
	fs.IntVar(&o.Connecting, "connecting", 64, "Streams being opened at a time")
	fs.DurationVar(&o.Duration, "duration", 5*time.Second, "churn, heartbeat, mixed, each part of readers and unicast: how long")
	fs.DurationVar(&o.Settle, "settle", 5*time.Second, "idle: time between the last stream and the look at the memory")
	fs.IntVar(&o.Events, "events", 100, "fanout: events, one after the other")
	fs.IntVar(&o.Size, "size", 256, "Bytes of an event's data")
	fs.IntVar(&o.Senders, "senders", 64, "unicast, mixed: connections that send")
	fs.IntVar(&o.Rate, "rate", 2000, "mixed, the paced part of unicast: sends a second")
	fs.IntVar(&o.PublishRate, "publish-rate", 2, "readers, mixed: publishes to all streams a second")
	fs.StringVar(&o.Profile, "profile", "", "The `server`, for its URLs and bodies: "+strings.Join(Profiles, ", ")+" (default custom with --url, else ssegateway)")
	fs.StringVar(&o.Server, "server", "", "Measure the server of the profile at this `URL`; it is {server} in what follows")
	fs.StringVar(&o.PublishServer, "publish-server", "", "{publish-server}, where it publishes elsewhere")
	fs.StringVar(&o.Backend, "backend", "", "With --server, profile ssegateway: `host:port` on which to answer the callbacks")
	fs.StringVar(&o.URL, "url", "", "`URL` of a stream; {n} is its number, {channel} its channel")
	fs.StringVar(&o.Method, "method", "", "Method of that request (default GET)")
	fs.StringArrayVar(&o.Headers, "header", nil, "Header of that request, `\"Name: value\"`; repeatable")
	fs.StringVar(&o.Body, "body", "", "Body of that request")
	fs.StringVar(&o.PublishURL, "publish-url", "", "`URL` that publishes to {channel}, or to stream {n}")
	fs.StringVar(&o.PublishMethod, "publish-method", "", "Method of that request (default POST)")
	fs.StringArrayVar(&o.PublishHeaders, "publish-header", nil, "Header of that request, `\"Name: value\"`; repeatable")
	fs.StringVar(&o.PublishBody, "publish-body", "", "`Body` of that request, with {data} (default of profile custom: {data})")
	fs.IntSliceVar(&o.PIDs, "pid", nil, "`Processes` of the server, for its CPU and memory")
	fs.IntSliceVar(&o.BackendPIDs, "backend-pid", nil, "storm: `processes` of what the server asks, for their CPU, if bench does not answer itself")
	fs.IntVar(&o.StreamsPerProcess, "streams-per-process", 0, "Most streams of one process of bench; 0: by the limit on open files")
}

// starts reports whether the gateway is started here.
func (o *Options) starts() bool { return o.Server == "" && o.URL == "" }

// check says what is wrong with the options, and completes them.
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
		{"publish-rate", o.PublishRate, 1},
		{"senders", o.Senders, 1},
		{"heartbeat-interval-seconds", o.Heartbeat, 1},
		{"streams-per-process", o.StreamsPerProcess, 0},
	} {
		if bound.value < bound.from {
			return fmt.Errorf("--%s: %d is too small; allowed is a whole number from %d", bound.flag, bound.value, bound.from)
		}
	}
	if o.Settle < 0 || o.Duration <= 0 {
		return errors.New("--settle, --duration: a time cannot be negative, nor may the duration be 0")
	}
	if o.Profile == "" {
		o.Profile = "ssegateway"
		if o.URL != "" {
			o.Profile = "custom"
		}
	}
	return o.checkServer()
}

func (o *Options) checkServer() error {
	if !slices.Contains(Profiles, o.Profile) {
		return fmt.Errorf("--profile: %q is none; there are %s", o.Profile, strings.Join(Profiles, ", "))
	}
	if o.starts() {
		if o.PublishURL != "" || o.PublishServer != "" || o.PublishBody != "" || o.Backend != "" || len(o.PIDs)+len(o.BackendPIDs) > 0 {
			return errors.New("--publish-…, --backend, --pid and --backend-pid: only together with --server or --url")
		}
		if o.Profile != "ssegateway" {
			return fmt.Errorf("--profile %s: needs --server or --url; only ssegateway is started here", o.Profile)
		}
		return nil
	}
	switch {
	case o.Profile == "custom" && o.URL == "":
		return errors.New("--profile custom: needs --url")
	case o.Profile == "ssegateway" && (o.URL != "" || o.PublishURL != "" || o.PublishBody != ""):
		return errors.New("--profile ssegateway: its URLs and bodies are fixed; --url is for the others")
	case o.Profile == "ssegateway" && o.Backend == "":
		return errors.New("--profile ssegateway: with --server it needs --backend, to which the server's callback URL leads")
	case o.Profile != "ssegateway" && o.Backend != "":
		return errors.New("--backend: only profile ssegateway has callbacks")
	case o.Profile == "custom" && o.PublishURL == "" && slices.ContainsFunc(Scenarios, func(s string) bool { return o.runs(s) && publishes(s) }):
		return errors.New("--publish-url: fanout, readers, unicast and mixed need it beside --url")
	}
	for flag, base := range map[string]string{"server": o.Server, "publish-server": o.PublishServer} {
		if u, err := url.Parse(base); base != "" && (err != nil || u.Scheme != "http" || u.Hostname() == "" || u.Path != "") {
			return fmt.Errorf("--%s: %q is not of the form http://host:port", flag, base)
		}
	}
	r := o.profile(o.Server, o.publishBase())
	if _, _, err := r.open.address(); err != nil {
		return fmt.Errorf("--url: %w", err)
	}
	if r.publish != nil {
		if _, _, err := r.publish.address(); err != nil {
			return fmt.Errorf("--publish-url: %w", err)
		}
	}
	for flag, headers := range map[string][]string{"header": o.Headers, "publish-header": o.PublishHeaders} {
		for _, h := range headers {
			if name, _, ok := strings.Cut(h, ":"); !ok || name == "" || strings.ContainsAny(h, "\r\n") {
				return fmt.Errorf("--%s: %q is not of the form \"Name: value\"", flag, h)
			}
		}
	}
	return nil
}

func (o *Options) runs(scenario string) bool {
	if len(o.Scenarios) == 0 {
		return scenario != "mixed" || o.Profile == "ssegateway" // others have to be set up for it
	}
	return slices.Contains(o.Scenarios, scenario)
}
