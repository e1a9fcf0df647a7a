// A page that follows topics and misses nothing. Node, no dependencies.

import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { text } from "node:stream/consumers";

const PORT = Number(process.env.PORT ?? 8000);
const GATEWAY = process.env.GATEWAY ?? "http://127.0.0.1:3000";
const page = readFileSync(new URL("index.html", import.meta.url), "utf8").replaceAll("{{gateway}}", GATEWAY);

const allowed = ["news", "weather"];
const history = []; // what was published: the truth, of which streams only tell

createServer(async (req, res) => {
  const url = new URL(req.url, "http://localhost");
  const topics = (query) => (query.get("topics") ?? "").split(",").filter((topic) => allowed.includes(topic));
  const answer = (status, value) => res.writeHead(status, { "Content-Type": "application/json" }).end(JSON.stringify(value));

  switch (`${req.method} ${url.pathname}`) {
    case "GET /":
      return res.writeHead(200, { "Content-Type": "text/html; charset=utf-8" }).end(page);

    case "POST /callback": { // for the gateway only: do not let others reach it
      const { action, request } = JSON.parse(await text(req));
      if (action !== "connect") return answer(200, {});
      // Also when a browser comes back: what it may have is decided anew, and the
      // gateway replays what it missed of that.
      const granted = topics(new URL(request.url, "http://localhost").searchParams);
      return granted.length ? answer(200, { topics: granted, retry_ms: 500 }) : answer(403, {});
    }

    case "POST /publish": {
      const topic = url.searchParams.get("topic");
      if (!allowed.includes(topic)) return answer(404, {});
      const item = { id: history.length, topic, text: await text(req) };
      history.push(item);
      const published = await fetch(`${GATEWAY}/internal/publish`, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ topic, event: { name: "item", data: JSON.stringify(item) } }),
      });
      return answer(published.status, await published.json());
    }

    case "GET /history":
      return answer(200, history.filter(({ topic }) => topics(url.searchParams).includes(topic)).slice(-100));

    default:
      return answer(404, {});
  }
}).listen(PORT, "127.0.0.1", () => console.log(`listening on http://127.0.0.1:${PORT}`));
