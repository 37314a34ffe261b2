// The lamp in the masthead: whether this instance takes requests, and with which model.

import { byId, setText } from "./dom.js";
import { problemFrom } from "./request.js";

const READY_URL = new URL("readyz", document.baseURI);
const AGAIN_WHEN_READY_S = 15;
const AGAIN_WHEN_NOT_S = 2;

/** Keep the lamp true while the page is visible; `onModel(model)` hears of each model that it finds. */
export function watchReadiness(onModel) {
  let known = "";
  const look = async () => {
    const found = document.hidden ? null : await ask();
    if (found) show(found);
    if (found?.model && known !== JSON.stringify(found.model)) {
      known = JSON.stringify(found.model);
      onModel(found.model);
    }
    setTimeout(look, 1000 * (found?.state === "ready" ? AGAIN_WHEN_READY_S : AGAIN_WHEN_NOT_S));
  };
  look();
}

async function ask() {
  try {
    const response = await fetch(READY_URL, { cache: "no-store" });
    const text = await response.text();
    if (response.ok) return { state: "ready", word: "Ready", model: JSON.parse(text).model ?? null };
    const problem = problemFrom(response, text);
    return { state: "waiting", word: "Not ready", why: problem.detail || problem.title };
  } catch {
    return { state: "gone", word: "No reply" };
  }
}

function show({ state, word, model, why = "" }) {
  byId("readiness").dataset.state = state;
  setText("readiness-word", word);
  if (model || why) {
    setText("model-name", model?.name ?? "");
    setText("model-facts", model ? facts(model) : why);
  }
}

function facts({ input, classes }) {
  const parts = [];
  if (input?.length === 2) parts.push(`${input[0]} × ${input[1]} px`);
  if (classes?.length) parts.push(`${classes.length} classes`);
  return parts.join(", ");
}
