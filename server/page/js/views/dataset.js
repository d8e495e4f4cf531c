/** One dataset: what it is, how long its rows are, what of them is learned. */

import { get, remove } from "../api.js";
import { h, replace } from "../dom.js";
import { bytes, count, moment, percent, plain, whole } from "../format.js";
import { icon } from "../icons.js";
import { doing, note } from "../notes.js";
import { bars } from "../parts/bars.js";
import { field } from "../parts/field.js";
import { faults, head, sure } from "../parts/pieces.js";
import { seenRow } from "../parts/seen.js";
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
    if (error.name !== "AbortError") replace(place, head("Dataset", { trail: ["#/data", "Data"] }), faults(error));
  }
}

function show(place, signal, one, task) {
  const bin = doing(async () => {
    if (
      !(await sure(
        `Delete ${one.name}?`,
        "Its rows are lost here. Finished jobs and their adapters stay.",
        "Delete the dataset",
      ))
    )
      return;
    await remove(`/datasets/${one.id}`);
    note(`Deleted ${one.name}.`);
    location.hash = "#/data";
  });
  const actions = [
    h("a", { class: "button main", href: `#/start?dataset=${one.id}` }, "Start a job"),
    h("button", { class: "button", type: "button", onClick: bin }, icon("bin", 16), "Delete"),
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
      one.duplicates ? `${whole(one.duplicates)} repeat an earlier one` : "no repetitions",
    ),
    tile(
      "Tokens",
      tokens ? whole(tokens.total) : "–",
      tokens?.targets ? `${whole(tokens.targets)} of them learned` : "",
    ),
    tile(
      "Typical row",
      tokens ? plain(tokens.p50 ?? tokens.mean, 0) : "–",
      tokens ? `longest ${whole(tokens.longest)} tokens` : "",
    ),
    tile(
      "Cut to fit",
      whole(one.truncated ?? 0),
      one.max_tokens ? `the base takes ${whole(one.max_tokens)} tokens` : "",
    ),
    tile("Size", bytes(one.bytes), moment(one.created)),
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
        "All rows have one label, so there is nothing to choose between yet. Give a job other answers, or upload rows of two labels.",
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
        ["half of the rows up to", whole(one.tokens.p50)],
        ["95 % up to", whole(one.tokens.p95)],
        ["longest", whole(one.tokens.longest)],
        one.sequences && ["sequences made of them", whole(one.sequences)],
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
      ? `Most rows are ${pairs[0][0]}: whoever always says so is right ${percent(share)} of the time.`
      : "";
  return h(
    "section",
    { class: "card stack" },
    h("h2", {}, `Labels (${pairs.length})`),
    bars(rows, "Label", "Rows"),
    pairs.length > MOST_LABELS &&
      h("p", { class: "muted small" }, `and ${count(pairs.length - MOST_LABELS, "more label")}.`),
    most && h("p", { class: "faults warn small" }, most),
  );
}

function preview(signal, one, task) {
  const rows = h("div", { class: "stack rows" }, h("p", { class: "muted" }, "Reading…"));
  const template = field(
    "Prompt",
    h("textarea", { class: "mono", rows: 2, spellcheck: "false", value: task?.template ?? "{text}\nLabel:" }),
    { hint: "{text} stands for the row's text. Jobs have a prompt of their own; here you see what it looks like." },
  );
  let timer = 0;
  const look = async () => {
    const words = one.format === "classification" ? `&template=${encodeURIComponent(template.control.value)}` : "";
    try {
      const seen = await get(`/datasets/${one.id}/preview?rows=6${words}`, { signal });
      replace(
        rows,
        seen.rows.map(seenRow),
        seen.rows[0]?.options.length > 1 &&
          h(
            "p",
            { class: "small muted" },
            "It chooses among: ",
            seen.rows[0].options.slice(0, 12).map((text) => [h("code", {}, text.trim()), " "]),
          ),
      );
    } catch (error) {
      if (error.name === "AbortError") return;
      if (one.format === "classification" && error.status === 422)
        template.wrong(error.errors[0]?.fix.replace(/^Value error, /, "") ?? error.message);
      else replace(rows, faults(error));
    }
  };
  template.control.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(look, 300);
  });
  look();
  return h(
    "section",
    { class: "card stack" },
    h(
      "div",
      { class: "row wide" },
      h("h2", {}, "As the model will see them"),
      h("span", { class: "small" }, h("mark", {}, "marked"), " is learned, the rest is read"),
    ),
    one.format === "classification" && template.element,
    rows,
  );
}
