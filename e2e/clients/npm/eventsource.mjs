import { EventSource } from "eventsource";
import { names, report, url } from "./report.mjs";

const source = new EventSource(url);
source.addEventListener("open", () => report("open"));
for (const name of names) {
  source.addEventListener(name, ({ type, data, lastEventId }) => report("event", { name: type, data, id: lastEventId }));
}
