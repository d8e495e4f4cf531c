/** Which field of a file is which field of a format, with the first rows as they would be trained on. */

import { h, replace } from "../dom.js";
import { FORMATS } from "../words.js";
import { look } from "../upload.js";
import { field, select } from "./field.js";
import { problemBox } from "./pieces.js";
import { previewRow } from "./previewrow.js";

const DETECTED = "";

/**
 * The choice of fields.
 * @param {File} file
 * @param {{use: (fields: {format: string, map: string}) => void}} options `use` is called with the choice.
 * @returns {HTMLElement}
 */
export function fieldChoices(file, { use }) {
  const format = field("Format", select([[DETECTED, "detected from the fields"], ...Object.keys(FORMATS).map((name) => [name, name])], DETECTED));
  const places = h("div", { class: "grid2" });
  const rows = h("div", { class: "stack", role: "status" });
  const button = h("button", { class: "button main", type: "button", disabled: true, onClick: () => use(fields()) }, "Upload with these fields");
  const element = h(
    "section",
    { class: "card stack" },
    h("h2", {}, `Fields of ${file.name}`),
    format.element,
    places,
    rows,
    h("div", { class: "row" }, button),
  );
  let selects = [];
  let turn = 0;

  function fields() {
    const pairs = selects.filter(([name, one]) => one.value && one.value !== name).map(([name, one]) => `${name}=${one.value}`);
    return { format: format.control.value, map: pairs.join(",") };
  }

  function offer(found) {
    const needed = found.formats[format.control.value] ?? [];
    selects = needed.map((name) => {
      const chosen = found.columns.includes(name) ? name : "";
      return [name, select([["", "–"], ...found.columns.map((column) => [column, column])], chosen)];
    });
    replace(
      places,
      selects.map(([name, control]) => {
        control.addEventListener("change", () => update());
        return field(name, control).element;
      }),
    );
  }

  async function update({ isNew = false } = {}) {
    const now = ++turn;
    button.disabled = true;
    try {
      const found = await look(file, fields());
      if (now !== turn) return;
      if (isNew) offer(found);
      button.disabled = found.problem !== null;
      if (found.problem === null)
        replace(rows, h("p", { class: "muted small" }, `The first rows, as they are trained on (${found.format}); what is learned is marked:`), found.rows.map((row) => previewRow(row)));
      else
        replace(rows, h("p", { class: "muted" }, format.control.value === DETECTED ? `The file has the fields ${found.columns.join(", ")}. Choose a format.` : found.problem));
    } catch (problem) {
      if (now === turn) replace(rows, problemBox(problem));
    }
  }

  format.control.addEventListener("change", () => {
    selects = [];
    update({ isNew: true });
  });
  update({ isNew: true });
  return element;
}
