/** DOM nodes in one line. Text goes in as text, never as markup. */

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes and children; `text` is its text, a null attribute is left out. */
export function make(tag, { text = null, ...attributes } = {}, ...children) {
  return filled(document.createElement(tag), text, attributes, children);
}

/** The same for drawings. */
export function draw(tag, { text = null, ...attributes } = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), text, attributes, children);
}

export function find(id) {
  return document.getElementById(id);
}

/** Set text only where it changed, so that nothing is laid out or read aloud again for nothing. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Whether whoever looks wants things to move. */
export function moves() {
  return !matchMedia("(prefers-reduced-motion: reduce)").matches;
}

function filled(element, text, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null) element.setAttribute(name, value);
  }
  if (text !== null) element.textContent = text;
  element.append(...children);
  return element;
}
