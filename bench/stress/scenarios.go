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
	fuzzing("1/4"), fuzzing("2/4"), fuzzing("3/4"), fuzzing("4/4"),
	{
		name:    "round-trips",
		promise: "Nothing that a backend sends can forge an event or a field: what is read of the format is what was written.",
		limits:  "10,000,000 events of random names, ids and data made of line ends, fields and halves of them, read in random pieces.",
		pkg:     "./e2e/roundtrips", test: "TestRoundTrips", seeded: true,
		flags: []string{"-events", "10000000"},
	},
	{
		name:    "vectors",
		promise: "A browser, two parsers by others and our own decoder read the same events from the same bytes.",
		limits:  "The vectors of `sse/testdata/vectors.json`, whole and in pieces. Known faults of the others are listed in the test, each by the vector that shows it.",
		pkg:     "./e2e/clients", test: "TestVectors",
	},
	{
		name:    "canaries",
		promise: "No log, at debug level too, and no metric has a query string, a cookie, a credential, data of an event, or a key.",
		limits:  "Over the whole contract suite, on every kind of stream: all logs and metrics of its gateways. At most 250 series, histograms by action only.",
		pkg:     "./e2e/contract", test: "TestContract", race: true,
	},
}

// fuzzing is a part of the fuzz targets. All of them take longer than a scenario may.
func fuzzing(part string) scenario {
	return scenario{
		name:    "fuzzing-" + part[:1],
		promise: "No input makes a parser that faces a peer crash, hang, or read what is not there.",
		limits:  "Each fuzz target for 10 minutes, two at a time with one worker each. Part " + part + ".",
		pkg:     "./e2e/fuzz", test: "TestFuzz",
		flags: []string{"-targets", ".", "-each", "10m", "-part", part},
	}
}
