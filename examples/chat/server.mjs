// A chat with rooms: who comes sees the last lines, who comes back what was said meanwhile, and everybody who is there.
// Node, no dependencies.

import { setTimeout as sleep } from "node:timers/promises";
import { Refusal, callback, connections, page, publish, read, serve, short } from "../common/serve.mjs";

const html = read("index.html", import.meta.url);
const present = new Map(); // token of an open stream: { room, name }

// remember gets the streams that were opened before this process began. Without the gateway it waits: it cannot know.
async function remember() {
  for (;;) {
    try {
      for (const { token, subject, topics } of await connections()) {
        const room = topics.find((topic) => topic.startsWith("room."))?.slice("room.".length);
        if (room) present.set(token, { room, name: subject });
      }
      return;
    } catch (error) {
      console.log(`waiting for the gateway: ${error.cause ?? error}`);
      await sleep(1000);
    }
  }
}

const namesIn = (room) => [...new Set([...present.values()].filter((p) => p.room === room).map((p) => p.name))].sort();

// tell publishes who is in a room, one time after the other, so that the last word is the newest. It is retained for who
// comes later, as the last event of a topic of its own: the last lines of the room are only what was said.
let telling = Promise.resolve();
function tell(room) {
  telling = telling
    .then(() => publish({ topic: `present.${room}`, event: { name: "present", data: JSON.stringify(namesIn(room)) }, retain: true }))
    .catch((error) => console.log(`the gateway cannot be reached: ${error.cause ?? error}`));
}

function connect(token, path, query) {
  const room = short(query.get("room"));
  const name = short(query.get("name")); // a real chat looks at a cookie in the request's headers
  present.set(token, { room, name });
  tell(room);
  return [200, { topics: [`room.${room}`, `present.${room}`], subject: name, rewind: 20, retry_ms: 500 }];
}

function left(tokens) {
  const rooms = new Set();
  for (const token of tokens) {
    const was = present.get(token);
    if (present.delete(token)) rooms.add(was.room);
  }
  for (const room of rooms) tell(room);
}

async function say({ body }) {
  const said = JSON.parse(body);
  const [room, name] = [short(said?.room), short(said?.name)];
  if (typeof said.say !== "string") throw new Refusal(400, "nothing was said");
  return publish({ topic: `room.${room}`, event: { name: "said", data: JSON.stringify({ name, say: said.say }) } });
}

await remember(); // before it listens: a disconnect that is told of meanwhile comes again later
serve({
  "GET /": () => page(html),
  "POST /callback": callback(connect, left),
  "POST /say": say,
});
