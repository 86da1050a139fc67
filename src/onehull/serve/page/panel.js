// The formula, one slider a weight, and the moment for which is ranked.

import { byId, h } from "./dom.js";
import { number, weightLabel, words } from "./words.js";

export class Panel {
  constructor({ formula, context, tasks, drag, settle }) {
    this.defaults = Object.fromEntries(formula.weights.map((weight) => [weight.name, weight.value]));
    this.weights = {};
    this.context = {};
    this.tasks = tasks;
    this.notify = { drag, settle };
    byId("sliders").replaceChildren(...formula.weights.map((weight) => this.#slider(weight)));
    if (!formula.weights.length) byId("sliders").append(h("p", { class: "hint" }, "This formula has no weights."));
    byId("reset").addEventListener("click", () => this.#reset());
    byId("moment").hidden = !context.length;
    byId("fields").replaceChildren(...context.map((field) => this.#field(field)));
    this.formula(formula.text);
  }

  // Writes the formula; names of tasks have the colour of their bars.
  formula(text) {
    const parts = text.match(/[A-Za-z_]\w*|\d+(?:\.\d+)?(?:e[+-]?\d+)?|\s+|./g) ?? [];
    byId("formula").replaceChildren(
      ...parts.map((part) => {
        const place = this.tasks.indexOf(part);
        if (place >= 0) return h("span", { class: "task", "--task": `var(--task-${place % 8})` }, part);
        return /^\d/.test(part) ? h("b", {}, number(Number(part))) : part;
      }),
    );
  }

  #slider(weight) {
    const label = weightLabel(weight.name);
    const id = `weight-${weight.name.replaceAll(".", "-")}`;
    const place = this.tasks.indexOf(label.text.replaceAll(" ", "_"));
    const output = h("output", { for: id }, number(weight.value));
    const input = h("input", {
      id, type: "range", min: weight.min, max: weight.max, step: "any", value: weight.value,
      "data-weight": weight.name, "data-step": weight.step,
      oninput: () => this.#moved(input, output, this.notify.drag),
      onchange: () => this.#moved(input, output, this.notify.settle),
      onkeydown: (event) => this.#keys(event, input, weight),
    });
    this.#track(input);
    return h("div", { class: "slider", "--task": `var(--task-${Math.max(0, place) % 8})` },
      h("label", { for: id }, h("span", { class: "dot", "aria-hidden": "true" }), label.text, h("i", {}, label.sign + label.again)), output, input);
  }

  // step=any keeps values such as 0.35 exact; the keyboard still moves by sensible steps.
  #keys(event, input, weight) {
    const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10 }[event.key];
    if (!step) return;
    event.preventDefault();
    input.value = Number((Number(input.value) + step * weight.step).toPrecision(6));
    input.dispatchEvent(new Event("input"));
    input.dispatchEvent(new Event("change"));
  }

  #moved(input, output, notify) {
    const step = Number(input.dataset.step);
    const name = input.dataset.weight;
    const value = Number((Math.round(Number(input.value) / step) * step).toPrecision(6));
    output.textContent = number(value);
    this.#track(input);
    if (value === this.defaults[name]) delete this.weights[name];
    else this.weights[name] = value;
    byId("reset").disabled = !Object.keys(this.weights).length;
    notify();
  }

  #track(input) {
    const span = Number(input.max) - Number(input.min) || 1;
    input.style.setProperty("--share", (Number(input.value) - Number(input.min)) / span);
  }

  #reset() {
    this.weights = {};
    byId("reset").disabled = true;
    for (const input of document.querySelectorAll("[data-weight]")) {
      input.value = this.defaults[input.dataset.weight];
      input.closest(".slider").querySelector("output").textContent = number(Number(input.value));
      this.#track(input);
    }
    this.notify.settle();
  }

  #field({ field, kind, choices }) {
    const id = `context-${field}`;
    const change = (event) => {
      const text = event.target.value;
      const value = text === "" ? null : kind === "numeric" ? Number(text) : kind === "list" ? text.split(",") : text;
      if (value === null || (kind === "numeric" && !Number.isFinite(value))) delete this.context[field];
      else this.context[field] = value;
      this.notify.settle();
    };
    if (kind === "vector") return null;
    const guess = choices.length ? now(field, choices) : null;
    if (guess !== null) this.context[field] = guess;
    const input = choices.length
      ? h("select", { id, onchange: change }, h("option", { value: "" }, "unknown"),
          ...choices.map((choice) => h("option", { value: choice, selected: choice === guess }, choice)))
      : h("input", { id, type: kind === "numeric" ? "number" : "text", step: "any", placeholder: "unknown", maxlength: 100, onchange: change });
    return h("div", { class: "field" }, h("label", { for: id }, words(field)), input);
  }
}

// What a client knows by itself: the hour. Anything else starts with the most frequent value.
function now(field, choices) {
  const hour = String(new Date().getHours());
  if (field.includes("hour") && choices.includes(hour)) return hour;
  return choices[0];
}
