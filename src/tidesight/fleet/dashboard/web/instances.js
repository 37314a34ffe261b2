// The table of instances; on a phone each row is a card.

import { byId, el, setText } from "./dom.js";
import { count, duration, latency, memory } from "./figures.js";

const MOST_ROWS = 100;
const ORDER = ["ready", "starting", "draining", "crashed", "stopped"]; // each has a sign in fleet.css

const COLUMNS = [
  ["state", "State", ({ state }) => state],
  ["id", "Instance", ({ id }) => id],
  ["age", "For", ({ since_s: since }) => duration(since)],
  ["cpu", "CPU", ({ cpu }) => count(cpu)],
  ["memory", "Memory", ({ memory_bytes: bytes }) => memory(bytes)],
  ["in-flight", "In flight", ({ in_flight: inside }) => count(inside)],
  ["queued", "Queued", ({ queued }) => count(queued)],
  ["answered", "Answers/s", ({ answered_per_s: rate }) => count(rate)],
  ["start", "Start-up", ({ start_s: start, how }) => [start === null ? "" : latency(1000 * start), how].filter(Boolean).join(", ")],
  ["pid", "Process", ({ pid }) => (pid === null ? "–" : String(pid))],
  ["reason", "Why", ({ reason }) => reason],
];

/** Shows instances; rows stay the same elements, so that what is selected or read stays. */
export class InstanceTable {
  #rows = new Map();
  #body = byId("instance-rows");

  constructor() {
    byId("instances-head").append(el("tr", {}, COLUMNS.map(([key, title]) => el("th", { scope: "col", class: key }, title))));
  }

  show(instances) {
    const shown = [...instances].sort(byState).slice(0, MOST_ROWS);
    const keep = new Set(shown.map(({ id }) => id));
    [...this.#rows.keys()].filter((id) => !keep.has(id)).forEach((id) => { this.#rows.get(id).row.remove(); this.#rows.delete(id); });
    shown.forEach((instance, at) => this.#place(instance, at));
    const more = instances.length - shown.length;
    byId("more-instances").hidden = more <= 0;
    setText("more-instances", `and ${more} more`);
    setText("instances-summary", summary(instances));
  }

  #place(instance, at) {
    if (!this.#rows.has(instance.id)) this.#rows.set(instance.id, make());
    const { row, cells } = this.#rows.get(instance.id);
    row.dataset.state = instance.state;
    COLUMNS.forEach(([key, , text]) => {
      const value = text(instance);
      if (cells[key].textContent !== value) cells[key].textContent = value;
    });
    if (this.#body.children[at] !== row) this.#body.insertBefore(row, this.#body.children[at] ?? null);
  }
}

function make() {
  const cells = {};
  const row = el("tr", {}, COLUMNS.map(([key, title]) => {
    cells[key] = el("span", { class: "value" });
    return el(key === "id" ? "th" : "td", { class: key, scope: key === "id" ? "row" : null, "data-title": title }, cells[key]);
  }));
  return { row, cells };
}

function byState(a, b) {
  return ORDER.indexOf(a.state) - ORDER.indexOf(b.state) || a.slot - b.slot || (a.id < b.id ? -1 : 1);
}

/** `3 ready, 1 starting` */
export function summary(instances) {
  const counts = ORDER.map((state) => [instances.filter((one) => one.state === state).length, state]);
  return counts.filter(([n]) => n).map(([n, state]) => `${n} ${state}`).join(", ") || "none";
}
