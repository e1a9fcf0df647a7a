// Relayed answers that clients read now.

import { heading, h, count, bytes, brief, attempt, confirmed, every, complain } from "./dom.js";
import { call } from "./api.js";
import { badge, load } from "./connections.js";
import { table } from "./table.js";

export function relayed(main, signal) {
  const told = h("p", { class: "quiet", role: "status" }, "Loading");
  const list = table({
    label: "Relayed answers", href: (c) => `#/connections/${c.token}`, empty: "No client reads a relayed answer now.",
    columns: [
      { title: "Path", class: "w4", text: (c) => c.path, value: (c) => c.path },
      { title: "State", class: "w2", cell: (c) => badge(c.state), value: (c) => c.state },
      { title: "Resumable", class: "w1 wide", text: (c) => (c.resumable ? "yes" : "no"), value: (c) => String(c.resumable) },
      { title: "Readers", class: "w1 wide", right: true, text: (c) => count(c.readers), value: (c) => c.readers ?? 0 },
      { title: "Answer", class: "w1 wide", right: true, text: (c) => bytes(c.answer_bytes), value: (c) => c.answer_bytes ?? 0 },
      { title: "Age", class: "w1 wide", right: true, text: (c) => brief(c.since), value: (c) => -Date.parse(c.since) },
      { title: "Action", class: "w1", right: true, cell: (c) => h("button", { type: "button", "aria-label": `Stop ${c.path}`, onclick: () => stop(c) }, "Stop") },
    ],
  });
  main.append(heading("Relayed answers"), told, list.element);

  async function stop(c) {
    if (!(await confirmed("Stop this answer? The application's request is cancelled, for all who read it.", "Stop"))) return;
    await attempt(() => call("DELETE", `connections/${c.token}`), "Stopped");
    refresh();
  }

  async function refresh() {
    try {
      const rows = (await load(signal)).filter((c) => c.kind === "relay");
      list.show(rows);
      told.textContent = `${count(rows.length)} clients read an answer`;
    } catch (e) {
      complain(e, signal);
    }
  }
  every(3000, signal, refresh);
}
