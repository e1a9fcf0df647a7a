// What an application in TypeScript writes. It is only type-checked.
import { follow, type Problem, type Status, type Stream } from "@ssegateway/web";
import { events, type Message } from "@ssegateway/web/events";
import { ask } from "@ssegateway/web/relay";
import { share } from "@ssegateway/web/tabs";

interface Orders {
  [number: string]: string;
}
let orders: Orders = {};

const stream: Stream = follow<Orders>("/orders", {
  onevent({ event, data, id }) {
    orders[id] = `${event}: ${data}`;
  },
  async load() {
    orders = await (await fetch("/state")).json();
  },
  onstatus(status: Status, problem?: Problem) {
    if (status === "refused" && problem?.status === 401) stream.reconnect();
  },
  keep: { name: "orders", save: () => orders, restore: (kept) => { orders = kept; }, storage: localStorage },
  heartbeat: 15,
  fetch: share("orders", (url, init) => {
    init.headers.set("Authorization", "Bearer …");
    return fetch(url, init);
  }),
});
follow(new URL("https://example.com/"), { onevent: async (message: Message) => message.data.length });

const answer = ask("/chat", { method: "POST", body: "to be?", keep: "chat", stopOnClose: true, onwait: (ms) => ms.toFixed() });
for await (const { data } of answer) if (data === "") await answer.stop();
for await (const message of events(new Blob(["data: x\n\n"]).stream())) message.id.trim();

// @ts-expect-error a stream without a hook for its events
follow("/orders", {});
// @ts-expect-error a position without the state that belongs to it
follow("/orders", { onevent() {}, keep: { name: "orders" } });
// @ts-expect-error there is no such status
if (stream.status === "gone") stream.close();
