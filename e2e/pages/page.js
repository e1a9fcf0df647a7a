// The page of these tests. Its state is the number of the newest event; what happens to it is told in the document.
import { follow } from "./stream.js";
import { share } from "./tabs.js";

const log = { state: 0, taken: [], doubles: 0, missing: 0, loads: 0, status: "away", statuses: [], problem: {} };
const config = JSON.parse(decodeURIComponent(location.hash.slice(1)));

function tell() {
  document.querySelector("output").textContent = JSON.stringify(log);
}

const hooks = {
  async onevent({ event, data }) {
    if (config.blocks) {
      await new Promise((done) => {
        globalThis.release = done;
        tell();
      });
      delete globalThis.release;
    }
    if (event === "gap") return stream.reconnect("");
    const n = Number(data);
    if (n === config.throws && !log.taken.includes(n)) {
      log.taken.push(n);
      throw new Error(`thrown at ${n}`);
    }
    log.taken.push(n);
    if (n <= log.state) log.doubles++;
    else {
      log.missing += n - log.state - 1;
      log.state = n;
    }
    tell();
  },
  async load() {
    log.loads++;
    tell();
    const answer = await fetch("/state");
    if (!answer.ok) return Promise.reject(); // with nothing, as a page may
    log.state = await answer.json();
    tell();
  },
  onstatus(status, problem = {}) {
    log.status = status;
    log.problem = problem;
    log.statuses.push(status);
    tell();
  },
};
if (config.withoutLoad) delete hooks.load;
if (config.keep) {
  hooks.keep = { name: config.keep, save: () => log.state, restore: (state) => { log.state = state; } };
  const forbidden = () => { throw new Error("forbidden"); };
  if (config.storage === "forbidden") hooks.keep.storage = { getItem: forbidden, setItem: forbidden };
}
let doFetch = fetch;
if (config.accept) {
  doFetch = (url, init) => {
    init.headers.set("Accept", config.accept);
    return fetch(url, init);
  };
}
if (config.locks === "none") Object.defineProperty(navigator, "locks", {});
if (config.locks === "forbidden") navigator.locks.request = () => Promise.reject(new Error("forbidden"));
if (config.tabs) doFetch = share(config.tabs, doFetch);

if (config.faster) {
  log.delays = [];
  const real = setTimeout;
  globalThis.setTimeout = (act, ms) => {
    if (Number.isInteger(ms) && ms !== 36e5) return real(act, ms); // no wait, which has its part of chance
    log.delays.push(ms);
    return real(act, ms / config.faster);
  };
}

tell();
Object.assign(globalThis, { log, config });
globalThis.stream = follow(config.url, { heartbeat: config.heartbeat ?? 3600, fetch: doFetch, id: config.id, ...hooks });
