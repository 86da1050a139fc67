// The feed: keeps cards alive over re-rankings, so that what moves can be seen to move.

import { createCard, taskValue, updateCard } from "./card.js";
import { byId, calm, h } from "./dom.js";

export class Feed {
  constructor(context) {
    this.context = context;
    this.root = byId("feed");
    this.end = byId("end");
    this.items = [];
    this.cards = new Map();
    this.root.addEventListener("keydown", (event) => this.#keys(event));
  }

  // Shows the items in this order. Cards of items that stay slide to their new place.
  show(items, total) {
    const before = this.#places();
    const known = new Map(this.items.map((item) => [item.id, item]));
    this.items = items.map((item) => ({ ...item, impression: item.impression ?? known.get(item.id)?.impression ?? null }));
    const largest = this.#largest();
    const wanted = this.items.map((item, place) => {
      const card = this.cards.get(item.id) ?? createCard(item, this.context(item.id));
      this.cards.set(item.id, card);
      updateCard(card, item, place, total, this.context(item.id), largest);
      return card;
    });
    for (const id of this.cards.keys()) if (!items.some((item) => item.id === id)) this.cards.delete(id);
    this.root.replaceChildren(...wanted);
    this.root.setAttribute("aria-busy", "false");
    this.#slide(wanted, before);
  }

  item(id) {
    return this.items.find((item) => item.id === id);
  }

  clear() {
    this.items = [];
    this.cards.clear();
  }

  loading() {
    this.clear();
    this.root.setAttribute("aria-busy", "true");
    this.root.replaceChildren(...Array.from({ length: 4 }, () => h("div", { class: "card ghost", "aria-hidden": "true" }, h("div", { class: "art" }), h("div", { class: "body" }))));
    this.end.textContent = "";
  }

  message(heading, text, retry) {
    this.clear();
    this.root.setAttribute("aria-busy", "false");
    this.root.replaceChildren(
      h("div", { class: "state", role: retry ? "alert" : "status" }, h("h3", {}, heading), h("p", {}, text),
        retry ? h("button", { type: "button", onclick: retry }, "Try again") : null),
    );
    this.end.textContent = "";
  }

  #largest() {
    const largest = {};
    for (const item of this.items) {
      for (const [name, value] of Object.entries(item.scores)) {
        largest[name] = Math.max(largest[name] ?? 0, taskValue(this.context(item.id).tasks[name], value).size);
      }
    }
    return largest;
  }

  #places() {
    return new Map([...this.cards].map(([id, card]) => [id, card.getBoundingClientRect().top]));
  }

  // FLIP: put each card where it was, and let it go.
  #slide(cards, before) {
    if (calm() || !before.size) return;
    const view = innerHeight;
    for (const card of cards) {
      const top = card.getBoundingClientRect().top;
      const old = before.get(card.dataset.id);
      const visible = top < view && top > -card.offsetHeight;
      if (old === undefined) {
        if (visible) card.animate([{ opacity: 0, transform: "scale(.97)" }, { opacity: 1, transform: "none" }], { duration: 260, easing: "ease-out" });
      } else if (old !== top && (visible || (old < view && old > -card.offsetHeight))) {
        const distance = Math.max(-view, Math.min(view, old - top));
        card.animate([{ transform: `translateY(${distance}px)` }, { transform: "none" }], { duration: 380, easing: "cubic-bezier(.2,.8,.2,1)" });
      }
    }
  }

  #keys(event) {
    const step = { j: 1, PageDown: 1, k: -1, PageUp: -1 }[event.key];
    if (!step || event.target.closest("input, select")) return;
    const cards = [...this.root.querySelectorAll(".card:not(.ghost)")];
    const next = cards[cards.indexOf(event.target.closest(".card")) + step];
    if (!next) return;
    event.preventDefault();
    next.focus({ preventScroll: true });
    next.scrollIntoView({ block: "center", behavior: calm() ? "auto" : "smooth" });
  }
}
