// Scaling by hand, for those who came with the token.

import { byId, setText } from "./dom.js";
import { bounds } from "./overview.js";
import { counted } from "./figures.js";

const STORED_AS = "tidesight-fleet-token";
let token = "";
let edited = false; // until then the field follows the fleet

/** Take the token from the address, where it is after the # and so is sent to no server, and wire the form. */
export function wireScale() {
  token = fromAddress() || stored();
  byId("scale").hidden = !token;
  byId("no-token").hidden = Boolean(token);
  byId("scale").addEventListener("submit", (event) => {
    event.preventDefault();
    send(byId("count").valueAsNumber);
  });
  byId("count").addEventListener("input", () => { edited = true; });
  byId("hand-back").addEventListener("click", () => send(null));
}

/** Who decides, and within which bounds. */
export function showScale(snapshot) {
  const { pinned, wanted } = snapshot;
  setText("scale-state", pinned === null
    ? `The policy decides: ${counted(wanted, "instance")}.`
    : `Pinned by hand: ${counted(pinned, "instance")}. The policy is overruled.`);
  byId("hand-back").hidden = pinned === null;
  setText("bounds", bounds(snapshot));
  const input = byId("count");
  input.min = snapshot.least;
  if (snapshot.most !== null) input.max = snapshot.most;
  if (!edited) input.value = wanted;
}

async function send(wanted) {
  const [sent, problem] = await post(wanted);
  byId("scale-problem").hidden = sent;
  setText("scale-problem", problem);
  if (sent) edited = false;
}

async function post(wanted) {
  const headers = { "Content-Type": "application/json", "X-Tidesight-Token": token };
  try {
    const reply = await fetch("api/scale", { method: "POST", headers, body: JSON.stringify({ count: wanted }) });
    return reply.ok ? [true, ""] : [false, (await reply.json()).detail];
  } catch {
    return [false, "The fleet did not answer; nothing was changed."];
  }
}

function fromAddress() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token") ?? "";
  if (!given) return "";
  history.replaceState(null, "", location.pathname); // out of sight, and out of what is copied
  try {
    sessionStorage.setItem(STORED_AS, given);
  } catch { /* a browser that keeps nothing: until the page is left, then */ }
  return given;
}

function stored() {
  try {
    return sessionStorage.getItem(STORED_AS) ?? "";
  } catch {
    return "";
  }
}
