// The frame of the console: pages by the fragment of the address, the token, and whether the figures are live.

import { h, toast } from "./dom.js";
import { setToken, hasToken } from "./api.js";
import { begin, watch } from "./live.js";
import { overview } from "./overview.js";
import { connections, connection } from "./connections.js";
import { topics, topic } from "./topics.js";
import { relayed } from "./relayed.js";
import { nodes } from "./nodes.js";
import { tester } from "./tester.js";

const pages = [
  { path: "", title: "Overview", show: overview },
  { path: "connections", title: "Connections", show: connections, one: connection },
  { path: "topics", title: "Topics", show: topics, one: topic },
  { path: "relayed", title: "Relayed answers", show: relayed },
  { path: "nodes", title: "Nodes", show: nodes },
  { path: "tester", title: "Stream tester", show: tester },
];

const main = document.getElementById("main");
const nav = document.getElementById("nav");
nav.append(...pages.map((p) => h("a", { href: `#/${p.path}` }, p.title)));
let leaving = new AbortController();

function show() {
  const [, path = "", rest] = location.hash.match(/^#\/([a-z]*)(?:\/(.*))?$/s) ?? [];
  const i = Math.max(0, pages.findIndex((p) => p.path === path));
  leaving.abort();
  leaving = new AbortController();
  [...nav.children].forEach((a, n) => (n === i ? a.setAttribute("aria-current", "page") : a.removeAttribute("aria-current")));
  nav.children[i].scrollIntoView({ block: "nearest", inline: "nearest" });
  document.title = `${pages[i].title} – SSE Gateway`;
  main.replaceChildren();
  if (rest && pages[i].one) pages[i].one(main, leaving.signal, decodeURIComponent(rest));
  else pages[i].show(main, leaving.signal);
}

// askToken shows a form in place of the page.
function askToken(problem) {
  if (main.querySelector(".token")) return;
  leaving.abort();
  const wrong = hasToken() && problem.status === 401;
  setToken("");
  const input = h("input", { type: "password", id: "token", autocomplete: "off", required: true });
  main.replaceChildren(h("form", { class: "card token", onsubmit: (e) => { e.preventDefault(); setToken(input.value.trim()); start(); } },
    h("h1", {}, problem.status === 401 ? "This gateway asks for a token" : "This gateway does not answer you"),
    h("p", { class: problem.status === 403 || wrong ? "bad" : "" }, problem.status === 403 ? problem.message : wrong ? "It does not know that token." : "It is the INTERNAL_TOKEN of its settings. This tab keeps it until you close it."),
    problem.status === 401 && h("label", { for: "token" }, "Token"),
    problem.status === 401 && input,
    problem.status === 401 && h("button", { class: "primary" }, "Continue")));
  input.focus();
}

function start() {
  show();
  begin();
}

const lamp = document.getElementById("live");
watch((points, failure) => {
  lamp.textContent = failure ? "Not connected" : points.length ? "Live" : "Connecting";
  lamp.className = `live ${failure ? "off" : points.length ? "on" : ""}`;
  lamp.title = failure?.message ?? "";
}, new AbortController().signal);

document.addEventListener("refused", (e) => askToken(e.detail));
addEventListener("hashchange", () => { if (location.hash !== "#main") { show(); main.focus({ preventScroll: true }); scrollTo(0, 0); } });
document.querySelector(".skip").addEventListener("click", (e) => { e.preventDefault(); main.focus(); });
addEventListener("unhandledrejection", (e) => { if (e.reason?.name === "AbortError") e.preventDefault(); else if (e.reason?.status !== undefined) { e.preventDefault(); if (!e.reason.refused) toast(e.reason.message, true); } });
start();
