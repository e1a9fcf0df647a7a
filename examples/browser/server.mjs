// A page with a state and a stream: a counter. Node, no dependencies.

import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";

const PORT = Number(process.env.PORT ?? 8000);
const GATEWAY = process.env.GATEWAY ?? "http://127.0.0.1:3000";
const PUBLIC = process.env.PUBLIC ?? GATEWAY; // the gateway, as browsers reach it
const html = readFileSync(new URL("index.html", import.meta.url), "utf8");

// The application's state, a row in a database elsewhere. Each change makes a version.
const state = { version: 0, value: 0 };

// render makes the page. The position first, then the state: what changes between the two comes as
// an event, which the page knows by its version.
async function render() {
  const { position } = await (await fetch(`${GATEWAY}/internal/position`)).json();
  const values = { gateway: PUBLIC, position, state: JSON.stringify(state) };
  return html.replace(/{{(\w+)}}/g, (_, name) => values[name]);
}

// change writes the state, then publishes what has changed.
async function change(by) {
  state.version++;
  state.value += by;
  const now = { ...state };
  await publish({ event: { name: "change", data: JSON.stringify({ version: now.version, by }) } });
  return now;
}

// publish publishes one thing after the other, so that they arrive in the order of their versions.
// It tries until it succeeds. The page may get a change twice by that, which does no harm.
let last = Promise.resolve();
function publish(what) {
  return last = last.then(async () => {
    for (;;) {
      const answer = await fetch(`${GATEWAY}/internal/publish`, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ topic: "counter", ...what }),
      }).catch(() => ({ ok: false }));
      if (answer.ok) return answer.text();
      await sleep(200);
    }
  });
}

// Once a second it says which version there is. By that a page knows that it has everything, also while
// nothing changes. What is missed of it need not be told later, so the gateway does not keep it.
let pulsing = false; // not another one while the gateway is away
setInterval(async () => {
  if (pulsing) return;
  pulsing = true;
  await publish({ event: { name: "pulse", data: JSON.stringify({ version: state.version }) }, store: false });
  pulsing = false;
}, 1000);

createServer(async (req, res) => {
  const url = new URL(req.url, "http://localhost");
  const answer = (status, value) => res.writeHead(status, { "Content-Type": "application/json" }).end(JSON.stringify(value));

  switch (`${req.method} ${url.pathname}`) {
    case "GET /":
      return render().then(
        (page) => res.writeHead(200, { "Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-store" }).end(page),
        (error) => answer(502, { error: error.message }));

    case "POST /callback": { // for the gateway only: do not let others reach it
      const { action } = JSON.parse(await text(req));
      return answer(200, action === "connect" ? { topics: ["counter"], retry_ms: 500 } : {});
    }

    case "GET /state":
      return answer(200, state);

    case "POST /change": {
      const by = Number(url.searchParams.get("by"));
      return Number.isSafeInteger(by) ? answer(200, await change(by)) : answer(400, {});
    }

    default:
      return answer(404, {});
  }
}).listen(PORT, "127.0.0.1", () => console.log(`listening on http://127.0.0.1:${PORT}`));
