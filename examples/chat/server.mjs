// A chat with rooms. Node, no dependencies.

import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { text } from "node:stream/consumers";

const PORT = Number(process.env.PORT ?? 8000);
const GATEWAY = process.env.GATEWAY ?? "http://127.0.0.1:3000";
const page = readFileSync(new URL("index.html", import.meta.url), "utf8").replaceAll("{{gateway}}", GATEWAY);

const present = new Map(); // token of an open stream: { room, name }

// publish reaches everybody in a room.
const publish = (room, name, value) => fetch(`${GATEWAY}/internal/publish`, {
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify({ topic: `room.${room}`, event: { name, data: JSON.stringify(value) } }),
});

const namesIn = (room) => [...new Set([...present.values()].filter((p) => p.room === room).map((p) => p.name))].sort();

function callback({ action, token, request }) {
  if (action === "connect") {
    const query = new URL(request.url, "http://localhost").searchParams;
    const [room, name] = [query.get("room"), query.get("name")];
    if (!room || !name) return [400, {}];
    present.set(token, { room, name });
    publish(room, "present", namesIn(room));
    return [200, {
      topics: [`room.${room}`],
      subject: name,
      retry_ms: 500,
      events: [{ name: "present", data: JSON.stringify(namesIn(room)) }],
    }];
  }
  const left = present.get(token);
  if (present.delete(token)) publish(left.room, "present", namesIn(left.room));
  return [200, {}];
}

createServer(async (req, res) => {
  const answer = (status, value) => res.writeHead(status, { "Content-Type": "application/json" }).end(JSON.stringify(value));
  switch (`${req.method} ${req.url.split("?")[0]}`) {
    case "GET /":
      return res.writeHead(200, { "Content-Type": "text/html; charset=utf-8" }).end(page);
    case "POST /callback": // for the gateway only: do not let others reach it
      return answer(...callback(JSON.parse(await text(req))));
    case "POST /say": {
      const { room, name, say } = JSON.parse(await text(req));
      const published = await publish(room, "said", { name, say });
      return answer(published.status, await published.json());
    }
    default:
      return answer(404, {});
  }
}).listen(PORT, "127.0.0.1", () => console.log(`listening on http://127.0.0.1:${PORT}`));
