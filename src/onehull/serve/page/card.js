// One card of the feed.

import { artwork } from "./art.js";
import { h } from "./dom.js";
import { attributes, duration, number, percent, title, words } from "./words.js";

// U+FE0E keeps phones from drawing emoji.
const ICONS = { like: "♥\uFE0E", follow: "+", share: "↗\uFE0E", forward: "↗\uFE0E", comment: "✎", hate: "✕", dislike: "✕", purchase: "◆" };

export function taskValue(task, value) {
  if (value === null) return { text: "–", size: 0 };
  if (task.kind === "binary") return { text: percent(value), size: value };
  if (task.kind === "regression") return { text: number(value), size: Math.max(0, value) };
  const best = value.indexOf(Math.max(...value));
  return { text: `class ${best} · ${percent(value[best])}`, size: value[best], absolute: true };
}

export function actionButtons(item, actions, done, act) {
  return actions.map((action) =>
    h(
      "button",
      {
        class: `action ${action}`,
        type: "button",
        "data-action": action,
        "aria-pressed": String(done.has(`${item.id}/${action}`)),
        "aria-label": `${words(action)}: ${title(item)}`,
        onclick: (event) => act(item, action, event.currentTarget),
      },
      h("span", { class: "glyph", "aria-hidden": "true" }, ICONS[action] ?? "•"),
      h("span", { class: "action-name" }, words(action)),
    ),
  );
}

function bars(tasks) {
  return h(
    "dl",
    { class: "bars", title: "Each bar is compared with the highest value in this feed" },
    ...Object.keys(tasks).map((name, place) =>
      h(
        "div",
        { class: "bar-row", "data-task": name, "--task": `var(--task-${place % 8})` },
        h("dt", {}, words(name)),
        h("dd", {}, h("span", { class: "track" }, h("span", { class: "fill" })), h("span", { class: "value" })),
      ),
    ),
  );
}

export function createCard(item, context) {
  const length = duration(item.show.duration_s);
  const open = () => context.open(item);
  // Without a title of its own, an item is known by what the model knows of it.
  const titled = item.show.title !== null && item.show.title !== undefined;
  const chips = titled ? [] : attributes(item, 6);
  const subtitle = item.show.subtitle;
  const card = h(
    "article",
    { class: "card", "data-id": item.id, tabindex: "0", "aria-label": title(item) },
    h(
      "button",
      { class: "art", type: "button", "aria-label": `Play ${title(item)}`, onclick: open },
      artwork(item),
      h("span", { class: "rank" }),
      h("span", { class: "play", "aria-hidden": "true" }, "▶"),
      length && h("span", { class: "length" }, length),
    ),
    h(
      "div",
      { class: "body" },
      h(
        "div",
        { class: "head" },
        h(
          "div",
          { class: "names" },
          h("h3", {}, title(item)),
          subtitle !== null && subtitle !== undefined && h("p", { class: "subtitle" }, [subtitle].flat().join(", ")),
        ),
        h("p", { class: "score", title: "Value of the formula" }, h("b", {}), h("span", {}, "score")),
      ),
      chips.length ? h("ul", { class: "chips" }, ...chips.map((c) => h("li", {}, h("span", {}, c.name), ` ${c.text}`))) : null,
      bars(context.tasks),
      h("div", { class: "actions" }, ...actionButtons(item, context.actions, context.done, context.act)),
    ),
  );
  card.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target === card) open();
  });
  return card;
}

// Writes what changes from one ranking to the next into a card that stays.
export function updateCard(card, item, place, total, context, largest) {
  card.setAttribute("aria-posinset", place + 1);
  card.setAttribute("aria-setsize", total);
  card.querySelector(".rank").textContent = place + 1;
  card.querySelector(".score b").textContent = item.score === null ? "–" : Math.abs(item.score) < 1e5 && Math.abs(item.score) >= 1e-3 ? item.score.toPrecision(4) : number(item.score, 4);
  for (const row of card.querySelectorAll(".bar-row")) {
    const name = row.dataset.task;
    const { text, size, absolute } = taskValue(context.tasks[name], item.scores[name]);
    const share = absolute ? size : largest[name] > 0 ? size / largest[name] : 0;
    row.querySelector(".fill").style.setProperty("--share", Math.min(1, share).toFixed(4));
    row.querySelector(".value").textContent = text;
  }
}
