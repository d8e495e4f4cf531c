/** Creates and changes elements. Strings are always inserted as text, never parsed as HTML. */

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element.
 * @param {string} tag The tag's name.
 * @param {Object<string, any>} [props] `class`, `on<Event>` listeners, `style` (an object), `data` (an object), any
 *   property of the element, any attribute; null, undefined and false leave an attribute out.
 * @param {...(Node|string|number|Array|null|undefined|false)} children What it holds.
 * @returns {HTMLElement}
 */
export function h(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

/**
 * An element of an SVG; see `h`.
 * @param {string} tag
 * @param {Object<string, any>} [props]
 * @param {...Node} children
 * @returns {SVGElement}
 */
export function svg(tag, props = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

/**
 * Replaces the content of an element.
 * @param {Element} element
 * @param {...(Node|string|number|Array|null|undefined|false)} children
 * @returns {Element} The element.
 */
export function replace(element, ...children) {
  element.replaceChildren(...flat(children));
  return element;
}

/**
 * Sets the text of an element, only if it differs: the user's selection stays, and screen readers do not repeat it.
 * @param {Element} element
 * @param {string} text
 */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** @returns {string} An id that no element has yet. */
export function freshId() {
  freshId.count = (freshId.count ?? 0) + 1;
  return `f${freshId.count}`;
}

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props)) set(element, name, value);
  element.append(...flat(children));
  return element;
}

function set(element, name, value) {
  if (value === null || value === undefined || value === false) return;
  if (name === "class") element.setAttribute("class", value);
  else if (name === "data") Object.assign(element.dataset, value);
  else if (name === "style") for (const [key, one] of Object.entries(value)) element.style.setProperty(key, one);
  else if (name.startsWith("on")) element.addEventListener(name.slice(2).toLowerCase(), value);
  else if (["value", "checked", "disabled", "open", "textContent", "selected"].includes(name))
    element[name] = value;
  else element.setAttribute(name, value === true ? "" : value);
}

function flat(children) {
  return children.flat(9).filter((child) => child !== null && child !== undefined && child !== false);
}
