// The API key, on an instance that wants one: asked for when it is missed, and kept in this tab alone.

import { byId } from "./dom.js";

const STORED_AS = "tidesight-api-key";
let key = stored();
let missed = false;

/** The headers that carry the key; none without one. */
export function keyHeaders() {
  return key ? { "X-API-Key": key } : {};
}

/** Whether a command that repeats a request needs a key. */
export function keyWanted() {
  return missed || Boolean(key);
}

/** Wire the form; `onKey()` hears that there is a new key to try. */
export function wireKeyForm(onKey) {
  byId("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    key = byId("key").value;
    byId("key").value = "";
    try {
      sessionStorage.setItem(STORED_AS, key);
    } catch { /* a browser that keeps nothing: until the page is left, then */ }
    onKey();
  });
}

/** Ask for the key when `status` says that it is missing or wrong, and no longer when it does not. */
export function askForKey(status) {
  const asks = status === 401;
  missed ||= asks;
  byId("key-form").hidden = !asks;
  if (asks) byId("key").focus(); // it may be below what the window shows
}

function stored() {
  try {
    return sessionStorage.getItem(STORED_AS) ?? "";
  } catch {
    return "";
  }
}
