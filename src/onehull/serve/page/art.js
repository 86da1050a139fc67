// Artwork for items that have none: a small sea, coloured by category and shaped by id. The same item always
// gets the same picture.

import { svg } from "./dom.js";

export function hash(text) {
  let value = 2166136261;
  for (const character of text) value = Math.imul(value ^ character.codePointAt(0), 16777619);
  return value >>> 0;
}

function random(seed) {
  let state = seed || 1;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

function wave(next, level) {
  const height = 6 + next() * 16;
  const shift = next() * 6.28;
  const length = 1 + next() * 1.6;
  const points = [];
  for (let x = 0; x <= 320; x += 8) {
    points.push(`${x} ${(level + height * Math.sin((x / 320) * 6.28 * length + shift)).toFixed(1)}`);
  }
  return `M0 180 L${points.join(" L")} L320 180 Z`;
}

let serial = 0;

export function artwork(item) {
  const group = String(item.show.subtitle ?? item.attributes.category ?? item.id);
  const hue = hash(group) % 360;
  const next = random(hash(item.id));
  const turn = (hue + 30 + next() * 50) % 360;
  const id = `sky-${(serial += 1)}`;
  const sun = { x: 40 + next() * 240, y: 30 + next() * 60, r: 14 + next() * 26 };
  const waves = [0, 1, 2].map((layer) =>
    svg("path", {
      d: wave(next, 96 + layer * 26 + next() * 8),
      fill: `hsl(${hue + layer * 9} ${52 - layer * 4}% ${40 - layer * 11}%)`,
      "fill-opacity": 0.86,
    }),
  );
  return svg(
    "svg",
    { viewBox: "0 0 320 180", preserveAspectRatio: "xMidYMid slice", "aria-hidden": "true", focusable: "false" },
    svg(
      "linearGradient",
      { id, x1: 0, y1: 0, x2: 0.4, y2: 1 },
      svg("stop", { offset: 0, "stop-color": `hsl(${turn} 68% 78%)` }),
      svg("stop", { offset: 1, "stop-color": `hsl(${hue} 62% 60%)` }),
    ),
    svg("rect", { width: 320, height: 180, fill: `url(#${id})` }),
    svg("circle", { cx: sun.x, cy: sun.y, r: sun.r, fill: "#fff", "fill-opacity": 0.72 }),
    ...waves,
  );
}
