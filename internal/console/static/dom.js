// Elements, numbers and times.

// h makes an element. Properties that begin with "on" are listeners, others attributes; false and null are left out.
export function h(tag, props, ...children) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (name.startsWith("on")) e.addEventListener(name.slice(2), value);
    else if (value === true) e.setAttribute(name, "");
    else if (value !== false && value != null) e.setAttribute(name, value);
  }
  e.append(...children.flat().filter((c) => c != null && c !== false));
  return e;
}

const whole = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 0 });
const parts = new Intl.NumberFormat("en-GB", { maximumSignificantDigits: 3 });

// count formats a number of things.
export const count = (n) => (n == null ? "–" : whole.format(n));

// rate formats a number per second.
export const rate = (n) => (n == null ? "–" : n >= 100 ? whole.format(n) : parts.format(n));

// bytes formats a number of bytes.
export function bytes(n) {
  if (n == null) return "–";
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (n < 1024 || unit === "GiB") return `${n < 100 ? parts.format(n) : whole.format(n)} ${unit}`;
    n /= 1024;
  }
}

// duration formats seconds.
export function duration(s) {
  if (s == null) return "–";
  if (s < 1) return `${parts.format(s * 1000)} ms`;
  if (s < 60) return `${parts.format(s)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${Math.floor(s % 60)} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

// short formats seconds by their largest unit.
const short = (s) => (s < 60 ? `${s} s` : s < 3600 ? `${Math.floor(s / 60)} min` : s < 86400 ? `${Math.floor(s / 3600)} h` : `${Math.floor(s / 86400)} d`);

const since = (time) => Math.max(0, Math.floor((Date.now() - Date.parse(time)) / 1000));

// brief is age, to its largest unit.
export const brief = (time) => short(since(time));

// age formats the time since a moment of the API.
export const age = (time) => duration(since(time));

// toast says what an action has come to.
export function toast(text, bad = false) {
  const t = h("p", { class: bad ? "toast bad" : "toast" }, text);
  document.getElementById("toasts").append(t);
  setTimeout(() => t.remove(), bad ? 10_000 : 4_000);
}

// complain says why figures cannot be had, unless their page was left, or a token is asked for instead.
export function complain(problem, signal) {
  if (!signal.aborted && !problem.refused) toast(problem.message, true);
}

// attempt does what an operator asked for, and says what came of it.
export async function attempt(doing, done) {
  try {
    const result = await doing();
    toast(typeof done === "function" ? done(result) : done);
    return true;
  } catch (e) {
    toast(e.message, true);
    return false;
  }
}

// confirmed asks before something that cannot be undone.
export function confirmed(question, verb) {
  return new Promise((resolve) => {
    const d = h("dialog", { "aria-labelledby": "question", onclose: () => { resolve(d.returnValue === "yes"); d.remove(); } },
      h("p", { id: "question" }, question),
      h("div", { class: "row end" },
        h("button", { type: "button", onclick: () => d.close("no") }, "Cancel"),
        h("button", { type: "button", class: "danger", onclick: () => d.close("yes") }, verb)));
    document.body.append(d);
    d.showModal();
  });
}

let ids = 0;

// field is an input with its label.
export function field(label, input) {
  input.id = `field-${++ids}`;
  return h("div", { class: input.type === "checkbox" ? "field check" : "field" }, h("label", { for: input.id }, label), input);
}

// every calls f now and then again and again, until the signal; never twice at a time.
export async function every(ms, signal, f) {
  while (!signal.aborted) {
    if (!document.hidden) await f();
    await pause(ms, signal);
  }
}

// pause waits, until the signal at the longest.
export function pause(ms, signal) {
  return new Promise((resolve) => {
    const end = () => { clearTimeout(timer); signal.removeEventListener("abort", end); resolve(); };
    const timer = setTimeout(end, ms);
    signal.addEventListener("abort", end);
  });
}

// card is a section with a heading.
export const card = (title, ...children) => h("section", { class: "card" }, h("h2", {}, title), ...children);

// heading begins a page: its title, and what stands beside it.
export const heading = (title, ...beside) => h("div", { class: "heading" }, h("h1", {}, title), ...beside);
