// One detection request: what is sent in each body form, and what comes back, good or bad.

export const DETECT_URL = new URL("v1/detect", document.baseURI);

/** A refusal or failure in the words of the server (RFC 9457) or, where it sent none, in ours. */
export class Problem extends Error {
  constructor({ title, detail = "", field = null, status = 0, retryAfterS = null }) {
    super(detail || title);
    Object.assign(this, { title, detail, field, status, retryAfterS });
  }
}

/** The options as `[name, text]` pairs, in the order in which every body form and the curl command use them. */
export function optionPairs({ confidence, iou, classes }) {
  const pairs = [["confidence", String(confidence)], ["iou", String(iou)]];
  if (classes.length) pairs.push(["classes", classes.join(",")]);
  return pairs;
}

/** The address with the options as a query; commas stay readable. */
export function addressWithOptions(options) {
  const query = optionPairs(options).map(([name, value]) => `${name}=${encodeURIComponent(value).replaceAll("%2C", ",")}`);
  return `${DETECT_URL.href}?${query.join("&")}`;
}

/** The media type under which a file travels: its own, since the server decides what it accepts. */
export function mediaType(file) {
  return file.type || "application/octet-stream";
}

/** The options as members of the JSON body. */
export function jsonOptions({ confidence, iou, classes }) {
  return classes.length ? { confidence, iou, classes } : { confidence, iou };
}

const BUILDERS = {
  raw: async (file, options) => ({
    url: addressWithOptions(options), headers: { "Content-Type": mediaType(file) }, body: file,
  }),
  multipart: async (file, options) => {
    const body = new FormData();
    optionPairs(options).forEach(([name, value]) => body.append(name, value));
    body.append("image", file, file.name);
    return { url: DETECT_URL.href, headers: {}, body }; // the browser adds the type with its boundary
  },
  json: async (file, options) => ({
    url: DETECT_URL.href,
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ image: await base64(file), ...jsonOptions(options) }),
  }),
};

/**
 * Send `file` in the body form `form`, with `headers` beside the form's own, and wait for the whole reply.
 *
 * Returns `{response, body, roundTripMs}` with `body` a Blob; throws a `Problem` for anything but success,
 * and an `AbortError` when `signal` fires. Encoding the body is not part of the round trip.
 */
export async function send(file, options, form, { headers: asked, signal }) {
  const { url, headers, body } = await BUILDERS[form](file, options).catch((error) => {
    throw new Problem({ title: "The file cannot be read", detail: `${file.name}: ${error.message}` });
  });
  const start = performance.now();
  const response = await reach(url, { method: "POST", headers: { ...headers, ...asked }, body, signal });
  const reply = await response.blob();
  const roundTripMs = performance.now() - start;
  if (!response.ok) throw await problemFrom(response, await reply.text());
  return { response, body: reply, roundTripMs };
}

/** `fetch`, with a lost connection told in words. */
export async function reach(url, init) {
  try {
    return await fetch(url, init);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({
      title: "No reply",
      detail: "The server could not be reached, or closed the connection before it had read the whole picture.",
    });
  }
}

/** Read a failed reply: problem+json where it is that, else the status and the start of the text. */
export function problemFrom(response, text) {
  const fallback = { title: `The server replied ${response.status} ${response.statusText}`.trim(), detail: text.slice(0, 300) };
  let said = {};
  try {
    said = JSON.parse(text) ?? {};
  } catch { /* a proxy in front answers in plain text or HTML */ }
  const detail = typeof said.detail === "string" ? said.detail : said.detail && JSON.stringify(said.detail);
  return new Problem({
    title: said.title ? String(said.title) : fallback.title,
    detail: detail ?? (said.title ? "" : fallback.detail),
    field: said.field ? String(said.field) : null,
    status: response.status,
    retryAfterS: retryAfter(response.headers.get("Retry-After")),
  });
}

/** Seconds to wait, from either form of `Retry-After`; null without one. */
function retryAfter(header) {
  if (!header) return null;
  const seconds = Number(header);
  if (Number.isFinite(seconds)) return Math.max(0, seconds);
  const at = Date.parse(header);
  return Number.isNaN(at) ? null : Math.max(0, Math.ceil((at - Date.now()) / 1000));
}

async function base64(file) {
  const address = await new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
  return address.slice(address.indexOf(",") + 1);
}
