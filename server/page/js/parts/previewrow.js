/** A row as the model will see it; the text that it learns is marked. */

import { h } from "../dom.js";
import { count } from "../format.js";

/**
 * @param {Object} row A row of GET /datasets/{id}/preview.
 * @param {{counted?: boolean}} [options] Whether the number of tokens is shown.
 * @returns {HTMLElement}
 */
export function previewRow(row, { counted = true } = {}) {
  const segment = ({ text, target }) => (target ? h("mark", {}, text) : text);
  const facts = [
    `line ${row.line}`,
    count(row.tokens, "token"),
    `${row.targets} learned`,
    row.truncated && "truncated",
    row.sequences > 1 && count(row.sequences, "sequence"),
  ];
  return h(
    "div",
    { class: "preview-row" },
    h("p", { class: "model-text" }, row.segments.map(segment)),
    counted && h("p", { class: "muted small" }, facts.filter(Boolean).join(" · ")),
  );
}
