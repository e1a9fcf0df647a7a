// One plot: uPlot, with the colours of the page.

import { h } from "./dom.js";

/* global uPlot */

const sync = uPlot.sync("console");
const powers = Array.from({ length: 45 }, (_, i) => 2 ** i); // steps of an axis of bytes
const steps = [5, 10, 15, 30, 60, 120, 180, 300]; // of an axis of time, in seconds
const dark = matchMedia("(prefers-color-scheme: dark)");

// alone gives the moments of a series that no line would show, since their neighbours are not known.
const alone = (u, i) => u.data[i].flatMap((v, n, all) => (v != null && all[n - 1] == null && all[n + 1] == null ? [n] : []));

// plot makes a card with a plot of some series, each with a label and a function that gives its values of the points. It returns
// the card and a function that shows points.
export function plot({ title, series, format, binary, signal }) {
  const frame = h("div", { class: "plot", "aria-hidden": "true" });
  const legend = h("dl", { class: "legend" });
  const values = series.map(() => h("dd", {}, "–"));
  series.forEach((s, i) => legend.append(h("div", {}, h("dt", {}, h("i", { class: `s${i + 1}` }), s.label), values[i])));
  const element = h("section", { class: "card chart" }, h("h2", {}, title), legend, frame);
  let chart, data = [[], ...series.map(() => [])];

  const say = (at) => values.forEach((v, i) => { v.textContent = format(at == null ? data[i + 1].at(-1) : data[i + 1][at]); });
  const width = () => Math.max(160, frame.clientWidth);

  function draw() {
    chart?.destroy();
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--grid"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    chart = new uPlot({
      width: width(), height: 150, legend: { show: false }, padding: [8, 22, 0, 0],
      cursor: { sync: { key: sync.key }, y: false, drag: { x: false, y: false }, points: { size: 6 } },
      scales: {
        x: { time: true, range: (u, min, max) => [max - Math.min(900, Math.max(120, max - min)), max] },
        y: { range: (u, min, max) => [0, max > 0 ? max * 1.15 : 1] },
      },
      axes: [
        { ...axis, size: 24, space: 70, incrs: steps, values: (u, ticks, i, space, step) => ticks.map((t) => new Date(t * 1000).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", second: step < 60 ? "2-digit" : undefined })) },
        { ...axis, size: 66, ...(binary && { incrs: powers }), values: (u, ticks) => ticks.map((v) => format(v)) },
      ],
      series: [{}, ...series.map((s, i) => ({
        label: s.label, stroke: colour(`--s${i + 1}`), width: 1.5, spanGaps: false, points: { show: true, size: 4, filter: alone },
        fill: series.length === 1 ? colour("--fill") : undefined,
      }))],
      hooks: { setCursor: [(u) => say(u.cursor.idx)] },
    }, data, frame);
  }

  const resized = new ResizeObserver(() => chart?.setSize({ width: width(), height: 150 }));
  resized.observe(frame);
  dark.addEventListener("change", draw, { signal });
  signal.addEventListener("abort", () => { resized.disconnect(); chart?.destroy(); }, { once: true });

  return {
    element,
    show(points) {
      data = [points.map((p) => Date.parse(p.time) / 1000), ...series.map((s) => s.of(points))];
      if (!chart) draw();
      else chart.setData(data);
      say(chart.cursor.idx);
    },
  };
}
