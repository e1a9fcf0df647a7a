// What the servers of the pages share: routes, bodies, refusals, signatures, calls of the gateway. Node, no dependencies.

import { createHmac, timingSafeEqual } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";

const PORT = Number(process.env.PORT ?? 8000);
const GATEWAY = process.env.GATEWAY ?? "http://127.0.0.1:3000";
const PUBLIC = process.env.PUBLIC ?? GATEWAY; // the gateway as browsers reach it; empty behind a proxy that serves both
const SECRET = process.env.CALLBACK_SIGNING_SECRET?.replace("whsec_", ""); // without one anybody is believed
const MAX_BODY = 2 << 20; // bytes: many ends at once take up to 1 MiB
const PATIENCE = 10_000; // milliseconds that the gateway may take for an answer

/** An answer to a request that cannot be used. */
export class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** A text of a request, which has to be one of 1 to 100 characters. */
export function short(value) {
  if (typeof value !== "string" || value === "" || value.length > 100) throw new Refusal(400, "a name is missing, or too long");
  return value;
}

export const read = (file, base) => readFileSync(new URL(file, base), "utf8");

const style = read("style.css", import.meta.url);

/** Answers with a page, in which {{gateway}} and each of the values stand for what they are. */
export function page(html, values = {}) {
  const all = { gateway: PUBLIC, ...values };
  return { type: "text/html", text: html.replace(/{{(\w+)}}/g, (_, name) => all[name]) };
}

/**
 * Serves routes, "GET /path": each a function of the request's body, query and node's own objects. It returns
 * [status, value] for JSON, {type, text}, or nothing if it has answered itself.
 */
export function serve(routes, folder = "/") {
  const all = {
    "GET /healthz": () => [200, {}],
    [`GET ${folder}style.css`]: () => ({ type: "text/css", text: style }),
    ...routes,
  };
  const handle = async (req, res) => {
    const [path, query] = req.url.split("?");
    const route = `${req.method} ${path}`;
    const body = await bodyOf(req);
    if (!Object.hasOwn(all, route)) throw new Refusal(404, "there is nothing here");
    return all[route]({ body, query: new URLSearchParams(query), req, res });
  };
  createServer(async (req, res) => {
    const answer = await handle(req, res).catch(refuse);
    if (!answer) return;
    if (res.headersSent) return res.destroy(); // it has failed in the middle
    const [status, type, text] = Array.isArray(answer)
      ? [answer[0], "application/json", JSON.stringify(answer[1])]
      : [200, answer.type, answer.text];
    res.writeHead(status, { "Content-Type": `${type}; charset=utf-8`, "Cache-Control": "no-store" }).end(text);
  }).listen(PORT, "127.0.0.1", () => console.log(`listening on http://127.0.0.1:${PORT}`));
}

// refuse answers what went wrong: one bad request, or a gateway that is away, must not end the process.
function refuse(error) {
  if (error instanceof SyntaxError) return [400, { error: error.message }];
  if (error instanceof Refusal) return [error.status, { error: error.message }];
  console.log(`the gateway cannot be reached: ${error.cause ?? error}`);
  return [502, { error: error.message }];
}

// bodyOf reads on behind the bound, so that the client gets its answer.
async function bodyOf(req) {
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

/**
 * The route of callbacks, for the gateway only: do not let others reach it. connect gets the token and the request's path
 * and query, and answers [status, value]. left gets the tokens of streams that have ended, maybe again.
 */
export function callback(connect, left = () => {}) {
  return async ({ body, req }) => {
    if (!isSigned(req.headers, body)) return [401, {}];
    const call = JSON.parse(body);
    switch (call?.action) {
      case "connect": {
        const [path, query] = text(call.request?.url).split("?");
        return connect(text(call.token), path, new URLSearchParams(query));
      }
      case "disconnect":
        await left([text(call.token)]);
        return [200, {}];
      case "disconnects": // many ends at once
        if (!Array.isArray(call.events)) throw new Refusal(400, "events is no array");
        await left(call.events.map((event) => text(event?.token)));
        return [200, {}];
      default: // a 200 would say that it was done
        throw new Refusal(400, `unknown action ${JSON.stringify(call?.action)}`);
    }
  };
}

function text(value) {
  if (typeof value !== "string") throw new Refusal(400, "a callback without its token, or its request");
  return value;
}

// isSigned tells whether a callback comes from the gateway, and is not an old one again (https://www.standardwebhooks.com).
function isSigned(headers, body) {
  if (!SECRET) return true;
  const sent = headers["webhook-timestamp"];
  const hmac = createHmac("sha256", Buffer.from(SECRET, "base64")).update(`${headers["webhook-id"]}.${sent}.${body}`);
  const signature = Buffer.from(`v1,${hmac.digest("base64")}`);
  const given = (headers["webhook-signature"] ?? "").split(" ").map((s) => Buffer.from(s));
  return Math.abs(Date.now() / 1000 - sent) < 300 && given.some((s) => s.length === signature.length && timingSafeEqual(s, signature));
}

/** Publishes, and returns what the gateway answers: [status, value]. */
export async function publish(value) {
  const answer = await fetch(`${GATEWAY}/internal/publish`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(value),
    signal: AbortSignal.timeout(PATIENCE),
  });
  return [answer.status, await answer.json()];
}

/** Where the log of topics is now. */
export async function position() {
  const answer = await fetch(`${GATEWAY}/internal/position`, { signal: AbortSignal.timeout(PATIENCE) });
  if (!answer.ok) throw new Error(`the gateway answered ${answer.status}: ${await answer.text()}`);
  return (await answer.json()).position;
}

/** All open connections, of the topic if there is one. The gateway knows them also after a restart of this program. */
export async function connections(topic = "") {
  const open = [];
  for (let cursor = ""; cursor !== undefined;) {
    const query = new URLSearchParams({ topic, cursor, limit: 1000 });
    const answer = await fetch(`${GATEWAY}/internal/connections?${query}`, { signal: AbortSignal.timeout(PATIENCE) });
    if (!answer.ok) throw new Error(`the gateway answered ${answer.status}: ${await answer.text()}`);
    const page = await answer.json();
    open.push(...page.connections.filter(({ state }) => state === "open"));
    cursor = page.next_cursor;
  }
  return open;
}
