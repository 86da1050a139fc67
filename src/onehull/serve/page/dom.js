// Elements without a framework; text always goes in as text, never as HTML.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

export function h(tag, properties = {}, ...children) {
  return fill(document.createElement(tag), properties, children);
}

export function svg(tag, properties = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.startsWith("--")) element.style.setProperty(name, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

let hide;
export function toast(text, wrong = false) {
  const element = byId("toast");
  element.textContent = text;
  element.classList.toggle("wrong", wrong);
  element.classList.add("up");
  clearTimeout(hide);
  hide = setTimeout(() => element.classList.remove("up"), wrong ? 6000 : 1800);
}

export const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
