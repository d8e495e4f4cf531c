/** The upload area: choose or drop a file; the faults of a rejected file are listed line by line. */

import { h, replace } from "../dom.js";
import { count, percent } from "../format.js";
import { icon } from "../icons.js";
import { announce, showMessage } from "../messages.js";
import { upload } from "../upload.js";
import { FORMATS } from "../words.js";
import { field, select } from "./field.js";
import { problemBox, meter, setMeter } from "./pieces.js";

const ENDINGS = ".jsonl,.json,.csv,.tsv,.parquet,.gz,.zst";

/**
 * Creates the upload area.
 * @param {{done: (dataset: Object) => void}} options `done` is called with the dataset after the upload.
 * @returns {HTMLElement}
 */
export function uploader({ done }) {
  const input = h("input", {
    type: "file",
    accept: ENDINGS,
    class: "visually-hidden",
    tabindex: -1,
    "aria-label": "File with rows",
    onChange: () => input.files[0] && send(input.files[0]),
  });
  const button = h(
    "button",
    { class: "button main", type: "button", onClick: () => input.click() },
    icon("upload", 16),
    "Choose a file",
  );
  const format = field(
    "Format",
    select([["", "detected from the fields"], ...Object.keys(FORMATS).map((name) => [name, name])], ""),
    { hint: "Set this only if the format is not detected correctly." },
  );
  const map = field(
    "Other names for fields",
    h("input", { type: "text", placeholder: "prompt=question,completion=answer", autocomplete: "off" }),
    { hint: "Set this if the fields of the file have other names than those of a format." },
  );
  const bar = meter(0, "Upload");
  const progress = h("p", { role: "status" });
  const problems = h("div");
  const area = h(
    "div",
    { class: "drop" },
    h("div", { class: "row" }, button, h("span", { class: "muted" }, "or drop it here")),
    h(
      "p",
      { class: "small" },
      "JSON lines, JSON, CSV, TSV or Parquet, also packed with gzip or zstd. The format of the rows is detected from the names of the fields.",
    ),
    input,
    bar,
    progress,
    h("details", { class: "small" }, h("summary", {}, "Choose the format yourself"), format.element, map.element),
  );
  bar.hidden = true;

  async function send(file) {
    input.value = "";
    button.disabled = true;
    bar.hidden = false;
    replace(problems);
    try {
      const dataset = await upload(file, { format: format.control.value, map: map.control.value.trim() }, (share) => {
        setMeter(bar, share);
        progress.textContent = share < 1 ? `Sending ${file.name}: ${percent(share)}` : "Checking every row…";
      });
      showMessage(`${dataset.name}: ${count(dataset.rows, "row")}.`, { hint: found(dataset) });
      done(dataset);
    } catch (problem) {
      replace(problems, problemBox(problem));
      announce(problem.message);
    } finally {
      button.disabled = false;
      bar.hidden = true;
      progress.textContent = "";
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
    if (file && !button.disabled) send(file);
  });
  return h("div", { class: "stack uploader" }, area, problems);
}

/** What was found in an uploaded file, in a sentence or two. */
function found(dataset) {
  const ignored = Object.keys(dataset.ignored ?? {});
  const parts = [`Detected format: ${dataset.format} in ${dataset.container}.`];
  if (ignored.length) parts.push(`Not used: ${ignored.join(", ")}.`);
  return [...parts, ...(dataset.warnings ?? []).map((warning) => `Warning: ${warning}.`)].join(" ");
}
