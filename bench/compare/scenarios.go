package main

import "strconv"

// scenario is one of bench's scenarios, and the figures that are shown of it.
type scenario struct {
	name    string
	title   string
	about   string
	streams int      // default number
	args    []string // further arguments of bench
	// heartbeat is the seconds between two. Where heartbeats are not measured, they are so rare that they do not matter.
	heartbeat int
	figures   []figure
}

// figure is one figure of a scenario.
type figure struct {
	names []string // bench's names of it; the first that a result has counts
	label string
	unit  string
	scale float64 // from bench's unit to this one
	// higher: more is better; else less is. neither: the figure depends on more than the server, and is not compared.
	higher, neither bool
	plot            bool
}

const (
	usualHeartbeat = 15
	fullStreams    = 10_000
)

func micros(label string, names ...string) figure {
	return figure{names: names, label: label, unit: "µs", scale: 1, plot: true}
}

func millis(label, name string) figure {
	return figure{names: []string{name}, label: label, unit: "ms", scale: 1}
}

func rate(label string, names ...string) figure {
	return figure{names: names, label: label, unit: "1/s", scale: 1, higher: true}
}

func kilobytes(label, name string) figure {
	return figure{names: []string{name}, label: label, unit: "kB", scale: 1e-3}
}

func beside(f figure) figure  { f.neither, f.plot = true, false; return f }
func plotted(f figure) figure { f.plot = true; return f }

var scenarios = []scenario{
	{
		name: "idle", title: "Memory of idle streams", streams: 19_000, heartbeat: usualHeartbeat,
		about: "Streams that get nothing. Growth of the memory of all the server's processes, five seconds after the last stream came, unaided. " +
			"What the kernel keeps is of the whole machine, so of both ends of each stream.",
		figures: []figure{
			plotted(kilobytes("resident memory per stream", "server RSS per stream")),
			kilobytes("the same, shared pages divided", "server PSS per stream"),
			beside(kilobytes("kernel: socket buffers per stream", "kernel socket buffers per stream, both ends")),
			beside(kilobytes("kernel: slab per stream", "kernel slab per stream, both ends")),
			{names: []string{"server RSS before any stream"}, label: "resident memory at start", unit: "MB", scale: 1},
		},
	},
	{
		name: "connect", title: "Opening streams", streams: fullStreams, heartbeat: usualHeartbeat,
		about: "64 at a time, but for Pushpin, of which only the CPU can be compared (see above). ssegateway, plain and Pushpin ask a backend for each stream; nchan asks nobody.",
		figures: []figure{
			micros("server CPU per stream", "server CPU per stream"),
			beside(micros("bench CPU per stream", "bench CPU per stream")),
			plotted(rate("streams opened", "streams opened")),
			millis("first byte, p50", "first byte p50"),
			millis("first byte, p99", "first byte p99"),
		},
	},
	{
		name: "fanout", title: "One event to all", streams: fullStreams, heartbeat: usualHeartbeat,
		about: "Events of 256 bytes, each published when the last stream has read the one before.",
		args:  []string{"--events=60"},
		figures: []figure{
			micros("server CPU per delivery", "server CPU per delivery"),
			beside(micros("bench CPU per delivery", "bench CPU per delivery")),
			plotted(millis("the last stream has it, p50", "last stream has it p50")),
			millis("the last stream has it, p99", "last stream has it p99"),
			rate("deliveries", "deliveries"),
		},
	},
	{
		name: "readers", title: "One writer, more and more readers", streams: 2000, heartbeat: usualHeartbeat,
		about: "At the end; at first there is 1. One writer publishes 50 events of 256 bytes a second to all, for a second with each number of readers. " +
			"Latency is from the time at which the event was due until a reader has it, also if the event had to wait for the one before; " +
			"where a server cannot keep up, it grows as long as the writer writes.",
		args:    []string{"--publish-rate=50", "--duration=1s"},
		figures: readersFigures(1, 10, 100, 1000, 2000),
	},
	{
		name: "unicast", title: "One event to one", streams: fullStreams, heartbeat: usualHeartbeat,
		about: "One POST for each event of 256 bytes, from 64 senders on connections that are kept (Pushpin closes them): paced, 2,000 a second, then saturated, " +
			"each sender sending again as soon as it is answered. A batch has 64 sends; a streaming request many events for one stream. " +
			"nchan has neither. Pushpin has batches of its own (several items in one publish), which are not measured.",
		args: []string{"--rate=2000", "--senders=64", "--duration=4s"},
		figures: []figure{
			micros("saturated: server CPU per send", "server CPU per saturated send"),
			beside(micros("saturated: bench CPU per send", "bench CPU per saturated send")),
			plotted(rate("saturated: sends", "saturated sends")),
			millis("saturated: latency, p50", "saturated latency p50"),
			plotted(millis("saturated: latency, p99", "saturated latency p99")),
			millis("paced: latency, p50", "paced latency p50"),
			plotted(millis("paced: latency, p99", "paced latency p99")),
			{names: []string{"server CPU per paced send"}, label: "paced: server CPU per send", unit: "µs", scale: 1},
			micros("batches: server CPU per event", "server CPU per batched event"),
			micros("streaming request: server CPU per event", "server CPU per streamed event"),
		},
	},
	{
		name: "heartbeat", title: "Heartbeats", streams: fullStreams, heartbeat: 1,
		about: "One a second to each stream: a comment, which all but the floor can send by themselves.",
		args:  []string{"--duration=4s"},
		figures: []figure{
			micros("server CPU per beat", "server CPU per beat"),
			beside(micros("bench CPU per beat", "bench CPU per beat")),
		},
	},
	{
		name: "storm", title: "Reconnect storms", streams: 2000, heartbeat: usualHeartbeat,
		about: "All are cut by their clients, and all come back at once. A stream that is refused, or ends again, is a failed request, and comes back after a second; " +
			"what that costs is in the figures. ssegateway and plain ask their backend, and tell it of each end, until it knows of all; " +
			"Pushpin asks its origin, which is another program than that backend; nchan asks nobody.",
		figures: []figure{
			micros("server CPU per reconnect", "server CPU per reconnect"),
			beside(micros("backend CPU per reconnect", "backend CPU per reconnect")),
			beside(micros("bench CPU per reconnect", "bench CPU per reconnect")),
			plotted(millis("all are back after", "all are back after")),
			{names: []string{"failed requests"}, label: "failed requests", unit: "number", scale: 1},
		},
	},
	{
		name: "churn", title: "Streams that come and go", streams: fullStreams, heartbeat: usualHeartbeat,
		about: "A stream is opened, and closed by its client as soon as it is there. ssegateway and plain ask their backend, and tell it of the end; " +
			"Pushpin asks its origin, and only its CPU can be compared; nchan asks nobody.",
		figures: []figure{
			micros("server CPU per cycle", "server CPU per cycle", "server CPU per cycle, connect and close only"),
			beside(micros("bench CPU per cycle", "bench CPU per cycle", "bench CPU per cycle, connect and close only")),
			plotted(rate("cycles", "cycles", "cycles, connect and close only")),
		},
	},
}

