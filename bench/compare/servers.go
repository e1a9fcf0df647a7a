package main

import (
	"embed"
	"slices"
	"strings"
	"time"
)

//go:embed config
var configs embed.FS

// ours is the server that the others are compared with.
const ours = "ssegateway"

// server is a server that is measured. Its texts have placeholders: {port} is where it
// listens, {publish} another port of its own, {backend} the port of its backend or origin,
// {dir} its own directory, {bin} the directory of the programs that are built here,
// {heartbeat} the seconds between two heartbeats, and {workers} the number of workers.
type server struct {
	name  string
	about string // for the document
	// packages: it is installed from the system's packages.
	packages bool
	// limit: it shows what is possible, or why something is as it is, and is not a peer.
	limit   bool
	without []string // scenarios that it does not run

	config  []string // files of the directory config, put into {dir}
	workers string
	env     []string
	command []string
	ready   string        // a path that is answered 200 once it serves
	settle  time.Duration // extra time that it needs after that
	target  []string      // bench's arguments
	origin  bool          // it asks an origin, as Pushpin does, instead of the contract's backend
}

var contract = []string{"--profile=ssegateway", "--server=http://127.0.0.1:{port}", "--backend=127.0.0.1:{backend}"}

var contractEnv = []string{"PORT={port}", "CALLBACK_URL=http://127.0.0.1:{backend}/", "HEARTBEAT_INTERVAL_SECONDS={heartbeat}", "LOG_LEVEL=error"}

var servers = []server{
	{
		name: ours, about: "this program, as `make build` makes it, with its defaults and `LOG_LEVEL=error`",
		env: contractEnv, command: []string{"{bin}/ssegateway"}, ready: "/readyz", target: contract,
	},
	{
		name: "ssegateway, 1 processor", about: "the same with `GOMAXPROCS=1`: it keeps to one core, as nchan does with one worker",
		limit: true, without: []string{"idle", "connect", "storm", "fanout", "readers", "heartbeat", "churn"},
		env: append([]string{"GOMAXPROCS=1"}, contractEnv...), command: []string{"{bin}/ssegateway"}, ready: "/readyz", target: contract,
	},
	nchan("nchan, 1 worker", "1"),
	nchan("nchan, 2 workers", "2"),
	{
		name: "Pushpin", about: "Pushpin with condure and zurl. It asks an origin for each stream, which answers `Grip-Hold: stream`. " +
			"Its streams are opened 8 at a time, and its origin takes 20 ms to answer: when they come faster, it ends some of them",
		packages: true, config: []string{"pushpin.conf", "routes", "zurl.conf"}, origin: true,
		// Pushpin replaces the shell, so that it is the first process of the namespace, with zurl beside it.
		command: []string{"sh", "-c", "cd {dir}; zurl --config={dir}/zurl.conf --loglevel=0 & exec pushpin --config={dir}/pushpin.conf"},
		// The path is a stream, so that all processes of Pushpin take part in the answer. Until they are
		// all connected to each other, which no answer shows, some streams are ended at once; so settle.
		ready: "/stream/ready", settle: 2 * time.Second,
		target: []string{"--profile=pushpin", "--server=http://127.0.0.1:{port}", "--publish-server=http://127.0.0.1:{publish}", "--connecting=8"},
	},
	{
		name: "plain", about: "[a server of the same contract](../bench/compare/plain/main.go) with `net/http` alone: a goroutine waits in each stream's handler",
		env: contractEnv, command: []string{"{bin}/plain"}, ready: "/readyz", target: contract,
	},
	{
		name: "floor", about: "[a bare loop](../bench/compare/floor/main_linux.go) of one `send()` for each stream: the kernel's part, which no server gets below. It asks nobody, and can only send to all",
		limit: true, without: []string{"connect", "storm", "unicast", "heartbeat", "churn"},
		env: []string{"PORT={port}"}, command: []string{"{bin}/floor"}, ready: "/",
		target: []string{"--profile=custom", "--url=http://127.0.0.1:{port}/", "--publish-url=http://127.0.0.1:{port}/"},
	},
}

func nchan(name, workers string) server {
	return server{
		name: name, about: "nchan, a module of nginx, with `worker_processes " + workers + "`. It asks nobody whether a stream may open",
		packages: true, config: []string{"nchan.conf"}, workers: workers,
		command: []string{"nginx", "-c", "{dir}/nchan.conf"}, ready: "/ready",
		target: []string{"--profile=nchan", "--server=http://127.0.0.1:{port}"},
	}
}

func (s *server) has(scenario string) bool { return !slices.Contains(s.without, scenario) }

// key returns the name in the form of an argument of --servers.
func (s *server) key() string {
	return strings.ToLower(strings.NewReplacer(", ", "-", " ", "").Replace(s.name))
}

// fillAll fills in placeholders.
func fillAll(r *strings.Replacer, texts []string) []string {
	filled := make([]string, len(texts))
	for i, t := range texts {
		filled[i] = r.Replace(t)
	}
	return filled
}
