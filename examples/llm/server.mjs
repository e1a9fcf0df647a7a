// A language model's answer, word by word as it is made. Node, no dependencies. It streams by itself, and knows of the
// gateway in front of it no more than one field: see docs/relay.md. The model is a text file.

import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";

const PORT = Number(process.env.PORT ?? 8000);
const STEP_MS = Number(process.env.STEP_MS ?? 60);
const file = (name) => readFileSync(new URL(name, import.meta.url), "utf8");
const page = file("index.html");
const words = file("model.txt").match(/\S+\s*/g);

// model makes an answer. It is expensive: once the signal says so, it stops.
async function* model(question, signal) {
  yield `You ask: ${question}\n\n`;
  for (const word of words) {
    await sleep(STEP_MS, undefined, { signal });
    yield word;
  }
}

// answer streams an answer. The gateway keeps it for a minute: so long may a reader be away.
async function answer(question, res) {
  const stop = new AbortController();
  res.on("close", () => stop.abort()); // the reader has pressed Stop, or does not come back
  res.writeHead(200, { "Content-Type": "text/event-stream", "Sse-Gateway-Resume": "60" });
  let made = 0;
  try {
    for await (const piece of model(question, stop.signal)) {
      res.write(`data: ${JSON.stringify(piece)}\n\n`);
      made++;
    }
  } catch (error) {
    if (!stop.signal.aborted) throw error;
  }
  res.end();
  console.log(`answered with ${made} of ${words.length + 1} pieces`);
}

createServer(async (req, res) => {
  const send = (type, body) => res.writeHead(200, { "Content-Type": `${type}; charset=utf-8` }).end(body);
  switch (`${req.method} ${req.url}`) {
    case "GET /llm/":
      return send("text/html", page);
    case "GET /llm/relay.js":
    case "GET /llm/events.js":
      return send("text/javascript", file(`../../web/${req.url.slice(5)}`));
    case "POST /llm/answer":
      return answer(await text(req), res);
    default:
      return res.writeHead(404).end();
  }
}).listen(PORT, "127.0.0.1", () => console.log(`listening on http://127.0.0.1:${PORT}`));
