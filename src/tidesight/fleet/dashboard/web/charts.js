// The charts: Plotly draws them from the page's columns, about once a second.

import { byId, el } from "./dom.js";
import { count, latency, memory } from "./figures.js";
import { sign } from "./decisions.js";

const DRAWN_EVERY_MS = 900;
const LEAST_SPAN_S = 60;
const HEIGHT_PX = 190;
const SYMBOLS = { "▲": "triangle-up", "▼": "triangle-down", "=": "circle-open", "?": "x-thin-open" };
const mib = (bytes) => (bytes === null ? null : bytes / 2 ** 20);
const rate = (value) => `${count(value)}/s`;

// Each line: column, name, colour (a custom property), how its figure reads, and what else Plotly is to do with it.
const CHARTS = [
  { id: "requests", title: "Requests per second", lines: [
    ["answered_2xx_per_s", "2xx", "--good", rate, { stackgroup: "answered" }],
    ["answered_4xx_per_s", "4xx", "--warm", rate, { stackgroup: "answered", pattern: "/" }],
    ["answered_5xx_per_s", "5xx", "--notice", rate, { stackgroup: "answered", pattern: "x" }],
    ["offered_per_s", "offered", "--ink", rate, { dash: "dot", width: 1.5 }],
  ] },
  { id: "latency", title: "Latency, ms", lines: [
    ["p50_ms", "p50", "--chart-1", latency, {}],
    ["p95_ms", "p95", "--chart-2", latency, { dash: "dash" }],
    ["p99_ms", "p99", "--notice", latency, { dash: "dot" }],
  ] },
  { id: "instances-chart", title: "Instances", counts: true, decisions: true, lines: [
    ["ready", "ready", "--good", count, { shape: "hv", stackgroup: "up" }],
    ["starting", "starting", "--chart-1", count, { shape: "hv", stackgroup: "up", pattern: "/" }],
    ["draining", "draining", "--warm", count, { shape: "hv", dash: "dash", unlessZero: true }],
    ["wanted", "wanted", "--ink", count, { shape: "hv", dash: "dot", width: 1.5 }],
  ] },
  { id: "waiting", title: "Requests inside", counts: true, lines: [
    ["active", "in the fleet", "--chart-1", count, {}],
    ["held", "held by the activator", "--notice", count, { dash: "dash", unlessZero: true }],
    ["queued", "queued in instances", "--chart-2", count, { dash: "dot", unlessZero: true }],
  ] },
  { id: "cpu", title: "CPUs in use", lines: [["cpu", "all instances", "--chart-1", count, { fill: "tozeroy" }]] },
  { id: "memory", title: "Memory in use, MiB", lines: [
    ["memory_bytes", "all instances", "--chart-2", memory, { fill: "tozeroy", scale: mib }],
  ] },
];

/** All charts; drawn are those that can be seen, once `load` has come to its end. */
export class Charts {
  #plotly = null;
  #drawnAt = 0;
  #timer = 0;
  #data = null;
  #span_s = 180;
  #plots = CHARTS.map((chart) => ({ chart, seen: false, ...frame(chart) }));

