/** Short messages: shown in a corner of the page, or only announced to screen readers. */

import { h } from "./dom.js";

const SHOWN_MS = 6000;

/**
 * Shows a message for a few seconds.
 * @param {string} text
 * @param {{hint?: string, bad?: boolean}} [options]
 */
export function showMessage(text, { hint = "", bad = false } = {}) {
  const content = h("div", {}, text, hint && h("small", {}, hint));
  const one = h("div", { class: bad ? "message bad" : "message" }, content);
  document.getElementById("messages").append(one);
  setTimeout(() => one.remove(), bad ? 2 * SHOWN_MS : SHOWN_MS);
}

/** @param {Error & {hint?: string}} error Shown as a message, unless it is an aborted request. */
export function showProblem(error) {
  if (error.name === "AbortError") return;
  showMessage(error.message, { hint: error.hint ?? "", bad: true });
}

/** @param {string} text Read out by screen readers; not visible. */
export function announce(text) {
  document.getElementById("announcements").textContent = text;
}

/**
 * Makes an event listener of an asynchronous function: the button is disabled while it runs, and an error is shown.
 * @param {(event: Event) => Promise<void>} act
 * @returns {(event: Event) => Promise<void>}
 */
export function asyncListener(act) {
  return async (event) => {
    const button = event.currentTarget;
    button.disabled = true;
    try {
      await act(event);
    } catch (error) {
      showProblem(error);
    } finally {
      button.disabled = false;
    }
  };
}
