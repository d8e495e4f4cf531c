/** A form's field: label, hint, control, and the place where it says what is wrong. */

import { fresh, h, say } from "../dom.js";
import { whole } from "../format.js";

/**
 * A field.
 * @param {string} label
 * @param {HTMLElement} control An input, a select or a textarea.
 * @param {{hint?: string|Node, key?: string}} [options] `key` is the last part of the setting's path, by which the
 *   server's errors find the field.
 * @returns {{element: HTMLElement, control: HTMLElement, key: string|undefined, wrong: (text: string) => void,
 *   tell: (hint: string) => void}} `wrong("")` takes the error away.
 */
export function field(label, control, { hint = "", key } = {}) {
  control.id ||= fresh();
  const about = h("p", { class: "hint", id: `${control.id}-hint`, hidden: !hint }, hint);
  const error = h("p", { class: "wrong", id: `${control.id}-wrong`, role: "alert", hidden: true });
  const element = h("div", { class: "field" }, h("label", { for: control.id }, label), control, about, error);
  if (hint) control.setAttribute("aria-describedby", about.id);
  const wrong = (text) => {
    if (error.textContent === text) return;
    error.textContent = text;
    error.hidden = !text;
    element.classList.toggle("is-wrong", Boolean(text));
    control.setAttribute("aria-invalid", String(Boolean(text)));
    control.setAttribute("aria-describedby", [hint && about.id, text && error.id].filter(Boolean).join(" "));
  };
  control.addEventListener("input", () => wrong(""));
  const tell = (text) => say(about, text);
  return { element, control, key, wrong, tell };
}

/**
 * A select.
 * @param {Array<[string, string]>} options Values and what is shown for them.
 * @param {string} [chosen]
 * @param {Object} [props]
 * @returns {HTMLSelectElement}
 */
export function select(options, chosen, props = {}) {
  return h(
    "select",
    props,
    options.map(([value, text]) => h("option", { value, selected: value === chosen }, text)),
  );
}

/**
 * Tells each field what is wrong with it.
 * @param {Array<ReturnType<typeof field>>} fields
 * @param {Array<{where: string, field: string, found: string, fix: string}>} errors The server's.
 * @returns {Array<Object>} The errors that belong to none of the fields.
 */
export function tellFields(fields, errors) {
  const left = [];
  for (const one of fields) one.wrong("");
  for (const error of errors) {
    const path = error.where.split(".");
    const owner = fields.find(
      (one) => one.key !== undefined && (one.key === error.field || path.includes(one.key)),
    );
    if (owner === undefined) left.push(error);
    else owner.wrong(fixing(error));
  }
  // The server tells of one part of a form at a time; what the browser knows by itself is said at once.
  for (const { element, control, wrong } of fields) {
    const is = control.validity;
    const isOff = is.rangeUnderflow || is.rangeOverflow || is.stepMismatch || is.badInput;
    if (isOff && !element.classList.contains("is-wrong"))
      wrong(`It should be a whole number from ${whole(control.min)} to ${whole(control.max)}.`);
  }
  return left;
}

/** @param {{found: string, fix: string}} error @returns {string} A sentence. */
export function fixing(error) {
  if (error.field === "name" && error.fix.includes("pattern"))
    return "Begin with a letter or a digit; then letters, digits, blanks, dots, - and _, at most 100.";
  const fix = error.fix.replace(/^Value error, /, "").replace(/^Input should be/, "It should be");
  return `${fix.charAt(0).toUpperCase()}${fix.slice(1)}${/[.?!]$/.test(fix) ? "" : "."}${error.found ? ` Found ${error.found}.` : ""}`;
}
