/** A field of a form: label, control, hint and error message. */

import { freshId, h, setText } from "../dom.js";
import { whole } from "../format.js";

/**
 * A field.
 * @param {string} label
 * @param {HTMLElement} control An input, a select or a textarea.
 * @param {{hint?: string|Node, key?: string}} [options] `key` is the last part of the setting's path; an
 *   error of the server that names it is shown at this field.
 * @returns {{element: HTMLElement, control: HTMLElement, key: string|undefined, setError: (text: string) => void,
 *   setHint: (text: string) => void}} `setError("")` removes the error.
 */
export function field(label, control, { hint = "", key } = {}) {
  control.id ||= freshId();
  const about = h("p", { class: "hint", id: `${control.id}-hint`, hidden: !hint }, hint);
  const error = h("p", { class: "error", id: `${control.id}-error`, role: "alert", hidden: true });
  const element = h("div", { class: "field" }, h("label", { for: control.id }, label), control, about, error);
  if (hint) control.setAttribute("aria-describedby", about.id);
  const setError = (text) => {
    if (error.textContent === text) return;
    error.textContent = text;
    error.hidden = !text;
    element.classList.toggle("has-error", Boolean(text));
    control.setAttribute("aria-invalid", String(Boolean(text)));
    control.setAttribute("aria-describedby", [hint && about.id, text && error.id].filter(Boolean).join(" "));
  };
  control.addEventListener("input", () => setError(""));
  const setHint = (text) => setText(about, text);
  return { element, control, key, setError, setHint };
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
 * Shows each error at the field that it belongs to.
 * @param {Array<ReturnType<typeof field>>} fields
 * @param {Array<{where: string, field: string, found: string, fix: string}>} errors From the server.
 * @returns {Array<Object>} The errors that belong to none of the fields.
 */
export function showErrors(fields, errors) {
  const left = [];
  for (const one of fields) one.setError("");
  for (const error of errors) {
    const path = error.where.split(".");
    const owner = fields.find(
      (one) => one.key !== undefined && (one.key === error.field || path.includes(one.key)),
    );
    if (owner === undefined) left.push(error);
    else owner.setError(errorSentence(error));
  }
  // The server checks one part of the form after the other; limits that the browser knows are shown at once.
  for (const { element, control, setError } of fields) {
    const is = control.validity;
    const isOff = is.rangeUnderflow || is.rangeOverflow || is.stepMismatch || is.badInput;
    if (isOff && !element.classList.contains("has-error"))
      setError(`Enter a whole number from ${whole(control.min)} to ${whole(control.max)}.`);
  }
  return left;
}

/** @param {{found: string, fix: string}} error @returns {string} The error as a sentence. */
export function errorSentence(error) {
  if (error.field === "name" && error.fix.includes("pattern"))
    return "Begin with a letter or a digit, then use letters, digits, spaces, dots, - and _; at most 100 characters.";
  const fix = error.fix.replace(/^Value error, /, "").replace(/^Input should be/, "It should be");
  return `${fix.charAt(0).toUpperCase()}${fix.slice(1)}${/[.?!]$/.test(fix) ? "" : "."}${error.found ? ` Found ${error.found}.` : ""}`;
}
