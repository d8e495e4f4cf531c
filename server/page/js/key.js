/** The API key: the user enters it once, and it is kept in this tab's session storage only. */

import { h, replace } from "./dom.js";
import { field } from "./parts/field.js";

const PLACE = "steerzo-key";
let asking = null;

/** @returns {string|null} The key, if there is one. */
export function key() {
  return sessionStorage.getItem(PLACE);
}

/** Forgets the key. */
export function forgetKey() {
  sessionStorage.removeItem(PLACE);
}

/**
 * Asks the user for the key. Requests that need it at the same time share one dialog.
 * @param {string|null} tried The key that the server rejected, if one was sent.
 * @returns {Promise<void>} Resolves when there is another key.
 */
export function askForKey(tried) {
  if (tried !== null && key() !== null && key() !== tried) return Promise.resolve();
  asking ??= showDialog(tried !== null).finally(() => {
    asking = null;
  });
  return asking;
}

function showDialog(wasWrong) {
  return new Promise((resolve) => {
    const input = h("input", {
      type: "password",
      autocomplete: "current-password",
      required: true,
      spellcheck: "false",
    });
    const one = field("API key", input, { hint: "It is kept in this tab only, until you close it." });
    if (wasWrong)
      one.setError("The server does not know this key, or it was revoked. Create another with `steerzo keys create NAME`.");
    const dialog = h("dialog", { "aria-labelledby": "key-title" });
    const enter = (event) => {
      event.preventDefault();
      const given = input.value.trim();
      if (!given) {
        one.setError("Enter the key.");
        input.focus();
        return;
      }
      sessionStorage.setItem(PLACE, given);
      dialog.close();
      dialog.remove();
      resolve();
    };
    replace(
      dialog,
      h(
        "form",
        { onSubmit: enter, novalidate: true },
        h("h2", { id: "key-title" }, "This server requires a key"),
        h(
          "p",
          { class: "muted" },
          "Ask the operator of the server for a key. The first key is in the log of the server's first start; ",
          h("code", {}, "steerzo keys create NAME"),
          " creates others.",
        ),
        one.element,
        h("div", { class: "row" }, h("button", { class: "button main", type: "submit" }, "Continue")),
      ),
    );
    // The dialog cannot be dismissed: without a key the page can show nothing.
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    document.body.append(dialog);
    dialog.showModal();
    input.focus();
  });
}
