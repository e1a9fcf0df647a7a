// A language model's answer, word by word as it is made. Node, no dependencies. It streams by itself, and knows of the
// gateway in front of it no more than one field: see docs/relay.md. The model is a text file.

import { setTimeout as sleep } from "node:timers/promises";
import { page, read, serve } from "../common/serve.mjs";

const STEP_MS = Number(process.env.STEP_MS ?? 60);
const html = read("index.html", import.meta.url);
const script = (name) => ({ type: "text/javascript", text: read(`../../web/${name}`, import.meta.url) });
const words = read("model.txt", import.meta.url).match(/\S+\s*/g);

// model makes an answer. It is expensive: once the signal says so, it stops.
async function* model(question, signal) {
  yield `You ask: ${question}\n\n`;
  for (const word of words) {
    await sleep(STEP_MS, undefined, { signal });
    yield word;
  }
}

// answer streams an answer. The gateway keeps it for a minute: so long may a reader be away.
async function answer({ body, res }) {
  const stop = new AbortController();
  res.on("close", () => stop.abort()); // the reader has pressed Stop, or does not come back
  res.writeHead(200, { "Content-Type": "text/event-stream", "Sse-Gateway-Resume": "60" });
  let made = 0;
  try {
    for await (const piece of model(body, stop.signal)) {
      res.write(`data: ${JSON.stringify(piece)}\n\n`);
      made++;
    }
  } catch (error) {
    if (!stop.signal.aborted) throw error;
  }
  res.end();
  console.log(`answered with ${made} of ${words.length + 1} pieces`);
}

serve({
  "GET /events/llm/": () => page(html),
  "GET /events/llm/relay.js": () => script("relay.js"),
  "GET /events/llm/events.js": () => script("events.js"),
  "POST /events/llm/answer": answer,
}, "/events/llm/");
