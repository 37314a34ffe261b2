// The event stream: opened, watched, opened again; and the words that say which.

import { byId, setText } from "./dom.js";
import { duration } from "./figures.js";

const SILENT_AFTER_MS = 12_000; // the server says something every 5 s
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 5000;
const WORDS = { connecting: "Connecting", live: "Live", lost: "Connection lost", ended: "Fleet stopped" };

/** Keep a stream open; `onOpen()` hears of each new one, `onSnapshot` and `onPoint` of what it brings. */
export class Connection {
  #source = null;
  #wait = FIRST_WAIT_MS;
  #heardAt = 0;
  #ended = false;
  #silence = 0;

  constructor({ onOpen, onSnapshot, onPoint }) {
    Object.assign(this, { onOpen, onSnapshot, onPoint });
  }

  open() {
    this.#source = new EventSource("events");
    const on = (name, act) => this.#source.addEventListener(name, (event) => {
      this.#heard();
      act(event);
    });
    on("open", () => { this.#wait = FIRST_WAIT_MS; this.#ended = false; this.onOpen(); });
    on("snapshot", (event) => { show("live"); this.onSnapshot(JSON.parse(event.data)); });
    on("point", (event) => this.onPoint(JSON.parse(event.data)));
    on("alive", () => show("live"));
    on("end", () => { this.#ended = true; this.#lose(); });
    this.#source.addEventListener("error", () => this.#lose());
    this.#heard(false);
  }

  // A machine that sleeps, or a tunnel that hangs, ends no connection: silence does.
  #heard(spoken = true) {
    if (spoken) this.#heardAt = Date.now();
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => this.#lose(), SILENT_AFTER_MS);
  }

  // A browser gives up for good when a reconnection is answered with an error; this does not.
  #lose() {
    if (!this.#source) return;
    clearTimeout(this.#silence);
    this.#source.close();
    this.#source = null;
    show(this.#ended ? "ended" : "lost", this.#heardAt);
    setTimeout(() => this.open(), this.#wait);
    this.#wait = Math.min(2 * this.#wait, LONGEST_WAIT_MS);
  }
}

function show(state, heardAt = 0) {
  document.body.dataset.stream = state;
  setText("stream-word", WORDS[state]);
  const trouble = state === "lost" || state === "ended";
  byId("lost").hidden = !trouble;
  if (!trouble) return;
  setText("lost-title", state === "ended" ? "The fleet was stopped" : heardAt ? "No word from the fleet" : "The fleet does not answer");
  const stale = heardAt ? "What you see is the last it said." : "";
  setText("lost-detail", `${stale} ${state === "ended" ? "This page goes on when it is started again on the same port." : "Trying again."}`.trim());
  const since = () => {
    if (byId("lost").hidden || !heardAt) return;
    setText("lost-since", `Last heard ${duration((Date.now() - heardAt) / 1000)} ago.`);
  };
  since();
  clearInterval(show.timer);
  show.timer = setInterval(since, 1000);
}
