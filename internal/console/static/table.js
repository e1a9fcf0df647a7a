// A table of any number of rows, of which only those that can be seen are in the document.

import { h } from "./dom.js";

const height = 36; // of a row in pixels, as in style.css
const around = 10; // rows beyond those that can be seen

// table makes one. Each column has a title, text(row) or cell(row), optionally value(row) to sort by, class for its width, and
// right for numbers, the largest of which come first. sort is the column that it begins with. href(row) is where the first cell leads.
export function table({ label, columns, href, empty, sort }) {
  let rows = [], shown = [], by = sort ?? null, down = Boolean(columns[sort]?.right), active = 0;
  const drawn = new Map();
  const heads = columns.map((c, i) => h("div", { role: "columnheader", class: cls(c) },
    c.value ? h("button", { type: "button", onclick: () => order(i) }, c.title) : c.title));
  const space = h("div", { class: "space", role: "presentation" });
  const scroller = h("div", { class: "scroller", role: "rowgroup", tabindex: "0", "aria-label": `${label}, rows`, onscroll: () => requestAnimationFrame(draw), onkeydown: move }, space);
  const nothing = h("p", { class: "empty", hidden: true }, empty ?? "Nothing here.");
  const element = h("div", { class: "table", role: "table", "aria-label": label },
    h("div", { role: "rowgroup" }, h("div", { class: "tr head", role: "row", "aria-rowindex": "1" }, heads)), scroller);
  const wrapped = h("div", { class: "tablebox" }, element, nothing);
  const head = element.firstChild.firstChild;
  new ResizeObserver(() => {
    head.style.setProperty("--bar", `${scroller.offsetWidth - scroller.clientWidth}px`); // the scroll bar's width
    draw();
  }).observe(scroller);

  function cls(c) { return `td ${c.class ?? ""}${c.right ? " right" : ""}`; }

  function order(i) {
    down = by === i ? !down : Boolean(columns[i].right);
    by = i;
    arrange();
  }

  function arrange() {
    shown = rows;
    if (by != null) {
      const of = columns[by].value;
      shown = rows.toSorted((a, b) => { const x = of(a), y = of(b); return (x < y ? -1 : x > y ? 1 : 0) * (down ? -1 : 1); });
    }
    heads.forEach((e, i) => (i === by ? e.setAttribute("aria-sort", down ? "descending" : "ascending") : e.removeAttribute("aria-sort")));
    element.setAttribute("aria-rowcount", shown.length + 1);
    space.style.height = `${shown.length * height}px`;
    nothing.hidden = shown.length > 0;
    element.hidden = shown.length === 0;
    active = Math.min(active, Math.max(0, shown.length - 1));
    const focused = [...drawn].find(([, e]) => e.contains(document.activeElement))?.[0];
    for (const e of drawn.values()) e.remove();
    drawn.clear();
    draw();
    if (focused != null) drawn.get(focused)?.querySelector("a, button")?.focus({ preventScroll: true });
  }

  function draw() {
    const first = Math.max(0, Math.floor(scroller.scrollTop / height) - around);
    const last = Math.min(shown.length, Math.ceil((scroller.scrollTop + scroller.clientHeight) / height) + around);
    for (const [i, e] of drawn) if (i < first || i >= last) { e.remove(); drawn.delete(i); }
    for (let i = first; i < last; i++) {
      if (drawn.has(i)) continue;
      const e = line(shown[i], i);
      drawn.set(i, e);
      space.append(e);
    }
  }

  function line(row, i) {
    const cells = columns.map((c, n) => {
      const content = c.cell ? c.cell(row) : c.text(row);
      const title = c.cell ? null : content;
      return h("div", { role: "cell", class: cls(c), title }, n === 0 && href ? h("a", { href: href(row), tabindex: i === active ? "0" : "-1" }, content) : content);
    });
    const e = h("div", { class: "tr", role: "row", "aria-rowindex": i + 2 }, cells);
    e.style.transform = `translateY(${i * height}px)`;
    return e;
  }

  // The arrow keys go from row to row, Page Up and Down by what can be seen.
  function move(event) {
    const page = Math.max(1, Math.floor(scroller.clientHeight / height) - 1);
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity }[event.key];
    if (step === undefined || !shown.length || !href) return;
    event.preventDefault();
    const began = scroller.contains(document.activeElement) && document.activeElement !== scroller;
    active = Math.max(0, Math.min(shown.length - 1, began || Math.abs(step) > 1 ? active + step : active));
    const top = active * height;
    if (top < scroller.scrollTop) scroller.scrollTop = top;
    else if (top + height > scroller.scrollTop + scroller.clientHeight) scroller.scrollTop = top + height - scroller.clientHeight;
    draw();
    drawn.get(active)?.querySelector("a")?.focus({ preventScroll: true });
  }

  return { element: wrapped, show(list) { rows = list; arrange(); } };
}
