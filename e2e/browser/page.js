// The script of every page of these tests. `report` is the binding by which the page reports
// events to the test.
const sources = {};

function openSource(name, url, withCredentials) {
  const source = new EventSource(url, { withCredentials });
  sources[name] = source;
  const tell = (event) => report(JSON.stringify({
    source: name, type: event.type, data: event.data, id: event.lastEventId,
    state: source.readyState, at: performance.now(),
  }));
  for (const type of ["open", "error", "message", "named", "gap"]) source.addEventListener(type, tell);
}

function closeSource(name) {
  sources[name].close();
}

// nextHopProtocol returns the protocol of a finished request to the page's own origin.
function nextHopProtocol(url) {
  return new Promise((resolve) => {
    new PerformanceObserver((list) => {
      const entry = list.getEntriesByName(url)[0];
      if (entry) resolve(entry.nextHopProtocol);
    }).observe({ type: "resource", buffered: true });
  });
}
