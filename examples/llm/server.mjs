// A language model's answer, word by word as it is made. Node, no dependencies.
// The model is a text file.

import { readFileSync } from "node:fs";
import { createServer, request as httpRequest } from "node:http";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";

const PORT = Number(process.env.PORT ?? 8000);
const GATEWAY = process.env.GATEWAY ?? "http://127.0.0.1:3000";
const STEP_MS = Number(process.env.STEP_MS ?? 60);
const page = readFileSync(new URL("index.html", import.meta.url), "utf8").replaceAll("{{gateway}}", GATEWAY);
const words = readFileSync(new URL("model.txt", import.meta.url), "utf8").match(/\S+\s*/g);

// model makes an answer. It is expensive: once the signal says so, it stops.
async function* model(question, signal) {
  yield `You ask: ${question}\n\n`;
  for (const word of words) {
    await sleep(STEP_MS, undefined, { signal });
    yield word;
  }
}

// answerTo streams an answer to a connection. One request carries all of it: each line
// goes out as it is written, and ?close=true ends the stream behind the last one.
async function answerTo(token, question) {
  const request = httpRequest(`${GATEWAY}/internal/connections/${token}/stream?close=true`, {
    method: "POST",
    headers: { "Content-Type": "application/x-ndjson" },
  });
  const stop = new AbortController();
  const answered = new Promise((resolve) => {
    // An answer before the end is a 410: the reader has left.
    request.on("response", (response) => resolve(response.resume().statusCode));
    request.on("error", (error) => resolve(error.code));
  });
  answered.then(() => stop.abort());

  let made = 0;
  try {
    for await (const piece of model(question, stop.signal)) {
      request.write(JSON.stringify({ data: piece }) + "\n");
      made++;
    }
    request.write(JSON.stringify({ name: "done", data: "" }) + "\n");
  } catch (error) {
    if (!stop.signal.aborted) throw error;
  }
  request.end();
  console.log(`answered ${await answered} after ${made} of ${words.length + 1} pieces`);
}

createServer(async (req, res) => {
  switch (`${req.method} ${req.url}`) {
    case "GET /":
      return res.writeHead(200, { "Content-Type": "text/html; charset=utf-8" }).end(page);
    case "POST /callback": { // for the gateway only: do not let others reach it
      const { action, token, request } = JSON.parse(await text(req));
      res.writeHead(200).end();
      if (action === "connect") {
        const question = new URL(request.url, "http://localhost").searchParams.get("question") ?? "";
        answerTo(token, question).catch(console.error);
      }
      return;
    }
    default:
      return res.writeHead(404).end();
  }
}).listen(PORT, "127.0.0.1", () => console.log(`listening on http://127.0.0.1:${PORT}`));
