package config

import (
	"math"
	"strconv"
	"strings"
)

// setting is one row of the table: the names, default, bounds and meaning of a field of Config.
type setting struct {
	env      string // the environment variable; flag and key of the file follow from it
	standard string // the default, written as a user would; empty: none
	share    int64  // the default is at most one part in so many of a limit on memory; 0: whatever the limit is
	value
	secret  bool   // may also be read from a file, named by <env>_FILE
	lock    bool   // to set it to nothing is an error, since that would open what it locks
	lenient bool   // an invalid value is a warning, and the default is used
	meaning string // one or a few sentences; Markdown
}

// fit lowers the default, a number of bytes, to its share of a limit on memory in bytes. 0: there is no limit.
func (s *setting) fit(memory int64) {
	if s.share == 0 || memory == 0 {
		return
	}
	if standard, err := strconv.ParseInt(s.standard, 10, 64); err == nil && memory/s.share < standard {
		s.standard = strconv.FormatInt(max(1, memory/s.share), 10)
	}
}

const kib, mib, gib = 1 << 10, 1 << 20, 1 << 30

// settings returns the table, bound to the fields of c, in the order of the documentation.
func settings(c *Config) []setting {
	table := []setting{
		{
			env: "CONFIG_FILE", value: path(&c.ConfigFile),
			meaning: "Configuration file, in YAML.",
		},
		{
			env: "PORT", standard: "3000", value: number(&c.Port, 1, math.MaxUint16),
			meaning: "Port of the public listener.",
		},
		{
			env: "CALLBACK_URL", value: callbackURL(&c.CallbackURL), secret: true,
			meaning: "Where callbacks are POSTed, query string included. `unix:/run/app.sock:/callback` is the path `/callback` at a Unix socket. " +
				"Without it and `RELAY_URL` the gateway runs, is not ready, and refuses streams with 503.",
		},
		{
			env: "RELAY_URL", value: relayURL(&c.RelayURL),
			meaning: "An application that answers by itself: requests below `RELAY_PATHS` are [passed on](contract.md#20-relay) to it, and its event streams get heartbeats and more.",
		},
		{
			env: "RELAY_PATHS", value: relayPaths(&c.RelayPaths),
			meaning: "Which requests are passed on to `RELAY_URL`: those whose path is one of these, or below one. `/` is all but health, `/metrics` and `/internal`.",
		},
		{
			env: "RELAY_TIMEOUT_SECONDS", standard: "60", value: seconds(&c.RelayTimeout, 1, 3600),
			meaning: "How long the application may take from the end of a request to the head of its answer; then the client gets a 504.",
		},
		{
			env: "RELAY_RESUME_SECONDS", standard: "0", value: seconds(&c.RelayResume, 0, 3600),
			meaning: "For how long an event stream of the application is there for a client that comes back, where its head has no `Sse-Gateway-Resume`. 0: it is not kept.",
		},
		{
			env: "RELAY_ANSWER_BYTES", standard: "4194304", value: byteCount(&c.RelayAnswerBytes, 0, gib),
			meaning: "What is kept of one event stream of the application, with 64 bytes for each event. One that outgrows it goes on, at the pace of its slowest client, and nobody can come back to it.",
		},
		{
			env: "RELAY_BUDGET_BYTES", standard: "67108864", share: 32, value: byteCount(&c.RelayBudgetBytes, 0, 1024*gib),
			meaning: "What is kept of all of them together. Where there is no room those that have ended go first, the oldest first. " +
				"Under a memory limit, as of a container, the default is at most a 32nd of it.",
		},
		{
			env: "CALLBACK_URL_BEFORE", value: callbackURL(&c.CallbackURLBefore), secret: true,
			meaning: "With several gateways, to change `CALLBACK_URL` one after the other: the one before, which others still have. " +
				"Without it a gateway with another `CALLBACK_URL` than those that run takes no streams. The query string does not count.",
		},
		{
			env: "CALLBACK_SIGNING_SECRET", value: signingSecrets(&c.CallbackSigningSecrets), secret: true, lock: true,
			meaning: "Secrets of [Standard Webhooks](https://www.standardwebhooks.com/): callbacks are signed, so that the backend can tell them from others'. " +
				"To change one, set both until the backend knows the new one.",
		},
		{
			env: "CALLBACK_TOKEN", value: token(&c.CallbackToken), secret: true, lock: true,
			meaning: "Callbacks have `Authorization: Bearer` with this token. Not together with a user in `CALLBACK_URL`.",
		},
		{
			env: "CALLBACK_TIMEOUT_SECONDS", standard: "5", value: seconds(&c.CallbackTimeout, 1, 60),
			meaning: "How long the backend may take to answer a connect callback. Proxies in front have to wait for longer. An attempt of a disconnect always has 5 s.",
		},
		{
			env: "BACKEND_CA_FILE", value: path(&c.BackendCAFile),
			meaning: "Certificates in PEM that the backend's is checked with, instead of the system's. Read again when it changes.",
		},
		{
			env: "BACKEND_CLIENT_CERT_FILE", value: path(&c.BackendClientCertFile),
			meaning: "Certificate chain in PEM that the gateway shows to a backend that asks for one. Read again when it changes. Needs `BACKEND_CLIENT_KEY_FILE`.",
		},
		{
			env: "BACKEND_CLIENT_KEY_FILE", value: path(&c.BackendClientKeyFile),
			meaning: "Private key in PEM that belongs to `BACKEND_CLIENT_CERT_FILE`.",
		},
		{
			env: "HEARTBEAT_INTERVAL_SECONDS", standard: "15", value: seconds(&c.HeartbeatInterval, 1, forever),
			lenient: true,
			meaning: "Time between two heartbeats of a stream. " +
				"An invalid value is logged as an error and the default is used.",
		},
		{
			env: "INTERNAL_ADDR", value: address(&c.InternalAddr),
			meaning: "Moves `/internal/…` and `/metrics` to a listener of their own, which answers callers from anywhere. " +
				"Without it they are on the public port and answer this host only.",
		},
		{
			env: "INTERNAL_TLS_CERT_FILE", value: path(&c.InternalTLSCertFile),
			meaning: "Certificate chain in PEM: the listener of `INTERNAL_ADDR` speaks TLS and HTTP/2. Read again when it changes. Needs `INTERNAL_TLS_KEY_FILE`.",
		},
		{
			env: "INTERNAL_TLS_KEY_FILE", value: path(&c.InternalTLSKeyFile),
			meaning: "Private key in PEM that belongs to `INTERNAL_TLS_CERT_FILE`.",
		},
		{
			env: "INTERNAL_CLIENT_CA_FILE", value: path(&c.InternalClientCAFile), lock: true,
			meaning: "Certificates in PEM: who calls at `INTERNAL_ADDR`, for health and metrics too, has to have a certificate that one of them vouches for, or the gateway's own. " +
				"Read again when it changes. Needs `INTERNAL_TLS_CERT_FILE`.",
		},
		{
			env: "INTERNAL_SOCKET_MODE", standard: "0660", value: fileMode(&c.InternalSocketMode),
			meaning: "Permissions of the socket of `INTERNAL_ADDR`, whatever the umask: who may write to it may call.",
		},
		{
			env: "INTERNAL_ALLOW", value: prefixes(&c.InternalAllow),
			meaning: "Further callers that may use `/internal/…` and `/metrics`, besides those on this host. With `127.0.0.0/8,::1` callers on this host may name it as they like.",
		},
		{
			env: "INTERNAL_TOKEN", value: token(&c.InternalToken), secret: true, lock: true,
			meaning: "Callers of `/internal/…` and `/metrics` have to send `Authorization: Bearer` with this token, and may then come from anywhere.",
		},
		{
			env: "CORS_ALLOWED_ORIGINS", value: origins(&c.CORSAllowedOrigins),
			meaning: "Origins whose pages may open streams from another origin, with cookies if they ask for it; `null` is that of sandboxed frames. `*`: any, without cookies. " +
				"Without it CORS is off. Never applies to `/internal/…`.",
		},
		{
			env: "EVENTSOURCE_ERRORS", standard: "status", value: choice(&c.EventSourceErrors, "status", "retry", "event"),
			meaning: "What an EventSource gets where another client gets an error status, for which it would give up for ever. `retry`: for 408, 425, 429 and every 5xx a stream " +
				"that only has it come back. `event`: that, and for every other refusal a stream with one event `rejected`.",
		},
		{
			env: "EVENT_FORM", standard: "plain", value: choice(&c.EventForm, "plain", "envelope"),
			meaning: "How a named event is written. `envelope`: without its name, as the data `{\"type\":<name>,\"payload\":<data>}`, and each stream has an event `ready` when what it begins with was written. " +
				"For pages that were made for an older gateway. All nodes of a cluster have the same.",
		},
		{
			env: "TLS_CERT_FILE", value: path(&c.TLSCertFile),
			meaning: "Certificate chain in PEM: the public listener speaks TLS and HTTP/2. Read again when it changes. Needs `TLS_KEY_FILE`.",
		},
		{
			env: "TLS_KEY_FILE", value: path(&c.TLSKeyFile),
			meaning: "Private key in PEM that belongs to `TLS_CERT_FILE`.",
		},
		{
			env: "H2C", standard: "false", value: boolean(&c.H2C),
			meaning: "HTTP/2 without TLS on the public listener, behind a proxy that speaks it. Not together with TLS.",
		},
		{
			env: "HTTP2_MAX_STREAMS", standard: "250", value: number(&c.HTTP2MaxStreams, 1, 10_000),
			meaning: "Requests, event streams among them, that one HTTP/2 connection may have open at a time. A client that wants more opens another connection.",
		},
		{
			env: "MAX_CONNECTIONS", standard: "0", value: number(&c.MaxConnections, 0, 10_000_000),
			meaning: "Streams at a time; beyond it new ones get 503. " +
				"0: as many as the limit on open files leaves beside callbacks, and a reserve for internal calls and health: an eighth of the limit, at least 32 and at most 320.",
		},
		{
			env: "MAX_CONNECTIONS_PER_IP", standard: "0", value: number(&c.MaxConnectionsPerIP, 0, 10_000_000),
			meaning: "Streams of one client address at a time, on this gateway; beyond it new ones get 429 `TOO_MANY_FROM_ADDRESS`. IPv6 counts by /64. 0: any number. " +
				"People behind one router share an address, and so do all clients behind a proxy that is not in `TRUSTED_PROXIES`.",
		},
		{
			env: "CONNECTS_PER_MINUTE_PER_IP", standard: "0", value: number(&c.ConnectsPerMinutePerIP, 0, 1_000_000),
			meaning: "Streams that one client address may open in a minute, on this gateway; as many may come at once. Beyond it new ones get 429 `TOO_MANY_FROM_ADDRESS`. 0: any number. " +
				"After a restart all clients come back, each at least once.",
		},
		{
			env: "TRUSTED_PROXIES", value: prefixes(&c.TrustedProxies),
			meaning: "Proxies that say in `CLIENT_IP_HEADER` what address their peer has. Everybody else's header is ignored, and the address is the peer's own.",
		},
		{
			env: "CLIENT_IP_HEADER", standard: standardIPHeader, value: ipHeader(&c.ClientIPHeader),
			meaning: "The one header field with the client's address that is read, from `TRUSTED_PROXIES` only: the rightmost address in it that is not one of theirs. " +
				"Each proxy has to set or continue it.",
		},
		{
			env: "PROXY_PROTOCOL", standard: "false", value: boolean(&c.ProxyProtocol),
			meaning: "`TRUSTED_PROXIES` have to begin each connection to the public listener with a header of the PROXY protocol, version 1 or 2, and nobody else may. " +
				"The address in it is that of the peer: for load balancers of TCP. A backend on the host of such a proxy then needs `INTERNAL_ADDR`.",
		},
		{
			env: "MAX_BODY_BYTES", standard: "1048576", value: byteCount(&c.MaxBodyBytes, 1, gib),
			meaning: "Largest body of an internal request; a larger one gets 413.",
		},
		{
			env: "QUEUE_BYTES", standard: "1048576", value: byteCount(&c.QueueBytes, 1, gib),
			meaning: "What may wait for one client that reads slowly, or for one connection that is still pending.",
		},
		{
			env: "QUEUE_BUDGET_BYTES", standard: "134217728", share: 16, value: byteCount(&c.QueueBudgetBytes, 1, 1024*gib),
			meaning: "What may wait in all queues together; a published event that waits for many counts once. " +
				"Beyond it connections are cut: first those for which most has waited longest without their clients taking any. " +
				"Under a memory limit, as of a container, the default is at most a 16th of it.",
		},
		{
			env: "MAX_TOPICS", standard: "10000", value: number(&c.MaxTopics, 1, 1_000_000),
			meaning: "Topics that one connection may have, and that one event may be published to. " +
				"More are refused with 400 `TOO_MANY_TOPICS`; an answer to a connect with more is ignored as a whole.",
		},
		{
			env: "REQUEST_BUDGET_BYTES", standard: "0", value: byteCount(&c.RequestBudgetBytes, 0, 1024*gib),
			meaning: "What may be kept of clients' requests, for callbacks to repeat: of open connections, and of those whose end the backend was not told of yet. " +
				"Beyond it new streams get 503. 0: 256 MiB, or 2 KiB for each of `MAX_CONNECTIONS` if that is more; under a memory limit, as of a container, at most a quarter of it.",
		},
		{
			env: "TOPIC_LOG_BYTES", standard: "67108864", share: 32, value: byteCount(&c.LogBytes, 1, 1024*gib),
			meaning: "What the log of published events keeps for clients that come back. Under a memory limit, as of a container, the default is at most a 32nd of it.",
		},
		{
			env: "TOPIC_LOG_SECONDS", standard: "600", value: seconds(&c.LogAge, 1, math.MaxUint32),
			meaning: "How long the log of published events keeps an event.",
		},
		{
			env: "RETAINED_BYTES", standard: "67108864", share: 32, value: byteCount(&c.RetainedBytes, 0, 1024*gib),
			meaning: "What all retained events together may take, bookkeeping included. Beyond it an event that is to be retained is refused with 507. 0: nothing can be retained. " +
				"Under a memory limit, as of a container, the default is at most a 32nd of it.",
		},
		{
			env: "STATE_DIR", value: directory(&c.StateDir),
			meaning: "Directory that keeps, for a gateway that is alone, the log of published events and a record of each connection. After a kill or a crash the next process on it goes on with the log, " +
				"and tells the backend of the connections that are gone. Made where it is missing, with mode 0700. Belongs to one gateway at a time. Not together with `NATS_URL`, and not on Windows. Without it all is in memory.",
		},
		{
			env: "STATE_SYNC", standard: "second", value: choice(&c.StateSync, "second", "always"),
			meaning: "When what is written to `STATE_DIR` is forced to the disk, which matters where the machine fails, not the process. `always`: before it is answered. " +
				"`second`: once a second; after a failure of the machine the log begins anew then, and clients get `gap`.",
		},
		{
			env: "NATS_URL", value: natsURLs(&c.NATSURL), secret: true,
			meaning: "Servers of NATS (2.11 or newer, with JetStream), where the log is kept, and through which several gateways are one. Without it the log is in memory.",
		},
		{
			env: "NATS_CREDENTIALS_FILE", value: path(&c.NATSCredentialsFile),
			meaning: "Credentials of a NATS account, as its tools write them.",
		},
		{
			env: "NATS_CA_FILE", value: path(&c.NATSCAFile),
			meaning: "Certificates in PEM that those of the NATS servers are checked with, instead of the system's. Asks for TLS.",
		},
		{
			env: "NATS_PREFIX", standard: "ssegateway", value: prefix(&c.NATSPrefix),
			meaning: "Begins the names of everything on NATS. All gateways of one installation have the same, and no other installation has it.",
		},
		{
			env: "NATS_REPLICAS", standard: "1", value: number(&c.NATSReplicas, 1, 5),
			meaning: "On how many servers of a cluster of NATS everything is kept. While other gateways run the log's are not reduced.",
		},
		{
			env: "NATS_READ", standard: "all", value: choice(&c.NATSRead, "all", "own"),
			meaning: "Which events this gateway reads from NATS. `all`: every event, so a client that comes with a new topic costs NATS nothing. " +
				"`own`: those of its clients' topics, so an event costs only the gateways that have a client for it, and a connect with topics asks NATS. See [clustering](clustering.md#events-of-other-gateways).",
		},
		{
			env: "NODE_LEASE_SECONDS", standard: "10", value: seconds(&c.NodeLease, 2, 3600),
			meaning: "How long a gateway that is not heard of counts as alive. Then another one tells the backend of its connections. Each is taken for dead by its own, or a longer one of the others'.",
		},
		{
			env: "CALLBACK_CONCURRENCY", standard: "0", value: number(&c.CallbackConcurrency, 0, math.MaxUint16),
			meaning: "Callbacks under way at a time: at most so many for connects, and as many again for disconnects; each takes a descriptor. " +
				"0: 256, or where the limit on open files is below 4096 a sixteenth of it, at least 8.",
		},
		{
			env: "CALLBACK_BATCH", standard: "1", value: number(&c.CallbackBatch, 1, 1000),
			meaning: "How many ends one disconnect callback may carry, up to 1 MiB of them; the first waits 50 ms for others. " +
				"The backend has to understand [such a callback](contract.md#disconnects-in-batches). 1: each end has its own.",
		},
		{
			env: "DRAIN_SECONDS", standard: "0", value: seconds(&c.DrainWindow, 0, 3600),
			meaning: "Time over which a shutdown spreads the closing of streams. " +
				"In its last 5 s, or half of it if that is less, none is closed. 0: all are closed at once and everything is done within 4.5 s.",
		},
		{
			env: "CONSOLE", standard: "false", value: boolean(&c.Console),
			meaning: "Serves the [console](console.md), a page for operators, at `/internal/console/`.",
		},
		{
			env: "PPROF", standard: "false", value: boolean(&c.PProf),
			meaning: "Serves Go's profiles of the running program at `/internal/debug/pprof/`.",
		},
		{
			env: "LOG_LEVEL", standard: "info", value: level(&c.LogLevel),
			meaning: "Least level that is logged.",
		},
		{
			env: "LOG_FORMAT", standard: "text", value: choice(&c.LogFormat, "text", "json"),
			meaning: "Form of the log lines.",
		},
	}
	var all []setting
	for _, s := range table {
		all = append(all, s)
		if s.secret {
			all = append(all, s.fromFile())
		}
	}
	return all
}

// fromFile returns the setting that names the file with the value of a secret one.
func (s setting) fromFile() setting {
	return setting{
		env: s.env + "_FILE", value: path(new(string)), lock: s.lock,
		meaning: "File that holds the value of `" + s.env + "`. Not both.",
	}
}

// must returns what a value has to be, as the end of "must be".
func (s setting) must() string {
	if s.choices {
		return "one of " + s.allowed
	}
	return s.allowed
}

// flag returns the name of the command line flag.
func (s setting) flag() string {
	if s.env == "CONFIG_FILE" {
		return "config"
	}
	return strings.ReplaceAll(s.key(), "_", "-")
}

// key returns the name in the configuration file and in the log.
func (s setting) key() string { return strings.ToLower(s.env) }
