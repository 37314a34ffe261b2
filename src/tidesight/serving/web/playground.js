// The playground: a picture goes in, boxes, figures and the equivalent command come out.

import { annotatedName, curlCommand } from "./curl.js";
import { byId, copies, el } from "./dom.js";
import { Overlay } from "./draw.js";
import { jsonText } from "./json.js";
import { askForKey, keyHeaders, keyWanted, wireKeyForm } from "./key.js";
import { watchReadiness } from "./readiness.js";
import { addressWithOptions, DETECT_URL, jsonOptions, mediaType, optionPairs, Problem, send } from "./request.js";
import { DetectionTable, showTimings, summarise } from "./results.js";
import { Settings } from "./settings.js";

const overlay = new Overlay(byId("boxes"));
const table = new DetectionTable(point);
const settings = new Settings({ onInput: showCommand, onChange: () => file && detect() });
let file = null;
let shown = Promise.resolve(false); // whether the browser can show the picture
let running = new AbortController();
const ANSWERS = ["results", "timings", "raw"];

function point(index) {
  overlay.highlight(index);
  table.mark(index);
}

/** Take a picture from wherever it came, show it and send it. */
function take(picked) {
  if (!picked) return;
  file = picked;
  byId("stage").dataset.state = "picked";
  overlay.clear();
  ANSWERS.forEach((id) => byId(id).classList.add("stale"));
  shown = preview();
  showCommand();
  detect();
}

function preview() {
  const picture = byId("picture");
  URL.revokeObjectURL(picture.src);
  byId("frame").hidden = true;
  byId("file-facts").textContent = `${file.name}, ${bytesText(file.size)}`;
  picture.alt = file.name;
  return new Promise((resolve) => {
    // The natural size is the upright one: browsers turn a photo as its EXIF data says, and so does the API.
    picture.onload = () => { showFrame(picture.naturalWidth, picture.naturalHeight, true); resolve(true); };
    picture.onerror = () => resolve(false);
    picture.src = URL.createObjectURL(file);
  });
}

function showFrame(width, height, hasPicture) {
  const frame = byId("frame");
  byId("picture").hidden = !hasPicture;
  frame.style.setProperty("--ratio", width / height);
  frame.style.setProperty("--natural-px", `${width}px`);
  frame.hidden = false;
  byId("file-facts").textContent = `${file.name}, ${width} × ${height} px, ${bytesText(file.size)}`;
}

function bytesText(bytes) {
  return bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

async function detect() {
  const options = settings.options;
  await whileBusy(async (signal) => {
    const { body, roundTripMs } = await send(file, options, settings.bodyForm, { ...asking("application/json"), signal });
    const reply = await parse(body);
    // A format that the browser cannot show can still be one that the server reads: boxes on an empty frame.
    if (!(await shown)) showFrame(reply.image.width, reply.image.height, false);
    if (!signal.aborted) showReply(reply, options, roundTripMs);
  });
}

function asking(type) {
  return { headers: { Accept: type, ...keyHeaders() } };
}

async function parse(body) {
  try {
    return JSON.parse(await body.text());
  } catch {
    throw new Problem({ title: "Not a reply of this API", detail: "The server said that all went well, but sent no JSON." });
  }
}

async function download() {
  await whileBusy(async (signal) => {
    const { body } = await send(file, settings.options, settings.bodyForm, { ...asking("image/jpeg"), signal });
    const address = URL.createObjectURL(body);
    el("a", { href: address, download: annotatedName(file.name) }).click();
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
  });
}

// A newer request replaces an older one that has not been answered: only the last settings matter.
async function whileBusy(work) {
  running.abort();
  const mine = new AbortController();
  running = mine;
  byId("stage").setAttribute("aria-busy", "true");
  try {
    await work(mine.signal);
    if (running === mine) showProblem(null);
  } catch (error) {
    if (error.name === "AbortError") return;
    if (!(error instanceof Problem)) throw error;
    if (running === mine) showProblem(error);
  } finally {
    if (running === mine) byId("stage").removeAttribute("aria-busy");
  }
}

function showReply(reply, options, roundTripMs) {
  overlay.show(reply.detections, reply.image);
  table.show(reply.detections);
  byId("summary").textContent = summarise(reply.detections, options);
  showTimings(reply.timings_ms, roundTripMs);
  byId("json").textContent = jsonText(reply);
  ANSWERS.forEach((id) => { byId(id).hidden = false; byId(id).classList.remove("stale"); });
}

function showProblem(problem) {
  const place = byId("problem");
  place.hidden = !problem;
  settings.blame(problem?.field ?? null);
  askForKey(problem?.status);
  showCommand();
  if (!problem) return;
  overlay.clear();
  ANSWERS.forEach((id) => { byId(id).hidden = true; });
  const wait = problem.retryAfterS;
  place.replaceChildren(...[
    el("h2", {}, problem.title, problem.status ? el("span", { class: "status" }, String(problem.status)) : null),
    problem.detail ? el("p", {}, problem.detail) : null,
    problem.field ? el("p", {}, "It concerns ", el("code", {}, problem.field), ".") : null,
    wait === null ? null : el("p", {}, wait > 0 ? `The server asks to wait ${wait} s, then try again.` : "Try again now."),
  ].filter(Boolean));
}

function showCommand() {
  const { options, bodyForm: form } = settings;
  byId("curl").textContent = curlCommand({
    form,
    url: form === "raw" ? addressWithOptions(options) : DETECT_URL.href,
    pairs: optionPairs(options),
    members: jsonOptions(options),
    fileName: file?.name || "picture.jpg",
    contentType: file ? mediaType(file) : "image/jpeg",
    asPicture: byId("as-picture").checked,
    withKey: keyWanted(),
  });
}

function wirePicking() {
  ["file", "camera"].forEach((id) => byId(id).addEventListener("change", (event) => {
    take(event.target.files[0]);
    event.target.value = ""; // so that the same file can be chosen again
  }));
  const stage = byId("stage");
  window.addEventListener("dragover", (event) => { event.preventDefault(); stage.classList.add("over"); });
  window.addEventListener("dragleave", (event) => { if (!event.relatedTarget) stage.classList.remove("over"); });
  window.addEventListener("drop", (event) => {
    event.preventDefault();
    stage.classList.remove("over");
    take(event.dataTransfer.files[0]);
  });
  window.addEventListener("paste", (event) => take(event.clipboardData.files[0]));
}

function wireCanvas() {
  const canvas = byId("boxes");
  ["pointermove", "pointerdown"].forEach((type) => canvas.addEventListener(type, (event) => point(overlay.at(event))));
  canvas.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") point(-1); });
}

wirePicking();
wireCanvas();
wireKeyForm(detect);
byId("again").addEventListener("click", detect);
byId("download").addEventListener("click", download);
byId("as-picture").addEventListener("change", showCommand);
document.querySelectorAll("[data-copies]").forEach((button) => copies(button, () => byId(button.dataset.copies).textContent));
showCommand();
watchReadiness((model) => { settings.knownClasses = model.classes ?? []; });