// readersFigures returns the figures with each of these numbers of readers.
func readersFigures(numbers ...int) (figures []figure) {
	for _, n := range numbers {
		readers, to := grouped(float64(n))+" readers: ", "to "+strconv.Itoa(n)
		if n == 1 {
			readers = "1 reader: "
		}
		p50, p99 := millis(readers+"latency, p50", "latency "+to+" p50"), millis(readers+"latency, p99", "latency "+to+" p99")
		cpu := micros(readers+"server CPU per delivery", "server CPU per delivery "+to)
		p99.plot, cpu.plot = n == 1000, n == 1000
		figures = append(figures, p50, p99, cpu)
	}
	return figures
}

// arguments returns bench's arguments except those that name the server.
func (s *scenario) arguments(streams int) []string {
	if streams == 0 {
		streams = s.streams
	}
	return append([]string{"bench", s.name, "--json", "--streams=" + strconv.Itoa(streams)}, s.args...)
}

// goal is the project's goal for one figure.
type goal struct {
	scenario, figure string // figure: the label
	goal, moonshot   float64
}

// goals are the project's goals on its usual machine, of two cores.
var goals = []goal{
	{"idle", "resident memory per stream", 1.3, 0.6},
	{"idle", "resident memory at start", 15, 10},
	{"connect", "server CPU per stream", 55, 45},
	{"fanout", "server CPU per delivery", 5.5, 4.6},
	{"fanout", "the last stream has it, p50", 50, 35},
	{"fanout", "the last stream has it, p99", 75, 50},
	{"unicast", "saturated: server CPU per send", 18, 11},
	{"unicast", "saturated: sends", 60_000, 85_000},
	{"unicast", "saturated: latency, p99", 3, 1.3},
	{"unicast", "batches: server CPU per event", 7, 5.5},
	{"unicast", "streaming request: server CPU per event", 7, 5.5},
	{"unicast", "paced: latency, p99", 1, 0.5},
	{"heartbeat", "server CPU per beat", 5.5, 4.6},
	{"churn", "server CPU per cycle", 75, 60},
}

// The size of the program, in MB.
const (
	sizeGoal     = 30
	sizeMoonshot = 20
)
