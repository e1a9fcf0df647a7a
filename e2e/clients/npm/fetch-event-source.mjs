// The package is for browsers: it wants a window and a document.
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
    if (event === "" && data === "") return; // a block without data is an event for it
    report("event", { name: event || "message", data, id });
  },
  onclose() {
    throw new Error("ended"); // otherwise it does not come back
  },
  onerror() {}, // nor would it after a throw here
});
