/** Small elements that several views use. */

import { h, replace } from "../dom.js";
import { icon } from "../icons.js";
import { showMessage } from "../messages.js";
import { stateOf } from "../words.js";

/** @param {Object} job @returns {HTMLElement} The state of the job as a dot and a word. */
export function badge(job) {
  return h("span", { class: `state ${job.state}` }, h("span", { class: "dot" }), stateOf(job));
}

/**
 * A progress bar.
 * @param {number} share Between 0 and 1.
 * @param {string} label For screen readers.
 * @param {string} [kind] The state of a job; it sets the colour.
 * @returns {HTMLElement}
 */
export function meter(share, label, kind = "") {
  const width = Math.max(0, Math.min(1, share)) * 100;
  const value = {
    role: "progressbar",
    "aria-label": label,
    "aria-valuenow": Math.round(width),
    "aria-valuemin": 0,
    "aria-valuemax": 100,
  };
  return h("div", { class: `meter ${kind}`, ...value }, h("span", { style: { width: `${width}%` } }));
}

/**
 * Changes a progress bar.
 * @param {HTMLElement} element From `meter`.
 * @param {number} share Between 0 and 1.
 * @param {string} [kind] The state of a job.
 */
export function setMeter(element, share, kind = "") {
  const width = Math.max(0, Math.min(1, share)) * 100;
  element.setAttribute("aria-valuenow", Math.round(width));
  element.setAttribute("class", `meter ${kind}`);
  element.firstChild.style.width = `${width}%`;
}

/**
 * The heading of a view.
 * @param {string} title
 * @param {{about?: any, trail?: [string, string], actions?: any}} [options] `trail` is the address and the text
 *   of the link to the parent view.
 * @returns {HTMLElement}
 */
export function head(title, { about = "", trail, actions = [] } = {}) {
  const back = trail && h("p", { class: "trail" }, h("a", { href: trail[0] }, `← ${trail[1]}`));
  return h(
    "div",
    { class: "head" },
    h("div", {}, back, h("h1", {}, title), about && h("p", {}, about)),
    h("div", { class: "row" }, actions),
  );
}

/**
 * What an empty list shows: a text, and links to fill it.
 * @param {string} iconName
 * @param {string} title
 * @param {string} about
 * @param {...Node} actions
 * @returns {HTMLElement}
 */
export function empty(iconName, title, about, ...actions) {
  return h(
    "div",
    { class: "empty" },
    icon(iconName, 30),
    h("h2", {}, title),
    h("p", {}, about),
    h("div", { class: "row" }, actions),
  );
}

/**
 * A box that shows an error: the message, the hint, and a table of every fault.
 * @param {Error & {hint?: string, errors?: Array<Object>}} problem
 * @returns {HTMLElement}
 */
export function problemBox(problem) {
  const errors = problem.errors ?? [];
  const place = (error) =>
    h(
      "tr",
      {},
      h("td", {}, h("b", {}, error.where)),
      h("td", { class: error.field ? "" : "none" }, error.field && h("code", {}, error.field)),
      h("td", { class: "found" }, error.found),
      h("td", {}, error.fix),
    );
  const heads = ["Where", "Field", "Found", "How to fix it"].map((text) => h("th", { scope: "col" }, text));
  // After the semicolon the message names the first fault, which the table shows too.
  const what = errors.length ? problem.message.split(";")[0] : problem.message;
  const hint =
    errors.length && problem.code === "invalid-dataset"
      ? "Fix these lines and upload the file again. No part of it was saved."
      : problem.hint;
  return h(
    "div",
    { class: "problem", role: "alert" },
    h("h3", {}, what),
    hint && h("p", {}, hint),
    errors.length > 0 &&
      h(
        "div",
        { class: "scroll" },
        h("table", {}, h("thead", {}, h("tr", {}, heads)), h("tbody", {}, errors.map(place))),
      ),
  );
}

/**
 * A group of buttons of which exactly one is pressed.
 * @param {string} label
 * @param {Array<[string, string]>} options
 * @param {string} chosen
 * @param {(value: string) => void} changed
 * @param {string} [kind]
 * @returns {HTMLElement}
 */
export function segments(label, options, chosen, changed, kind = "") {
  const group = h("div", { class: `segments ${kind}`, role: "group", "aria-label": label });
  const press = (value) =>
    group.childNodes.forEach((one) => one.setAttribute("aria-pressed", String(one.dataset.value === value)));
  const button = ([value, text]) =>
    h("button", { type: "button", data: { value }, onClick: () => (press(value), changed(value)) }, text);
  replace(group, options.map(button));
  press(chosen);
  return group;
}

/**
 * A block of code with a copy button.
 * @param {string} text
 * @param {string} label A name for the code.
 * @returns {HTMLElement}
 */
export function snippet(text, label) {
  const copy = async () => {
    if (await copied(text)) showMessage(`Copied: ${label}.`);
    else showMessage("The browser did not allow copying.", { hint: "Select the text and copy it by hand.", bad: true });
  };
  const button = h(
    "button",
    { class: "button quiet icon", type: "button", "aria-label": `Copy: ${label}`, title: "Copy", onClick: copy },
    icon("copy", 16),
  );
  return h(
    "div",
    { class: "code" },
    h("pre", { tabindex: 0, role: "region", "aria-label": label }, h("code", {}, text)),
    button,
  );
}

/**
 * Asks for confirmation before something that cannot be undone.
 * @param {string} title
 * @param {string} about What will be lost.
 * @param {string} verb Text of the button that confirms.
 * @returns {Promise<boolean>} Whether the user confirmed.
 */
export function confirmed(title, about, verb) {
  return new Promise((resolve) => {
    const dialog = h("dialog", {
      "aria-labelledby": "confirm-title",
      onClose: () => (dialog.remove(), resolve(dialog.returnValue === "yes")),
    });
    const close = (value) => () => dialog.close(value);
    replace(
      dialog,
      h(
        "div",
        { class: "stack" },
        h("h2", { id: "confirm-title" }, title),
        h("p", { class: "muted" }, about),
        h(
          "div",
          { class: "row" },
          h("button", { class: "button", type: "button", onClick: close("no") }, "Go back"),
          h("button", { class: "button bad", type: "button", onClick: close("yes") }, verb),
        ),
      ),
    );
    document.body.append(dialog);
    dialog.showModal();
  });
}

async function copied(text) {
  if (navigator.clipboard)
    return navigator.clipboard.writeText(text).then(
      () => true,
      () => false,
    );
  // Pages that come over plain HTTP from another machine have no clipboard API: this older command works there.
  const area = h("textarea", { class: "visually-hidden", value: text });
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}
