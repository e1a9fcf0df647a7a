package main

// scenario is a promise, and the test that shows it.
type scenario struct {
	name    string
	promise string   // what is kept, in a sentence
	limits  string   // under what, and what bounds the promise
	pkg     string   // as go test takes it
	test    string   // the tests' names, with | between them
	race    bool     // under the race detector, where nothing is timed
	seeded  bool     // the test has a flag -seed
	flags   []string // of the test
}

var scenarios = []scenario{
	{
		name:    "kills",
		promise: "With `STATE_DIR`, nothing that was answered 200 is lost by a kill, and the backend's picture is true within 5 s of the start.",
		limits:  "SIGKILL at random moments, 300 times, among churn; while starting, with a torn write, and with a full disk.",
		pkg:     "./e2e/state", test: "TestKills", race: true, seeded: true,
		flags: []string{"-kills", "300", "-staying", "100"},
	},
	{
		name:    "churn",
		promise: "The backend is told of the end of every connection that it may have accepted: once, after its answer, and again only where it has not acknowledged that. It is told of no other.",
		limits:  "100,000 connections; a tenth of all callbacks fails: 500, no answer, a late one, one that breaks off; the backend is away for 60 s in the middle.",
		pkg:     "./e2e/storm", test: "TestChurn", seeded: true,
		flags: []string{"-strict", "-churned", "100000", "-away", "60s"},
	},
	{
		name:    "drain",
		promise: "A stop ends in time, with all streams ended as they should and all ends acknowledged. With a window the clients come back at no more than twice the mean in any second.",
		limits:  "10,000 streams; a backend that takes 50 ms; 4.5 s, and a window of 30 s with a second gateway that takes them.",
		pkg:     "./e2e/storm", test: "TestDrain|TestDrainWindow", seeded: true,
		flags: []string{"-strict", "-streams", "10000", "-drain", "30"},
	},
	{
		name:    "rush",
		promise: "No more callbacks than `CALLBACK_CONCURRENCY` at a time, none for a client that has left while it waited, and a stream for every other one within 60 s.",
		limits:  "10,000 clients connect at once to a backend that takes 200 ms; half of them leave while they wait; at most 40 KiB of memory for each.",
		pkg:     "./e2e/storm", test: "TestRush", seeded: true,
		flags: []string{"-strict", "-streams", "10000"},
	},
	{
		name:    "outage",
		promise: "While the backend is down open streams miss no heartbeat, and it gets one callback a second. Within 5 s of its return clients have their streams, and every end is told.",
		limits:  "10,000 streams, of which half end in the outage; 2,500 clients that come back every second; 60 s of 503, of silence, and of nobody there.",
		pkg:     "./e2e/storm", test: "TestOutage", seeded: true,
		flags: []string{"-strict", "-streams", "10000", "-away", "60s"},
	},
	{
		name:    "hang",
		promise: "A backend that hangs holds up neither closes, which are answered within 20 ms, nor sends.",
		limits:  "10,000 streams, 2,000 sends a second; the backend hangs three times for 10 s, and is well as often; p99 of sends at most 1.25 times and 0.5 ms.",
		pkg:     "./e2e/storm", test: "TestHang", seeded: true,
		flags: []string{"-strict", "-streams", "10000", "-rate", "2000", "-span", "10s"},
	},
	{
		name:    "lives",
		promise: "A connection ends once, for one reason, and what is buffered for it keeps its order.",
		limits:  "1,000,000 random lives of connections at the same time, of connects, answers, timeouts, sends, closes, FIN, RST, stray bytes, clients that pause and hang, drains; in memory, on a clock of its own.",
		pkg:     "./internal/gateway", test: "TestModel", race: true,
		flags: []string{"-model.n", "1000000"},
	},
	{
		name:    "chaos",
		promise: "In a cluster every loss is signalled as `gap` and none is silent, every answer is true, and all is well within 10 s of a fault's end.",
		limits:  "Three nodes, NATS and nginx on hosts of their own, 3,000 clients that return at random, 50 random faults of 1 s to 30 s, a lost store among them.",
		pkg:     "./e2e/cluster", test: "TestChaos", race: true, seeded: true,
		flags: []string{"-strict", "-clients", "3000", "-lease", "10", "-drain", "20", "-faults", "50", "-longest", "30s"},
	},
	{
		name:    "counter",
		promise: "A page that reads a state and follows its changes never shows a wrong one, and knows when it is not up to date.",
		limits:  "The page of `examples/browser`; 200 changes a second for 10 minutes, while it is reloaded, loses its network, is silenced, closed, opened anew, and the gateway forgets its log.",
		pkg:     "./e2e/examples", test: "TestCounter",
		flags: []string{"-counter", "10m"},
	},
}
