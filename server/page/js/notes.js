/** Short messages: at the corner for everybody, or only spoken. */

import { h } from "./dom.js";

const STAYS_MS = 6000;

/**
 * Shows a message for a while.
 * @param {string} text
 * @param {{hint?: string, bad?: boolean}} [options]
 */
export function note(text, { hint = "", bad = false } = {}) {
  const one = h("div", { class: bad ? "note bad" : "note" }, h("div", {}, text, hint && h("small", {}, hint)));
  document.getElementById("notes").append(one);
  setTimeout(() => one.remove(), bad ? 2 * STAYS_MS : STAYS_MS);
}

/** @param {Error & {hint?: string}} error Shown as a message; one that the user caused by leaving is not. */
export function noteProblem(error) {
  if (error.name === "AbortError") return;
  note(error.message, { hint: error.hint ?? "", bad: true });
}

/** @param {string} text Said to screen readers, shown to nobody. */
export function announce(text) {
  document.getElementById("said").textContent = text;
}

/**
 * A listener that runs something slow and shows what went wrong; its button is off meanwhile.
 * @param {(event: Event) => Promise<void>} act
 * @returns {(event: Event) => Promise<void>}
 */
export function doing(act) {
  return async (event) => {
    const button = event.currentTarget;
    button.disabled = true;
    try {
      await act(event);
    } catch (error) {
      noteProblem(error);
    } finally {
      button.disabled = false;
    }
  };
}
