import { createEventSource } from "eventsource-client";
import { report, url } from "./report.mjs";

createEventSource({
  url,
  onConnect: () => report("open"),
  onMessage: ({ event, data, id }) => report("event", { name: event || "message", data, id }),
});
