// The settings form: sliders, the class filter and the body form, read as one value.

import { byId, el } from "./dom.js";

const SLIDERS = ["confidence", "iou"];

/** Reads the form; `onInput()` hears every movement, `onChange()` a value that has come to rest. */
export class Settings {
  #form = byId("settings");
  #input = byId("classes");
  #known = [];
  #classes = [];

  constructor({ onInput, onChange }) {
    this.onInput = onInput;
    this.onChange = onChange;
    this.#form.addEventListener("submit", (event) => event.preventDefault());
    SLIDERS.forEach((name) => this.#wireSlider(name));
    this.#form.querySelectorAll('input[name="form"]').forEach((radio) => radio.addEventListener("change", () => this.#changed()));
    this.#wireClasses();
  }

  /** `{confidence, iou, classes}` as the API names them. */
  get options() {
    const [confidence, iou] = SLIDERS.map((name) => Number(byId(name).value));
    return { confidence, iou, classes: [...this.#classes] };
  }

  /** raw, multipart or json. */
  get bodyForm() {
    return new FormData(this.#form).get("form");
  }

  /** Offer the model's class names while typing. */
  set knownClasses(names) {
    this.#known = names;
    byId("class-names").replaceChildren(...names.map((name) => el("option", { value: name })));
    this.#note();
  }

  /** Point at the control that a problem names; null takes the mark away. */
  blame(field) {
    [...SLIDERS, "classes"].forEach((name) => {
      if (name === field) byId(name).setAttribute("aria-invalid", "true");
      else byId(name).removeAttribute("aria-invalid");
    });
  }

  #wireSlider(name) {
    const slider = byId(name);
    const show = () => {
      byId(`${name}-value`).textContent = Number(slider.value).toFixed(2);
      slider.style.setProperty("--level", `${((slider.value - slider.min) / (slider.max - slider.min)) * 100}%`);
    };
    slider.addEventListener("input", () => { show(); this.onInput(); });
    slider.addEventListener("change", () => this.#changed());
    show(); // a browser that restores the form after a reload restores the position only
  }

  #wireClasses() {
    this.#input.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === ",") {
        event.preventDefault();
        this.#take();
      } else if (event.key === "Backspace" && !this.#input.value && this.#classes.length) {
        this.#remove(this.#classes.at(-1));
      }
    });
    // A name picked from the list arrives as one replacement, not key by key.
    this.#input.addEventListener("input", (event) => {
      if (this.#known.includes(this.#input.value) && !(event.inputType ?? "").startsWith("insertText")) this.#take();
    });
    this.#input.addEventListener("change", () => this.#take());
  }

  #take() {
    const names = this.#input.value.split(",").map((name) => name.trim()).filter(Boolean);
    const unknown = names.filter((name) => !this.#canonical(name));
    const added = names.map((name) => this.#canonical(name)).filter((name) => name && !this.#classes.includes(name));
    this.#input.value = unknown.join(", ");
    this.#classes.push(...new Set(added));
    this.#showChips();
    this.#note(unknown);
    if (added.length) this.#changed();
  }

  // Without the model's list (it is not ready, or an older one) any name is passed on, for the server to judge.
  #canonical(name) {
    if (!this.#known.length) return name;
    return this.#known.find((known) => known.toLowerCase() === name.toLowerCase());
  }

  #remove(name) {
    this.#classes = this.#classes.filter((other) => other !== name);
    this.#showChips();
    this.#note();
    this.#input.focus();
    this.#changed();
  }

  #showChips() {
    byId("chosen-classes").replaceChildren(...this.#classes.map((name) => el("li", {},
      el("button", { type: "button", class: "chip", "aria-label": `Remove ${name}`, onclick: () => this.#remove(name) },
        name, el("span", { "aria-hidden": "true" }, "×")))));
  }

  #note(unknown = []) {
    const all = this.#known.length ? `all ${this.#known.length}` : "all";
    const note = byId("classes-note");
    note.textContent = unknown.length ? `not a class of this model: ${unknown.join(", ")}`
      : this.#classes.length ? `${this.#classes.length} chosen` : all;
    note.classList.toggle("wrong", unknown.length > 0);
  }

  #changed() {
    this.blame(null);
    this.onInput();
    this.onChange();
  }
}
