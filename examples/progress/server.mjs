// A progress bar for a background job. Node, no dependencies.

import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";

const PORT = Number(process.env.PORT ?? 8000);
const GATEWAY = process.env.GATEWAY ?? "http://127.0.0.1:3000";
const STEP_MS = Number(process.env.STEP_MS ?? 100);
const page = readFileSync(new URL("index.html", import.meta.url), "utf8").replaceAll("{{gateway}}", GATEWAY);

const jobs = new Map(); // id: percent done

// run does the work, and tells whoever watches. It does not care whether anybody does.
async function run(id) {
  for (let percent = 0; percent <= 100; percent++) {
    await sleep(STEP_MS);
    jobs.set(id, percent);
    await fetch(`${GATEWAY}/internal/publish`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      // Only the newest counts, and every new stream starts with it: nothing to replay.
      body: JSON.stringify({ topic: `job.${id}`, event: progress(id), store: false }),
    });
  }
}

const progress = (id) => ({ name: "progress", data: String(jobs.get(id)) });

function callback({ action, request }) {
  if (action !== "connect") return [200, {}];
  const id = request.url.split("/").at(-1);
  if (!jobs.has(id)) return [404, {}];
  // A slow reader is not sent every step, only the latest one.
  return [200, { topics: [`job.${id}`], events: [progress(id)], overflow: "latest", retry_ms: 500 }];
}

createServer(async (req, res) => {
  const answer = (status, value) => res.writeHead(status, { "Content-Type": "application/json" }).end(JSON.stringify(value));
  switch (`${req.method} ${req.url}`) {
    case "GET /":
      return res.writeHead(200, { "Content-Type": "text/html; charset=utf-8" }).end(page);
    case "POST /callback": // for the gateway only: do not let others reach it
      return answer(...callback(JSON.parse(await text(req))));
    case "POST /jobs": {
      const id = randomUUID();
      jobs.set(id, 0);
      run(id).catch(console.error);
      return answer(202, { id });
    }
    default:
      return answer(404, {});
  }
}).listen(PORT, "127.0.0.1", () => console.log(`listening on http://127.0.0.1:${PORT}`));
