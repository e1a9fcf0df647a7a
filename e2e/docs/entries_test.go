package docs

import "slices"

// inventory says of every block what runs or checks it.
func inventory() []entry {
	programs := "e2e/examples/docs_test.go"
	relayed := "e2e/examples/relay_test.go"
	inPage := "e2e/examples/relaypage_test.go"
	pages := "e2e/examples/streams_test.go"
	return slices.Concat([]entry{
		{"README.md", "make demo", commandsOnly},
		{"README.md", "make build", commandsOnly},
		{"README.md", "make test", commandsOnly},
		{"README.md", "const events", script},
		{"README.md", `{"action": "connect"`, callback},
		{"README.md", `{"action": "disconnect"`, callback},
		{"README.md", "curl http://127.0.0.1:3000/internal/send", request},
		{"README.md", `{"status":"ok"} `, answer},
		{"README.md", "curl http://127.0.0.1:3000/internal/publish", request},
		{"README.md", `{"status":"ok","id"`, answer},
		{"README.md", "location /events/", nginx},

		{"index.md", "make demo", commandsOnly},
		{"index.md", "make build", commandsOnly},

		{"api.md", "curl -O", by("e2e/generated/generated_test.go", "openapi.yaml")},
		{"api.md", "", by("internal/api/openapi_test.go", "EnableExamplesValidation")}, // the page is made of the document, whose examples are validated

		{"architecture.md", "GET /any/path", drawn},
		{"architecture.md", "flowchart TD", by("internal/drawing_test.go", "architecture.md")},
		{"architecture.md", "publish ──▶ log", drawn},
		{"security.md", "flowchart LR", by("e2e/site/read_test.go", "TestDrawings")},

		{"backends.md", `{"subject"`, granted},
		{"backends.md", "curl 'http://127.0.0.1:3000/internal/connections?topic", request},
		{"backends.md", "curl -X DELETE", request},
		{"backends.md", "curl http://127.0.0.1:3000/internal/publish", request},

		{"bench.md", "", commandsOnly},
		{"benchmarks.md", "", by("bench/compare/compare_test.go", "benchmarks.md")},
		{"guarantees.md", "", by("bench/stress/stress_test.go", "guarantees.md")},

		{"clustering.md", "make demo-cluster", commandsOnly},
		{"clustering.md", "nats-server", notRun("the tests run NATS within their own process")},
		{"clustering.md", "CALLBACK_URL", commandsOnly},
		{"clustering.md", "make chaos", commandsOnly},

		{"configuration.md", "CALLBACK_URL", commandsOnly},
		{"configuration.md", "port: 8080", configuration},

		{"conformance.md", "", by("e2e/conformance/conformance_test.go", "small.txt")},
		{"console.md", "CONSOLE=true", commandsOnly},

		{"kubernetes.md", "skopeo", notRun("it needs a registry and a cluster; release/deploy renders the chart")},
		{"kubernetes.md", "", chart},

		{"operations.md", "INTERNAL_ADDR", commandsOnly},
		{"operations.md", "install -m 755", commandsOnly},
		{"operations.md", "spec:", pod},
		{"operations.md", "NATS_URL", commandsOnly},
		{"operations.md", "[INFO] connect", logged},

		{"pages.md", "// server.mjs", by(pages, "server.mjs")},
		{"pages.md", "node server.mjs", by(pages, "pages.md")},
		{"pages.md", "// plain.js", by(pages, "plain.js")},
		{"pages.md", "// page.js", by(pages, "page.js")},
		{"pages.md", "// key.js", by(pages, "key.js")},
		{"pages.md", "// shared.js", by(pages, "shared.js")},

		{"probe.md", "", by("internal/probe/report_test.go", "nothing found; versions HTTP/2")},

		{"proxies.md", "# held by the gateway", by("e2e/proxy/accel_test.go", "proxies.md")},
		{"proxies.md", "HTTP/1.1 200 OK", by("e2e/proxy/accel_test.go", "X-Accel-Redirect")},

		{"relay.md", "RELAY_URL=", commandsOnly},
		{"relay.md", "Sse-Gateway-Resume: 60", by(relayed, "relay.md")},
		{"relay.md", "# asgi.py", by(relayed, "asgi.py")},
		{"relay.md", "// express.mjs", by(relayed, "express.mjs")},
		{"relay.md", "# config.ru", by(relayed, "config.ru")},
		{"relay.md", "<?php // chat.php", by(relayed, "chat.php")},
		{"relay.md", "// Chat.java", by(relayed, "Chat.java")},
		{"relay.md", "// chat.go", by(relayed, "chat.go")},
		{"relay.md", "// page.js", by(inPage, "page.js")},
		{"relay.md", "// reload.js", by(inPage, "reload.js")},
		{"relay.md", "// ai-sdk.js", by("e2e/programs/npm/clients/page.jsx", "relay.md/ai-sdk.js")},
		{"relay.md", "// agent.js", by("e2e/programs/npm/clients/page.jsx", "relay.md/agent.js")},
		{"relay.md", "// fetch-event-source.js", by("e2e/programs/npm/clients/page.jsx", "relay.md/fetch-event-source.js")},
		{"relay.md", "<form hx-post", by("e2e/programs/npm/app/app.mjs", `<form hx-post=`)},
		{"relay.md", "curl -N", by("e2e/programs/curl_test.go", "DELETE")},

		{"restart.md", "# nothing.py", by(programs, "nothing.py")},
		{"restart.md", "curl -N", by(programs, "/log-out?user=ada")},
		{"restart.md", "# list.py", by(programs, "list.py")},
		{"restart.md", "# table.py", by(programs, "table.py")},
		{"restart.md", "# ends.py", by(programs, "ends.py")},

		{"state.md", "curl -N", by(programs, `"POST", "/sell"`)},
		{"state.md", "// callback.mjs", by(programs, "callback.mjs")},
		{"state.md", "// page.mjs", by(programs, "page.mjs")},
		{"state.md", "// retained.mjs", by(programs, "retained.mjs")},
		{"state.md", "curl -X DELETE", request},
		{"state.md", "// gap.js", by(programs, "gap.js")},
		{"state.md", "// follow.js", by(programs, "follow.js")},

		{"tracing.md", "OTEL_EXPORTER", commandsOnly},
		{"tracing.md", "proxy_set_header", nginx},
		{"tracing.md", "curl -o cpu", by("e2e/tracing/profile_test.go", "/internal/debug/pprof/")},
	}, concepts(), start(), cli(), contract())
}

