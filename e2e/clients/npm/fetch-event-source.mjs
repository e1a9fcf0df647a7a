// The package is for browsers, so it needs a window and a document.
globalThis.window = globalThis;
globalThis.document = new EventTarget();

const { fetchEventSource } = await import("@microsoft/fetch-event-source");
const { report, url } = await import("./report.mjs");

await fetchEventSource(url, {
  openWhenHidden: true,
  async onopen(response) {
    if (!response.ok) throw new Error(response.status);
    report("open");
  },
  onmessage({ event, data, id }) {
    if (event === "" && data === "") return; // the package reports a block without data as an event
    report("event", { name: event || "message", data, id });
  },
  onclose() {
    throw new Error("ended"); // otherwise it does not reconnect
  },
  onerror() {}, // after a throw here it would not reconnect either
});
