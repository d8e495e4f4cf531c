/** A bar chart made of a table, so that screen readers can read the numbers. */

import { h } from "../dom.js";

/**
 * @param {Array<{name: string, value: number, text: string}>} rows
 * @param {string} nameHead Heading of the names, for screen readers.
 * @param {string} valueHead Heading of the numbers, for screen readers.
 * @returns {HTMLElement}
 */
export function bars(rows, nameHead, valueHead) {
  const most = Math.max(...rows.map((row) => row.value), 1);
  const line = (row) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, row.name),
      h("td", {}, h("span", { class: "bar", style: { width: `${(100 * row.value) / most}%` } })),
      h("td", { class: "num" }, row.text),
    );
  return h(
    "table",
    { class: "bars" },
    h(
      "thead",
      { class: "visually-hidden" },
      h("tr", {}, h("th", { scope: "col" }, nameHead), h("td"), h("th", { scope: "col" }, valueHead)),
    ),
    h("tbody", {}, rows.map(line)),
  );
}
