// An EventSource in a page. `report` is the binding by which it reports to the test.
function openSource(url) {
  const source = new EventSource(url);
  const tell = (type, event) => report(JSON.stringify({
    type, name: type === "open" ? "" : event.type, data: event.data ?? "", id: event.lastEventId ?? "",
  }));
  source.onopen = (event) => tell("open", event);
  for (const name of ["message", "named", "gap"]) source.addEventListener(name, (event) => tell("event", event));
}

// An EventSource for each URL, and all that happens to it.
function watchSources(urls) {
  for (const url of urls) {
    const source = new EventSource(url);
    for (const type of ["open", "error", "rejected"]) {
      source.addEventListener(type, ({ data = "" }) => {
        report(JSON.stringify({ type, data, name: new URL(url).pathname, state: source.readyState }));
      });
    }
  }
}
