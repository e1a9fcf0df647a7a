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
}
