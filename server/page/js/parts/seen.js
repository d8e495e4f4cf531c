/** A row as the model will see it: what it reads, and marked, what it learns. */

import { h } from "../dom.js";
import { count } from "../format.js";

/**
 * @param {Object} row Of a preview.
 * @param {{counted?: boolean}} [options] Whether its tokens are told.
 * @returns {HTMLElement}
 */
export function seenRow(row, { counted = true } = {}) {
  const segment = ({ text, target }) => (target ? h("mark", {}, text) : text);
  const facts = [
    `line ${row.line}`,
    count(row.tokens, "token"),
    `${row.targets} learned`,
    row.truncated && "cut to fit",
    row.sequences > 1 && count(row.sequences, "sequence"),
  ];
  return h(
    "div",
    { class: "seen" },
    h("p", { class: "said" }, row.segments.map(segment)),
    counted && h("p", { class: "muted small" }, facts.filter(Boolean).join(" · ")),
  );
}