func concepts() (all []entry) {
	for _, page := range []string{"cluster", "connect", "drain", "relay", "replay", "send", "state"} {
		all = append(all, entry{"concepts/" + page + ".md", "sequenceDiagram", by("e2e/site/read_test.go", "TestDrawings")})
	}
	return append(all, entry{"concepts/replay.md", "const events", script})
}

func start() (all []entry) {
	for _, page := range []string{"go", "java-spring", "node-express", "php-laravel", "python-django", "python-flask", "ruby-rails"} {
		all = append(all, entry{"start/" + page + ".md", "", by("e2e/start/start_test.go", "docs/start/")})
	}
	return all
}

func cli() []entry {
	return []entry{
		{"cli.md", "sudo -u ssegateway", commandsOnly},
		{"cli.md", "$ ssegateway connections close 1752764d-5af1-473c-a13d-43493c4e0875", session},
		{"cli.md", "$ ssegateway check", session},
		{"cli.md", "$ ssegateway health", session},
		{"cli.md", "$ ssegateway stats", session},
		{"cli.md", "$ ssegateway stats --watch", by("e2e/process/operator_linux_test.go", `"stats", "--watch"`)},
		{"cli.md", "$ ssegateway connections", session},
		{"cli.md", "there are more", by("internal/operator/connections.go", "there are more: --after")},
		{"cli.md", "$ ssegateway send", session},
		{"cli.md", "$ ssegateway tail room.7", by("e2e/process/tail_linux_test.go", "following again")},
		{"cli.md", "$ ssegateway tail room.7 --json", by("e2e/process/tail_linux_test.go", "--json")},
		{"cli.md", "$ ssegateway probe", by("internal/probe/report_test.go", "nothing found; versions HTTP/2")},
	}
}

func contract() []entry {
	wire := "e2e/contract/wire_test.go"
	const publish = "curl http://127.0.0.1:3000/internal/publish -H 'Content-Type: application/json' \\\n  -d '{\"topic\": \"room.7\", "
	return []entry{
		{"contract.md", "GET /orders/7", opening},
		{"contract.md", "HTTP/1.1 200 OK", drawn}, // opening compares it
		{"contract.md", "event: rejected", by("e2e/contract/eventsource_test.go", "want the event rejected")},
		{"contract.md", "{", callback},
		{"contract.md", `{"action": "disconnect",`, callback},
		{"contract.md", `{"action": "disconnects"`, by("e2e/contract/disconnect_test.go", `disconnects`)},
		{"contract.md", "POST /internal/send", sent},
		{"contract.md", `{"token": "0b8a2f7e-…", "event": {"data": "paid"}`, repeated},
		{"contract.md", "event: <name>", by(wire, "data")},
		{"contract.md", `{"type":"order"`, by("e2e/contract/envelope_test.go", `\"type\":\"order\"`)},
		{"contract.md", `{"error"`, failed},
		{"contract.md", "pending ──2xx", drawn},
		{"contract.md", `{"topics": ["room.7"`, granted},
		{"contract.md", publish + `"event": {"name": "message"`, request},
		{"contract.md", publish + `"event": {"name": "stage"`, request},
		{"contract.md", `{"status":"ok","id"`, answer},
		{"contract.md", "event: gap", by("e2e/contract/replay_test.go", "x.wantGap(")},
		{"contract.md", "curl http://127.0.0.1:3000/internal/position", request},
		{"contract.md", `{"position"`, answer},
		{"contract.md", "retry: 3000 ", by("e2e/contract/retained_test.go", "retry: ")},
		{"contract.md", "curl 'http://127.0.0.1:3000/internal/connections", request},
		{"contract.md", "curl -X PATCH", request},
		{"contract.md", `"request":`, shownRequest},
		{"contract.md", "(for word in", request},
		{"contract.md", `{"status":"ok","events"`, answer},
		{"contract.md", "curl http://127.0.0.1:3000/internal/batch", request},
		{"contract.md", `{"results"`, answer},
		{"contract.md", `{"node":"web-1"`, stats("/internal/stats")},
		{"contract.md", `{"interval_seconds"`, stats("/internal/stats?history=15m")},
	}
}
