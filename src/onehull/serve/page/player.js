// Watching an item. The data hold no footage, so the artwork is what plays; the seconds are real.

import { artwork } from "./art.js";
import { actionButtons } from "./card.js";
import { byId, h } from "./dom.js";
import { duration, title } from "./words.js";

export class Player {
  constructor(context, watched) {
    this.context = context;
    this.watched = watched;
    this.dialog = byId("player");
    this.dialog.addEventListener("close", () => this.#closed());
    this.dialog.addEventListener("click", (event) => {
      if (event.target === this.dialog) this.dialog.close();
    });
    document.addEventListener("visibilitychange", () => this.#pause());
    addEventListener("pagehide", () => this.dialog.open && this.#closed());
  }

  open(item) {
    this.item = item;
    this.seconds = 0;
    this.last = performance.now();
    const { actions, done, act } = this.context(item.id);
    const total = duration(item.show.duration_s);
    this.dialog.replaceChildren(
      h("div", { class: "screen" }, artwork(item), h("div", { class: "progress" }, h("span", {}))),
      h("div", { class: "player-body" },
        h("h2", { id: "player-title" }, title(item)),
        h("p", { class: "clock" }, h("b", { id: "clock" }, "0:00"), total ? ` / ${total}` : " watched"),
        h("div", { class: "actions" }, ...actionButtons(item, actions, done, act),
          h("button", { class: "quiet", type: "button", autofocus: true, onclick: () => this.dialog.close() }, "Close"))),
    );
    this.dialog.showModal();
    this.timer = setInterval(() => this.#tick(), 200);
  }

  #pause() {
    if (!this.dialog.open) return;
    this.#count();
    this.hidden = document.hidden;
  }

  #count() {
    const now = performance.now();
    if (!this.hidden) this.seconds += (now - this.last) / 1000;
    this.last = now;
    const total = this.item.show.duration_s;
    if (total > 0) this.seconds = Math.min(this.seconds, total);
  }

  #tick() {
    this.#count();
    const total = this.item.show.duration_s;
    const shown = Math.floor(this.seconds);
    byId("clock").textContent = `${Math.floor(shown / 60)}:${String(shown % 60).padStart(2, "0")}`;
    const bar = this.dialog.querySelector(".progress span");
    bar.style.setProperty("--share", total > 0 ? this.seconds / total : (this.seconds % 30) / 30);
  }

  #closed() {
    if (!this.item) return;
    clearInterval(this.timer);
    this.#count();
    const { item, seconds } = this;
    this.item = null;
    this.watched(item, Math.round(seconds * 10) / 10);
  }
}
