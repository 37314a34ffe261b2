// What the policy decided, and why; and what has just happened, for those who listen.

import { byId, el, setText } from "./dom.js";
import { clock } from "./figures.js";

const MOST_SHOWN = 50;
const MOST_KEPT = 500;
const SPOKEN_EVERY_MS = 3000;

/** Decisions from what the server remembers and from each snapshot, each once, newest first. */
export class Decisions {
  all = [];
  #shown = "";

  add(decisions) {
    const known = new Set(this.all.map(key));
    const news = decisions.filter((decision) => !known.has(key(decision)));
    if (news.length) this.all = [...news, ...this.all].sort((a, b) => b.at_s - a.at_s).slice(0, MOST_KEPT);
    this.#show();
  }

  clear() {
    this.all = [];
    this.#show();
  }

  #show() {
    const shown = this.all.slice(0, MOST_SHOWN);
    const keys = shown.map(key).join();
    if (keys === this.#shown) return;
    this.#shown = keys;
    byId("no-decisions").hidden = shown.length > 0;
    byId("decisions").hidden = !shown.length;
    byId("decisions").replaceChildren(...shown.map(item));
  }
}

/** ▲, ▼ or what else came of it. */
export function sign({ current, desired, valid }) {
  if (!valid) return "?";
  return desired > current ? "▲" : desired < current ? "▼" : "=";
}

function item(decision) {
  const { at_s: at, current, desired, reason, detail, valid } = decision;
  const change = valid ? `${current} → ${desired}` : "undecided";
  return el("li", { "data-sign": sign(decision) },
    el("time", { class: "number" }, clock(at)),
    el("b", {}, el("span", { class: "sign", "aria-hidden": "true" }, sign(decision)), ` ${change}`),
    el("span", { class: "reason" }, reason),
    detail && el("span", { class: "detail" }, detail));
}

function key({ at_s: at, current, desired, reason }) {
  return `${at} ${current} ${desired} ${reason}`;
}

/** Says changes of state aloud, together, every few seconds at most. */
export class Announcer {
  #before = null;
  #said = [];
  #timer = 0;

  hear(snapshot) {
    const before = this.#before;
    this.#before = snapshot;
    if (!before || snapshot.at_s < before.at_s) return;
    const states = new Map(before.instances.map(({ id, state }) => [id, state]));
    snapshot.instances.filter(({ id, state }) => states.get(id) !== state).forEach(({ id, state }) => this.#say(`${id} ${state}`));
    if (snapshot.wanted !== before.wanted) this.#say(`${snapshot.wanted} wanted`);
    const waiting = new Set(before.back_offs.map(({ slot }) => slot));
    snapshot.back_offs.filter(({ slot }) => !waiting.has(slot)).forEach(({ slot, why }) => this.#say(`place ${slot} waits: ${why}`));
  }

  #say(text) {
    this.#said.push(text);
    this.#timer ||= setTimeout(() => {
      const rest = this.#said.length - 6;
      setText("announcements", this.#said.slice(0, 6).join(", ") + (rest > 0 ? ` and ${rest} more changes` : ""));
      this.#said = [];
      this.#timer = 0;
    }, SPOKEN_EVERY_MS);
  }
}
