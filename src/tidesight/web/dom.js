// Building elements. Whatever comes from a server becomes a text node here, so it can never become markup.

/**
 * Make an element. Attributes named `on...` are event listeners, `null` and `false` ones are left out,
 * and children are elements or text.
 */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

/** The element with this id; a missing one is a mistake in the page, so it throws. */
export function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page has no element "${id}"`);
  return element;
}

/** Give the element with this id another text; the same again would make a screen reader say it again. */
export function setText(id, text) {
  const element = byId(id);
  if (element.textContent !== text) element.textContent = text;
}

/** Let `button` copy the text of `source()`, and say so for a moment. */
export function copies(button, source) {
  const label = button.textContent;
  let timer = 0;
  button.addEventListener("click", async () => {
    button.textContent = (await copyText(source())) ? "Copied" : "Select it and copy";
    clearTimeout(timer);
    timer = setTimeout(() => { button.textContent = label; }, 1600);
  });
}

// `navigator.clipboard` exists only in secure contexts; an instance reached by plain HTTP needs the older way.
async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = el("textarea", { class: "visually-hidden", readonly: true });
    area.value = text;
    const focused = document.activeElement;
    document.body.append(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    focused?.focus();
    return copied;
  }
}
