/** The API key: asked for once, kept in this tab's session and nowhere else. */

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
 * Has the user enter the key; everybody who asks meanwhile waits for the same answer.
 * @param {string|null} tried The key that did not open, if one was sent.
 * @returns {Promise<void>} When there is another one.
 */
export function askForKey(tried) {
  if (tried !== null && key() !== null && key() !== tried) return Promise.resolve();
  asking ??= shown(tried !== null).finally(() => {
    asking = null;
  });
  return asking;
}

function shown(wasWrong) {
  return new Promise((resolve) => {
    const input = h("input", {
      type: "password",
      autocomplete: "current-password",
      required: true,
      spellcheck: "false",
    });
    const one = field("API key", input, { hint: "It stays in this tab until you close it." });
    if (wasWrong)
      one.wrong("The server does not know this key, or it was revoked. `steerzo keys create NAME` makes another.");
    const dialog = h("dialog", { "aria-labelledby": "key-title" });
    const enter = (event) => {
      event.preventDefault();
      const given = input.value.trim();
      if (!given) {
        one.wrong("Enter the key.");
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
        h("h2", { id: "key-title" }, "This server asks for a key"),
        h(
          "p",
          { class: "muted" },
          "Whoever runs it has made one with ",
          h("code", {}, "steerzo keys create NAME"),
          ", or reads it in the log of the first start.",
        ),
        one.element,
        h("div", { class: "row" }, h("button", { class: "button main", type: "submit" }, "Open")),
      ),
    );
    // Without a key there is nothing to go back to.
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    document.body.append(dialog);
    dialog.showModal();
    input.focus();
  });
}
