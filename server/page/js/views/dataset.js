/** The view of one dataset: its size, lengths, labels, and its first rows as the model will see them. */

import { get, remove } from "../api.js";
import { h, replace } from "../dom.js";
import { bytes, count, moment, percent, plain, whole } from "../format.js";
import { icon } from "../icons.js";
import { asyncListener, showMessage } from "../messages.js";
import { bars } from "../parts/bars.js";
import { field } from "../parts/field.js";
import { problemBox, head, confirmed } from "../parts/pieces.js";
import { previewRow } from "../parts/previewrow.js";
import { taskOf } from "../tasks.js";
import { FORMATS } from "../words.js";

const MOST_LABELS = 30;

/** @param {{place: HTMLElement, signal: AbortSignal, words: string[]}} context */
export async function showDataset({ place, signal, words }) {
  try {
    const one = await get(`/datasets/${encodeURIComponent(words[0])}`, { signal });
    const task = one.format === "classification" ? await taskOf(one.id) : null;
    if (!signal.aborted) show(place, signal, one, task);
  } catch (error) {
    if (error.name !== "AbortError")
      replace(place, head("Dataset", { trail: ["#/data", "Data"] }), problemBox(error));
  }
}

function show(place, signal, one, task) {
  const deleteDataset = asyncListener(async () => {
    if (
      !(await confirmed(
        `Delete ${one.name}?`,
        "Its rows are deleted from this server. Finished jobs and their adapters are kept.",
        "Delete the dataset",
      ))
    )
      return;
    await remove(`/datasets/${one.id}`);
    showMessage(`Deleted ${one.name}.`);
    location.hash = "#/data";
  });
  const actions = [
    h("a", { class: "button main", href: `#/start?dataset=${one.id}` }, "Start a job"),
    h("button", { class: "button", type: "button", onClick: deleteDataset }, icon("bin", 16), "Delete"),
  ];
  replace(
    place,
    head(one.name, {
      trail: ["#/data", "Data"],
      about: `${one.format}: ${FORMATS[one.format] ?? "rows of a benchmark"}`,
      actions,
    }),
    h(
      "div",
      { class: "stack" },
      figures(one),
      remarks(one),
      h("div", { class: "halves" }, lengths(one), labels(one)),
      preview(signal, one, task),
    ),
  );
}

function figures(one) {
  const tile = (name, value, about = "") =>
    h("div", {}, h("dt", {}, name), h("dd", {}, value), h("dd", { class: "small muted" }, about));
  const tokens = one.tokens;
  return h(
    "dl",
    { class: "tiles card" },
    tile(
      "Rows",
      whole(one.rows),
      one.duplicates ? `${whole(one.duplicates)} duplicates` : "no duplicates",
    ),
    tile(
      "Tokens",
      tokens ? whole(tokens.total) : "–",
      tokens?.targets ? `${whole(tokens.targets)} of them to be learned` : "",
    ),
    tile(
      "Median row",
      tokens ? plain(tokens.p50 ?? tokens.mean, 0) : "–",
      tokens ? `longest ${whole(tokens.longest)} tokens` : "",
    ),
    tile(
      "Truncated",
      whole(one.truncated ?? 0),
      one.max_tokens ? `to ${whole(one.max_tokens)} tokens` : "",
    ),
    tile("Size", bytes(one.bytes), [one.container, moment(one.created)].filter(Boolean).join(", ")),
  );
}

function remarks(one) {
  const ignored = Object.entries(one.ignored ?? {});
  const warnings = one.warnings ?? [];
  if (!ignored.length && !warnings.length) return null;
  return h(
    "section",
    { class: "card stack" },
    h("h2", {}, "Before you train"),
    warnings.map((warning) => h("p", { class: "problem warn small" }, warning)),
    ignored.length > 0 &&
      h("p", {}, `Not used: ${ignored.map(([name, rows]) => `${name} (${count(rows, "row")})`).join(", ")}.`),
  );
}

function lengths(one) {
  if (!one.lengths)
    return h(
      "section",
      { class: "card" },
      h("h2", {}, "Lengths"),
      h(
        "p",
        { class: "muted" },
        "All rows have the same label, so there is nothing to learn yet. Upload rows with at least two labels, or name other answers when you start a job.",
      ),
    );
  const rows = one.lengths.map((bin) => ({
    name: `up to ${whole(bin.upto)}`,
    value: bin.rows,
    text: whole(bin.rows),
  }));
  return h("section", { class: "card" }, h("h2", {}, "Lengths"), bars(rows, "Tokens", "Rows"));
}

function labels(one) {
  if (!one.balance) {
    const rows =
      one.tokens &&
      [
        ["mean", plain(one.tokens.mean, 1)],
        ["median", whole(one.tokens.p50)],
        ["95th percentile", whole(one.tokens.p95)],
        ["longest", whole(one.tokens.longest)],
        one.sequences && ["sequences made of the rows", whole(one.sequences)],
      ].filter(Boolean);
    return h(
      "section",
      { class: "card" },
      h("h2", {}, "Tokens of a row"),
      rows &&
        h(
          "dl",
          { class: "facts" },
          rows.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]),
        ),
    );
  }
  const pairs = Object.entries(one.balance).sort((a, b) => b[1] - a[1]);
  const rows = pairs
    .slice(0, MOST_LABELS)
    .map(([name, value]) => ({ name, value, text: `${whole(value)} · ${percent(value / one.rows)}` }));
  const share = pairs[0][1] / one.rows;
  const most =
    share > 0.6 && pairs.length > 1
      ? `Most rows have the label ${pairs[0][0]}: a model that always gives this answer is right ${percent(share)} of the time.`
      : "";
  return h(
    "section",
    { class: "card stack" },
    h("h2", {}, `Labels (${pairs.length})`),
    bars(rows, "Label", "Rows"),
    pairs.length > MOST_LABELS &&
      h("p", { class: "muted small" }, `and ${count(pairs.length - MOST_LABELS, "more label")}.`),
    most && h("p", { class: "problem warn small" }, most),
  );
}

function preview(signal, one, task) {
  const rows = h("div", { class: "stack rows" }, h("p", { class: "muted" }, "Reading…"));
  const template = field(
    "Prompt",
    h("textarea", { class: "mono", rows: 2, spellcheck: "false", value: task?.template ?? "{text}\nLabel:" }),
    { hint: "{text} is replaced by the text of the row. This is a preview only: the prompt is set when you start a job." },
  );
  let timer = 0;
  const update = async () => {
    const query = one.format === "classification" ? `&template=${encodeURIComponent(template.control.value)}` : "";
    try {
      const found = await get(`/datasets/${one.id}/preview?rows=6${query}`, { signal });
      replace(
        rows,
        found.rows.map(previewRow),
        found.rows[0]?.options.length > 1 &&
          h(
            "p",
            { class: "small muted" },
            "The model chooses among: ",
            found.rows[0].options.slice(0, 12).map((text) => [h("code", {}, text.trim()), " "]),
          ),
      );
    } catch (error) {
      if (error.name === "AbortError") return;
      if (one.format === "classification" && error.status === 422)
        template.setError(error.errors[0]?.fix.replace(/^Value error, /, "") ?? error.message);
      else replace(rows, problemBox(error));
    }
  };
  template.control.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(update, 300);
  });
  update();
  return h(
    "section",
    { class: "card stack" },
    h(
      "div",
      { class: "row wide" },
      h("h2", {}, "As the model will see them"),
      h("span", { class: "small" }, h("mark", {}, "marked"), " text is learned, the rest is only read"),
    ),
    one.format === "classification" && template.element,
    rows,
  );
}
