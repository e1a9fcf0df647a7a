// The nodes of a cluster.

import { heading, h, count, rate, bytes, every, complain } from "./dom.js";
import { call } from "./api.js";

const titles = ["Node", "Open", "Pending", "Events", "Bytes", "Queued", "Dropped"];

export function nodes(main, signal) {
  const told = h("p", { class: "quiet", role: "status" }, "Loading");
  const body = h("tbody", {});
  const log = h("dl", { class: "facts" });
  main.append(heading("Nodes"), told,
    h("div", { class: "card scroll", tabindex: "0", role: "region", "aria-label": "Nodes" }, h("table", {},
      h("thead", {}, h("tr", {}, titles.map((t, i) => h("th", { scope: "col", class: i ? "right" : "" }, t)))), body)),
    h("section", { class: "card" }, h("h2", {}, "Log of published events"), log));
  let last = null;

  every(2000, signal, async () => {
    let s;
    try {
      s = await call("GET", "stats", undefined, signal);
    } catch (e) {
      complain(e, signal);
      return;
    }
    const all = s.cluster?.by_node ?? [s], away = s.cluster?.unreachable_nodes ?? [];
    const now = performance.now() / 1000;
    const per = (n, what) => (last?.[n.node] ? Math.max(0, n[what] - last[n.node][what]) / (now - last.now) : null);
    body.replaceChildren(...all.map((n) => h("tr", {}, h("th", { scope: "row" }, n.node, n.node === s.node && h("small", {}, " this one")),
      [count(n.connections.open), count(n.connections.pending), `${rate(per(n, "events_written"))}/s`, `${bytes(per(n, "bytes_written"))}/s`, bytes(n.bytes_queued), count(n.events_dropped)]
        .map((v, i) => h("td", { class: "right", "data-title": titles[i + 1] }, v)))),
    ...away.map((n) => h("tr", {}, h("th", { scope: "row" }, n), h("td", { colspan: "6", class: "bad" }, "does not answer"))));
    told.textContent = s.cluster ? `${count(all.length)} nodes answer${away.length ? `, ${count(away.length)} not` : ""}` : "This gateway is alone";
    log.replaceChildren(...[["Epoch", s.log.epoch], ["Oldest", count(s.log.oldest)], ["Last", count(s.log.last)], ["Events", count(s.log.events)], ["Takes", bytes(s.log.bytes)]]
      .map(([k, v]) => h("div", {}, h("dt", {}, k), h("dd", {}, v))));
    last = Object.fromEntries([["now", now], ...all.map((n) => [n.node, n])]);
  });
}
