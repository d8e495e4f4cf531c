/** A place to drop a file on; what is wrong with the file is said there, line by line. */

import { h, replace } from "../dom.js";
import { count, percent } from "../format.js";
import { icon } from "../icons.js";
import { announce, note } from "../notes.js";
import { upload } from "../upload.js";
import { FORMATS } from "../words.js";
import { field, select } from "./field.js";
import { faults, meter, move } from "./pieces.js";

const ENDINGS = ".jsonl,.json,.csv,.parquet";

/**
 * The place to drop a file on.
 * @param {{done: (dataset: Object) => void}} options Called with each dataset that has come.
 * @returns {HTMLElement}
 */
export function uploader({ done }) {
  const input = h("input", {
    type: "file",
    accept: ENDINGS,
    class: "unseen",
    tabindex: -1,
    "aria-label": "File with rows",
    onChange: () => input.files[0] && take(input.files[0]),
  });
  const button = h(
    "button",
    { class: "button main", type: "button", onClick: () => input.click() },
    icon("upload", 16),
    "Choose a file",
  );
  const format = field(
    "Format",
    select([["", "found by the fields"], ...Object.keys(FORMATS).map((name) => [name, name])], ""),
    { hint: "Only where the fields leave it open." },
  );
  const bar = meter(0, "Upload");
  const doing = h("p", { role: "status" });
  const said = h("div");
  const area = h(
    "div",
    { class: "drop" },
    h("div", { class: "row" }, button, h("span", { class: "muted" }, "or drop it here")),
    h("p", { class: "small" }, "JSON lines, JSON, CSV or Parquet; the format is found by the names of the fields."),
    input,
    bar,
    doing,
    h("details", { class: "small" }, h("summary", {}, "Name the format yourself"), format.element),
  );
  bar.hidden = true;

  async function take(file) {
    input.value = "";
    button.disabled = true;
    bar.hidden = false;
    replace(said);
    try {
      const dataset = await upload(file, { format: format.control.value }, (share) => {
        move(bar, share);
        doing.textContent = share < 1 ? `Sending ${file.name}: ${percent(share)}` : "Looking at every row…";
      });
      note(`${dataset.name}: ${count(dataset.rows, "row")}.`, { hint: `Format found: ${dataset.format}.` });
      done(dataset);
    } catch (problem) {
      replace(said, faults(problem));
      announce(problem.message);
    } finally {
      button.disabled = false;
      bar.hidden = true;
      doing.textContent = "";
    }
  }

  const over = (is) => (event) => {
    event.preventDefault();
    area.classList.toggle("over", is);
  };
  area.addEventListener("dragover", over(true));
  area.addEventListener("dragleave", over(false));
  area.addEventListener("drop", (event) => {
    over(false)(event);
    const file = event.dataTransfer.files[0];
    if (file && !button.disabled) take(file);
  });
  return h("div", { class: "stack uploader" }, area, said);
}
