package main

// reasons has, by scenario, why a peer is as good or better there. They are written by hand; only what is known to be true.
var reasons = map[string]string{
	"idle": "Why: plain is the contract and nothing else: no topics, metrics, console or NATS client.",
	"connect": "Why: nchan asks nobody. ssegateway makes a callback for each stream, which is a request, an answer and the parsing of both; " +
		"plain, which does the same with net/http, shows what that takes.",
	"unicast": "Why: with one worker nchan keeps to one core and leaves the other to bench, while ssegateway uses both and shares them with bench. " +
		"Kept to one core, as **ssegateway, 1 processor** is, it is to be compared with one worker.",
	"heartbeat": "Why: most of it is the kernel's send(), which is the same for all.",
	"churn":     "Why: nchan asks nobody and tells nobody. ssegateway makes two callbacks in each cycle.",
}

// goalReasons has, by "scenario/figure", why a goal is not reached. They are written by hand.
var goalReasons = map[string]string{
	"idle/resident memory at start":          "bench opens and closes some streams before, to warm the server up; just started, the program has 15.1 MB.",
	"connect/server CPU per stream":          "two HTTP requests and answers, the stream's and the callback's. When the goal was set, plain took 119 µs; three fifths are system calls.",
	"fanout/server CPU per delivery":         "most of it is what the bare loop takes as well.",
	"fanout/the last stream has it, p50":     "the bare loop does not reach that here.",
	"fanout/the last stream has it, p99":     "the bare loop does not reach that here.",
	"unicast/saturated: server CPU per send": "seven tenths are system calls: the request is read, the event and the answer are written.",
	"unicast/saturated: sends":               "bench takes as much processor time as the server, from the same two cores.",
	"unicast/saturated: latency, p99":        "server and bench saturate both cores, and each waits for the other's turn; no server reaches it here.",
	"unicast/batches: server CPU per event":  "each event of a batch goes to another stream, so there is a write to a socket for each, as in a fan-out; what comes on top of that was not looked into.",
	"unicast/paced: latency, p99":            "no server reaches it here.",
	"heartbeat/server CPU per beat":          "the bare loop takes more than that for each delivery here.",
	"churn/server CPU per cycle":             "three HTTP requests and answers, the stream's and the two callbacks'. When the goal was set, plain took 144 µs; three fifths are system calls.",
}
