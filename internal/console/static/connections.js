// The connections, and one of them.

import { h, heading, card, field, count, rate, bytes, age, brief, attempt, confirmed, every, complain } from "./dom.js";
import { call, all } from "./api.js";
import { table } from "./table.js";

export const most = 50_000; // connections that a page loads

// load gives all connections, as far as they have come, page by page.
export async function load(signal, each = () => {}) {
  const rows = [];
  for await (const page of all("connections", "connections", signal)) {
    rows.push(...page);
    each(rows, false);
    if (rows.length >= most) break;
  }
  each(rows, true);
  return rows;
}

export const badge = (state) => h("span", { class: `badge ${state}` }, state);

export function connections(main, signal) {
  let rows = [], done = false;
  const search = h("input", { type: "search", placeholder: "Topic, subject, path, token, address", "aria-label": "Search connections", oninput: () => filter() });
  const told = h("p", { class: "quiet", role: "status" });
  const again = h("button", { type: "button", onclick: () => fetchAll() }, "Refresh");
  const list = table({
    label: "Connections", href: (c) => `#/connections/${c.token}`, empty: "No connection fits.",
    columns: [
      { title: "Path", class: "w4", text: (c) => c.path, value: (c) => c.path },
      { title: "Subject", class: "w2", text: (c) => c.subject ?? "", value: (c) => c.subject ?? "" },
      { title: "Topics", class: "w3 wide", text: (c) => c.topics.join(", "), value: (c) => c.topics.join(",") },
      { title: "State", class: "w1 wide", cell: (c) => badge(c.state), value: (c) => c.state },
      { title: "Events", class: "w1", right: true, text: (c) => count(c.events_written), value: (c) => c.events_written },
      { title: "Queued", class: "w1 wide", right: true, text: (c) => bytes(c.bytes_queued), value: (c) => c.bytes_queued },
      { title: "Drops", class: "w1 wide", right: true, text: (c) => count(c.drops), value: (c) => c.drops },
      { title: "Age", class: "w1", right: true, text: (c) => brief(c.since), value: (c) => -Date.parse(c.since) },
    ],
  });
  main.append(heading("Connections", h("div", { class: "row grow" }, search, again)), told, list.element);

  function filter() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const fits = words.length ? rows.filter((c) => words.every((w) => (c.text ??= `${c.path} ${c.subject ?? ""} ${c.topics.join(" ")} ${c.token} ${c.client_ip ?? ""} ${c.node}`.toLowerCase()).includes(w))) : rows;
    list.show(fits);
    told.textContent = (done ? "" : "Loading: ") + (words.length ? `${count(fits.length)} of ${count(rows.length)}` : count(rows.length)) + " connections" + (rows.length >= most ? ", the first ones" : "");
  }

  async function fetchAll() {
    again.disabled = true;
    try {
      const first = rows.length === 0;
      await load(signal, (found, end) => { if (first || end) { rows = [...found]; done = end; filter(); } });
    } catch (e) {
      complain(e, signal);
    }
    again.disabled = false;
  }
  // What is small is kept up to date.
  every(5000, signal, async () => { if (!done || rows.length <= 1000) await fetchAll(); });
}

export function connection(main, signal, token) {
  const path = `connections/${encodeURIComponent(token)}`;
  const title = h("span", { class: "mono" }, token);
  const facts = h("dl", { class: "facts" });
  const request = h("dl", { class: "facts" });
  const chips = h("ul", { class: "chips" });
  const name = h("input", { autocomplete: "off" }), data = h("textarea", { rows: "3", required: true }), id = h("input", { autocomplete: "off" });
  const more = h("input", { autocomplete: "off", required: true });
  const shut = h("button", { type: "button", class: "danger", onclick: close }, "Close the connection");
  let last = null;

  const change = (topics, done) => attempt(() => call("PATCH", path, { topics }), done).then(refresh);
  const send = h("form", { class: "stack", onsubmit: (e) => {
    e.preventDefault();
    const event = { data: data.value, ...(name.value && { name: name.value }), ...(id.value && { id: id.value }) };
    attempt(() => call("POST", "send", { token, event }), (r) => `Sent: ${r.status}`).then(refresh);
  } }, h("div", { class: "row" }, field("Event name", name), field("Id", id)), field("Data", data), h("button", { class: "primary" }, "Send"));
  const add = h("form", { class: "row", onsubmit: async (e) => {
    e.preventDefault();
    await change({ add: [more.value] }, "Added");
    more.value = "";
  } }, field("Topic to add", more), h("button", {}, "Add"));

  main.append(heading(title, shut),
    h("div", { class: "two" },
      h("div", { class: "stack" }, card("Connection", facts), card("Request", request)),
      h("div", { class: "stack" }, card("Topics", chips, add), card("Send an event", send))));

  async function close() {
    if (!(await confirmed("Close this connection? Its client may come back.", "Close"))) return;
    await attempt(() => call("DELETE", path), (r) => `Closed: ${r.status}`);
    refresh();
  }

  const fill = (list, pairs) => list.replaceChildren(...pairs.filter(([, v]) => v !== undefined).map(([k, v]) => h("div", {}, h("dt", {}, k), h("dd", {}, v))));

  async function refresh() {
    let c;
    try {
      c = await call("GET", path, undefined, signal);
    } catch (e) {
      if (signal.aborted || e.refused) return;
      fill(facts, [["State", e.status === 404 ? badge("gone") : e.message]]);
      shut.disabled = e.status === 404;
      return;
    }
    const now = performance.now() / 1000;
    const per = last ? rate((c.events_written - last.events) / (now - last.now)) : "–";
    last = { events: c.events_written, now };
    fill(facts, [
      ["State", badge(c.state)], ["Node", c.node], ["Subject", c.subject], ["Address", c.client_ip], ["Open for", age(c.since)],
      ["Events written", `${count(c.events_written)} (${per}/s)`], ["Bytes written", bytes(c.bytes_written)],
      ["In its queue", bytes(c.bytes_queued)], ["Dropped", count(c.drops)], ["When it is slow", c.overflow],
      ["Readers", c.readers === undefined ? undefined : count(c.readers)], ["Answer", c.answer_bytes === undefined ? undefined : bytes(c.answer_bytes)],
      ["Resumable", c.resumable === undefined ? undefined : c.resumable ? "yes" : "no"],
    ]);
    fill(request, [["path", c.path], ...Object.entries(c.request?.headers ?? {})]);
    if (document.activeElement?.closest?.(".chips") == null) {
      chips.replaceChildren(...(c.topics.length ? c.topics.map((t) => h("li", {}, h("a", { href: `#/topics/${encodeURIComponent(t)}` }, t),
        h("button", { type: "button", "aria-label": `Remove ${t}`, onclick: (e) => { e.target.blur(); change({ remove: [t] }, "Removed"); } }, "×"))) : [h("li", { class: "quiet" }, "None")]));
    }
  }
  every(2000, signal, refresh);
}
