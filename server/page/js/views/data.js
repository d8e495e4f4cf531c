/** The view of all datasets, with the upload area. */

import { get } from "../api.js";
import { h, replace } from "../dom.js";
import { bytes, count, moment, plain, whole } from "../format.js";
import { exampleDataButton } from "../parts/exampledata.js";
import { problemBox, head } from "../parts/pieces.js";
import { uploader } from "../parts/uploader.js";
import { FORMATS } from "../words.js";

/** @param {{place: HTMLElement, signal: AbortSignal}} context */
export async function showData({ place, signal }) {
  const list = h("div");
  const open = (dataset) => (location.hash = `#/data/${dataset.id}`);
  place.append(
    head("Data", {
      about: "Rows to train on. Every row is checked before it is saved; nothing leaves this machine.",
    }),
    h("div", { class: "stack" }, uploader({ done: open }), list),
  );
  try {
    const { datasets } = await get("/datasets", { signal });
    if (datasets.length === 0) replace(list, none(open));
    else replace(list, table(datasets));
  } catch (error) {
    if (error.name !== "AbortError") replace(list, problemBox(error));
  }
}

function none(open) {
  const kinds = Object.entries({
    "text, label": "classification",
    "prompt, completion": "completion",
    messages: "chat",
    "instruction, output": "alpaca",
    text: "plain",
  });
  const row = ([fields, format]) => [h("dt", {}, h("code", {}, fields)), h("dd", {}, FORMATS[format])];
  return h(
    "section",
    { class: "card stack" },
    h("h2", {}, "What rows look like"),
    h("p", { class: "muted" }, "One JSON object per line with these fields, or a table with these columns:"),
    h("dl", { class: "facts" }, kinds.map(row)),
    h("div", { class: "row" }, h("span", { class: "muted" }, "No data yet?"), exampleDataButton(open)),
  );
}

function table(datasets) {
  const heads = [
    ["Name"],
    ["Format"],
    ["Rows", "num"],
    ["Tokens a row", "num"],
    ["Size", "num"],
    ["Added", "num"],
    [""],
  ];
  const cell = ([text, kind = ""]) =>
    h("th", { scope: "col", class: kind }, text || h("span", { class: "visually-hidden" }, "Actions"));
  const num = (label, text) => h("td", { class: "num", data: { label } }, text);
  const row = (one) =>
    h(
      "tr",
      { class: "choose" },
      h(
        "td",
        { class: "title" },
        h("a", { class: "name", href: `#/data/${one.id}` }, one.name),
        h("p", { class: "small muted" }, remarks(one)),
      ),
      h("td", {}, h("span", { class: "tag" }, one.format)),
      num("Rows", whole(one.rows)),
      num("Tokens a row", one.tokens ? plain(one.tokens.mean, 1) : "–"),
      num("Size", bytes(one.bytes)),
      num("Added", moment(one.created)),
      h(
        "td",
        { class: "acts" },
        h(
          "a",
          {
            class: "button tight",
            href: `#/start?dataset=${one.id}`,
            "aria-label": `Start a job with ${one.name}`,
          },
          "Start a job",
        ),
      ),
    );
  return h(
    "div",
    { class: "card flush" },
    h("table", { class: "list" }, h("thead", {}, h("tr", {}, heads.map(cell))), h("tbody", {}, datasets.map(row))),
  );
}

function remarks(one) {
  const parts = [
    one.labels && `${one.labels.length} labels`,
    one.truncated > 0 && `${whole(one.truncated)} truncated`,
    one.duplicates > 0 && `${whole(one.duplicates)} duplicates`,
    one.ignored && Object.keys(one.ignored).length > 0 && `not used: ${Object.keys(one.ignored).join(", ")}`,
    one.warnings?.length > 0 && count(one.warnings.length, "warning"),
  ];
  return parts.filter(Boolean).join(" · ");
}
