// Uses the API of a gateway through the client that @hey-api/openapi-ts has generated.
import { base, ok, secret, token, topic, want } from "./check.js";
import * as gateway from "./hey-api/index.js";
import { client } from "./hey-api/client.gen.js";

client.setConfig({ baseUrl: base, auth: secret });
const path = { token };

const page = ok(await gateway.listConnections({ query: { topic, limit: 10 } }));
want(page.connections[0]?.token === token && page.connections[0].state === "open" && page.next_cursor === undefined, page);
const one = ok(await gateway.getConnection({ path }));
want(one.path === "/" && one.topics[0] === topic && one.overflow === "disconnect" && one.request?.path === "/", one);

const sent = ok(await gateway.send({ body: { token, event: { name: "order", data: "sent" }, wait: "written" } }));
want(sent.status === "written", sent);

const { position: before } = ok(await gateway.position());
const published = ok(await gateway.publish({ body: { topic, event: { data: "published" }, retain: true, key: "a key" } }));
want(published.status === "ok" && published.receivers === 1, published);
const { position } = ok(await gateway.position());
want(position === published.id && position !== before, position);
const stop = new AbortController();
const tail = await gateway.tail({ query: { topic: [topic] }, headers: { "Last-Event-ID": before }, signal: stop.signal });
const event = await tail.stream.next();
want(event.value === "published", event);
stop.abort();
const { retained } = ok(await gateway.listRetained({ query: { topic } }));
want(retained.length === 1 && retained[0]?.key === "a key" && retained[0].event.data === "published", retained);
const removed = ok(await gateway.removeRetained({ query: { topic } }));
want(removed.removed === 1, removed);

const operations: gateway.Operation[] = [
	{ token, event: { data: "in a batch" } },
	{ topics: [topic], event: { data: "to all in a batch" }, store: false },
	{ event: { data: "to nobody" } },
];
const { results } = ok(await gateway.batch({ body: { operations } }));
want(results[0] !== undefined && "status" in results[0] && results[0].status === "ok", results);
want(results[1] !== undefined && "receivers" in results[1] && results[1].receivers === 1, results);
want(results[2] !== undefined && "error" in results[2] && results[2].error.code === "INVALID_TOPICS", results);

const changed = ok(await gateway.changeConnection({ path, body: { topics: { add: ["another"] } } }));
want(changed.topics.length === 2, changed);
const streamed = ok(await gateway.streamToConnection({ path, query: { coalesce_ms: 5 }, body: "data: streamed\n\n" }));
want(streamed.events === 1, streamed);
const stats = ok(await gateway.stats());
want("log" in stats, stats);
want(stats.connections.open === 1 && stats.events_written >= 5 && stats.log.events > 0 && stats.cluster === undefined, stats);
const history = ok(await gateway.stats({ query: { history: "15m" } }));
want("points" in history && history.interval_seconds === 5, history);

const closed = ok(await gateway.closeConnection({ path }));
want(closed.status === "ok", closed);
const none = ok(await gateway.closeConnections({ query: { topic } }));
want(none.closed === 0, none);

const gone = await gateway.send({ body: { token } });
want(gone.response?.status === 404 && gone.error?.error.code === "TOKEN_NOT_FOUND", gone);
const invalid = await gateway.publish({ body: { event: { data: "to nobody" } } });
want(invalid.response?.status === 400 && invalid.error?.error.code === "INVALID_TOPICS", invalid);
const stranger = await gateway.stats({ auth: undefined });
want(stranger.response?.status === 401 && stranger.error?.error.code === "UNAUTHORIZED", stranger);
const large = await gateway.getConnection({ path: { token: "x".repeat(40 << 10) } });
want(large.response?.status === 431 && large.error?.error.code === "REQUEST_TOO_LARGE", large);
// @ts-expect-error: there is no such code
want(gone.error?.error.code !== "TOKEN_NOT_FUOND", gone);
