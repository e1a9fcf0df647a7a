// The figures of this node: now, and over the last 15 minutes.

import { h, heading, count, rate, bytes, duration } from "./dom.js";
import { watch, rates } from "./live.js";
import { plot } from "./plot.js";

const gauge = (of) => (points) => points.map(of);
const counter = (of) => (points) => rates(points, of);
const callbacks = (action, what) => (points) => points.map((p) => p.callbacks[action][what] || null);
const perSecond = (v) => (v == null ? "–" : `${rate(v)}/s`);
const bytesPerSecond = (v) => (v == null ? "–" : `${bytes(v)}/s`);

const plots = [
  { title: "Open streams", format: count, series: [{ label: "open", of: gauge((p) => p.connections.open) }] },
  {
    title: "Streams opened and ended", format: perSecond, series: [
      { label: "opened", of: counter((p) => p.streams_opened) },
      { label: "client left", of: counter((p) => p.connections_closed.client_closed) },
      { label: "closed here", of: counter((p) => p.connections_closed.server_closed) },
      { label: "errors", of: counter((p) => p.connections_closed.error) },
    ],
  },
  { title: "Events", format: perSecond, series: [{ label: "written", of: counter((p) => p.events_written) }, { label: "published", of: counter((p) => p.events_published) }] },
  { title: "Bytes written", format: bytesPerSecond, binary: true, series: [{ label: "written", of: counter((p) => p.bytes_written) }] },
  {
    title: "Connect callbacks: how long", format: duration, series: [
      { label: "p50", of: callbacks("connect", "p50_seconds") }, { label: "p99", of: callbacks("connect", "p99_seconds") },
    ],
  },
  {
    title: "Callbacks", format: perSecond, series: [
      { label: "connects", of: counter((p) => p.callbacks.connect.attempts) }, { label: "disconnects", of: counter((p) => p.callbacks.disconnect.attempts) },
      { label: "failed", of: counter((p) => p.callbacks.connect.failed + p.callbacks.disconnect.failed) },
    ],
  },
  { title: "Waiting in queues", format: bytes, binary: true, series: [{ label: "bytes", of: gauge((p) => p.bytes_queued) }] },
  { title: "Losses", format: perSecond, series: [{ label: "events dropped", of: counter((p) => p.events_dropped) }, { label: "gaps", of: counter((p) => p.gaps) }] },
  {
    title: "Accepted connections that are no streams", format: count, series: ["idle", "handler", "header", "body", "answer", "http2"].map((s) => ({ label: s, of: gauge((p) => p.edge_connections[s]) })),
  },
];

const tiles = [
  ["Open streams", (p) => count(p.connections.open), (p) => `${count(p.connections.pending)} pending`],
  ["Events", (p, r) => perSecond(r((q) => q.events_written)), (p) => `${count(p.events_written)} in all`],
  ["Bytes", (p, r) => bytesPerSecond(r((q) => q.bytes_written)), (p) => `${bytes(p.bytes_written)} in all`],
  ["Connect p99", (p) => (p.callbacks.connect.p99_seconds ? duration(p.callbacks.connect.p99_seconds) : "–"), (p) => `${count(p.callbacks.connect.failed)} failed`],
  ["In queues", (p) => bytes(p.bytes_queued), () => "for slow clients"],
  ["Events dropped", (p) => count(p.events_dropped), (p) => `${count(p.gaps)} gaps`],
];

export function overview(main, signal) {
  const figures = tiles.map(([title]) => ({ title, value: h("dd", { class: "value" }, "–"), note: h("dd", { class: "note" }, "\u00a0") }));
  const charts = plots.map((p) => plot({ ...p, signal }));
  const when = h("p", { class: "quiet" }, "This node, the last 15 minutes");
  main.append(heading("Overview", when),
    h("dl", { class: "tiles" }, figures.map((f) => h("div", { class: "card tile" }, h("dt", {}, f.title), f.value, f.note))),
    h("div", { class: "charts" }, charts.map((c) => c.element)));
  watch((points) => {
    if (!points.length) return;
    const last = points.at(-1), before = points.slice(-2);
    const r = (of) => rates(before, of).at(-1);
    tiles.forEach(([, value, note], i) => {
      figures[i].value.textContent = value(last, r);
      figures[i].note.textContent = note(last, r);
    });
    charts.forEach((c) => c.show(points));
  }, signal);
}
