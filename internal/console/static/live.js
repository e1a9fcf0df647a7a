// The counts of the last 15 minutes, and each new point: one stream for all pages.

import { follow } from "./api.js";
import { pause } from "./dom.js";

const length = 180;
let points = [];
let failure = null;
let listening = new Set();
let running = null;

const tell = () => { for (const f of listening) f(points, failure); };

// watch calls f with the points, and with what keeps new ones from coming, whenever either changes.
export function watch(f, signal) {
  listening.add(f);
  signal.addEventListener("abort", () => listening.delete(f), { once: true });
  f(points, failure);
}

// begin follows the gateway from now on, also over cuts.
export async function begin() {
  running?.abort();
  running = new AbortController();
  const { signal } = running;
  while (!signal.aborted) {
    let fresh = [];
    try {
      for await (const event of follow("stats?history=15m", signal)) {
        fresh = [...fresh, JSON.parse(event.data)].slice(-length);
        if (fresh.length > 1 || points.length === 0 || Date.parse(fresh[0].time) < Date.parse(points.at(-1).time)) points = fresh;
        failure = null;
        tell();
      }
      failure = new Error("The stream has ended.");
    } catch (e) {
      if (signal.aborted) return;
      failure = e;
    }
    tell();
    if (failure.refused) return; // until a token is given
    await pause(2000, signal);
  }
}

// rates gives for each point how much a counter grew per second since the point before; null where that is not known.
export function rates(list, of) {
  return list.map((p, i) => {
    if (i === 0) return null;
    const seconds = (Date.parse(p.time) - Date.parse(list[i - 1].time)) / 1000;
    const grown = of(p) - of(list[i - 1]);
    return grown < 0 || seconds <= 0 || seconds > 60 ? null : grown / seconds;
  });
}
