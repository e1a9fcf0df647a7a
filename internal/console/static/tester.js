// The stream tester: one stream as its bytes come, and as a client takes them.

import { h, heading, card, field, count, bytes, duration } from "./dom.js";
import { Parser, text } from "./api.js";

const kept = 100_000; // characters of the raw text that are shown

export function tester(main, signal) {
  const method = h("select", {}, ["GET", "POST"].map((m) => h("option", {}, m)));
  const path = h("input", { value: "/", required: true, autocomplete: "off", spellcheck: "false" });
  const id = h("input", { autocomplete: "off", spellcheck: "false" });
  const body = h("textarea", { rows: "2", spellcheck: "false" });
  const go = h("button", { class: "primary" }, "Open"), stop = h("button", { type: "button", disabled: true, onclick: () => running?.abort() }, "Stop");
  const told = h("p", { class: "quiet", role: "status" }, "Opens a stream of this listener, without your token.");
  const raw = h("pre", { class: "raw", tabindex: "0", role: "region", "aria-label": "Raw bytes" });
  const list = h("ol", { class: "events", tabindex: "0", "aria-label": "Parsed events" });
  const content = field("Body, as JSON", body);
  content.hidden = true;
  method.addEventListener("change", () => { content.hidden = method.value === "GET"; });
  main.append(heading("Stream tester"),
    h("form", { class: "card stack", onsubmit: (e) => { e.preventDefault(); open(); } },
      h("div", { class: "row fields" }, field("Method", method), field("Path", path), field("Last-Event-ID", id), h("div", { class: "row" }, go, stop)), content),
    told, h("div", { class: "two" }, card("Raw bytes", raw), card("Parsed events", list)));
  let running = null;
  signal.addEventListener("abort", () => running?.abort(), { once: true });

  async function open() {
    running?.abort();
    const mine = (running = new AbortController());
    raw.textContent = "";
    list.replaceChildren();
    go.disabled = true;
    stop.disabled = false;
    const began = performance.now(), parser = new Parser();
    let events = 0, size = 0, status = "";
    const say = (end) => { told.textContent = `${status}${count(events)} events, ${bytes(size)}, ${duration((performance.now() - began) / 1000)}${end ? `: ${end}` : ""}`; };
    try {
      const url = new URL(path.value, location.origin);
      if (url.origin !== location.origin) throw new Error("only paths of this listener can be opened");
      const headers = { Accept: "text/event-stream", ...(id.value && { "Last-Event-ID": id.value }), ...(method.value === "POST" && { "Content-Type": "application/json" }) };
      const r = await fetch(url, { method: method.value, headers, signal: mine.signal, cache: "no-store", credentials: "omit", ...(method.value === "POST" && { body: body.value }) });
      status = `${r.status} ${r.headers.get("Content-Type") ?? ""}: `;
      for await (const piece of text(r)) {
        size += new TextEncoder().encode(piece).length;
        const near = raw.scrollHeight - raw.scrollTop - raw.clientHeight < 40;
        raw.append(piece);
        if (raw.textContent.length > kept) raw.textContent = raw.textContent.slice(-kept / 2);
        if (near) raw.scrollTop = raw.scrollHeight;
        for (const e of parser.push(piece)) {
          events++;
          list.append(h("li", {}, h("span", { class: "quiet" }, `${duration((performance.now() - began) / 1000)} ${e.name}${e.id && ` id ${e.id}`}`), h("code", {}, e.data.slice(0, 2000))));
        }
        while (list.children.length > 500) list.firstChild.remove();
        say();
      }
      say("it has ended");
    } catch (e) {
      say(mine.signal.aborted ? "stopped" : e.message);
    }
    if (running === mine) {
      go.disabled = false;
      stop.disabled = true;
    }
  }
}
