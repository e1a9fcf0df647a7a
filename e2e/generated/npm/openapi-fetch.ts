// Uses the API of a gateway through openapi-fetch, with the types that openapi-typescript has generated.
import createClient from "openapi-fetch";
import { base, ok, secret, token, topic, want } from "./check.js";
import type { components, paths } from "./openapi-typescript.js";

const c = createClient<paths>({ baseUrl: base, headers: { Authorization: `Bearer ${secret}` } });
const params = { path: { token } };

const page = ok(await c.GET("/internal/connections", { params: { query: { topic, limit: 10 } } }));
want(page.connections[0]?.token === token && page.connections[0].state === "open" && page.next_cursor === undefined, page);
const one = ok(await c.GET("/internal/connections/{token}", { params }));
want(one.path === "/" && one.topics[0] === topic && one.overflow === "disconnect" && one.request?.path === "/", one);

const sent = ok(await c.POST("/internal/send", { body: { token, event: { name: "order", data: "sent" }, wait: "written" } }));
want(sent.status === "written", sent);

const { position: before } = ok(await c.GET("/internal/position"));
const published = ok(await c.POST("/internal/publish", { body: { topic, event: { data: "published" }, retain: true, key: "a key" } }));
want(published.status === "ok" && published.receivers === 1, published);
const { position } = ok(await c.GET("/internal/position"));
want(position === published.id && position !== before, position);
const tail = await c.GET("/internal/tail", { params: { query: { topic: [topic] }, header: { "Last-Event-ID": before } }, parseAs: "stream" });
const reader = ok(tail).pipeThrough(new TextDecoderStream()).getReader();
for (let text = ""; !text.includes("data: published\n"); ) {
	const { value, done } = await reader.read();
	want(!done, "the tail has ended");
	text += value;
}
await reader.cancel();
const { retained } = ok(await c.GET("/internal/retained", { params: { query: { topic } } }));
want(retained.length === 1 && retained[0]?.key === "a key" && retained[0].event.data === "published", retained);
const removed = ok(await c.DELETE("/internal/retained", { params: { query: { topic } } }));
want(removed.removed === 1, removed);

const operations: components["schemas"]["Operation"][] = [
	{ token, event: { data: "in a batch" } },
	{ topics: [topic], event: { data: "to all in a batch" }, store: false },
	{ event: { data: "to nobody" } },
];
const { results } = ok(await c.POST("/internal/batch", { body: { operations } }));
want(results[0] !== undefined && "status" in results[0] && results[0].status === "ok", results);
want(results[1] !== undefined && "receivers" in results[1] && results[1].receivers === 1, results);
want(results[2] !== undefined && "error" in results[2] && results[2].error.code === "INVALID_TOPICS", results);

const changed = ok(await c.PATCH("/internal/connections/{token}", { params, body: { topics: { add: ["another"] } } }));
want(changed.topics.length === 2, changed);
const streamed = ok(await c.POST("/internal/connections/{token}/stream", {
	params: { ...params, query: { coalesce_ms: 5 } },
	headers: { "Content-Type": "text/event-stream" },
	body: "data: streamed\n\n",
	bodySerializer: (body) => body,
}));
want(streamed.events === 1, streamed);
const stats = ok(await c.GET("/internal/stats"));
want(typeof stats === "object" && "log" in stats, stats);
want(stats.connections.open === 1 && stats.events_written >= 5 && stats.log.events > 0 && stats.cluster === undefined, stats);
const history = ok(await c.GET("/internal/stats", { params: { query: { history: "15m" } } }));
want(typeof history === "object" && "points" in history && history.interval_seconds === 5, history);

const closed = ok(await c.DELETE("/internal/connections/{token}", { params }));
want(closed.status === "ok", closed);
const none = ok(await c.DELETE("/internal/connections", { params: { query: { topic } } }));
want(none.closed === 0, none);

const gone = await c.POST("/internal/send", { body: { token } });
want(gone.response.status === 404 && gone.error?.error.code === "TOKEN_NOT_FOUND", gone);
const invalid = await c.POST("/internal/publish", { body: { event: { data: "to nobody" } } });
want(invalid.response.status === 400 && invalid.error?.error.code === "INVALID_TOPICS", invalid);
const stranger = await createClient<paths>({ baseUrl: base }).GET("/internal/stats");
want(stranger.response.status === 401 && stranger.error?.error.code === "UNAUTHORIZED", stranger);
const large = await c.GET("/internal/connections/{token}", { params: { path: { token: "x".repeat(40 << 10) } } });
want(large.response.status === 431 && large.error?.error.code === "REQUEST_TOO_LARGE", large);
// @ts-expect-error: there is no such code
want(gone.error?.error.code !== "TOKEN_NOT_FUOND", gone);
