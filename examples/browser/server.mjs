// A page with a state and a stream: a counter. Node, no dependencies.

import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { Refusal, callback, page, position, publish, read, serve } from "../common/serve.mjs";

const html = read("index.html", import.meta.url);

// The application's state, a row in a database elsewhere: it is there after a restart. Each change makes a version.
const FILE = `${tmpdir()}/counter-${process.env.PORT ?? 8000}.json`;
const state = existsSync(FILE) ? JSON.parse(readFileSync(FILE, "utf8")) : { version: 0, value: 0 };

function store() {
  writeFileSync(`${FILE}.new`, JSON.stringify(state));
  renameSync(`${FILE}.new`, FILE); // the old state or the new one, whatever happens
}

// render makes the page. The position first, then the state: what changes between the two comes as
// an event, which the page knows by its version.
async function render() {
  const from = await position();
  return page(html, { position: from, state: JSON.stringify(state) });
}

// change writes the state, then publishes what has changed.
async function change(by) {
  state.version++;
  state.value += by;
  store();
  const now = { ...state };
  await say({ event: { name: "change", data: JSON.stringify({ version: now.version, by }) } });
  return now;
}

// say publishes one thing after the other, so that they arrive in the order of their versions.
// It tries until it succeeds. The page may get a change twice by that, which does no harm.
let last = Promise.resolve();
function say(what) {
  return last = last.then(async () => {
    for (;;) {
      const [status] = await publish({ topic: "counter", ...what }).catch(() => [0]);
      if (status === 200) return;
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
  await say({ event: { name: "pulse", data: JSON.stringify({ version: state.version }) }, store: false });
  pulsing = false;
}, 1000);

serve({
  "GET /": render,
  "POST /callback": callback(() => [200, { topics: ["counter"], retry_ms: 500 }]),
  "GET /state": () => [200, state],
  "POST /change": async ({ query }) => {
    const by = Number(query.get("by") ?? NaN);
    if (!Number.isSafeInteger(by)) throw new Refusal(400, "by is no whole number");
    return [200, await change(by)];
  },
});
