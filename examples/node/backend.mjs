// A backend that has its event streams held by a gateway. Node, no dependencies.
//
// It answers the gateway's callbacks, remembers which streams are whose, and reaches
// them with plain HTTP requests to the gateway.

import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";

const PORT = Number(process.env.PORT ?? 8000);
const GATEWAY = process.env.GATEWAY ?? "http://127.0.0.1:3000";
const SECRET = process.env.CALLBACK_SIGNING_SECRET?.replace("whsec_", ""); // without one anybody is believed
const MAX_BODY = 2 << 20; // bytes: many ends at once take up to 1 MiB
const PATIENCE = 10_000; // milliseconds that the gateway may take for an answer

const streams = new Map(); // token of an open stream: whose it is

// remember gets the streams that were opened before this process began. Without the gateway it waits: it cannot know.
async function remember() {
  for (let cursor = ""; cursor !== undefined;) {
    try {
      const answer = await fetch(`${GATEWAY}/internal/connections?cursor=${cursor}`, { signal: AbortSignal.timeout(PATIENCE) });
      if (!answer.ok) throw new Error(`the gateway answered ${answer.status}: ${await answer.text()}`);
      const page = await answer.json();
      for (const { token, state, subject } of page.connections) {
        if (state === "open") streams.set(token, subject);
      }
      cursor = page.next_cursor;
    } catch (error) {
      console.log(`waiting for the gateway: ${error.cause ?? error}`);
      await sleep(1000);
    }
  }
}

// Refusal is an answer to a request that cannot be used.
class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

// What the gateway asks and tells. Anything but a 2xx refuses a stream.

// isSigned tells whether a callback comes from the gateway, and is not an old one again (https://www.standardwebhooks.com).
function isSigned(headers, body) {
  if (!SECRET) return true;
  const sent = headers["webhook-timestamp"];
  const hmac = createHmac("sha256", Buffer.from(SECRET, "base64")).update(`${headers["webhook-id"]}.${sent}.${body}`);
  const signature = Buffer.from(`v1,${hmac.digest("base64")}`);
  const given = (headers["webhook-signature"] ?? "").split(" ").map((s) => Buffer.from(s));
  return Math.abs(Date.now() / 1000 - sent) < 300 && given.some((s) => s.length === signature.length && timingSafeEqual(s, signature));
}

function callback(call) {
  switch (call?.action) {
    case "connect":
      return connect(string(call.token), string(call.request?.url));
    case "disconnect": // may be told twice, which does no harm
      streams.delete(string(call.token));
      return [200, {}];
    case "disconnects": // many ends at once
      if (!Array.isArray(call.events)) throw new Refusal(400, "events is no array");
      for (const event of call.events) streams.delete(string(event?.token));
      return [200, {}];
    default: // a 200 would say that it was done
      throw new Refusal(400, `unknown action ${JSON.stringify(call?.action)}`);
  }
}

// string returns a value that has to be one.
function string(value) {
  if (typeof value !== "string") throw new Refusal(400, "a callback without its token, or its request");
  return value;
}

function connect(token, url) {
  // A real backend looks at a cookie in the request's headers.
  const name = new URLSearchParams(url.split("?")[1]).get("name");
  if (!name) return [401, {}];
  streams.set(token, name);
  return [200, {
    subject: name,
    topics: ["news"],
    events: [{ name: "welcome", data: `Hello, ${name}` }],
  }];
}

// What this backend does with the gateway.

const post = (path, value) => fetch(GATEWAY + path, {
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(value),
  signal: AbortSignal.timeout(PATIENCE),
});

const tokensOf = (name) => [...streams].filter(([, whose]) => whose === name).map(([token]) => token);

// send sends to each of a user's streams, and says to how many.
async function send(name, data) {
  let sent = 0;
  for (const token of tokensOf(name)) {
    const { status } = await post("/internal/send", { token, event: { name: "note", data } });
    if (status === 404) streams.delete(token); // it has just ended
    if (status === 200) sent++;
  }
  return sent;
}

// stream streams the words to each of a user's streams: one request carries all events.
async function stream(name, words) {
  let sent = 0;
  for (const token of tokensOf(name)) {
    const { status } = await fetch(`${GATEWAY}/internal/connections/${token}/stream`, {
      method: "POST",
      headers: { "Content-Type": "application/x-ndjson" },
      body: ReadableStream.from(lines(words)),
      duplex: "half",
    });
    if (status === 200) sent++;
  }
  return sent;
}

async function* lines(words) {
  for (const word of words) yield new TextEncoder().encode(JSON.stringify({ name: "word", data: word }) + "\n");
}

// The application's own HTTP server.

const server = createServer(async (req, res) => {
  const [status, value] = await handle(req).catch(refuse);
  res.writeHead(status, { "Content-Type": "application/json" }).end(JSON.stringify(value));
});

// refuse answers what went wrong: one bad request, or a gateway that is away, must not end the process.
function refuse(error) {
  if (error instanceof SyntaxError) return [400, { error: error.message }];
  if (error instanceof Refusal) return [error.status, { error: error.message }];
  console.log(`the gateway cannot be reached: ${error.cause ?? error}`);
  return [502, { error: error.message }];
}

// read returns the body of a request. It reads on behind the bound, so that the client gets its answer.
async function read(req) {
  const pieces = [];
  let size = 0;
  try {
    for await (const piece of req) {
      size += piece.length;
      if (size <= MAX_BODY) pieces.push(piece);
    }
  } catch {
    throw new Refusal(400, "the client has left");
  }
  if (size > MAX_BODY) throw new Refusal(413, "the body is too large");
  return Buffer.concat(pieces).toString();
}

async function handle(req) {
  const [path, query] = req.url.split("?");
  const name = new URLSearchParams(query).get("name");
  const body = await read(req);
  switch (`${req.method} ${path}`) {
    case "POST /callback": // for the gateway only: do not let others reach it
      return isSigned(req.headers, body) ? callback(JSON.parse(body)) : [401, {}];
    case "POST /send": {
      const sent = await send(name, body);
      return [sent ? 200 : 404, { sent }];
    }
    case "POST /stream": {
      const sent = await stream(name, body.split(/\s+/));
      return [sent ? 200 : 404, { sent }];
    }
    case "POST /publish": {
      // With retain who comes later gets it too, until there is newer news.
      const answer = await post("/internal/publish", { topic: "news", event: { name: "news", data: body }, retain: true });
      return [answer.status, await answer.json()];
    }
    case "GET /streams":
      return [200, [...streams.values()].sort()];
    default:
      return [404, {}];
  }
}

await remember(); // before it listens: a disconnect that is told of meanwhile comes again later
server.listen(PORT, "127.0.0.1", () => console.log(`listening on http://127.0.0.1:${PORT}`));
