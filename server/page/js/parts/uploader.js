/** The upload area: choose or drop a file; the faults of a rejected file are listed line by line. */

import { h, replace } from "../dom.js";
import { count, percent } from "../format.js";
import { icon } from "../icons.js";
import { announce, showMessage } from "../messages.js";
import { upload } from "../upload.js";
import { FORMATS } from "../words.js";
import { field, select } from "./field.js";
import { fieldChoices } from "./fieldchoices.js";
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
  const bar = meter(0, "Upload");
  const progress = h("p", { role: "status" });
  const problems = h("div");
  const choices = h("div");
  const picker = h("input", {
    type: "file",
    accept: ENDINGS,
    class: "visually-hidden",
    tabindex: -1,
    "aria-label": "File whose fields are chosen",
    onChange: () => picker.files[0] && (replace(problems), choose(picker.files[0])),
  });
  const other = h(
    "button",
    { class: "button", type: "button", onClick: () => picker.click() },
    "Choose a file and its fields",
  );
  const area = h(
    "div",
    { class: "drop" },
    h("div", { class: "row" }, button, h("span", { class: "muted" }, "or drop it here"), other),
    h(
      "p",
      { class: "small" },
      "JSON lines, JSON, CSV, TSV or Parquet, also packed with gzip or zstd. The format of the rows is detected from the names of the fields.",
    ),
    input,
    picker,
    bar,
    progress,
    h("details", { class: "small" }, h("summary", {}, "Choose the format yourself"), format.element),
  );
  bar.hidden = true;

  async function send(file, fields = { format: format.control.value }) {
    input.value = "";
    button.disabled = true;
    bar.hidden = false;
    replace(problems);
    replace(choices);
    try {
      const dataset = await upload(file, fields, (share) => {
        setMeter(bar, share);
        progress.textContent = share < 1 ? `Sending ${file.name}: ${percent(share)}` : "Checking every row…";
      });
      showMessage(`${dataset.name}: ${count(dataset.rows, "row")}.`, { hint: found(dataset) });
      done(dataset);
    } catch (problem) {
      replace(problems, problemBox(problem));
      if (problem.code === "invalid-dataset") choose(file);
      announce(problem.message);
    } finally {
      button.disabled = false;
      bar.hidden = true;
      progress.textContent = "";
    }
  }

  function choose(file) {
    picker.value = "";
    replace(choices, fieldChoices(file, { use: (fields) => send(file, fields) }));
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
  return h("div", { class: "stack uploader" }, area, problems, choices);
}

/** What was found in an uploaded file, in a sentence or two. */
function found(dataset) {
  const ignored = Object.keys(dataset.ignored ?? {});
  const parts = [`Detected format: ${dataset.format} in ${dataset.container}.`];
  if (ignored.length) parts.push(`Not used: ${ignored.join(", ")}.`);
  return [...parts, ...(dataset.warnings ?? []).map((warning) => `Warning: ${warning}.`)].join(" ");
}
