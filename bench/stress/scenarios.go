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
		name:    "refusals",
		promise: "A browser that was refused for good stays away, and one that met an outage of the backend is back within 6 s of its end.",
		limits: "Chromium and `eventsource` for Node, with each `EVENTSOURCE_ERRORS`; 401, 403 and 404, and a backend that counts as down. With `status`, an EventSource that meets the outage gives up: " +
			"this is what `retry` and `event` are for. Two more seconds are granted to a busy machine.",
		pkg: "./e2e/clients", test: "TestRefusals",
		flags: []string{"-returns", "120"},
	},
}
