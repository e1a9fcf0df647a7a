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
		name:    "soak",
		promise: "No event is lost, doubled, torn or out of order, each end is told once, and memory stays flat (±5 % from minute 10, means of ten minutes).",
		limits:  "15,000 streams for 50 minutes: 2,000 sends and 2 publishes to everybody a second, heartbeats, and 1,500 streams that leave after a second and come back with their position.",
		pkg:     "./e2e/load", test: "TestSoak",
		flags: []string{"-strict", "-streams", "15000", "-duration", "50m", "-flat", "10m"},
	},
	{
		name:    "slow-clients",
		promise: "Clients that stop reading cost at most 256 MiB, the kernel's included, and slow others down by at most half; all are cut and told once within 15 s.",
		limits:  "2,000 of 10,000 clients stop reading, and get 200 kB each at once, then 1,000 events of 4 kB a second together; 1,000 events a second go to the others.",
		pkg:     "./e2e/load", test: "TestSlowClients",
		flags: []string{"-strict", "-streams", "10000", "-duration", "20s"},
	},
	{
		name:    "overflow",
		promise: "Clients whose queues are full slow others down to at most twice the time, whatever their overflow policy is.",
		limits:  "100 clients of each policy with 40,000 events each, 1,000 others; 10 s.",
		pkg:     "./e2e/load", test: "TestSlowClientsOfEachPolicy",
		flags: []string{"-strict", "-streams", "1000", "-duration", "10s"},
	},
	{
		name:    "many-connections",
		promise: "What connections took is given back: goroutines, descriptors and maps as before, the heap within 5 %.",
		limits:  "200,000 connections, in turn left by the client in order, with a reset, and while the backend is asked; closed by the backend after an event; refused.",
		pkg:     "./e2e/load", test: "TestManyConnections",
		flags: []string{"-connections", "200000"},
	},
	{
		name:    "idle-memory",
		promise: "An idle stream takes at most 1,300 bytes of the gateway and no goroutine, 5 s after the last one came.",
		limits:  "19,000 streams, HTTP/1.1 without TLS; without the kernel's share.",
		pkg:     "./e2e/load", test: "TestIdleMemory",
		flags: []string{"-strict", "-streams", "19000"},
	},
	{
		name:    "small-memory",
		promise: "In 64 MiB, kernel memory included, the gateway goes on: what was answered 200 arrives at all who read, who does not read is cut and told, and what the log no longer has is a gap.",
		limits:  "A memory cgroup, 19,000 streams, a twentieth of them not reading, twice as much published as the log may hold, all settings at their defaults. Socket buffers count with cgroups of version 2 only.",
		pkg:     "./e2e/load", test: "TestSmallMemory",
		flags: []string{"-streams", "19000"},
	},
	{
		name:    "replay-storm",
		promise: "Clients that come back all at once get every event that they missed, in order, and slow live ones down to at most twice the time.",
		limits:  "1,000 of 2,000 clients miss 1,000 events each; 50 events a second go on.",
		pkg:     "./e2e/load", test: "TestReplayStorm",
		flags: []string{"-strict", "-streams", "2000", "-duration", "10s"},
	},
	{
		name:    "fan-out",
		promise: "A publish costs at most a tenth more for each client than a write to the same streams without topics.",
		limits:  "10,000 streams, processor time, median of 7 rounds of 20 events.",
		pkg:     "./e2e/load", test: "TestFanout",
		flags: []string{"-strict", "-streams", "10000"},
	},
	{
		name:    "relay",
		promise: "A relayed stream costs at most twice the processor time that it costs nginx without buffers, for each event, and a third of the memory that it takes in a plain httputil.ReverseProxy.",
		limits:  "8,000 streams, an event a second on each, in turn; without the kernel's share.",
		pkg:     "./e2e/load", test: "TestRelay",
		flags: []string{"-strict", "-streams", "8000", "-duration", "5s"},
	},
	{
		name:    "answer-fan-out",
		promise: "An event of a relayed answer costs each of its readers at most a tenth more than one that is published to as many streams.",
		limits:  "1,000 readers of one answer, 50 events a second, processor time of the gateway, median of 5 rounds in turn.",
		pkg:     "./e2e/load", test: "TestRelayedFanout",
		flags: []string{"-strict", "-streams", "1000", "-duration", "20s"},
	},
	{
		name:    "unread-log",
		promise: "A log that nobody reads stops nothing: lines are lost whole, counted, and the log says how many.",
		limits:  "A pipe that is full, one whose reader has gone, a stopped terminal, a full disk.",
		pkg:     "./e2e/process", test: "TestLogNobodyReads|TestLogReadAgain|TestLogWithoutReader|TestLogToStoppedTerminal|TestLogToFullDisk", race: true,
	},
	{
		name:    "full-disk",
		promise: "With `STATE_DIR` on a full disk streams go on, publishes are refused with 503, and nothing answered 200 is lost; it heals by itself.",
		limits:  "A file system of 32 MiB, without room; then room again, and a kill.",
		pkg:     "./e2e/state", test: "TestFullDisk", race: true, seeded: true,
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
		name:    "relayed-answers",
		promise: "A relayed answer that clients lose and come back to is whole, each event once and in order, or they are told that it is gone. The application is cancelled within 100 ms of the last client's leaving, or of the end of its resume time.",
		limits:  "1,000,000 random steps: answers that end, break off, are stopped, outgrow their bounds; clients that read fast, slowly or not at all, leave and come back at random positions, to one to three nodes that lose a tenth of their messages, drain and die; on a clock of its own.",
		pkg:     "./internal/relay", test: "TestModel", race: true,
		flags: []string{"-relay.n", "1000000"},
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
	{
		name:    "vanish",
		promise: "A peer that vanishes without a word is told of as an `error` within a heartbeat and 12 s, over every kind of stream.",
		limits:  "1,000 peers of each kind whose packets are dropped, while they get heartbeats, some events, many events, and more than they read.",
		pkg:     "./e2e/vanish", test: "TestVanish", seeded: true,
		flags: []string{"-peers", "1000"},
	},
	{
		name:    "vanish-behind-nginx",
		promise: "A client that vanishes behind nginx is told of within a heartbeat and 12 s too, as `client_closed`, if the proxy's host gives it up that soon.",
		limits:  "1,000 clients whose packets to nginx are dropped; `net.ipv4.tcp_retries2` is 4 on its host.",
		pkg:     "./e2e/vanish", test: "TestVanishBehindProxy", seeded: true,
		flags: []string{"-peers", "1000"},
	},
	{
		name:    "leave",
		promise: "A peer that leaves is told of within 100 ms (99th percentile), once and with its reason, however it leaves.",
		limits:  "FIN, FIN without TLS's close_notify, RST, half-close, 1 and 3,000 more bytes and then FIN; 1,000 peers of each kind. After an error of HTTP/2 the peer has a second to read why.",
		pkg:     "./e2e/vanish", test: "TestLeave", seeded: true,
		flags: []string{"-peers", "1000", "-limit", "100ms"},
	},
	{
		name:    "hostile",
		promise: "Hostile peers that use up all descriptors delay nobody else, and do not fill the log.",
		limits:  "5,000 peers of each kind, 1,024 descriptors; health, sends and new streams within 50 ms (99th percentile), all well within 1 s of the peers' end.",
		pkg:     "./e2e/hostile", test: "TestPeers|TestPeersThroughHAProxy",
		flags: []string{"-peers", "5000", "-descriptors", "1024", "-requests", "200", "-limit", "50ms", "-recovery", "1s"},
	},
	{
		name:    "slowloris",
		promise: "Slow requests and slow readers do not keep others from connecting.",
		limits:  "2,000 connections of slowloris, and of slowhttptest with slow headers, slow bodies, ranges and slow reading; a connect within 250 ms (99th percentile).",
		pkg:     "./e2e/hostile", test: "TestSlowClients",
		flags: []string{"-peers", "2000", "-lasting", "60s", "-limit", "250ms"},
	},
	{
		name:    "h2spec",
		promise: "HTTP/2 is what RFC 9113 says, as h2spec tests it. The cases that fail are listed with their reasons, and no other one does.",
		limits:  "All cases, those for strict servers too, with TLS and without.",
		pkg:     "./e2e/h2spec", test: "TestH2spec",
	},
	{
		name:    "stalled-stream",
		promise: "An HTTP/2 stream that is stalled at most doubles the time that events of its siblings take (99th percentile).",
		limits:  "51 streams on one connection, of which one takes nothing until it is cut; 15 times.",
		pkg:     "./e2e/hostile", test: "TestStalledStream",
		flags: []string{"-siblings", "50", "-rounds", "15", "-slower", "2"},
	},
	{
		name:    "rapid-resets",
		promise: "HTTP/2 streams that are reset as soon as they were asked for cost at most 32 MiB, whatever their number.",
		limits:  "100,000 resets; a new stream of others within 250 ms (99th percentile).",
		pkg:     "./e2e/hostile", test: "TestRapidResets",
		flags: []string{"-resets", "100000", "-growth", "32", "-limit", "250ms"},
	},
	{
		name:    "address-floods",
		promise: "An address that opens streams without end gets what `MAX_CONNECTIONS_PER_IP` allows it, and does not keep others from connecting.",
		limits:  "16 connections at a time for a minute, from the address itself and behind a trusted proxy; a connect of another address within 250 ms (99th percentile).",
		pkg:     "./e2e/hostile", test: "TestAddressFloods",
		flags: []string{"-lasting", "60s", "-limit", "250ms"},
	},
	{
		name:    "histories",
		promise: "What a client gets and what the backend is told does not depend on how the gateway is run: one script has one history.",
		limits:  "150 random scripts of up to 60 steps, each under 15 random configurations: five kinds of stream, four engines (three nodes among them), overflow policies, forms of requests, internal listeners, signatures, batches, heartbeats, limits. The contract's own differences are left out.",
		pkg:     "./e2e/histories", test: "TestHistories", race: true, seeded: true,
		flags: []string{"-scripts", "150", "-configurations", "15", "-steps", "60"},
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
	{
		name:    "refusals",
		promise: "A browser that was refused for good stays away, and one that met an outage of the backend is back within 6 s of its end.",
		limits: "Chromium and `eventsource` for Node, with each `EVENTSOURCE_ERRORS`; 401, 403 and 404, and a backend that counts as down. With `status`, an EventSource that meets the outage gives up: " +
			"this is what `retry` and `event` are for. Two more seconds are granted to a busy machine.",
		pkg: "./e2e/clients", test: "TestRefusals",
		flags: []string{"-returns", "120"},
	},
	{
		name:    "corpus",
		promise: "No request, however malformed, has the gateway and a proxy in front of it disagree about where it ends, and what each is answered does not change unnoticed.",
		limits:  "389 raw requests of HTTP/1 and 106 cases of HTTP/2 frames, direct; those of HTTP/1 also over TLS, and through nginx, HAProxy and Caddy, whose clients share a connection.",
		pkg:     "./e2e/corpus", test: "TestDirect|TestTLS|TestHTTP2|TestThroughProxies", race: true,
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
