// A reply in words and figures: the summary, the table of detections, the bar of stage timings, the JSON text.

import { classColour } from "./draw.js";
import { byId, el } from "./dom.js";

const DEEPEST = 6; // the last of the depth tints of the style sheet

const milliseconds = (value) => `${value < 10 ? value.toFixed(2) : value.toFixed(1)} ms`;

/** "3 objects: 2 × person, 1 × dog", or what to change when there are none. */
export function summarise(detections, options) {
  if (!detections.length) {
    const filter = options.classes.length ? ` among ${options.classes.join(", ")}` : "";
    return `Nothing found${filter} with a confidence of ${options.confidence} or more. Lower the confidence${filter && " or clear the classes"} and look again.`;
  }
  const counts = new Map();
  detections.forEach(({ label }) => counts.set(label, (counts.get(label) ?? 0) + 1));
  const kinds = [...counts].sort((a, b) => b[1] - a[1]).map(([label, count]) => `${count}\u00a0×\u00a0${label}`);
  return `${detections.length} ${detections.length === 1 ? "object" : "objects"}: ${kinds.join(", ")}`;
}

/** The table of detections; `onPoint(index)` hears which row the pointer or the focus is on, -1 for none. */
export class DetectionTable {
  #rows = [];
  #body = byId("rows");
  #scroll = byId("rows-scroll");

  constructor(onPoint) {
    this.onPoint = onPoint;
    this.#body.addEventListener("keydown", (event) => this.#move(event));
    this.#body.addEventListener("pointerleave", () => this.onPoint(this.#focused()));
    this.#body.addEventListener("focusout", () => this.onPoint(-1));
  }

  show(detections) {
    this.#rows = detections.map((detection, index) => this.#row(detection, index));
    this.#body.replaceChildren(...this.#rows);
    this.#scroll.hidden = !detections.length;
    this.#scroll.scrollTop = 0;
  }

  /** Mark the row at `index` and bring it into the table's window. */
  mark(index) {
    this.#rows.forEach((row, at) => row.classList.toggle("marked", at === index));
    const row = this.#rows[index];
    if (!row) return;
    // Not scrollIntoView(): that would also scroll the page away from under the pointer.
    const head = this.#scroll.querySelector("thead").offsetHeight;
    const { scrollTop, clientHeight } = this.#scroll;
    if (row.offsetTop < scrollTop + head) this.#scroll.scrollTop = row.offsetTop - head;
    else if (row.offsetTop + row.offsetHeight > scrollTop + clientHeight) {
      this.#scroll.scrollTop = row.offsetTop + row.offsetHeight - clientHeight;
    }
  }

  // One tab stop for the whole table; the arrow keys move inside it.
  #row({ label, score, box, class_id: classId }, index) {
    const swatch = el("span", { class: "swatch", "aria-hidden": "true" });
    swatch.style.setProperty("--swatch", classColour(classId).fill);
    return el("tr", {
      tabindex: index === 0 ? 0 : -1,
      onfocus: () => this.onPoint(index),
      onpointerenter: () => this.onPoint(index),
    },
    el("th", { scope: "row" }, swatch, label),
    el("td", { class: "number" }, score.toFixed(2)),
    box.map((edge) => el("td", { class: "number" }, edge.toFixed(0))));
  }

  #focused() {
    return this.#rows.indexOf(document.activeElement);
  }

  #move(event) {
    const at = this.#focused();
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: this.#rows.length - 1 }[event.key];
    if (at < 0 || !this.#rows[to]) return;
    event.preventDefault();
    this.#rows[at].tabIndex = -1;
    this.#rows[to].tabIndex = 0;
    this.#rows[to].focus({ preventScroll: true });
  }
}

/** The stages as a stacked bar as long as the server's total, with the figures beneath and the sums above. */
export function showTimings(timings, roundTripMs) {
  const { total, ...stages } = timings ?? {};
  const named = Object.entries(stages).filter(([, value]) => Number.isFinite(value));
  const sum = named.reduce((before, [, value]) => before + value, 0);
  const whole = Math.max(total ?? sum, sum);
  const parts = named.map(([name, value], index) => ({ name, value, depth: Math.min(index, DEEPEST) }));
  if (whole - sum > 0.01 * whole) parts.push({ name: "other", value: whole - sum, depth: "rest" });
  byId("timings-bar").replaceChildren(...parts.map((part) => segment(part, whole)));
  byId("timings-list").replaceChildren(...parts.map(({ name, value, depth }) => figure(name, value, depth)));
  byId("timings-sums").replaceChildren(figure("on the server", whole), figure("round trip", roundTripMs));
}

function segment({ name, value, depth }, whole) {
  const part = el("span", { "data-depth": depth, title: `${name} ${milliseconds(value)}` });
  part.style.setProperty("--share", whole > 0 ? value / whole : 0);
  return part;
}

function figure(name, value, depth = null) {
  const key = depth === null ? null : el("span", { class: "key", "data-depth": depth, "aria-hidden": "true" });
  return el("div", {}, el("dt", {}, key, name), el("dd", {}, milliseconds(value)));
}
