// What runs, and the figures of the moment.

import { byId, el, setText } from "./dom.js";
import { count, counted, dollars, duration, latency, share } from "./figures.js";

const PATHS = { instances: "straight to the instances", activator: "by way of the activator, which holds requests" };

export function showOverview(snapshot) {
  const { front } = snapshot;
  setText("uptime", `for ${duration(snapshot.at_s)}`);
  setText("platform", snapshot.platform);
  setText("setup-rest", `instances of ${snapshot.instance_class}, policy: ${snapshot.policy}`);
  setText("url", snapshot.url);
  setText("path", PATHS[front.path] ?? front.path);
  setText("enforced", snapshot.enforced);
  // Anything but a web address would be a mistake, and might be run by a click.
  if (/^https?:\/\//.test(snapshot.url)) byId("playground").setAttribute("href", snapshot.url);
  const ready = snapshot.instances.filter(({ state }) => state === "ready").length;
  document.title = `${ready} of ${snapshot.wanted} ready · Tidesight fleet`;
  figure("ready", `${ready} of ${snapshot.wanted}`, bounds(snapshot), ready < snapshot.wanted);
  showRequests(front);
  showWaiting(snapshot);
  showCost(snapshot.cost);
}

/** The bounds in words: `1 to 8 allowed`. */
export function bounds({ least, most }) {
  return most === null ? `${least} or more allowed` : `${least} to ${most} allowed`;
}

function showRequests(front) {
  const rates = front.answered_per_s;
  const answering = Object.values(rates).reduce((sum, rate) => sum + rate, 0);
  figure("offered", `${count(front.offered_per_s)}/s`, answering ? `${share(rates["2xx"] ?? 0, answering)} answered well` : "none answered now");
  figure("latency", latency(front.p95_ms), front.p50_ms === null ? "no answers now" : `p50 ${latency(front.p50_ms)}, p99 ${latency(front.p99_ms)}`);
  const all = Object.values(front.answered).reduce((sum, n) => sum + n, 0);
  const kinds = ["4xx", "5xx"].map((kind) => `${count(front.answered[kind] ?? 0)} × ${kind}`);
  const events = [front.retries && `${count(front.retries)} tried again`, front.restarts && `Envoy restarted ${front.restarts} ×`];
  figure("failed", count(all), [...kinds, ...events].filter(Boolean).join(", "), (rates["5xx"] ?? 0) > 0);
}

function showWaiting({ front, instances }) {
  const queued = instances.reduce((sum, one) => sum + (one.queued ?? 0), 0);
  const held = front.held ? `${count(front.held)} held by the activator, the first for ${duration(front.held_oldest_s)}` : "none held by the activator";
  figure("waiting", count(front.held + queued), `of ${counted(front.active, "request")} inside; ${held}`, front.held > 0);
}

function showCost(cost) {
  if (!cost) {
    figure("cost", "–", "no prices for this platform");
    return;
  }
  const per = cost.usd_per_thousand === null ? "" : `, ${dollars(cost.usd_per_thousand)} for 1000 good answers`;
  figure("cost", dollars(cost.usd), `${dollars(cost.usd_per_hour)}/h now${per}; prices of ${cost.prices_of}`);
}

function figure(name, value, note, marked = false) {
  const box = byId(`figure-${name}`);
  box.classList.toggle("marked", marked);
  [["b", value], ["span", note]].forEach(([tag, text]) => {
    const part = box.querySelector(`dd ${tag}`);
    if (part.textContent !== text) part.textContent = text;
  });
}

/** Places that wait before they are filled again; `Announcer` says it aloud, once and without the countdown. */
export function showBackOffs(backOffs) {
  byId("back-offs").hidden = !backOffs.length;
  const list = byId("back-off-list");
  list.replaceChildren(...backOffs.map(({ slot, crashes, retry_in_s: retry, why }) => el("li", {},
    el("strong", {}, `Place ${slot}`), ` crashed ${crashes === 1 ? "once" : `${crashes} times in a row`}: ${why} `,
    el("span", { class: "quiet" }, retry > 0 ? `Next try in ${duration(retry)}.` : "Trying now."))));
}
