// Whose feed this is: a searchable list of users to be.

import * as api from "./api.js";
import { hash } from "./art.js";
import { byId, h } from "./dom.js";
import { attributes } from "./words.js";

export class People {
  constructor(choose) {
    this.choose = choose;
    this.current = null;
    this.found = [];
    let wait;
    byId("search").addEventListener("input", (event) => {
      clearTimeout(wait);
      wait = setTimeout(() => this.search(event.target.value), 120);
    });
    byId("search").addEventListener("keydown", (event) => {
      if (event.key === "Enter") byId("users").querySelector("button")?.click();
    });
  }

  async search(query) {
    this.abort?.abort();
    this.abort = new AbortController();
    try {
      const { users, total } = await api.users(query, 60, this.abort.signal);
      this.found = users;
      this.#list(query.trim(), total);
      return users;
    } catch (error) {
      if (error.name !== "AbortError") byId("users-hint").textContent = error.message;
      return [];
    }
  }

  be(user) {
    this.current = user.id;
    for (const button of byId("users").querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(button.dataset.user === user.id));
    }
    byId("dock-user").textContent = user.id;
    const known = attributes(user, 6);
    byId("viewer").replaceChildren(
      face(user.id),
      h("div", {}, h("h2", {}, `Feed of ${user.id}`),
        h("p", {}, known.length ? known.map((a) => `${a.name} ${a.text}`).join(" · ") : "A viewer the model does not know")),
    );
    this.choose(user);
  }

  #list(query, total) {
    const rows = this.found.map((user) => this.#row(user, attributes(user, 3).map((a) => a.text).join(" · ")));
    if (query && !this.found.some((user) => user.id === query)) {
      rows.push(this.#row({ id: query, attributes: {} }, "a viewer the model does not know"));
    }
    byId("users").replaceChildren(...rows);
    byId("users-hint").textContent = total
      ? `${this.found.length} of ${total.toLocaleString("en")} viewers`
      : query ? "Nobody like that." : "This model has no table of viewers: type any id.";
  }

  #row(user, text) {
    return h("li", {}, h("button",
      { type: "button", "data-user": user.id, "aria-pressed": String(user.id === this.current), onclick: () => this.be(user) },
      face(user.id), h("span", {}, h("b", {}, user.id), h("small", {}, text || "no attributes"))));
  }
}

function face(id) {
  const hue = (hash(id) * 137.508) % 360;
  const text = id.replace(/[^\p{L}\p{N}]/gu, "").slice(-2) || "?";
  return h("span", { class: "face", "aria-hidden": "true", "--hue": hue }, text);
}
