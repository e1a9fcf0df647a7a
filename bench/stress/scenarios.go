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
		name:    "slow-clients",
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
}