  constructor() {
    // A drawing takes some 10 ms of each chart: those that were scrolled away can do without.
    const watcher = new IntersectionObserver((entries) => entries.forEach(({ target, isIntersecting }) => {
      const plot = this.#plots.find(({ figure }) => figure === target);
      plot.seen = isIntersecting;
      if (isIntersecting) this.#draw([plot]);
    }), { rootMargin: "100px" });
    this.#plots.forEach(({ figure }) => watcher.observe(figure));
    byId("charts").append(...this.#plots.map(({ figure }) => figure));
    document.querySelectorAll('input[name="span"]').forEach((input) => {
      if (input.checked) this.#span_s = Number(input.value);
      input.addEventListener("change", () => { this.#span_s = Number(input.value); this.#drawAll(); });
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#drawAll());
    document.addEventListener("visibilitychange", () => this.#drawAll());
  }

  /** Fetch Plotly after the rest of the page is there; `onLoad()` hears that it is. */
  load(onLoad) {
    const script = el("script", { src: "plotly.min.js", onload: () => { this.#plotly = window.Plotly; onLoad(); }, onerror: () => {
      byId("charts-problem").hidden = false;
      byId("charts-problem").textContent = "The charts' script did not load; reload the page. The figures are right without it.";
    } });
    document.head.append(script);
  }

  show(columns, decisions) {
    this.#data = { columns, decisions };
    showLegends(this.#plots, columns);
    const wait = this.#drawnAt + DRAWN_EVERY_MS - Date.now();
    if (wait <= 0) this.#drawAll();
    else this.#timer ||= setTimeout(() => this.#drawAll(), wait);
  }

  #drawAll() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#drawnAt = Date.now();
    this.#draw(this.#plots.filter(({ seen }) => seen));
  }

  #draw(plots) {
    const times = this.#data?.columns.at_s;
    if (!this.#plotly || !times?.length || document.hidden) return;
    const colours = palette();
    const last = times.at(-1);
    const first = Math.max(last - this.#span_s, Math.min(times[0], last - LEAST_SPAN_S));
    plots.forEach(({ chart, canvas }) => {
      const data = traces(chart, this.#data, colours, first);
      const options = { displayModeBar: false, responsive: true, scrollZoom: false, doubleClick: false, showTips: false };
      this.#plotly.react(canvas, data, layout(chart, colours, [first, last]), options);
    });
  }
}

function frame({ id, title, lines }) {
  const values = Object.fromEntries(lines.map(([column]) => [column, el("b", { class: "number" })]));
  const legend = el("ul", { class: "legend" }, lines.map(([column, name, colour, , style]) => {
    const key = el("span", { class: "key", "aria-hidden": "true", "data-dash": style.dash ?? "solid", "data-fill": style.pattern ?? (style.stackgroup || style.fill ? "plain" : null) });
    key.style.setProperty("--key", `var(${colour})`);
    return el("li", {}, key, name, " ", values[column]);
  }));
  const canvas = el("div", { class: "plot", id: `plot-${id}`, role: "img", "aria-label": `${title} over time; the latest figures are above` });
  const figure = el("figure", { class: "panel chart", id }, el("figcaption", {}, el("h3", {}, title), legend), canvas);
  return { figure, canvas, values };
}

function showLegends(plots, columns) {
  plots.forEach(({ chart, values }) => chart.lines.forEach(([column, , , text]) => {
    const latest = text(columns[column]?.at(-1) ?? null);
    if (values[column].textContent !== latest) values[column].textContent = latest;
  }));
}

function palette() {
  const style = getComputedStyle(document.documentElement);
  return (name) => style.getPropertyValue(name).trim();
}

// Times are seconds since the fleet started; as dates they get a clock's ticks. Not from 1970 on: Plotly would take small
// numbers for years.
const MIDNIGHT_MS = Date.UTC(2000, 0, 1);
const asDates = (times) => times.map((at_s) => MIDNIGHT_MS + 1000 * at_s);

function traces({ lines, decisions: marked }, { columns, decisions }, colours, first) {
  const from = Math.max(0, columns.at_s.findIndex((at_s) => at_s >= first) - 1);
  const x = asDates(columns.at_s.slice(from));
  const drawn = lines.map(([column, name, colour, text, style]) => {
    const values = columns[column].slice(from);
    return {
      type: "scatter", mode: "lines", name, x, y: style.scale ? values.map(style.scale) : values, connectgaps: false,
      line: { color: colours(colour), width: style.width ?? (style.pattern ? 0 : 2), dash: style.dash ?? "solid", shape: style.shape ?? "linear" },
      stackgroup: style.stackgroup, fill: style.fill,
      fillcolor: style.stackgroup || style.fill ? faded(colours(colour)) : undefined,
      fillpattern: style.pattern ? { shape: style.pattern, size: 6, solidity: 0.3, fgcolor: colours(colour), bgcolor: faded(colours(colour)) } : undefined,
      text: values.map(text), hovertemplate: "%{text}",
      visible: !style.unlessZero || values.some((value) => value > 0), // a line along the axis would only hide it
    };
  });
  return marked ? [...drawn, markers(decisions.filter(({ at_s: at }) => at >= first), colours)] : drawn;
}

function markers(decisions, colours) {
  return {
    type: "scatter", mode: "markers", name: "decision", x: asDates(decisions.map(({ at_s: at }) => at)), y: decisions.map(({ desired }) => desired),
    marker: { symbol: decisions.map((one) => SYMBOLS[sign(one)]), size: 11, color: colours("--accent"), line: { width: 1.5, color: colours("--panel") } },
    text: decisions.map(({ current, desired, reason, valid }) => (valid ? `${current} → ${desired}, ${reason}` : `undecided, ${reason}`)), hovertemplate: "%{text}",
  };
}

function faded(colour) {
  return /^#[\da-f]{6}$/i.test(colour) ? `${colour}38` : colour;
}

function layout({ counts }, colours, [first, last]) {
  const axis = { color: colours("--quiet"), gridcolor: colours("--line"), linecolor: colours("--line"), zeroline: false, fixedrange: true, tickfont: { size: 11 } };
  return {
    height: HEIGHT_PX, margin: { l: 42, r: 6, t: 8, b: 24 }, autosize: true, showlegend: false, dragmode: false, hovermode: "x unified",
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { family: colours("--text"), color: colours("--ink"), size: 12 },
    hoverlabel: { bgcolor: colours("--panel"), bordercolor: colours("--line"), font: { color: colours("--ink"), size: 12 } },
    xaxis: { ...axis, type: "date", range: asDates([first, last]), tickformat: "%-H:%M:%S", hoverformat: "%-H:%M:%S", nticks: 5, showgrid: false, showline: true },
    yaxis: { ...axis, rangemode: "tozero", nticks: 4, autorangeoptions: { include: [0, counts ? 2 : 0.1] }, tickformat: counts ? "d" : undefined },
  };
}
