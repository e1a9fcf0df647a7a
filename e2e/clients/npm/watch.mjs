import { EventSource } from "eventsource";

// An EventSource for each URL, and all that happens to it: one JSON object a line, n counts the lines.
let n = 0;
for (const url of process.argv.slice(2)) {
  const source = new EventSource(url);
  for (const type of ["open", "error", "rejected"]) {
    source.addEventListener(type, ({ data = "" }) => {
      console.log(JSON.stringify({ n: ++n, type, data, name: new URL(url).pathname, state: source.readyState }));
    });
  }
}
