// Reads each vector by an EventSource, up to the end of its stream.
function readAll(count, names) {
  const read = (n) => new Promise((resolve) => {
    const source = new EventSource("/" + n);
    const events = [];
    for (const name of [...names, "message"]) {
      source.addEventListener(name, (e) => events.push({ Name: e.type === "message" ? "" : e.type, ID: e.lastEventId, Data: e.data }));
    }
    source.onerror = () => { source.close(); resolve(events); };
  });
  return Promise.all(Array.from({ length: count }, (_, n) => read(n)));
}
