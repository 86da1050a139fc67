// Wires the parts: viewer + moment + weights → /rank → feed → /events.

import * as api from "./api.js";
import { byId, toast } from "./dom.js";
import { Feed } from "./feed.js";
import { Panel } from "./panel.js";
import { People } from "./people.js";
import { Player } from "./player.js";
import { words } from "./words.js";

const DRAG_MS = 50;
const SETTLE_MS = 350;

class App {
  constructor(about, formula) {
    this.about = about;
    this.done = new Set();
    this.total = 0;
    this.loadingMore = false;
    this.feedbackKinds = about.feedback.length ? about.feedback : [{ event: "click", kind: "binary" }, { event: "like", kind: "binary" }, { event: "watch", kind: "regression" }];
    const context = () => ({
      tasks: about.tasks,
      actions: this.feedbackKinds.filter((f) => f.kind === "binary" && f.event !== "click").map((f) => f.event),
      done: this.done,
      open: (item) => this.#open(item),
      act: (item, action, button) => this.#act(item, action, button),
    });
    this.feed = new Feed(context);
    this.player = new Player(context, (item, seconds) => this.#send(item, "watch", seconds));
    this.panel = new Panel({
      formula,
      context: about.context,
      tasks: Object.keys(about.tasks),
      drag: () => this.#later(DRAG_MS, false),
      settle: () => this.#later(SETTLE_MS, true),
    });
    this.people = new People((user) => this.#become(user));
    this.#header();
    this.#scroll();
  }

  async start() {
    const users = await this.people.search("");
    const asked = new URLSearchParams(location.hash.slice(1)).get("user");
    const known = asked && (await api.users(asked, 60)).users.find((user) => user.id === asked);
    this.people.be(known || (asked && { id: asked }) || users[0] || { id: "visitor" });
  }

  #header() {
    const { name, version, simulated } = this.about;
    byId("model").textContent = `${words(name)} · version ${version}`;
    byId("simulated").hidden = !simulated;
    document.title = `${words(name)} · OneHull`;
    const check = async () => {
      const health = await api.health().catch((error) => ({ status: "away", reasons: [error.message] }));
      const element = byId("health");
      element.textContent = health.status === "ok" ? "" : health.status;
      element.title = health.reasons.join("\n");
      element.hidden = health.status === "ok";
    };
    check();
    setInterval(() => document.hidden || check(), 30000);
  }

  #become(user) {
    this.user = user.id;
    this.done.clear();
    history.replaceState(null, "", `#user=${encodeURIComponent(user.id)}`);
    closeSheets();
    scrollTo({ top: 0 });
    this.feed.loading();
    this.#rank({ log: true, fresh: true });
  }

  #later(wait, settled) {
    this.settled = settled || this.settled;
    clearTimeout(settled ? this.settleTimer : this.dragTimer);
    const go = () => this.#rank({ log: settled });
    if (settled) this.settleTimer = setTimeout(go, wait);
    else this.dragTimer = setTimeout(go, wait);
  }

  // Ranks everything on the page anew. A preview, while a slider moves, does not count as shown.
  async #rank({ log, fresh = false }) {
    this.abort?.abort();
    const abort = (this.abort = new AbortController());
    const k = Math.max(this.about.k, fresh ? 0 : this.feed.items.length);
    try {
      const answer = await api.rank(this.#request({ k, log }), abort.signal);
      this.#answered(answer);
      if (answer.items.length) this.feed.show(answer.items, answer.candidates);
      else this.feed.message("Nothing to rank", "The catalogue gave no candidates.");
      this.#ending();
    } catch (error) {
      if (error.name === "AbortError") return;
      if (this.feed.items.length) toast(error.message, true);
      else this.feed.message("The feed did not load", error.message, () => { this.feed.loading(); this.#rank({ log: true, fresh: true }); });
    }
  }

  async #more() {
    const have = this.feed.items.length;
    if (!have || have >= this.total || this.loadingMore) return;
    this.loadingMore = true;
    const abort = this.abort;
    try {
      const answer = await api.rank(this.#request({ offset: have, k: this.about.k, log: true }), abort?.signal);
      // A re-ranking that came in between has replaced the list that this page continues.
      if (abort === this.abort && this.feed.items.length === have) this.feed.show([...this.feed.items, ...answer.items], answer.candidates);
    } catch (error) {
      if (error.name !== "AbortError") toast(error.message, true);
    } finally {
      this.loadingMore = false;
      this.#ending();
    }
  }

  #request(fields) {
    const { weights, context } = this.panel;
    return { user: this.user, context, ...(Object.keys(weights).length ? { weights } : {}), ...fields };
  }

  #answered(answer) {
    this.total = answer.candidates;
    this.panel.formula(answer.formula);
    byId("timing").textContent = `${answer.candidates.toLocaleString("en")} items ranked in ${answer.milliseconds.toFixed(1)} ms`;
  }

  #ending() {
    const have = this.feed.items.length;
    byId("end").textContent = !have ? "" : have < this.total ? "More below" : `That is all: ${this.total.toLocaleString("en")} items.`;
  }

  #scroll() {
    new IntersectionObserver((entries) => entries.some((entry) => entry.isIntersecting) && this.#more(), { rootMargin: "900px 0px" }).observe(byId("sentinel"));
    addEventListener("scroll", () => byId("sentinel").getBoundingClientRect().top < innerHeight + 900 && this.#more(), { passive: true });
  }

  #open(item) {
    const current = this.feed.item(item.id) ?? item;
    this.#send(current, "click");
    this.player.open(current);
  }

  async #act(item, action, button) {
    const key = `${item.id}/${action}`;
    if (this.done.has(key)) return;
    this.done.add(key);
    this.#press(item, action, true);
    if (!(await this.#send(this.feed.item(item.id) ?? item, action))) {
      this.done.delete(key);
      this.#press(item, action, false);
    } else {
      toast(`${words(action)} sent`);
    }
    button.focus({ preventScroll: true });
  }

  #press(item, action, on) {
    const same = (button) => button.dataset.action === action;
    const places = [this.feed.cards.get(item.id), byId("player")].filter(Boolean);
    for (const place of places) {
      for (const button of [...place.querySelectorAll("[data-action]")].filter(same)) button.setAttribute("aria-pressed", String(on));
    }
  }

  async #send(item, event, value) {
    if (!item.impression) return false;
    try {
      await api.feedback({ event, impression: item.impression, ...(value === undefined ? {} : { value }) });
      return true;
    } catch (error) {
      toast(error.message, true);
      return false;
    }
  }
}

function closeSheets() {
  for (const sheet of document.querySelectorAll(".sheet")) sheet.classList.remove("open");
  for (const button of document.querySelectorAll("[data-open]")) button.setAttribute("aria-expanded", "false");
}

function sheets() {
  for (const button of document.querySelectorAll("[data-open]")) {
    button.addEventListener("click", () => {
      const sheet = byId(button.dataset.open);
      const open = !sheet.classList.contains("open");
      closeSheets();
      sheet.classList.toggle("open", open);
      button.setAttribute("aria-expanded", String(open));
      if (open) sheet.querySelector("input, button")?.focus({ preventScroll: true });
    });
  }
  for (const button of document.querySelectorAll("[data-close]")) button.addEventListener("click", closeSheets);
  addEventListener("keydown", (event) => event.key === "Escape" && closeSheets());
}

async function main() {
  sheets();
  try {
    const [about, formula] = await Promise.all([api.about(), api.formula()]);
    await new App(about, formula).start();
  } catch (error) {
    byId("feed").setAttribute("aria-busy", "false");
    byId("feed").textContent = error.message;
  }
}

main();
