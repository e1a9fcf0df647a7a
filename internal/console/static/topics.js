// Topics: those that connections have or that retain events, and one of them.

import { h, heading, card, field, count, rate, attempt, confirmed, every, pause, toast, complain } from "./dom.js";
import { call, all, follow } from "./api.js";
import { load } from "./connections.js";
import { table } from "./table.js";

const link = (t) => `#/topics/${encodeURIComponent(t)}`;

export function topics(main, signal) {
  let rows = [];
  const search = h("input", { type: "search", placeholder: "Search, or a topic to open", "aria-label": "Search topics", oninput: () => filter() });
  const told = h("p", { class: "quiet", role: "status" });
  const open = h("form", { class: "row grow", onsubmit: (e) => { e.preventDefault(); if (search.value) location.hash = link(search.value); } }, search, h("button", {}, "Open"));
  const list = table({
    label: "Topics", href: (t) => link(t.name), empty: "No connection has a topic that fits, and none retains an event.", sort: 1,
    columns: [
      { title: "Topic", class: "w4", text: (t) => t.name, value: (t) => t.name },
      { title: "Receivers", class: "w1", right: true, text: (t) => count(t.receivers), value: (t) => t.receivers },
      { title: "Retained", class: "w1", right: true, text: (t) => count(t.retained), value: (t) => t.retained },
    ],
  });
  main.append(heading("Topics", open), told, list.element);

  function filter() {
    const text = search.value.toLowerCase();
    const fits = rows.filter((t) => t.name.toLowerCase().includes(text));
    list.show(fits);
    told.textContent = `${count(fits.length)} topics that connections have or that retain events`;
  }

  every(10_000, signal, async () => {
    const found = new Map();
    const of = (name) => found.get(name) ?? found.set(name, { name, receivers: 0, retained: 0 }).get(name);
    try {
      for (const c of await load(signal)) for (const t of c.topics) of(t).receivers++;
      for await (const page of all("retained", "retained", signal)) for (const r of page) of(r.topic).retained++;
    } catch (e) {
      complain(e, signal);
      return;
    }
    rows = [...found.values()].sort((a, b) => b.receivers - a.receivers);
    filter();
  });
}

const kept = 200; // events of the tail that are shown

export function topic(main, signal, name) {
  const receivers = h("dd", { class: "value" }, "–"), speed = h("dd", { class: "value" }, "–"), seen = h("dd", { class: "value" }, "0");
  const tile = (title, value) => h("div", { class: "card tile" }, h("dt", {}, title), value);
  const tail = h("ol", { class: "events", tabindex: "0", "aria-label": "Events as they come, the newest first" }, h("li", { class: "quiet" }, "Waiting for events."));
  const retained = h("ul", { class: "plain" });
  const event = h("input", { autocomplete: "off" }), data = h("textarea", { rows: "3", required: true }), retain = h("input", { type: "checkbox" }), key = h("input", { autocomplete: "off" });
  const publish = h("form", { class: "stack", onsubmit: (e) => {
    e.preventDefault();
    const body = { topic: name, event: { data: data.value, ...(event.value && { name: event.value }) }, ...(retain.checked && { retain: true, ...(key.value && { key: key.value }) }) };
    attempt(() => call("POST", "publish", body), (r) => `Published to ${count(r.receivers)} receivers of this node`).then(refresh);
  } }, h("div", { class: "row" }, field("Event name", event), field("Key, if retained", key)), field("Data", data), field("Retain it", retain), h("button", { class: "primary" }, "Publish"));
  main.append(heading(name),
    h("dl", { class: "tiles three" }, tile("Receivers", receivers), tile("Events, over 10 s", speed), tile("Since this page is open", seen)),
    h("div", { class: "two" }, card("Tail", tail), h("div", { class: "stack" }, card("Publish", publish), card("Retained", retained))));

  async function refresh() {
    try {
      let n = 0;
      for await (const page of all(`connections?topic=${encodeURIComponent(name)}`, "connections", signal)) n += page.length;
      receivers.textContent = count(n);
      const page = await call("GET", `retained?topic=${encodeURIComponent(name)}&limit=100`, undefined, signal);
      retained.replaceChildren(...(page.retained.length ? page.retained.map((r) => h("li", { class: "row" },
        h("code", { class: "cut" }, `${r.key ? `${r.key}: ` : ""}${r.event.data}`),
        h("button", { type: "button", "aria-label": `Remove ${r.key ?? "what is retained"}`, onclick: () => remove(r.key) }, "Remove"))) : [h("li", { class: "quiet" }, "Nothing")]));
    } catch (e) {
      complain(e, signal);
    }
  }

  async function remove(of) {
    if (!(await confirmed(of ? `Remove the retained event of the key ${of}?` : "Remove all retained events of this topic?", "Remove"))) return;
    await attempt(() => call("DELETE", `retained?topic=${encodeURIComponent(name)}${of ? `&key=${encodeURIComponent(of)}` : ""}`), (r) => `Removed ${count(r.removed)}`);
    refresh();
  }

  let total = 0, times = [], waiting = [];
  const flush = () => {
    if (signal.aborted || !waiting.length) return;
    if (total <= waiting.length) tail.replaceChildren();
    tail.prepend(...waiting.slice(-kept).reverse().map((e) => h("li", {}, h("span", { class: "quiet" }, `${e.at} ${e.name}`), h("code", {}, e.data.slice(0, 2000)))));
    while (tail.children.length > kept) tail.lastChild.remove();
    waiting = [];
    seen.textContent = count(total);
  };
  (async () => {
    let id = "";
    while (!signal.aborted) {
      try {
        for await (const e of follow(`tail?topic=${encodeURIComponent(name)}`, signal, id)) {
          id = e.id;
          total++;
          times.push(performance.now());
          if (waiting.length === 0) requestAnimationFrame(flush);
          waiting.push({ ...e, at: new Date().toLocaleTimeString("en-GB") });
        }
      } catch (e) {
        if (signal.aborted || e.refused) return;
        if (e.status) toast(e.message, true);
      }
      await pause(2000, signal);
    }
  })();
  every(1000, signal, async () => {
    times = times.filter((t) => t > performance.now() - 10_000);
    speed.textContent = `${rate(times.length / 10)}/s`;
  });
  every(5000, signal, refresh);
}
