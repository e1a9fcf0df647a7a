// A progress bar for a background job. Node, no dependencies.

import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { callback, connections, page, publish, read, serve } from "../common/serve.mjs";

const STEP_MS = Number(process.env.STEP_MS ?? 100);
const html = read("index.html", import.meta.url);
const jobs = new Map(); // id: percent done

// run does the work, and tells whoever watches. It does not care whether anybody does, nor whether the gateway is there.
async function run(id) {
  for (let percent = 0; percent <= 100; percent++) {
    await sleep(STEP_MS);
    jobs.set(id, percent);
    await publish({ topic: `job.${id}`, event: progress(id) }).catch((error) =>
      console.log(`the gateway cannot be reached: ${error.cause ?? error}`));
  }
}

const progress = (id) => ({ name: "progress", data: String(jobs.get(id)) });

function connect(token, path) {
  const id = path.split("/").at(-1);
  if (!jobs.has(id)) return [404, {}];
  // A slow reader is not sent every step, only the latest one.
  return [200, { topics: [`job.${id}`], events: [progress(id)], overflow: "latest", retry_ms: 500 }];
}

// begin gives up no job that somebody watches: after a restart of this program it is done anew, as from a queue.
async function begin() {
  const watched = (await connections()).flatMap(({ topics }) => topics).filter((topic) => topic.startsWith("job."));
  for (const topic of new Set(watched)) start(topic.slice("job.".length));
}

function start(id) {
  jobs.set(id, 0);
  run(id);
}

await begin().catch((error) => console.log(`the gateway cannot be reached: ${error.cause ?? error}`));
serve({
  "GET /": () => page(html),
  "POST /callback": callback(connect),
  "POST /jobs": () => {
    const id = randomUUID();
    start(id);
    return [202, { id }];
  },
});
